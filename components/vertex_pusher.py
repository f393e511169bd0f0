"""The pusher to Vertex AI: registers a blessed model as a version, deploys it, and never any other model."""

import json
import logging
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.evaluation import read_metrics
from components.pusher import (
    DESTINATION_PROPERTY,
    HASH_PROPERTY,
    NEXT_VERSION,
    PUSHED_PROPERTY,
    VERSION_PROPERTY,
    check_blessing,
)
from schemas.data import TRAIN_SPLIT
from schemas.errors import DataError
from schemas.features import FeatureSet, safe_name
from serving.registry import content_hash
from serving.signatures import DECLARATION_FILE, SERVING_DEFAULT, SERVING_EXAMPLES
from serving.vertex import staging
from serving.vertex.config import Deployment, Place
from serving.vertex.connection import Vertex
from serving.vertex.extras import Training, after_push
from serving.vertex.golden import Golden
from serving.vertex.plan import Wanted
from serving.vertex.release import Content, Pushed, Releaser

VERTEX_PROPERTY = "vertex"
_ROWS_LOOKED_THROUGH = 4096


@tfx.dsl.components.component
def VertexPusher(  # noqa: N802 (TFX names components like classes)
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model_blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    statistics: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleStatistics],
    evaluation: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelEvaluation],
    pushed_model: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.PushedModel],
    place: tfx.dsl.components.Parameter[str],
    deployment: tfx.dsl.components.Parameter[str],
    model_name: tfx.dsl.components.Parameter[str],
    pipeline: tfx.dsl.components.Parameter[str],
    run_id: tfx.dsl.components.Parameter[str],
    version: tfx.dsl.components.Parameter[int],
    golden_split: tfx.dsl.components.Parameter[str],
) -> None:
    """Pushes `model` as `version` (`NEXT_VERSION`: one more than the highest) and records what serves since.

    `place` and `deployment` are a Place and a Deployment as JSON. Golden requests are taken from `golden_split`; their
    answers are those of the signature that was evaluated. `pushed` is 1 if anything was changed.

    Raises:
      NotBlessedError: the blessing is negative, damaged, or another model's.
      PushError: the name or the version is another's, another push is under way, or Vertex AI refuses.
    """
    check_blessing(model, model_blessing)
    settings = Deployment.model_validate_json(deployment)
    vertex = Vertex(Place.model_validate_json(place), report=logging.getLogger(__name__).info)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        copy_folder(path_utils.serving_model_path(model.uri), folder)
        content = Content(
            folder=folder,
            golden=golden_requests(folder, examples, golden_split, settings.golden_requests),
            release={
                "pipeline": pipeline,
                "run_id": run_id,
                "model_id": model.id,
                "content_hash": content_hash(folder),
            },
            extra={
                staging.STATISTICS_FILE: _read(os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb"))
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


def copy_folder(source: str, target: Path) -> None:
    """Copies a folder from wherever TFX can read to this machine."""
    for folder, _, files in tf.io.gfile.walk(source):
        below = target / os.path.relpath(folder, source)
        below.mkdir(parents=True, exist_ok=True)
        for name in files:
            tf.io.gfile.copy(os.path.join(folder, name), str(below / name), overwrite=True)


def written_by(folder: Path) -> tuple[int, int]:
    """(major, minor) of the TensorFlow that wrote a SavedModel."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    major, minor, *_ = saved.meta_graphs[0].meta_info_def.tensorflow_version.split(".")
    return int(major), int(minor)


def golden_requests(folder: Path, examples: Any, split: str, count: int) -> Golden:
    """The first rows of a split that JSON can hold, with the answers of the evaluated signature.

    Raises:
      DataError: no row can be sent as JSON.
    """
    model = tf.saved_model.load(str(folder))
    features = FeatureSet.model_validate_json((folder / DECLARATION_FILE).read_text())
    dtypes = {n: spec.dtype for n, spec in model.signatures[SERVING_DEFAULT].structured_input_signature[1].items()}
    uri = artifact_utils.get_split_uri([examples], split)
    files = sorted(tf.io.gfile.glob(os.path.join(uri, "*")))
    instances, records = [], []
    for record in tf.data.TFRecordDataset(files, "GZIP").take(_ROWS_LOOKED_THROUGH).as_numpy_iterator():
        values = tf.train.Example.FromString(record).features.feature
        instance = {safe_name(name): _value(values, name, dtypes[safe_name(name)]) for name in features.features}
        if None not in instance.values():
            instances.append(instance)
            records.append(record)
        if len(instances) == count:
            break
    if not instances:
        raise DataError(
            f"split '{split}': no row has all its numbers; golden requests are sent as JSON, which has no NaN"
        )
    outputs = {
        name: values.numpy() for name, values in model.signatures[SERVING_EXAMPLES](tf.constant(records)).items()
    }
    return Golden(instances, [{n: _plain(v[row]) for n, v in outputs.items()} for row in range(len(instances))])


def _value(values: Any, name: str, dtype: tf.DType) -> Any:
    """A raw value as JSON; None where it is missing and JSON cannot say so."""
    feature = values[name] if name in values else tf.train.Feature()
    kind = feature.WhichOneof("kind")
    found = getattr(feature, kind).value if kind else ()
    if found:
        return found[0].decode() if isinstance(found[0], bytes) else found[0]
    return "" if dtype == tf.string else -1 if dtype.is_integer else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return bytes(file.read())


def _training(folder: Path, examples: Any, evaluation: Any) -> Training:
    features = FeatureSet.model_validate_json((folder / DECLARATION_FILE).read_text())
    return Training(
        label_kind=features.label.kind,
        label=features.label.column,
        features=[safe_name(name) for name in features.features],
        examples=os.path.join(artifact_utils.get_split_uri([examples], TRAIN_SPLIT), "*.gz"),
        metrics=read_metrics(evaluation.uri),
    )
