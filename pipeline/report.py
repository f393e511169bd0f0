"""What a run tells its user: one headline for each node, and a summary at the end, read from the artifacts."""

import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.evaluator import constants
from tfx.types import artifact_utils

from components.evaluation import OVERALL, read_failures, read_metrics
from components.example_gen import ROWS_PROPERTY
from components.gate import describe, read_anomalies
from components.pusher import DESTINATION_PROPERTY, HASH_PROPERTY, PUSHED_PROPERTY, VERSION_PROPERTY
from pipeline.runner import Artifacts, NodeResult
from trainer.run import HISTORY_FILE


def facts(result: NodeResult) -> dict[str, Any]:
    """What is worth knowing about a finished node, as plain values."""
    reader = _READERS.get(result.node_id)
    return reader(result.outputs) if reader is not None and result.outputs else {}


def headline(node_id: str, known: Mapping[str, Any]) -> str:
    """The facts of a node in a few words."""
    match node_id:
        case "ExampleGen":
            return ", ".join(f"{split} {rows:,}" for split, rows in known["rows"].items()) + " rows"
        case "StatisticsGen":
            return f"{known['columns']} columns"
        case "Schema":
            return f"{known['features']} features"
        case "ExampleValidator":
            return f"{known['anomalies']} anomalies" if known["anomalies"] else "no anomalies"
        case "Transform":
            return f"{known['columns']} columns"
        case "Trainer":
            epoch = f"epoch {known['kept_epoch']} of {known['epochs']}"
            return f"eval AUC {known['auc']:.4f}, log loss {known['log_loss']:.4f}, kept {epoch}"
        case "Baseline":
            return f"model {known['model_id']}" if known.get("model_id") else "no earlier blessed model"
        case "Evaluator":
            verdict = "blessed" if known["blessed"] else f"NOT blessed, {len(known['failures'])} thresholds missed"
            auc = known["metrics"].get(OVERALL, {}).get("auc")
            return verdict if auc is None else f"AUC {auc:.4f}, {verdict}"
        case "Pusher":
            return (
                f"pushed version {known['version']}"
                if known["pushed"]
                else f"version {known['version']} holds this model already"
            )
        case _:
            return ""


def _only(outputs: Artifacts, key: str) -> mlmd.Artifact:
    (artifact,) = outputs[key]
    return artifact


def _example_gen(outputs: Artifacts) -> dict[str, Any]:
    return {"rows": json.loads(_only(outputs, "examples").custom_properties[ROWS_PROPERTY].string_value)}


def _splits(artifact: mlmd.Artifact) -> list[str]:
    splits: list[str] = artifact_utils.decode_split_names(artifact.properties["split_names"].string_value)
    return splits


def _statistics(outputs: Artifacts) -> dict[str, Any]:
    artifact = _only(outputs, "statistics")
    found = statistics_pb2.DatasetFeatureStatisticsList()
    with tf.io.gfile.GFile(
        os.path.join(artifact.uri, f"Split-{_splits(artifact)[0]}", "FeatureStats.pb"), "rb"
    ) as file:
        found.ParseFromString(file.read())
    return {"columns": len(found.datasets[0].features)}


def _schema(outputs: Artifacts) -> dict[str, Any]:
    (file,) = tf.io.gfile.glob(os.path.join(_only(outputs, "schema").uri, "*.pbtxt"))
    return {"features": tf.io.gfile.GFile(file).read().count("\nfeature {") + 1}


def _anomalies(outputs: Artifacts) -> dict[str, Any]:
    artifact = _only(outputs, "anomalies")
    found = [describe(read_anomalies(os.path.join(artifact.uri, f"Split-{split}"))) for split in _splits(artifact)]
    return {"anomalies": sum(map(len, found))}


def _transform(outputs: Artifacts) -> dict[str, Any]:
    path = os.path.join(_only(outputs, "transform_graph").uri, "transformed_metadata", "schema.pbtxt")
    return {"columns": tf.io.gfile.GFile(path).read().count("feature {")}


def _trainer(outputs: Artifacts) -> dict[str, Any]:
    history = json.loads(tf.io.gfile.GFile(os.path.join(_only(outputs, "model_run").uri, HISTORY_FILE)).read())
    metrics, kept = history["metrics"], history["kept_epoch"]
    return {
        "epochs": len(metrics["loss"]),
        "kept_epoch": kept + 1,
        "auc": metrics["val_auc"][kept],
        "log_loss": metrics["val_log_loss"][kept],
    }


def _baseline(outputs: Artifacts) -> dict[str, Any]:
    models = outputs.get("model", ())
    return {"model_id": models[0].id if models else None}


def _evaluator(outputs: Artifacts) -> dict[str, Any]:
    uri = _only(outputs, "evaluation").uri
    blessing = _only(outputs, "blessing").custom_properties[constants.ARTIFACT_PROPERTY_BLESSED_KEY].int_value
    return {
        "blessed": blessing == constants.BLESSED_VALUE,
        "failures": [str(failure) for failure in read_failures(uri)],
        "metrics": read_metrics(uri),
    }


def _pusher(outputs: Artifacts) -> dict[str, Any]:
    properties = _only(outputs, "pushed_model").custom_properties
    return {
        "pushed": bool(properties[PUSHED_PROPERTY].int_value),
        "version": int(properties[VERSION_PROPERTY].string_value),
        "path": properties[DESTINATION_PROPERTY].string_value,
        "content_hash": properties[HASH_PROPERTY].string_value,
    }


_READERS = {
    "ExampleGen": _example_gen,
    "StatisticsGen": _statistics,
    "Schema": _schema,
    "ExampleValidator": _anomalies,
    "Transform": _transform,
    "Trainer": _trainer,
    "Baseline": _baseline,
    "Evaluator": _evaluator,
    "Pusher": _pusher,
}
