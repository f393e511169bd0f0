"""A running emulator for the conformance suite, whose tests compare it with the real client's own expectations."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.future import polling
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

from emulators.vertex.server import EmulatorServer
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, PROJECT, PROJECT_NUMBER, REGION

IMAGE = "europe-west4-docker.pkg.dev/my-project/pipelines/serving:v1"
STORE = f"{ANSWERED_PARENT}/metadataStores/default"


@pytest.fixture(scope="module")
def service(
    tls: Path, tmp_path_factory: pytest.TempPathFactory, make_model: Callable[[float], Path]
) -> Iterator[EmulatorServer]:
    folder = tmp_path_factory.mktemp("vertex")
    numbers = {PROJECT: PROJECT_NUMBER}
    # Images of Kubeflow Pipelines run as root.
    with (
        pytest.MonkeyPatch.context() as patch,
        EmulatorServer(folder, tls=tls, operation_seconds=0.01, project_numbers=numbers, run_as=0) as running,
    ):
        # The client's own first wait for an operation is up to a second.
        patch.setattr(polling.DEFAULT_POLLING, "_initial", 0.02)
        before = dict(os.environ)
        os.environ.update(running.environment)
        aiplatform.init(
            project=PROJECT,
            location=REGION,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            api_endpoint=running.endpoint,
            staging_bucket=f"gs://{BUCKET}",
        )
        for name, offset in (("one", 0.1), ("two", 0.2)):
            shutil.copytree(make_model(offset), running.emulator.storage / BUCKET / name)
        yield running
        os.environ.clear()
        os.environ.update(before)


def client(service: EmulatorServer, kind: Any) -> Any:
    return kind(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": service.endpoint},
    )
