"""The table of metrics. To add a metric, add one entry to `METRICS`. Imports neither TensorFlow nor NumPy.

The config's checks, early stopping, the search, Evaluator, the reports and Vertex AI's evaluation derive from it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from schemas.features import LabelKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    # Commands that only print metrics do not load NumPy.
    from schemas.metric_counts import BinaryCounts, Counts, MulticlassCounts, RegressionCounts

MEAN_COST = "mean_cost"
EXAMPLE_COUNT = "example_count"
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)


@dataclass(frozen=True)
class KerasMetric:
    """The class of `keras.metrics` that measures a metric after each epoch, on the model's logits.

    Attributes:
      class_name: name of the class.
      arguments: its arguments, the name aside.
    """

    class_name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A metric of a model. It exists for the kinds of label that it has a formula for.

    Attributes:
      name: name in the config and in all files.
      title: name in reports.
      binary: formula over the counts of a binary label; NaN where it is undefined.
      multiclass: formula over the counts of a multiclass label.
      regression: formula over the counts of a regression's label.
      better: direction in which the metric improves; None if it has none, and so no bound on its change.
      undefined: reason why it is undefined. `{rows}` is replaced by the rows and `{positive}` by the positive class.
      meaning: addition to the name in the reference of the config.
      keras: Keras metric by the kind of label. Early stopping and the search can watch a metric that has one.
      is_loss: whether it is watched by default.
      rank: prominence in short reports. A metric of rank 1 stands for the model, one of rank 2 follows if there is
        room.
      default_bound_of: kinds of label whose new configs bound the change of this metric: one without a unit.
      needs_both_classes: whether it ranks rows of one class among those of the other.
      needs_costs: whether it needs the costs of the errors, the config's section `decision`.
      needs_predictions: whether a prediction of NaN leaves it undefined.
      number_format: format of its value.
      vertex_name: field of the evaluation in Vertex AI's Model Registry; empty if there is none.
      scale: values that it may have: from 0 to 1, above 0, or any. Its interval has no others.
      is_share_of_rows: whether it is the share of the rows that have a property.
      has_interval: whether the value would be another on other rows.
    """

    name: str
    title: str
    binary: "Callable[[BinaryCounts], Any] | None" = None
    multiclass: "Callable[[MulticlassCounts], Any] | None" = None
    regression: "Callable[[RegressionCounts], Any] | None" = None
    better: Literal["higher", "lower"] | None = None
    undefined: str = "the rows {rows} do not define it"
    meaning: str = ""
    keras: Mapping[LabelKind, KerasMetric] = field(default_factory=dict)
    is_loss: bool = False
    rank: int = 3
    default_bound_of: tuple[LabelKind, ...] = ()
    needs_both_classes: bool = False
    needs_costs: bool = False
    needs_predictions: bool = True
    number_format: str = ".4f"
    vertex_name: str = ""
    scale: Literal["share", "positive", "number"] = "number"
    is_share_of_rows: bool = False
    has_interval: bool = True

    def compute(self, counts: "Counts") -> float:
        """Return the value of the metric; NaN where it is undefined, such as without a positive row.

        Raises:
          ValueError: the kind of label does not have this metric, or the costs of the errors are missing.
        """
        return float(self.compute_replicates(counts))

    def compute_replicates(self, counts: "Counts") -> "NDArray[Any]":
        """Return the values of the metric by counts of replicates, [replicates]; NaN where it is undefined.

        Raises:
          ValueError: the kind of label does not have this metric, or the costs of the errors are missing.
        """
        import numpy as np

        formula = getattr(self, counts.label)
        if formula is None:
            raise ValueError(f"{self.name} is not a metric of a {counts.label} label")
        is_defined = np.logical_or(counts.is_finite, not self.needs_predictions)
        return np.where(is_defined, formula(counts), math.nan)

    def format(self, value: float | None) -> str:
        """Return a value as reports print it; None and NaN are undefined."""
        if value is None or not math.isfinite(value):
            return "undefined"
        # A sum of weights may be below 1.
        is_small_sum = self.name == EXAMPLE_COUNT and value < 100 and value % 1
        return f"{value:{'.3g' if is_small_sum else self.number_format}}"

    def describe(self, value: float | None) -> str:
        """Return the title and a value."""
        return f"{self.title} {self.format(value)}"


def _divide(numerator: Any, denominator: Any) -> Any:
    from schemas.metric_counts import divide

    return divide(numerator, denominator)


def _compute_accuracy(counts: "BinaryCounts | MulticlassCounts") -> Any:
    return _divide(counts.correct, counts.rows)


def _compute_log_loss(counts: "BinaryCounts | MulticlassCounts") -> Any:
    return _divide(counts.sum_of_log_losses, counts.rows)


