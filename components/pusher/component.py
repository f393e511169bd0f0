"""Pusher: pushes a blessed model into a registry, and no other model.

The component takes the arguments of stock Pusher, too. With `push_destination` in the place of `registry`, the stock
executor does the work.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.pusher import executor
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration import data_types
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as entrypoint
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import io_utils, json_utils, path_utils

from cli.errors import NotBlessedError
from components.evaluator.evaluation import SUMMARY_NAME, EvaluationReport, Metrics
from components.evaluator.golden_requests import GOLDEN_NAME
from components.example_gen.component import CONTENT_PROPERTY
from components.model_files import open_local_folder, read_bytes, read_tensorflow_version
from components.pusher.data_time import read_data_fields
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY
from components.stock_executor import log_handover
from schemas.data import TRAIN_SPLIT
from serving.model.warmup_requests import build_warmup
from serving.registry.content import WARMUP_FILE, compute_content_hash
from serving.registry.protocol import Candidate
from serving.registry.settings import open_registry

VERSION_PROPERTY = "pushed_version"
HASH_PROPERTY = "content_hash"
NOTE_PROPERTY = "note"
BYTES_PROPERTY = "bytes"
NEXT_VERSION = -1
_LOG = logging.getLogger(__name__)
_BLESSINGS = (standard_component_specs.MODEL_BLESSING_KEY, standard_component_specs.INFRA_BLESSING_KEY)


class RegistryExecutor(executor.Executor):
    """Pushes into a registry, or hands the work to the stock executor."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Push `model` as `version` (`NEXT_VERSION`: one more than the highest) and record its destination.

        `pushed` is 1 if this execution changed anything, and 0 if a version holds the same model already, whether it
        serves or not.

        Raises:
          NotBlessedError: a blessing is missing, negative, damaged, or another model's.
          PushError: the name or the version is another's, another push is active, or the registry cannot be written.
        """
        for name in json.loads(exec_properties.get("required_blessings") or "[]"):
            if not input_dict.get(name):
                # The stock executor would push the model without validation.
                raise NotBlessedError(f"there is no {name}, since the component before failed; the model is not pushed")
        if not exec_properties.get("registry"):
            log_handover("Pusher", "`registry` is not given")
            super().Do(input_dict, output_dict, exec_properties)
            return
        self._log_startup(input_dict, output_dict, exec_properties)
        artifacts = {name: artifact_utils.get_single_instance(values) for name, values in input_dict.items() if values}
        _push(artifacts, artifact_utils.get_single_instance(output_dict["pushed_model"]), exec_properties)


def _push(inputs: dict[str, types.Artifact], pushed_model: types.Artifact, exec_properties: dict[str, Any]) -> None:
    model = inputs["model"]
    if "model_blessing" in inputs:
        check_blessing(model, inputs["model_blessing"])
    if not inputs.keys() & set(_BLESSINGS):
        _LOG.warning("Pusher: the model is pushed without validation, since no blessing is given")
    version = exec_properties.get("version", NEXT_VERSION)
    with open_local_folder(path_utils.serving_model_path(model.uri)) as folder:
        if "infra_blessing" in inputs:
            check_infra_blessing(inputs["infra_blessing"], folder)
        golden = _read_golden(inputs.get("evaluation"))
        candidate = Candidate(
            pipeline=exec_properties.get("pipeline") or "",
            version=None if version == NEXT_VERSION else version,
            run_id=exec_properties.get("run_id") or "",
            model_id=model.id,
            folder=folder,
            tensorflow=read_tensorflow_version(folder),
            metrics=_read_metrics(inputs.get("evaluation")),
            golden=golden,
            warmup=_read_warmup(folder, golden),
            statistics=_read_statistics(inputs.get("statistics")),
            examples=_build_example_pattern(inputs.get("examples")),
            origin=_hash_origin(inputs.get("examples"), exec_properties.get("recipe") or ""),
            data=read_data_fields(folder, inputs.get("examples"), inputs.get("statistics")),
        )
        pushed = open_registry(exec_properties["registry"], _LOG.info).push(candidate)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        # As stock Pusher does, for components that read PushedModel.
        io_utils.copy_dir(str(folder), pushed_model.uri)
    pushed_model.set_int_custom_property(PUSHED_PROPERTY, int(pushed.pushed))
    pushed_model.set_string_custom_property(VERSION_PROPERTY, str(pushed.version))
    pushed_model.set_string_custom_property(DESTINATION_PROPERTY, pushed.destination)
    pushed_model.set_string_custom_property(HASH_PROPERTY, pushed.content_hash)
    pushed_model.set_int_custom_property(BYTES_PROPERTY, size)
    if pushed.note:
        pushed_model.set_string_custom_property(NOTE_PROPERTY, pushed.note)
        _LOG.warning("Pusher: version %d waits as the candidate: %s", pushed.version, pushed.note)
    for name, text in pushed.properties.items():
        pushed_model.set_string_custom_property(name, text)


def _read_metrics(evaluation: types.Artifact | None) -> Metrics:
    """Return the metrics of an evaluation; none of one that stock Evaluator wrote."""
    is_summarized = evaluation is not None and tf.io.gfile.exists(os.path.join(evaluation.uri, SUMMARY_NAME))
    return EvaluationReport.read(evaluation.uri).metrics if evaluation is not None and is_summarized else {}


def _read_golden(evaluation: types.Artifact | None) -> bytes:
    path = "" if evaluation is None else os.path.join(evaluation.uri, GOLDEN_NAME)
    if path and tf.io.gfile.exists(path):
        return read_bytes(path)
    _LOG.warning("Pusher: there are no golden requests; the server serves the version with --allow-unvalidated only")
    return b""


def _read_warmup(folder: Path, golden: bytes) -> bytes:
    """Return the model's own warm-up requests, or those that its golden requests make."""
    own = folder / WARMUP_FILE
    return own.read_bytes() if own.is_file() else build_warmup(folder, golden)


