"""What a run tells its user: one headline for each node, and a summary at the end, read from the artifacts."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.evaluator import constants
from tfx.types import artifact_utils

from components.artifact_files import files_in
from components.config import DRIFT, SKEW
from components.evaluator.evaluation import OVERALL, Summary
from components.example_gen.component import (
    EQUAL_ROWS_PROPERTY,
    LABELS_PROPERTY,
    REJECTED_PROPERTY,
    REJECTS_FILE,
    ROWS_PROPERTY,
    UNLABELLED_BY_SPLIT_PROPERTY,
    UNLABELLED_PROPERTY,
)
from components.example_validator.anomalies import listed
from components.gate.component import read_anomalies
from components.infra_validator.component import MEASURED_PROPERTY
from components.pusher.component import HASH_PROPERTY, VERSION_PROPERTY
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY
from pipeline.run.dag_runner import FAILED, Artifacts, NodeResult
from trainer.config import shown_values, values_of
from trainer.run import HISTORY_FILE

# The one that stands for a model, the first it has.
_HEADLINE_METRICS = ("auc", "accuracy", "rmse")


def facts(result: NodeResult) -> dict[str, Any]:
    """Return what is worth knowing about a finished node, as plain values."""
    reader = _READERS.get(result.node_id)
    return reader(result.outputs) if reader is not None and result.state != FAILED else {}


def headline(node_id: str, known: Mapping[str, Any]) -> str:
    """Return the facts of a node in a few words."""
    match node_id:
        case "ExampleGen":
            left_out = f"; {known['rejected']:,} bad rows left out" if known["rejected"] else ""
            left_out += f"; {known['unlabelled']:,} without a label left out" if known["unlabelled"] else ""
            spread = "; copies are spread" if known["equal_rows"]["spread"] else ""
            return ", ".join(f"{split} {rows:,}" for split, rows in known["rows"].items()) + " rows" + left_out + spread
        case "StatisticsGen":
            return f"{known['columns']} columns"
        case "SchemaGen":
            return f"{known['features']} features"
        case "ExampleValidator":
            return f"{known['anomalies']} anomalies" if known["anomalies"] else "no anomalies"
        case "History":
            return f"version {known['version']}" if known["version"] else "nothing was pushed yet"
        case "Gate":
            warnings = f"{len(known['warnings'])} warnings, " if known["warnings"] else ""
            drift = f"drift of {known['compared'][DRIFT]}" if known["history"] else "drift not compared: no history"
            return f"{warnings}skew of {known['compared'][SKEW]} features compared, {drift}"
        case "Transform":
            return f"{known['columns']} columns"
        case "Trainer":
            epoch = f"epoch {known['kept_epoch']} of {known['epochs']}"
            metrics = [f"{metric_title(name)} {_number(value)}" for name, value in known["metrics"].items()]
            return f"eval {', '.join(metrics)}, kept {epoch}"
        case "Tuner":
            return f"best of {known['trials']} trials: {_number(known['score'])} with {shown_values(known['values'])}"
        case "WarmStart":
            return f"model {known['model_id']}" if known.get("model_id") else "no blessed model to start from"
        case "Baseline":
            return f"model {known['model_id']}" if known.get("model_id") else "no earlier blessed model"
        case "Evaluator":
            verdict = "blessed" if known["blessed"] else f"NOT blessed for {_counted(known['failures'], 'reason')}"
            verdict += f", {_counted(known['warnings'], 'warning')}" if known["warnings"] else ""
            measured = known["metrics"].get(OVERALL, {})
            shown = [
                f"{metric_title(name)} {_number(measured[name])}" for name in _HEADLINE_METRICS if name in measured
            ]
            return ", ".join([*shown[:1], verdict])
        case "InfraValidator":
            speed = f"95% of rows within {known['p95_ms']:.1f} ms, {known['memory_mb']:,.0f} MB"
            return f"{known['golden_requests']} golden requests answered alike, {speed}"
        case "Pusher":
            return (
                f"pushed version {known['version']}"
                if known["pushed"]
                else f"version {known['version']} holds this model already"
            )
        case _:
            return ""


def metric_title(name: str) -> str:
    """Return a metric as people write it."""
    return name.upper() if name in ("auc", "rmse", "mae") else name.replace("_", " ")


def _number(value: float | None) -> str:
    """Return a metric as people read it; None and NaN are undefined."""
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _counted(lines: Sequence[str], name: str) -> str:
    return f"{len(lines)} {name}{'s' if len(lines) > 1 else ''}"


def _only(outputs: Artifacts, key: str) -> mlmd.Artifact:
    (artifact,) = outputs[key]
    return artifact


def _example_gen(outputs: Artifacts) -> dict[str, Any]:
    artifact = _only(outputs, "examples")
    rejected = int(artifact.custom_properties[REJECTED_PROPERTY].int_value)
    return {
        "rows": json.loads(artifact.custom_properties[ROWS_PROPERTY].string_value),
        "rejected": rejected,
        "unlabelled": int(artifact.custom_properties[UNLABELLED_PROPERTY].int_value),
        "unlabelled_by_split": json.loads(artifact.custom_properties[UNLABELLED_BY_SPLIT_PROPERTY].string_value),
        "labels": json.loads(artifact.custom_properties[LABELS_PROPERTY].string_value),
        "equal_rows": json.loads(artifact.custom_properties[EQUAL_ROWS_PROPERTY].string_value),
        "rejects_file": os.path.join(artifact.uri, REJECTS_FILE) if rejected else None,
    }


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
    (file,) = files_in(_only(outputs, "schema").uri, suffix=".pbtxt")
    return {"features": tf.io.gfile.GFile(file).read().count("\nfeature {") + 1}


def _anomalies(outputs: Artifacts) -> dict[str, Any]:
    artifact = _only(outputs, "anomalies")
    found = [listed(read_anomalies(os.path.join(artifact.uri, f"Split-{s}")), s) for s in _splits(artifact)]
    return {"anomalies": sum(map(len, found))}


def _history(outputs: Artifacts) -> dict[str, Any]:
    pushed = outputs.get("pushed_model", ())
    return {"version": int(pushed[0].custom_properties[VERSION_PROPERTY].string_value) if pushed else None}


def _gate(outputs: Artifacts) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(tf.io.gfile.GFile(_only(outputs, "report").uri).read())
    return report


def _transform(outputs: Artifacts) -> dict[str, Any]:
    path = os.path.join(_only(outputs, "transform_graph").uri, "transformed_metadata", "schema.pbtxt")
    return {"columns": tf.io.gfile.GFile(path).read().count("feature {")}


def _trainer(outputs: Artifacts) -> dict[str, Any]:
    history = json.loads(tf.io.gfile.GFile(os.path.join(_only(outputs, "model_run").uri, HISTORY_FILE)).read())
    metrics, kept = history["metrics"], history["kept_epoch"]
    return {
        "epochs": len(metrics["loss"]),
        "kept_epoch": kept + 1,
        "metrics": {
            name.removeprefix("val_"): values[kept] for name, values in metrics.items() if name.startswith("val_")
        },
    }


def _tuner(outputs: Artifacts) -> dict[str, Any]:
    (file,) = files_in(_only(outputs, "tuner_results").uri)
    best, *rest = json.loads(tf.io.gfile.GFile(file).read())
    values = values_of({"values": {key: value for key, value in best.items() if key not in ("trial_id", "score")}})
    return {"trials": 1 + len(rest), "score": best["score"], "values": values}


def _baseline(outputs: Artifacts) -> dict[str, Any]:
    models = outputs.get("model", ())
    return {"model_id": models[0].id if models else None}


def _evaluator(outputs: Artifacts) -> dict[str, Any]:
    summary = Summary.read(_only(outputs, "evaluation").uri)
    blessing = _only(outputs, "blessing").custom_properties[constants.ARTIFACT_PROPERTY_BLESSED_KEY].int_value
    return {
        "blessed": blessing == constants.BLESSED_VALUE,
        "failures": list(summary.failures),
        "warnings": list(summary.warnings),
        "constant_predictor": dict(summary.constant_predictor),
        "decision": dict(summary.decision),
        "metrics": dict(summary.metrics),
    }


def _infra_validator(outputs: Artifacts) -> dict[str, Any]:
    properties = _only(outputs, "blessing").custom_properties
    measured: dict[str, Any] = json.loads(properties[MEASURED_PROPERTY].string_value)
    return measured


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
    "SchemaGen": _schema,
    "ExampleValidator": _anomalies,
    "History": _history,
    "Gate": _gate,
    "Transform": _transform,
    "Trainer": _trainer,
    "Tuner": _tuner,
    "WarmStart": _baseline,
    "Baseline": _baseline,
    "Evaluator": _evaluator,
    "InfraValidator": _infra_validator,
    "Pusher": _pusher,
}
