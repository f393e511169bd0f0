"""A model is served by the real server before it is pushed; one that cannot be is refused, and why is said."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import tensorflow as tf
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import model_utils
from tfx.proto import infra_validator_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from cli.errors import NotBlessedError
from components.config import InfraValidation, Replay
from components.evaluator.golden_requests import GOLDEN_NAME
from components.infra_validator import component
from components.infra_validator.component import InfraValidator, ServerExecutor, validate
from components.infra_validator.replay import ReplayContext
from components.infra_validator.summary import InfraValidatorSummary
from components.pusher.component import check_infra_blessing
from serving.model.golden_requests import GoldenRequests
from serving.registry.settings import LocalRegistrySettings
from tests.serving.models import example, export_model, golden, push
from tests.serving.replay.test_decisions import write_log
from tests.serving.running import registry_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model in the layout of Trainer."""
    return export_model(tmp_path_factory.mktemp("model") / "Format-Serving", offset=-4.0)


@pytest.fixture(scope="module")
def answers(model: Path) -> GoldenRequests:
    return golden(model)


def test_a_model_that_is_served_as_it_should_be_is_blessed(
    model: Path, answers: GoldenRequests, tmp_path: Path
) -> None:
    artifact, blessing = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
    artifact.uri, blessing.uri, artifact.id = str(model.parent), str(tmp_path), 7
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, 7)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, constants.BLESSED_VALUE)
    (tmp_path / constants.BLESSED_FILE_NAME).touch()
    evaluation, infra_blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.InfraBlessing()
    evaluation.uri, infra_blessing.uri = str(tmp_path), str(tmp_path / "infra")
    (tmp_path / "infra").mkdir()
    (tmp_path / GOLDEN_NAME).write_bytes(answers.to_json())
    ServerExecutor().Do(
        {"model": [artifact], "model_blessing": [blessing], "evaluation": [evaluation]},
        {"blessing": [infra_blessing]},
        {"settings": InfraValidation().model_dump_json()},
    )
    assert model_utils.is_infra_validated(infra_blessing)
    assert (tmp_path / "infra" / "INFRA_BLESSED").exists()
    check_infra_blessing(infra_blessing, model)
    measured = json.loads(infra_blessing.get_string_custom_property("measured"))
    assert measured["golden_requests"] == 2
    assert 0 < measured["p50_ms"] <= measured["p95_ms"] < 1000
    assert 100 < measured["memory_mb"] < 4000
    # Other tests may have left their process to fork from.
    assert [p for p in psutil.Process().children(recursive=True) if "serving" in p.cmdline()] == []


@pytest.fixture(scope="module")
def running(model: Path) -> Iterator[Any]:
    """Yield one server of the model, as `_start_server` starts it."""
    with component._start_server(model, 120) as server:
        yield server