def _read_statistics(statistics: types.Artifact | None) -> bytes:
    if statistics is None:
        return b""
    return read_bytes(os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb"))


def _hash_origin(examples: types.Artifact | None, recipe: str) -> str:
    """Return the hash of the content of the examples and of the recipe; empty if one of them is unknown."""
    content = "" if examples is None else examples.get_string_custom_property(CONTENT_PROPERTY)
    return hashlib.sha256(f"{content}\0{recipe}".encode()).hexdigest()[:16] if content and recipe else ""


def _build_example_pattern(examples: types.Artifact | None) -> str:
    if examples is None:
        return ""
    return os.path.join(artifact_utils.get_split_uri([examples], TRAIN_SPLIT), "*.gz")


class PusherSpec(standard_component_specs.PusherSpec):
    """The spec of stock Pusher, with the optional inputs and parameters of this one."""

    PARAMETERS: ClassVar = {
        **standard_component_specs.PusherSpec.PARAMETERS,
        "registry": component_spec.ExecutionParameter(type=str, optional=True),
        "pipeline": component_spec.ExecutionParameter(type=str, optional=True),
        "run_id": component_spec.ExecutionParameter(type=str, optional=True),
        "version": component_spec.ExecutionParameter(type=int, optional=True),
        "recipe": component_spec.ExecutionParameter(type=str, optional=True),
        "required_blessings": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        **standard_component_specs.PusherSpec.INPUTS,
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics, optional=True),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
    }


