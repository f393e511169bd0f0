"""The needs of a job on other machines are checked before it starts."""

import http.server
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError
from serving.beam import preflight
from serving.beam.config import BeamOptions
from serving.beam.preflight import check_beam
from serving.beam.worker_pool import open_pool

REMOTE = {"runner": "dataflow", "sdk_image": "i"}


@contextmanager
def open_silent_port() -> Iterator[str]:
    """Accept connections, and answer none; nobody waits long for an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "ANSWER_SECONDS", 0.2)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def open_flink(status: int) -> Iterator[str]:
    """Answer as the REST API of Flink does to `GET /config`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/config" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_port}"
        server.shutdown()


def reject(paths: dict[str, str] | None = None, **options: Any) -> str:
    """Return the message of the error."""
    with pytest.raises(ConfigError) as error:
        check_beam(BeamOptions(**options), paths or {})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.integration
def test_a_job_server_that_does_not_answer_is_named_in_seconds() -> None:
    with open_silent_port() as endpoint:
        message = reject(runner="portable", job_endpoint=endpoint)
    assert message == (
        f"beam.job_endpoint: no Beam job server answers at {endpoint} within 0.2 s; start it, or correct the address"
    )


def test_another_server_than_a_job_server_is_no_job_server() -> None:
    with open_pool("127.0.0.1", 0) as port:
        assert "no Beam job server answers" in reject(runner="portable", job_endpoint=f"localhost:{port}")


@pytest.mark.integration
def test_a_pool_that_does_not_answer_is_named(tmp_path: Path) -> None:
    program = tmp_path / "prism"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with open_silent_port() as endpoint:
        message = reject(runner="prism", prism_binary=str(program), worker_pool=endpoint)
    assert message.startswith(
        f"beam.worker_pool: no worker pool answers at {endpoint} within 0.2 s; start it there with `p"
    )
    with open_pool("127.0.0.1", 0) as port:
        check_beam(BeamOptions(runner="prism", prism_binary=str(program), worker_pool=f"localhost:{port}"), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runner": "portable"}, "beam.job_endpoint: is missing; portable needs HOST:PORT"),
        ({"runner": "prism", "prism_binary": "/no/prism"}, "beam.prism_binary: there is no program '/no/prism'; build"),
        (
            {"runner": "flink", "options": {"job_server_java_launcher": "/no/java"}},
            "beam.runner: flink starts a job server of Java here, and there is no program '/no/java'; install Java, or",
        ),
        (
            {"runner": "spark", "options": {"spark_job_server_jar": "/no/x.jar", "job_server_java_launcher": "true"}},
            "beam.options.spark_job_server_jar: no such file /no/x.jar",
        ),
        (
            {"runner": "flink", "options": {"job_server_java_launcher": "true"}, "worker_command": "/no/boot"},
            "beam.worker_command: there is no program '/no/boot'",
        ),
        (
            {"runner": "flink", "options": {"job_server_java_launcher": "true"}, "master": "somewhere"},
            "beam.master: expected HOST:PORT, spark://HOST:PORT or a local master, found 'somewhere'",
        ),
    ],
)
def test_what_is_missing_is_named(options: dict[str, Any], message: str) -> None:
    assert reject(**options).startswith(message)


def test_a_container_needs_docker_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "docker" else name)
    message = reject(runner="flink", sdk_image="image:1")
    assert message.startswith("beam.sdk_image: the job server on this machine starts workers with docker, which is not")


@pytest.mark.integration
def test_a_cluster_is_asked() -> None:
    java = {"job_server_java_launcher": "true"}
    with open_flink(200) as master:
        assert reject(runner="flink", master=master, options=java).startswith(
            "beam.worker_pool: is missing; workers on"
        )
        # The pool beside each TaskManager is not this machine's.
        check_beam(BeamOptions(runner="flink", master=master, worker_pool="localhost:1", options=java), {})
    with open_flink(404) as master:
        assert reject(runner="flink", master=master, options=java).startswith(
            f"beam.master: no flink answers at {master}"
        )
    with open_silent_port() as master:
        assert reject(runner="flink", master=master, options=java).startswith(
            f"beam.master: no flink answers at {master}"
        )
        spark = BeamOptions(runner="spark", master=f"spark://{master}", worker_command="/opt/boot", options=java)
        check_beam(spark, {})


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        (
            REMOTE,
            "/data",
            "data.base: the workers of beam.runner dataflow are on other machines and cannot see /data; g",
        ),
        (REMOTE, "gs://bucket/data", None),
        ({"runner": "direct"}, "/data", None),
    ],
)
def test_a_local_path_of_remote_workers_is_named(options: dict[str, Any], path: str, message: str | None) -> None:
    if message is None:
        check_beam(BeamOptions(**options), {"data.base": path})
    else:
        assert reject({"data.base": path}, **options).startswith(message)


def test_local_paths_have_to_be_below_the_shared_folder(tmp_path: Path) -> None:
    with open_flink(200) as master:
        flink = {
            "runner": "flink",
            "master": master,
            "worker_pool": "localhost:1",
            "options": {"job_server_java_launcher": "true"},
        }
        assert reject({"--run-root": "/runs"}, **flink).endswith(
            "cannot see /runs; give a remote folder such as gs://BUCKET/FOLDER, or a path below beam.shared_folder"
        )
        shared = {**flink, "shared_folder": str(tmp_path)}
        check_beam(BeamOptions(**shared), {"--run-root": str(tmp_path / "runs"), "data.base": "s3://bucket/x"})
        for path in ("/runs", f"{tmp_path}/../runs", f"{tmp_path}-2/runs"):
            assert reject({"--run-root": path}, **shared).endswith(f"it is not below beam.shared_folder {tmp_path}")
        assert "it is relative" in reject({"INPUT": "runs"}, **shared)
        assert reject({}, **{**shared, "shared_folder": "/no/folder"}) == (
            "beam.shared_folder: no such folder /no/folder on this machine"
        )