@pytest.fixture
def one_server(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have InfraValidator use the server that runs."""
    monkeypatch.setattr(component, "_start_server", lambda folder, timeout: nullcontext(running))


@pytest.mark.usefixtures("one_server")
def test_a_replay_is_part_of_the_measurements(model: Path, tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    push(registry, model)
    log = write_log(tmp_path / "log", model)
    artifact, infra_blessing = standard_artifacts.Model(), standard_artifacts.InfraBlessing()
    artifact.uri, infra_blessing.uri = str(model.parent), str(tmp_path / "infra")
    (tmp_path / "infra").mkdir()
    settings = InfraValidation(replay=Replay(log=str(log), max_changed=0.0))
    local = LocalRegistrySettings(model_name="shop-model", folder=str(tmp_path / "registry"))
    context = ReplayContext(registry=local.model_dump_json(), slice_by=(("color",),), min_slice_rows=30, run_id="run-2")
    properties = {"settings": settings.model_dump_json(), "replay_context": context.model_dump_json()}
    ServerExecutor().Do({"model": [artifact]}, {"blessing": [infra_blessing]}, properties)
    assert json.loads(infra_blessing.get_string_custom_property("measured"))["replay"]["rows"] == 120
    summary = InfraValidatorSummary.read({"blessing": [infra_blessing.mlmd_artifact]})
    assert summary.headline.endswith("; replay: 0.00% of 120 decisions of version 1 changed")
    assert summary.format_lines() == []
    assert summary.replay is not None
    changed = {**summary.replay, "changed": 3, "slices": [{"name": "color=red", "rows": 30, "changed": 3}]}
    lines = replace(summary, replay=changed).format_lines()
    assert lines == [("replay", "10.00% of 30 decisions of color=red changed")]


@pytest.mark.usefixtures("one_server")
def test_wrong_answers_and_budgets_are_refused_by_name(model: Path, answers: GoldenRequests) -> None:
    other = GoldenRequests(answers.instances, [{**row, "probability": 0.123} for row in answers.predictions])
    more = GoldenRequests([{**answers.instances[0], "price": 3}], answers.predictions[:1])
    for requests, settings, message in (
        (other, {}, r"infra validation: wrong answer to a golden request: request 0: probability is"),
        (more, {}, r"the server refuses a golden request: instances\[0\]: 'price' is unknown"),
        (answers, {"max_latency_ms": 1e-6}, r"95 of 100 rows are answered within \d+\.\d ms; at most 1e-06"),
        (answers, {"max_memory_mb": 10}, r"the server takes \d+ MB; at most 10 are allowed \(infra_validation"),
    ):
        with pytest.raises(NotBlessedError, match=message):
            validate(model, requests, InfraValidation.model_validate(settings))


def test_a_server_that_does_not_start_is_refused(model: Path, answers: GoldenRequests, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "saved_model.pb").write_bytes((model / "saved_model.pb").read_bytes()[:100])
    for folder, settings, message in (
        (model, {"timeout_seconds": 0.2}, "the server did not start within 0.2 s"),
        (half, {}, "no model can be loaded from it"),
    ):
        with pytest.raises(NotBlessedError, match=message):
            validate(folder, answers, InfraValidation.model_validate(settings))


class Doubling(tf.Module):
    """Takes a tensor, as TF Serving's half_plus_two does."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="size")])
    def call(self, size: Any) -> Any:
        return {"y": 2 * size}


def test_a_model_of_another_origin_is_sent_rows_if_there_are_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = Doubling()
    tf.saved_model.save(foreign, str(tmp_path / "Format-Serving"), signatures={"serving_default": foreign.call})
    (tmp_path / "Split-train").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "Split-train" / "data.gz"), "GZIP") as writer:
        for number in range(5):
            writer.write(example({"size": float(number)}))
    model, examples = standard_artifacts.Model(), standard_artifacts.Examples()
    model.uri, examples.uri, examples.split_names = str(tmp_path), str(tmp_path), '["train"]'
    limits = infra_validator_pb2.ValidationSpec(max_loading_time_seconds=120, num_tries=2)
    properties = {"validation_spec": proto_utils.proto_to_json(limits)}
    spec = proto_utils.proto_to_json(infra_validator_pb2.RequestSpec(num_examples=3))
    with component._start_server(tmp_path / "Format-Serving", 120) as server:
        monkeypatch.setattr(component, "_start_server", lambda folder, timeout: nullcontext(server))
        for count, request_spec in ((0, {}), (3, {"request_spec": spec})):
            blessing = standard_artifacts.InfraBlessing()
            blessing.uri = str(tmp_path / f"blessing-{count}")
            Path(blessing.uri).mkdir()
            ServerExecutor().Do(
                {"model": [model], "examples": [examples]}, {"blessing": [blessing]}, properties | request_spec
            )
            assert json.loads(blessing.get_string_custom_property("measured"))["golden_requests"] == count
            assert model_utils.is_infra_validated(blessing)


def test_a_serving_spec_is_for_the_stock_executor(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, blessing = standard_artifacts.Model(), standard_artifacts.InfraBlessing()
    artifact.uri, blessing.uri = str(model.parent), str(tmp_path)
    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["latest"]),
        local_docker=infra_validator_pb2.LocalDockerConfig(client_base_url="unix:///nowhere.sock"),
    )
    limits = infra_validator_pb2.ValidationSpec(num_tries=1)
    properties = {
        "serving_spec": proto_utils.proto_to_json(spec),
        "validation_spec": proto_utils.proto_to_json(limits),
    }
    context = ServerExecutor.Context(tmp_dir=str(tmp_path / "tmp"), unique_id="1")
    ServerExecutor(context).Do({"model": [artifact]}, {"blessing": [blessing]}, properties)
    assert "InfraValidator: the executor of stock TFX does the work, since serving_spec names another" in caplog.text
    # There is no docker here: stock's verdict on a server that does not start.
    assert (tmp_path / "INFRA_NOT_BLESSED").exists()


def test_requests_that_only_another_server_has_need_a_serving_spec() -> None:
    channel = types.Channel(type=standard_artifacts.Model)
    with pytest.raises(ValueError, match="InfraValidator: make_warmup of request_spec needs serving_spec"):
        InfraValidator(channel, None, request_spec=infra_validator_pb2.RequestSpec(make_warmup=True))
