"""The metrics of schemas/metrics.py for TFMA, which gives them whole batches of rows at once.

TFMA's own metrics are called for every row, slice and model with one label and one prediction: 50 s for 16,000 rows,
two models and three slicings. These take arrays and have the same values
(tests/schemas/test_metrics.py compares them with TFMA's own).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.features import LabelKind
from schemas.metric_counts import Counts, create_empty_counts
from schemas.metrics import METRICS
from serving.model.output_names import MEASURED_OUTPUT

_COUNTS_NAME = "_batched_counts"


class BatchedMetric(metric_types.Metric):
    """A metric of `METRICS`; TFMA finds it through `MetricConfig(class_name="BatchedMetric", module=...)`."""

    def __init__(
        self,
        name: str,
        label: LabelKind,
        thresholds: Mapping[str, float] | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Args:
        name: name of the metric.
        label: kind of the label.
        thresholds: threshold of each model by TFMA's name of it. If omitted, that of models without declared costs.
        costs: fields of the `DecisionCosts` by which all models are judged.
        """
        super().__init__(_build_computations, name=name, label=label, thresholds=thresholds, costs=costs)


def _build_computations(
    name: str,
    label: LabelKind,
    thresholds: Mapping[str, float] | None = None,
    costs: Mapping[str, float] | None = None,
    model_names: list[str] | None = None,
    example_weighted: bool = False,
    **_: Any,
) -> list[Any]:
    """Return TFMA's computations for one metric: the counts, which all metrics of a model share, and its value."""
    declared = DecisionCosts.model_validate(costs) if costs else None
    computations: list[Any] = []
    for model_name in model_names or [""]:
        counts_key = metric_types.MetricKey(name=_COUNTS_NAME, model_name=model_name, example_weighted=example_weighted)
        key = metric_types.MetricKey(name=name, model_name=model_name, example_weighted=example_weighted)
        empty = partial(create_empty_counts, label, (thresholds or {}).get(model_name, DEFAULT_THRESHOLD), declared)
        computations.append(
            metric_types.MetricComputation(
                keys=[counts_key],
                preprocessors=None,
                combiner=_CountsCombiner(counts_key, MEASURED_OUTPUT[label], empty),
            )
        )
        computations.append(metric_types.DerivedMetricComputation(keys=[key], result=_Result(counts_key, key)))
    return computations


@dataclass(frozen=True)
class _Result:
    """Derives a metric from the counts."""

    counts_key: Any
    key: Any

    def __call__(self, metrics: dict[Any, Any]) -> dict[Any, float]:
        return {self.key: METRICS[self.key.name].compute(metrics[self.counts_key])}


class _CountsCombiner(beam.CombineFn):
    def __init__(self, key: Any, output: str, empty: Callable[[], Counts]) -> None:
        self._key = key
        self._output = output
        self._empty = empty

    def _choose_own(self, value: Any) -> Any:
        """Return the value of this metric's model, where TFMA has one for each model."""
        name = self._key.model_name
        return value[name] if isinstance(value, dict) and name in value else value

    def create_accumulator(self) -> Counts:
        return self._empty()

    def add_input(self, accumulator: Counts, element: Any) -> Counts:
        label, predictions, weights = (
            self._choose_own(value) for value in (element.label, element.prediction, element.example_weight)
        )
        weights = weights if self._key.example_weighted else None
        if isinstance(predictions, dict):
            # A row as TFMA's own pipeline has it, with all outputs of the model.
            predictions = predictions[self._output]
        if np.size(label) == 1:
            # In a row by itself, the last dimension may be that of the classes.
            label, weights = np.reshape(label, [1]), None if weights is None else np.reshape(weights, [1])
            predictions = np.reshape(predictions, [1, -1] if np.size(predictions) > 1 else [1])
        accumulator.add(label, predictions, weights)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Counts]) -> Counts:
        merged = self._empty()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Counts) -> dict[Any, Counts]:
        return {self._key: accumulator}
