"""Infra validation: whether the real model server can serve a model, before it is pushed.

TFX's own InfraValidator runs a server in docker, or on Kubernetes, and not on Vertex AI at all. This one starts
`python -m serving` in a process of its own, wherever the component runs. It takes the arguments of the stock component,
too, and hands a `serving_spec` to its executor.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
from tfx import types
from tfx.components.infra_validator import executor
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import infra_validator_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import path_utils, proto_utils

from cli.errors import NotBlessedError
from components.config import InfraValidation
from components.evaluator.evaluation import SUMMARY_NAME, EvaluationReport
from components.evaluator.golden_requests import GOLDEN_NAME
from components.infra_validator.replay import ReplayContext, replay_requests
from components.model_files import copy_folder, read_bytes
from components.pusher.component import HASH_PROPERTY, check_blessing
from components.stock_executor import log_handover
from serving.model.golden_requests import GoldenRequests
from serving.registry import compute_content_hash

# As the stock component marks its blessing.
BLESSED_PROPERTY, BLESSED_FILE = "blessed", "INFRA_BLESSED"
MEASURED_PROPERTY = "measured"
_LATENCY_REQUESTS = 200
# As stock InfraValidator tries if a ValidationSpec has no number.
_STOCK_TRIES = 5
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Measurements of the server: rows answered alike, latency of single rows over HTTP, memory with the model.

    Attributes:
      golden_requests: Number of rows that were answered as by the evaluated model.
      p50_ms, p95_ms: Latency.
      memory_mb: Memory of the process.
      replay: Decisions on logged requests, as `ReplayResult.to_dict` has them; None without a replay.
    """

    golden_requests: int
    p50_ms: float
    p95_ms: float
    memory_mb: float
    replay: dict[str, Any] | None = None


