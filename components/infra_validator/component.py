"""Infra validation: whether the real model server can serve a model, before it is pushed.

TFX's own InfraValidator runs a server in docker, or on Kubernetes, and not on Vertex AI at all. This one starts
`python -m serving` in a process of its own, wherever the component runs.
"""

import http.client
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from cli.errors import NotBlessedError
from components.config import InfraValidation
from components.evaluator.evaluation import SUMMARY_NAME, Summary
from components.evaluator.golden_requests import GOLDEN_NAME
from components.model_files import copy_folder, read_bytes
from components.pusher.component import HASH_PROPERTY, check_blessing
from serving.model.golden_requests import GoldenRequests
from serving.registry import content_hash

# As the stock component marks its blessing.
BLESSED_PROPERTY, BLESSED_FILE = "blessed", "INFRA_BLESSED"
MEASURED_PROPERTY = "measured"
_LATENCY_REQUESTS = 200
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Measurements of the server: rows answered alike, latency of single rows over HTTP, memory with the model."""

    golden_requests: int
    p50_ms: float
    p95_ms: float
    memory_mb: float


@component
def InfraValidator(  # noqa: N802 (TFX names components like classes)
    model: InputArtifact[standard_artifacts.Model],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    settings: Parameter[str],
    code_fingerprint: Parameter[str],
) -> None:
    """Serve `model` and send it the golden requests of its `evaluation`; `settings` is an InfraValidation as JSON.

    A model without golden requests is only loaded, as stock InfraValidator does without examples.

    Raises:
      NotBlessedError: the model was not blessed by Evaluator; the server cannot load it, answers otherwise than the
        evaluated model, or is over its budget.
    """
    del code_fingerprint
    _check_blessing(model, model_blessing, evaluation.uri)
    golden = _golden(evaluation.uri)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        copy_folder(path_utils.serving_model_path(model.uri), folder)
        measured = validate(folder, golden, InfraValidation.model_validate_json(settings))
        blessing.set_string_custom_property(HASH_PROPERTY, content_hash(folder))
    blessing.set_int_custom_property(BLESSED_PROPERTY, 1)
    blessing.set_string_custom_property(MEASURED_PROPERTY, json.dumps(asdict(measured)))
    with fileio.open(os.path.join(blessing.uri, BLESSED_FILE), "w") as file:
        file.write("")


def _golden(evaluation_uri: str) -> GoldenRequests:
    """Return the golden requests of an evaluation; none of one that stock Evaluator wrote."""
    path = os.path.join(evaluation_uri, GOLDEN_NAME)
    if fileio.exists(path):
        return GoldenRequests.from_json(read_bytes(path))
    _LOG.warning("InfraValidator: there are no golden requests, so the model is loaded and not called")
    return GoldenRequests([], [])


def _check_blessing(model: Any, blessing: Any, evaluation_uri: str) -> None:
    """Check the blessing as the pushers do, and name the thresholds that were missed."""
    try:
        check_blessing(model, blessing)
    except NotBlessedError as error:
        is_summarized = fileio.exists(os.path.join(evaluation_uri, SUMMARY_NAME))
        failures = Summary.read(evaluation_uri).failures if is_summarized else ()
        if not failures:
            raise
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise NotBlessedError(f"the model is not blessed: {failures[0]}{more}; it is not pushed") from error


def validate(folder: Path, golden: GoldenRequests, settings: InfraValidation) -> Measured:
    """Start the server on a model and hold it to its golden requests and its budget.

    Raises:
      NotBlessedError: with what is wrong.
    """
    with _server(folder, settings.timeout_seconds) as (process, address):
        connection = http.client.HTTPConnection(address, timeout=settings.timeout_seconds)
        try:
            answers = _predict(connection, list(golden.instances)) if golden.instances else []
            wrong = golden.find_difference(answers)
            if wrong is not None:
                raise NotBlessedError(f"infra validation: wrong answer to a golden request: {wrong}")
            milliseconds = [
                _measure_milliseconds(connection, golden.instances[number % len(golden.instances)])
                for number in range(_LATENCY_REQUESTS if golden.instances else 0)
            ]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotBlessedError(f"infra validation: the server does not answer: {error}") from error
        finally:
            connection.close()
        p50, p95 = np.percentile(milliseconds or [0.0], [50, 95]).tolist()
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
    measured = Measured(len(golden.instances), round(p50, 3), round(p95, 3), round(memory, 1))
    if measured.p95_ms > settings.max_latency_ms:
        raise NotBlessedError(
            f"infra validation: 95 of 100 rows are answered within {measured.p95_ms:.1f} ms; at most "
            f"{settings.max_latency_ms:g} are allowed (infra_validation.max_latency_ms)"
        )
    if measured.memory_mb > settings.max_memory_mb:
        raise NotBlessedError(
            f"infra validation: the server takes {measured.memory_mb:,.0f} MB; at most {settings.max_memory_mb:,.0f} "
            "are allowed (infra_validation.max_memory_mb)"
        )
    return measured


@contextmanager
def _server(folder: Path, timeout_seconds: float) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield the model server in a fresh process, on a free port of this machine alone; yields it and its HOST:PORT."""
    # Nothing has pushed the model yet; what it must answer is checked here.
    command = [sys.executable, "-m", "serving", "--model-dir", str(folder), "--allow-unvalidated", "--no-access-log"]
    # A run that is killed leaves no server behind.
    command += ["--host", "127.0.0.1", "--port", "0", "--drain", "0", "--until-stdin-ends"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        # A server that hangs as it starts is ended; reading its output ends with it.
        too_late = threading.Timer(timeout_seconds, process.kill)
        too_late.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            too_late.cancel()
            if not line:
                process.wait()
                errors.seek(0)
                raise NotBlessedError(f"infra validation: {_why(errors.read(), process.returncode, timeout_seconds)}")
            _LOG.info("the server says %s", line.strip())
            yield process, json.loads(line)["http"].removeprefix("http://")
        finally:
            too_late.cancel()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def _why(output: str, code: int, timeout_seconds: float) -> str:
    errors = [line.removeprefix("error: ") for line in output.splitlines() if line.startswith("error: ")]
    if errors:
        return errors[-1]
    return f"the server did not start within {timeout_seconds:g} s" if code == -9 else f"the server ended with {code}"


def _predict(connection: http.client.HTTPConnection, instances: list[Any]) -> list[Any]:
    connection.request("POST", "/predict", json.dumps({"instances": instances}))
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise NotBlessedError(f"infra validation: the server refuses a golden request: {answer['error']}")
    answers: list[Any] = answer["predictions"]
    return answers


def _measure_milliseconds(connection: http.client.HTTPConnection, instance: Any) -> float:
    started = time.perf_counter()
    _predict(connection, [instance])
    return (time.perf_counter() - started) * 1000
