"""A running emulator for tests, and small models to push."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulators.vertex.iam import IamTable
from emulators.vertex.server import EmulatorServer, make_certificates
from serving.model.golden_requests import GoldenRequests
from serving.registry.protocol import Candidate, PushedVersion
from serving.registry.vertex import connection, rollout
from serving.registry.vertex.config import Deployment, VertexProject
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.registry import VertexRegistry
from serving.registry.vertex.rollout import RolloutResult
from serving.registry.vertex.state import Endpoint, VertexModel, read_endpoint, read_model

PROJECT, REGION, BUCKET = "my-project", "europe-west4", "my-bucket"
# In every name that the service returns.
PROJECT_NUMBER = "697047613721"
_FIRST_OFFSET = -1.0
ANSWERED_PARENT = f"projects/{PROJECT_NUMBER}/locations/{REGION}"

# Roles of docs/vertex.md.
ACCOUNT = f"runner@{PROJECT}.iam.gserviceaccount.com"
IAM = IamTable(
    caller=ACCOUNT,
    roles={
        ACCOUNT: frozenset({"roles/aiplatform.user", "roles/storage.objectAdmin", "roles/artifactregistry.reader"}),
    },
    act_as={ACCOUNT: frozenset({ACCOUNT})},
)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One CA for all emulators: gRPC reads its roots once in a process."""
    folder = tmp_path_factory.mktemp("tls")
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(make_certificates(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorServer]:
    with EmulatorServer(
        tmp_path / "vertex",
        tls=tls,
        operation_seconds=0.005,
        # Every deployment and change of a split is followed by 503.
        warm_up_seconds=0.02,
        project_numbers={PROJECT: PROJECT_NUMBER},
        iam=IAM,
    ) as running:
        for key, value in running.environment.items():
            monkeypatch.setenv(key, value)
        (running.emulator.storage / BUCKET).mkdir()
        yield running


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Make a SavedModel that answers `probability = offset + x / 100`; the same folder for the same offset."""
    made: dict[float, Path] = {}

    def make(offset: float) -> Path:
        if not made:
            made[_FIRST_OFFSET] = tmp_path_factory.mktemp("model") / "saved"
            _save_model(made[_FIRST_OFFSET])
        if offset not in made:
            made[offset] = tmp_path_factory.mktemp("model") / "saved"
            shutil.copytree(made[_FIRST_OFFSET], made[offset])
            _change_offset(made[offset] / "saved_model.pb", offset)
        return made[offset]

    return make


def _save_model(folder: Path) -> None:
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> dict[str, Any]:
            return {"probability": _FIRST_OFFSET + x / 100}

    module = Module()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def _change_offset(file: Path, offset: float) -> None:
    """Change the constant of a saved model, which takes a hundredth of the time of saving another one."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    constants = [
        node.attr["value"].tensor
        for function in saved.meta_graphs[0].graph_def.library.function
        for node in function.node_def
        if node.op == "Const" and [*node.attr["value"].tensor.float_val] == [_FIRST_OFFSET]
    ]
    assert constants
    for constant in constants:
        constant.float_val[:] = [offset]
    file.write_bytes(saved.SerializeToString(deterministic=True))


@dataclass
class Bench:
    """An emulator, small models, and the calls that push them."""

    server: EmulatorServer
    make_model: Callable[[float], Path]
    deployment: Deployment
    name: str = "census-income"
    lease_seconds: float = 5.0

    @property
    def place(self) -> VertexProject:
        return VertexProject(
            project=PROJECT, region=REGION, staging=f"gs://{BUCKET}/root", api_endpoint=self.server.endpoint
        )

    def vertex(self, report: Callable[[str], None] = lambda line: None) -> VertexClient:
        return VertexClient(self.place, report=report, poll_seconds=0.005)

    def registry(self, report: Callable[[str], None] = lambda line: None) -> VertexRegistry:
        return VertexRegistry(self.vertex(report), self.deployment, self.name, lease_seconds=self.lease_seconds)

    def candidate(
        self,
        offset: float,
        run: str = "run-1",
        *,
        wrong: float = 0.0,
        pipeline: str = "census-income",
        version: int | None = None,
    ) -> Candidate:
        xs = (0.0, 10.0, 50.0)
        golden = GoldenRequests([{"x": x} for x in xs], [{"probability": offset + x / 100 + wrong} for x in xs])
        folder = self.make_model(offset)
        return Candidate(pipeline, version, run, folder=folder, tensorflow=(2, 21), golden=golden.to_json())

    def push(self, offset: float, run: str = "run-1", **options: Any) -> PushedVersion:
        return self.registry().push(self.candidate(offset, run, **options))

    def rollout(self, pushed: PushedVersion) -> RolloutResult:
        """Return the names on Vertex AI that a push recorded."""
        values = json.loads(pushed.properties["vertex"])
        del values["at"]
        return RolloutResult(**values)

    def model(self) -> VertexModel:
        return read_model(self.vertex(), self.name)

    def endpoint(self) -> Endpoint:
        return read_endpoint(self.vertex(), f"{self.place.parent}/endpoints/{self.name}")

    def serving(self) -> dict[int, int]:
        """Percent of the traffic by version number."""
        numbers = {version.id: version.number for version in self.model().versions}
        endpoint = self.endpoint()
        return {numbers[d.version_id]: endpoint.split[d.id] for d in endpoint.deployed if d.id in endpoint.split}

    def aliases(self) -> dict[int, list[str]]:
        return {version.number: sorted(version.aliases) for version in self.model().versions}

    def fault(self, **values: Any) -> None:
        from emulators.vertex.faults import InjectedFault

        self.server.emulator.faults.add(InjectedFault(**values))


@pytest.fixture
def bench(server: EmulatorServer, make_model: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch) -> Bench:
    # What spares a real endpoint would only make tests slow.
    monkeypatch.setattr(rollout, "_BETWEEN_REQUESTS_SECONDS", 0.0)
    monkeypatch.setattr(connection, "_FIRST_RETRY_SECONDS", 0.02)
    return Bench(
        server, make_model, Deployment(serving_image="my-image", serving_tensorflow="2.21", smoke_timeout_seconds=20)
    )


def as_json(text: bytes | None) -> Any:
    assert text is not None
    return json.loads(text)
