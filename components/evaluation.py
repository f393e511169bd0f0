"""What TFMA measures and judges, derived from the config; and what it found, read back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from components.config import ChangeThreshold, Evaluation, MetricName, Threshold
from schemas.features import Label
from serving.signatures import PROBABILITY, SERVING_EXAMPLES

OVERALL = "overall"
BASELINE = "baseline"

def eval_config(evaluation: Evaluation, label: Label) -> config_pb2.EvalConfig:
    """TFMA's own config for Evaluator."""
    model = {"signature_name": SERVING_EXAMPLES, "prediction_key": PROBABILITY, "label_key": label.column}
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(**model), config_pb2.ModelSpec(name=BASELINE, is_baseline=True, **model)],
        slicing_specs=[config_pb2.SlicingSpec(), *(config_pb2.SlicingSpec(feature_keys=list(keys)) for keys in evaluation.slice_by)],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[_metric(name, evaluation) for name in evaluation.metrics])],
        options=config_pb2.Options(min_slice_size=wrappers_pb2.Int32Value(value=evaluation.min_examples)),
    )


def _metric(name: MetricName, evaluation: Evaluation) -> config_pb2.MetricConfig:
    metric = config_pb2.MetricConfig(
        class_name="BatchedMetric", module="components.batched_metrics", config=json.dumps({"name": name})
    )
    for bound in (*evaluation.thresholds, *evaluation.compared_with_last_blessed):
        if bound.metric == name:
            specs = [config_pb2.SlicingSpec(feature_keys=list(bound.slice_by))]
            metric.per_slice_thresholds.append(
                config_pb2.PerSliceMetricThreshold(slicing_specs=specs, threshold=_threshold(bound))
            )
    return metric


def _threshold(bound: Threshold | ChangeThreshold) -> config_pb2.MetricThreshold:
    if isinstance(bound, ChangeThreshold):
        lower_is_better = bound.metric == "log_loss"
        direction = config_pb2.MetricDirection.LOWER_IS_BETTER if lower_is_better else config_pb2.MetricDirection.HIGHER_IS_BETTER
        allowed = bound.may_worsen_by if lower_is_better else -bound.may_worsen_by
        change = config_pb2.GenericChangeThreshold(direction=direction, absolute=wrappers_pb2.DoubleValue(value=allowed))
        return config_pb2.MetricThreshold(change_threshold=change)
    value = config_pb2.GenericValueThreshold()
    if bound.at_least is not None:
        value.lower_bound.value = bound.at_least
    if bound.at_most is not None:
        value.upper_bound.value = bound.at_most
    return config_pb2.MetricThreshold(value_threshold=value)