class ServerExecutor(executor.Executor):
    """Serves a model by this project's server, or hands the work to the stock executor."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Serve `model`, send it requests, and write the `blessing`.

        Requests are the golden ones of `evaluation`; without these, rows of `examples` with the answers of the model
        itself; without both, the model is only loaded.

        Raises:
          NotBlessedError: the model was not blessed by Evaluator; the server cannot load it, answers otherwise than the
            evaluated model, or is over its budget. Or too many decisions on logged requests change.
        """
        if exec_properties.get(standard_component_specs.SERVING_SPEC_KEY):
            log_handover("InfraValidator", "serving_spec names another server")
            super().Do(input_dict, output_dict, exec_properties)
            return
        self._log_startup(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(input_dict["model"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        evaluations = input_dict.get("evaluation") or []
        evaluation_uri = evaluations[0].uri if evaluations else ""
        if input_dict.get("model_blessing"):
            model_blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
            _check_blessing(model, model_blessing, evaluation_uri)
        settings = InfraValidation.model_validate_json(exec_properties.get("settings") or "{}")
        limits = _read_message(exec_properties, "validation_spec", infra_validator_pb2.ValidationSpec())
        if limits is not None and limits.max_loading_time_seconds:
            settings = settings.model_copy(update={"timeout_seconds": limits.max_loading_time_seconds})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            copy_folder(path_utils.serving_model_path(model.uri), folder)
            golden = _read_golden(evaluation_uri) or _build_requests(folder, input_dict, exec_properties, temporary)
            if golden is None:
                _LOG.warning("InfraValidator: there are no golden requests, so the model is loaded and not called")
            tries = 1 if limits is None else limits.num_tries or _STOCK_TRIES
            measured = _validate_with_retries(folder, golden or GoldenRequests([], []), settings, tries)
            context = exec_properties.get("replay_context")
            if settings.replay is not None and context:
                result = replay_requests(folder, settings.replay, ReplayContext.model_validate_json(context))
                measured = replace(measured, replay=result.to_dict())
            blessing.set_string_custom_property(HASH_PROPERTY, compute_content_hash(folder))
        blessing.set_int_custom_property(BLESSED_PROPERTY, 1)
        blessing.set_string_custom_property(MEASURED_PROPERTY, json.dumps(asdict(measured)))
        with fileio.open(os.path.join(blessing.uri, BLESSED_FILE), "w") as file:
            file.write("")


class InfraValidatorSpec(component_spec.ComponentSpec):
    """The spec of stock InfraValidator, with the optional inputs and parameters of this one."""

    PARAMETERS: ClassVar = {
        **standard_component_specs.InfraValidatorSpec.PARAMETERS,
        standard_component_specs.SERVING_SPEC_KEY: component_spec.ExecutionParameter(
            type=infra_validator_pb2.ServingSpec, optional=True
        ),
        "settings": component_spec.ExecutionParameter(type=str, optional=True),
        "replay_context": component_spec.ExecutionParameter(type=str, optional=True),
        "code_fingerprint": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        **standard_component_specs.InfraValidatorSpec.INPUTS,
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
    }
    OUTPUTS = standard_component_specs.InfraValidatorSpec.OUTPUTS


class InfraValidator(base_component.BaseComponent):
    """Serves a model before it is pushed: by this project's server, or by that of `serving_spec` as stock does."""

    SPEC_CLASS = InfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ServerExecutor)

    def __init__(
        self,
        model: types.BaseChannel,
        serving_spec: infra_validator_pb2.ServingSpec | None,
        examples: types.BaseChannel | None = None,
        request_spec: infra_validator_pb2.RequestSpec | None = None,
        validation_spec: infra_validator_pb2.ValidationSpec | None = None,
        *,
        model_blessing: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        settings: InfraValidation | None = None,
        replay_context: ReplayContext | None = None,
        code_fingerprint: str | None = None,
    ) -> None:
        """Args:
        model: the model to serve.
        serving_spec: server and platform of the stock executor; None for this project's server, in a process.
        examples: examples whose rows are sent if `evaluation` has no golden requests.
        request_spec: split and number of these rows; without it none are sent.
        validation_spec: time in which the server must start, and number of tries.
        model_blessing: the blessing of Evaluator. If omitted, the model is served without it.
        evaluation: evaluation of the model, with its golden requests.
        settings: budget of this project's server, and bound of a replay.
        replay_context: registry and slices of a replay; without it none is done.
        code_fingerprint: fingerprint of this code, so that a change of it invalidates the cache.

        Raises:
          ValueError: `request_spec` asks for what only the server of a `serving_spec` does.
        """
        serving = request_spec.tensorflow_serving if request_spec is not None else None
        if serving_spec is None and request_spec is not None and serving is not None:
            for name, value in (
                ("make_warmup", request_spec.make_warmup),
                ("tag_set", [*serving.tag_set]),
                ("signature_names", [*serving.signature_names]),
            ):
                if value:
                    raise ValueError(f"InfraValidator: {name} of request_spec needs serving_spec")
        super().__init__(
            spec=InfraValidatorSpec(
                model=model,
                serving_spec=serving_spec,
                examples=examples,
                request_spec=request_spec,
                validation_spec=validation_spec,
                model_blessing=model_blessing,
                evaluation=evaluation,
                settings=None if settings is None else settings.model_dump_json(),
                replay_context=None if replay_context is None else replay_context.model_dump_json(),
                code_fingerprint=code_fingerprint,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )


def _read_message(exec_properties: dict[str, Any], key: str, message: Any) -> Any:
    """Return a message of TFX among the parameters; None if there is none."""
    text = exec_properties.get(key)
    return proto_utils.json_to_proto(text, message) if text else None


def _read_golden(evaluation_uri: str) -> GoldenRequests | None:
    """Return the golden requests of an evaluation; None of one without them."""
    path = os.path.join(evaluation_uri, GOLDEN_NAME)
    return GoldenRequests.from_json(read_bytes(path)) if evaluation_uri and fileio.exists(path) else None


def _build_requests(
    folder: Path, input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any], temporary: str
) -> GoldenRequests | None:
    """Return rows of the examples with the answers of the model itself; None if there are none to send."""
    spec = _read_message(exec_properties, "request_spec", infra_validator_pb2.RequestSpec())
    examples = input_dict.get("examples")
    if spec is None or not examples:
        return None
    # Imports TFMA, for models without golden requests only.
    from components.evaluator.component import write_golden_of_candidate
    from components.evaluator.sliced_predictions import CANDIDATE, LoadedModels

    split = spec.split_name or artifact_utils.decode_split_names(examples[0].split_names)[0]
    uris = artifact_utils.get_split_uris(examples, split)
    loaded = LoadedModels({CANDIDATE: str(folder)})
    write_golden_of_candidate(temporary, loaded, uris, {"golden_requests": spec.num_examples or 1})
    return _read_golden(temporary)


def _validate_with_retries(folder: Path, golden: GoldenRequests, settings: InfraValidation, tries: int) -> Measured:
    """Return what the first try measured that succeeds; raise as the last one does."""
    for number in range(1, tries):
        try:
            return validate(folder, golden, settings)
        except NotBlessedError as error:
            _LOG.warning("InfraValidator: try %d of %d: %s", number, tries, error)
    return validate(folder, golden, settings)


def _check_blessing(model: Any, blessing: Any, evaluation_uri: str) -> None:
    """Check the blessing as the pushers do, and name the thresholds that were missed."""
    try:
        check_blessing(model, blessing)
    except NotBlessedError as error:
        is_summarized = bool(evaluation_uri) and fileio.exists(os.path.join(evaluation_uri, SUMMARY_NAME))
        failures = EvaluationReport.read(evaluation_uri).failures if is_summarized else ()
        if not failures:
            raise
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        # The verdict is Evaluator's: oncall names the node that a message starts with.
        raise NotBlessedError(f"Evaluator: the model is not blessed: {failures[0]}{more}; it is not pushed") from error


def validate(folder: Path, golden: GoldenRequests, settings: InfraValidation) -> Measured:
    """Start the server on a model and hold it to its golden requests and its budget.

    Raises:
      NotBlessedError: with what is wrong.
    """
    with _start_server(folder, settings.timeout_seconds) as (process, address):
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
def _start_server(folder: Path, timeout_seconds: float) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield the model server in a fresh process, on a free port of this machine alone; yields it and its HOST:PORT."""
    # Nothing has pushed the model yet, and its responses are checked here.
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
                raise NotBlessedError(
                    f"infra validation: {_explain_failure(errors.read(), process.returncode, timeout_seconds)}"
                )
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


def _explain_failure(output: str, code: int, timeout_seconds: float) -> str:
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