class Pusher(base_component.BaseComponent):
    """Pushes a blessed model into a registry, or as stock Pusher does."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RegistryExecutor)

    def __init__(
        self,
        model: types.BaseChannel | None = None,
        model_blessing: types.BaseChannel | None = None,
        infra_blessing: types.BaseChannel | None = None,
        push_destination: pusher_pb2.PushDestination | data_types.RuntimeParameter | None = None,
        custom_config: dict[str, Any] | None = None,
        custom_executor_spec: executor_spec.ExecutorSpec | None = None,
        *,
        registry: str | None = None,
        pipeline: str = "",
        run_id: str = "",
        version: int = NEXT_VERSION,
        recipe: str = "",
        examples: types.BaseChannel | None = None,
        statistics: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
    ) -> None:
        """Args:
        model: the model to push.
        model_blessing: the blessing of Evaluator. If omitted, the model is pushed without it.
        infra_blessing: the blessing of InfraValidator. If omitted, the model is pushed without it.
        push_destination: TFX's destination, in the place of `registry`.
        custom_config: settings of a custom executor.
        custom_executor_spec: deprecated in TFX; another executor.
        registry: settings of a registry as JSON (serving/registry/settings.py).
        pipeline: name of the pipeline that owns the model's name.
        run_id: ID of the run, which is kept with the version.
        version: number of the version; `NEXT_VERSION` for one more than the highest.
        recipe: hash of the code and the config that the model is made by, which is kept with the version.
        examples: examples of the training, named in the version's record.
        statistics: statistics of `examples`, kept with the version.
        evaluation: evaluation of the model, whose metrics and golden requests are kept with the version.

        Raises:
          ValueError: there is no destination, or two; or no model.
        """
        destinations = [name for name in (push_destination, registry, custom_executor_spec) if name is not None]
        if not destinations or (registry is not None and len(destinations) > 1):
            raise ValueError("Pusher needs one of registry, push_destination and custom_executor_spec")
        if model is None and (registry is not None or infra_blessing is None):
            raise ValueError("Pusher needs model; without registry, infra_blessing may hold it")
        blessings = dict(zip(_BLESSINGS, (model_blessing, infra_blessing), strict=True))
        spec = PusherSpec(
            model=model,
            **blessings,
            push_destination=push_destination,
            custom_config=json_utils.dumps(custom_config),
            registry=registry,
            pipeline=pipeline,
            run_id=run_id,
            version=version,
            recipe=recipe or None,
            required_blessings=json.dumps([name for name, channel in blessings.items() if channel is not None]),
            examples=examples,
            statistics=statistics,
            evaluation=evaluation,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
        )
        super().__init__(spec=spec, custom_executor_spec=custom_executor_spec)


def check_blessing(model: standard_artifacts.Model, blessing: standard_artifacts.ModelBlessing) -> None:
    """Check that Evaluator blessed this very model.

    Raises:
      NotBlessedError: with the reason.
    """
    if not _is_blessing_of(blessing, model):
        raise NotBlessedError(f"the blessing is not that of model {model.id}; it is not pushed")
    blessed = blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == constants.BLESSED_VALUE
    if not blessed:
        raise NotBlessedError("the model is not blessed; it is not pushed")
    if not fileio.exists(os.path.join(blessing.uri, constants.BLESSED_FILE_NAME)):
        raise NotBlessedError(f"{blessing.uri}: holds no {constants.BLESSED_FILE_NAME} file; the model is not pushed")


def check_infra_blessing(blessing: standard_artifacts.InfraBlessing, folder: Path) -> None:
    """Check that InfraValidator has served this very model.

    Raises:
      NotBlessedError: with the reason.
    """
    if not model_utils.is_infra_validated(blessing):
        raise NotBlessedError("the model server did not serve the model as it should; it is not pushed")
    # Stock InfraValidator records no hash.
    if blessing.get_string_custom_property(HASH_PROPERTY) not in ("", compute_content_hash(folder)):
        raise NotBlessedError("the infra blessing is another model's; the model is not pushed")


def _is_blessing_of(blessing: Any, model: Any) -> bool:
    """Return whether a blessing is that of a model.

    On Vertex AI artifacts have names, of which tasks have hashes.
    """
    key = constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
    name = blessing.get_string_custom_property(key)
    blessed_id = entrypoint._get_hashed_id(name, {}) if name else blessing.get_int_custom_property(key)
    return bool(blessed_id == model.id)
