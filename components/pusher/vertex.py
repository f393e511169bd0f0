"""The pusher to Vertex AI: registers a blessed model as a version, deploys it, and never any other model."""

import json
import logging
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.evaluator.evaluation import Summary
from components.evaluator.golden_requests import GOLDEN_NAME
from components.model_files import copy_folder, read_bytes, written_by
from components.pusher.component import (
    HASH_PROPERTY,
    NEXT_VERSION,
    VERSION_PROPERTY,
    check_blessing,
    check_infra_blessing,
)
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY
from schemas.data import TRAIN_SPLIT
from schemas.features import FeatureSet, safe_name
from serving.model.golden_requests import GoldenRequests
from serving.registry import DECLARATION_FILE, GOLDEN_FILE, STATISTICS_FILE, content_hash, extra_hashes
from serving.registry.vertex.config import Deployment, Place
from serving.registry.vertex.connection import Vertex
from serving.registry.vertex.extras import Training, after_push
from serving.registry.vertex.plan import Wanted
from serving.registry.vertex.rollout import Content, Pushed, Releaser

VERTEX_PROPERTY = "vertex"


@component
def VertexPusher(  # noqa: N802 (TFX names components like classes)
    model: InputArtifact[standard_artifacts.Model],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    place: Parameter[str],
    deployment: Parameter[str],
    model_name: Parameter[str],
    pipeline: Parameter[str],
    run_id: Parameter[str],
    version: Parameter[int],
) -> None:
    """Push `model` as `version` (`NEXT_VERSION`: one more than the highest) and record the serving version since.

    `place` and `deployment` are a Place and a Deployment as JSON. Golden requests are those of the evaluation.
    `pushed` is 1 if anything was changed.

    Raises:
      NotBlessedError: a blessing is negative, damaged, or another model's.
      PushError: the name or the version is another's, another push is under way, or Vertex AI refuses.
    """
    check_blessing(model, model_blessing)
    settings = Deployment.model_validate_json(deployment)
    vertex = Vertex(Place.model_validate_json(place), report=logging.getLogger(__name__).info)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        copy_folder(path_utils.serving_model_path(model.uri), folder)
        check_infra_blessing(infra_blessing, folder)
        golden = GoldenRequests.from_json(read_bytes(os.path.join(evaluation.uri, GOLDEN_NAME)))
        content = Content(
            folder=folder,
            golden=golden,
            release={
                "pipeline": pipeline,
                "run_id": run_id,
                "model_id": model.id,
                "content_hash": content_hash(folder),
                "extra_hashes": extra_hashes({GOLDEN_FILE: golden.to_json()}),
            },
            extra={
                STATISTICS_FILE: read_bytes(os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb"))
            },
        )
        wanted = Wanted(
            model_name=model_name,
            pipeline=pipeline,
            run_id=run_id,
            content_hash=str(content.release["content_hash"]),
            tensorflow=written_by(folder),
            version=None if version == NEXT_VERSION else version,
        )
        result = Releaser(vertex, settings, model_name).push(wanted, content)
        # Each of these is made once: a push that was cut off after its version served is finished here.
        after_push(vertex, settings, result, _training(folder, examples, evaluation))
    _record(pushed_model, result, wanted.content_hash)


def _record(artifact: Any, result: Pushed, content: str) -> None:
    artifact.set_int_custom_property(PUSHED_PROPERTY, int(result.pushed))
    artifact.set_string_custom_property(VERSION_PROPERTY, str(result.version))
    artifact.set_string_custom_property(DESTINATION_PROPERTY, f"{result.model}@{result.version_id}")
    artifact.set_string_custom_property(HASH_PROPERTY, content)
    known = {**asdict(result), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    artifact.set_string_custom_property(VERTEX_PROPERTY, json.dumps(known))


def _training(folder: Path, examples: Any, evaluation: Any) -> Training:
    features = FeatureSet.model_validate_json((folder / DECLARATION_FILE).read_text())
    return Training(
        label_kind=features.label.kind,
        label=features.label.column,
        features=[safe_name(name) for name in features.features],
        examples=os.path.join(artifact_utils.get_split_uri([examples], TRAIN_SPLIT), "*.gz"),
        metrics=Summary.read(evaluation.uri).metrics,
    )
