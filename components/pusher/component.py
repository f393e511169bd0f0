"""Pusher: pushes a blessed model into a registry, and no other model."""

import logging
import os
from pathlib import Path
from typing import Any

from tfx.components.evaluator import constants
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as entrypoint
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from cli.errors import NotBlessedError
from components.evaluator.evaluation import Summary
from components.evaluator.golden_requests import GOLDEN_NAME
from components.model_files import local_folder, read_bytes, written_by
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY
from schemas.data import TRAIN_SPLIT
from serving.registry.content import content_hash
from serving.registry.protocol import Candidate
from serving.registry.settings import open_registry

VERSION_PROPERTY = "pushed_version"
HASH_PROPERTY = "content_hash"
NEXT_VERSION = -1


@component
def Pusher(  # noqa: N802 (TFX names components like classes)
    model: InputArtifact[standard_artifacts.Model],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    registry: Parameter[str],
    pipeline: Parameter[str],
    run_id: Parameter[str],
    version: Parameter[int],
) -> None:
    """Push `model` as `version` (`NEXT_VERSION`: one more than the highest) and record its destination.

    `registry` holds the settings of a registry as JSON (serving/registry/settings.py). `pushed` is 1 if this execution
    changed anything, and 0 if a version holds the same model already, whether it serves or not.

    Raises:
      NotBlessedError: a blessing is negative, damaged, or another model's.
      PushError: the name or the version is another's, another push is active, or the registry cannot be written.
    """
    check_blessing(model, model_blessing)
    with local_folder(path_utils.serving_model_path(model.uri)) as folder:
        check_infra_blessing(infra_blessing, folder)
        candidate = Candidate(
            pipeline=pipeline,
            version=None if version == NEXT_VERSION else version,
            run_id=run_id,
            model_id=model.id,
            folder=folder,
            tensorflow=written_by(folder),
            metrics=Summary.read(evaluation.uri).metrics,
            golden=read_bytes(os.path.join(evaluation.uri, GOLDEN_NAME)),
            statistics=read_bytes(os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb")),
            examples=os.path.join(artifact_utils.get_split_uri([examples], TRAIN_SPLIT), "*.gz"),
        )
        pushed = open_registry(registry, logging.getLogger(__name__).info).push(candidate)
    pushed_model.set_int_custom_property(PUSHED_PROPERTY, int(pushed.pushed))
    pushed_model.set_string_custom_property(VERSION_PROPERTY, str(pushed.version))
    pushed_model.set_string_custom_property(DESTINATION_PROPERTY, pushed.destination)
    pushed_model.set_string_custom_property(HASH_PROPERTY, pushed.content_hash)
    for name, text in pushed.properties.items():
        pushed_model.set_string_custom_property(name, text)


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
    if blessing.get_string_custom_property(HASH_PROPERTY) != content_hash(folder):
        raise NotBlessedError("the infra blessing is another model's; the model is not pushed")


def _is_blessing_of(blessing: Any, model: Any) -> bool:
    """Whether a blessing is that of a model; on Vertex artifacts have names, and tasks know them by their hashes."""
    key = constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
    name = blessing.get_string_custom_property(key)
    blessed_id = entrypoint._get_hashed_id(name, {}) if name else blessing.get_int_custom_property(key)
    return bool(blessed_id == model.id)
