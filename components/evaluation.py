"""What TFMA measures and judges, derived from the config; and what it found, read back."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from components.config import LOWER_IS_BETTER, ChangeThreshold, Evaluation, MetricName, Threshold
from schemas.features import LabelKind
from serving.signatures import LABEL, MEASURED_OUTPUT, SERVING_EXAMPLES

OVERALL = "overall"
# Beside TFMA's files.
SUMMARY_NAME = "summary.json"
BASELINE = "baseline"


def eval_config(evaluation: Evaluation, label: LabelKind) -> config_pb2.EvalConfig:
    """TFMA's own config for Evaluator."""
    model = {"signature_name": SERVING_EXAMPLES, "prediction_key": MEASURED_OUTPUT[label], "label_key": LABEL}
    metrics = [_metric(name, label, evaluation) for name in evaluation.measured(label)]
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(**model), config_pb2.ModelSpec(name=BASELINE, is_baseline=True, **model)],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=list(keys)) for keys in evaluation.slice_by),
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
        options=config_pb2.Options(min_slice_size=wrappers_pb2.Int32Value(value=evaluation.min_examples)),
    )


def _metric(name: MetricName, label: LabelKind, evaluation: Evaluation) -> config_pb2.MetricConfig:
    metric = config_pb2.MetricConfig(
        class_name="BatchedMetric",
        module="components.batched_metrics",
        config=json.dumps({"name": name, "label": label}),
    )
    bounds: tuple[Threshold | ChangeThreshold, ...] = (*evaluation.thresholds, *evaluation.compared_with_last_blessed)
    for bound in bounds:
        if bound.metric == name:
            specs = [config_pb2.SlicingSpec(feature_keys=list(bound.slice_by))]
            metric.per_slice_thresholds.append(
                config_pb2.PerSliceMetricThreshold(slicing_specs=specs, threshold=_threshold(bound))
            )
    return metric


def _threshold(bound: Threshold | ChangeThreshold) -> config_pb2.MetricThreshold:
    if isinstance(bound, ChangeThreshold):
        lower_is_better = bound.metric in LOWER_IS_BETTER
        direction = (
            config_pb2.MetricDirection.LOWER_IS_BETTER
            if lower_is_better
            else config_pb2.MetricDirection.HIGHER_IS_BETTER
        )
        allowed = bound.may_worsen_by if lower_is_better else -bound.may_worsen_by
        change = config_pb2.GenericChangeThreshold(
            direction=direction, absolute=wrappers_pb2.DoubleValue(value=allowed)
        )
        return config_pb2.MetricThreshold(change_threshold=change)
    value = config_pb2.GenericValueThreshold()
    if bound.at_least is not None:
        value.lower_bound.value = bound.at_least
    if bound.at_most is not None:
        value.upper_bound.value = bound.at_most
    return config_pb2.MetricThreshold(value_threshold=value)


@dataclass(frozen=True)
class Failure:
    """A threshold that a model missed: the metric, the slice, the value it has and the bound it must keep."""

    metric: str
    slice: str
    value: float | None
    bound: str

    def __str__(self) -> str:
        value = "no value" if self.value is None else f"{self.value:.4f}"
        return f"{self.metric} on {self.slice}: {value}, must be {self.bound}"


@dataclass(frozen=True)
class Summary:
    """What an evaluation found, for whoever reads it without TFMA.

    Attributes:
      metrics: the candidate's by slice, `OVERALL` first, then by column and value.
      failures: the thresholds that it missed, in words, all rows together first.
      baseline: the last blessed model's on the same rows; empty if there was none.
    """

    metrics: Mapping[str, Mapping[str, float]]
    failures: Sequence[str]
    baseline: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, evaluation_uri: str) -> "Summary":
        """What `write_summary` wrote."""
        with tf.io.gfile.GFile(os.path.join(evaluation_uri, SUMMARY_NAME)) as file:
            return cls(**json.loads(file.read()))


def write_summary(evaluation_uri: str) -> None:
    """Writes TFMA's results once more, as JSON, beside them."""
    failures = [str(failure) for failure in read_failures(evaluation_uri)]
    compared = any(spec.is_baseline for spec in tfma.load_eval_result(evaluation_uri).config.model_specs)
    baseline = read_metrics(evaluation_uri, BASELINE) if compared else {}
    with tf.io.gfile.GFile(os.path.join(evaluation_uri, SUMMARY_NAME), "w") as file:
        file.write(json.dumps(asdict(Summary(read_metrics(evaluation_uri), failures, baseline)), indent=1))


def read_metrics(evaluation_uri: str, model: str | None = None) -> dict[str, dict[str, float]]:
    """The metrics of the candidate, or of `BASELINE`, by slice, `OVERALL` first, then by column and value."""
    result = tfma.load_eval_result(evaluation_uri, model_name=model)
    by_slice = {}
    for key, outputs in result.slicing_metrics:
        values = next(iter(next(iter(outputs.values())).values()))
        named = {metric: float(value["doubleValue"]) for metric, value in values.items() if "doubleValue" in value}
        by_slice[_slice_name(key)] = {metric: value for metric, value in named.items() if not metric.endswith("_diff")}
    return dict(sorted(by_slice.items(), key=lambda item: (item[0] != OVERALL, item[0])))


def read_failures(evaluation_uri: str) -> list[Failure]:
    """The thresholds that the candidate missed, all rows together first."""
    result = tfma.load_validation_result(evaluation_uri)
    failures = [
        Failure(
            metric=failure.metric_key.name,
            slice=_slice_name([(k.column, _slice_value(k)) for k in validation.slice_key.single_slice_keys]),
            value=failure.metric_value.double_value.value if failure.HasField("metric_value") else None,
            bound=_describe_bound(failure.metric_threshold),
        )
        for validation in result.metric_validations_per_slice
        for failure in validation.failures
    ]
    failures += [
        Failure("every threshold", " x ".join(spec.feature_keys) or OVERALL, None, "on at least one slice large enough")
        for spec in result.missing_slices
    ]
    return sorted(failures, key=lambda f: (f.slice != OVERALL, f.slice, f.metric))


def _slice_name(key: Iterable[tuple[str, Any]]) -> str:
    return " x ".join(f"{column}={value}" for column, value in key) or OVERALL


def _slice_value(key: Any) -> Any:
    value = getattr(key, key.WhichOneof("kind"))
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _describe_bound(threshold: config_pb2.MetricThreshold) -> str:
    if threshold.HasField("change_threshold"):
        change = threshold.change_threshold
        if change.direction == config_pb2.MetricDirection.LOWER_IS_BETTER:
            return f"at most {change.absolute.value:g} above the last blessed model's (the value is the difference)"
        return f"at most {-change.absolute.value:g} below the last blessed model's (the value is the difference)"
    bound = threshold.value_threshold
    parts = [f"at least {bound.lower_bound.value:g}"] if bound.HasField("lower_bound") else []
    parts += [f"at most {bound.upper_bound.value:g}"] if bound.HasField("upper_bound") else []
    return " and ".join(parts)