_FROM_LOGITS = {"from_logits": True}
_NO_POSITIVE_ROW = "no row {rows} has the class '{positive}'"
# In the order of all reports.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "auc",
            "AUC",
            binary=lambda counts: counts.compute_roc_area(),
            better="higher",
            undefined="all rows {rows} have the same class",
            keras={"binary": KerasMetric("AUC", {"num_thresholds": 1000, **_FROM_LOGITS})},
            rank=1,
            default_bound_of=("binary",),
            needs_both_classes=True,
            vertex_name="auRoc",
            scale="share",
        ),
        Metric(
            "pr_auc",
            "PR AUC",
            binary=lambda counts: counts.compute_precision_recall_area(),
            better="higher",
            undefined=_NO_POSITIVE_ROW,
            rank=2,
            vertex_name="auPrc",
            scale="share",
        ),
        Metric(
            "log_loss",
            "log loss",
            binary=_compute_log_loss,
            multiclass=_compute_log_loss,
            better="lower",
            keras={
                "binary": KerasMetric("BinaryCrossentropy", _FROM_LOGITS),
                "multiclass": KerasMetric("SparseCategoricalCrossentropy", _FROM_LOGITS),
            },
            is_loss=True,
            vertex_name="logLoss",
            scale="positive",
        ),
        Metric(
            "accuracy",
            "accuracy",
            binary=_compute_accuracy,
            multiclass=_compute_accuracy,
            better="higher",
            keras={"multiclass": KerasMetric("SparseCategoricalAccuracy")},
            rank=1,
            default_bound_of=("multiclass",),
            scale="share",
            is_share_of_rows=True,
        ),
        Metric(
            "precision",
            "precision",
            binary=lambda counts: _divide(counts.true_positives, counts.predicted_positives),
            better="higher",
            undefined="no row {rows} is predicted as '{positive}'",
            scale="share",
        ),
        Metric(
            "recall",
            "recall",
            binary=lambda counts: _divide(counts.true_positives, counts.positives),
            better="higher",
            undefined=_NO_POSITIVE_ROW,
            scale="share",
        ),
        Metric(
            "calibration",
            "calibration",
            binary=lambda counts: _divide(counts.sum_of_predictions, counts.positives),
            undefined=_NO_POSITIVE_ROW,
            meaning="mean prediction over mean label",
            scale="positive",
        ),
        Metric(
            MEAN_COST,
            "mean cost",
            binary=lambda counts: _divide(counts.total_cost, counts.rows),
            better="lower",
            meaning="of a row; needs the section `decision`",
            needs_costs=True,
            scale="positive",
        ),
        Metric(
            "macro_f1", "macro f1", multiclass=lambda counts: counts.compute_macro_f1(), better="higher", scale="share"
        ),
        Metric(
            "rmse",
            "RMSE",
            regression=lambda counts: _divide(counts.sum_of_squared_errors, counts.rows) ** 0.5,
            better="lower",
            keras={"regression": KerasMetric("RootMeanSquaredError")},
            is_loss=True,
            rank=1,
            vertex_name="rootMeanSquaredError",
            scale="positive",
        ),
        Metric(
            "mae",
            "MAE",
            regression=lambda counts: _divide(counts.sum_of_absolute_errors, counts.rows),
            better="lower",
            keras={"regression": KerasMetric("MeanAbsoluteError")},
            rank=2,
            vertex_name="meanAbsoluteError",
            scale="positive",
        ),
        Metric(
            "r2",
            "r2",
            regression=lambda counts: 1 - _divide(counts.sum_of_squared_errors, counts.label_variation),
            better="higher",
            undefined="all rows {rows} have the same label",
            default_bound_of=("regression",),
            vertex_name="rSquared",
        ),
        Metric(
            "mean_error",
            "mean error",
            regression=lambda counts: _divide(counts.sum_of_errors, counts.rows),
            meaning="mean of prediction - label",
        ),
        Metric(
            EXAMPLE_COUNT,
            "rows",
            binary=lambda counts: counts.rows,
            multiclass=lambda counts: counts.rows,
            regression=lambda counts: counts.rows,
            meaning="the sum of the weights, if rows have some",
            needs_predictions=False,
            number_format=",.0f",
            has_interval=False,
        ),
    )
}


def find_metric(name: str) -> Metric:
    """Return the entry of a metric; for one that is not in the table, such as TFMA's own, an entry with its name."""
    return METRICS.get(name) or Metric(name=name, title=name.replace("_", " "))


def list_metrics(label: LabelKind, *, has_costs: bool = False) -> tuple[str, ...]:
    """Return the names of the metrics of a kind of label.

    Args:
      label: kind of the label.
      has_costs: whether the costs of a binary label's errors are declared.
    """
    return tuple(
        name
        for name, metric in METRICS.items()
        if getattr(metric, label) is not None and (has_costs or not metric.needs_costs)
    )


def list_watchable(label: LabelKind) -> tuple[str, ...]:
    """Return the metrics that are measured after each epoch; the first is watched unless the config names another."""
    measured = [metric for metric in METRICS.values() if label in metric.keras]
    return tuple(metric.name for metric in sorted(measured, key=lambda metric: not metric.is_loss))


def choose_bound(label: LabelKind) -> str:
    """Return the metric that a new config bounds."""
    return next(name for name, metric in METRICS.items() if label in metric.default_bound_of)


def describe_metrics() -> str:
    """Return the metrics of each kind of label, for the reference of the config."""
    return " ".join(f"{kind.capitalize()}: {', '.join(_describe(kind))}." for kind in LABEL_KINDS)


def _describe(label: LabelKind) -> list[str]:
    metrics = [METRICS[name] for name in list_metrics(label, has_costs=True)]
    return [f"{metric.name} ({metric.meaning})" if metric.meaning else metric.name for metric in metrics]


def describe_watchable() -> str:
    """Return the metrics that early stopping can watch, for the reference of the config."""
    kinds: Mapping[LabelKind, str] = {
        "binary": "a binary label",
        "multiclass": "a multiclass one",
        "regression": "a regression",
    }
    return "; ".join(
        f"{' or '.join(f'`{name}`' for name in list_watchable(kind))} for {title}" for kind, title in kinds.items()
    )


if TYPE_CHECKING:
    MetricName = str
    WatchedMetricName = str
else:
    # So pydantic rejects other names, and the reference of the config lists these.
    MetricName = Literal[tuple(METRICS)]
    WatchedMetricName = Literal[tuple(name for name, metric in METRICS.items() if metric.keras)]
