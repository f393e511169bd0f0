"""Config sections of validation, evaluation and push. Imports no TensorFlow and no TFX."""

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)
from tensorflow_metadata.proto.v0 import anomalies_pb2

from schemas.data import SplitName
from schemas.declaration import Declaration, did_you_mean
from schemas.features import LabelKind
from schemas.metrics import METRICS, MetricName, describe_metrics, metrics_of
from serving.registry.vertex.config import Deployment

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
# Who does the work of a component that this project rewrote.
STOCK: Literal["stock"] = "stock"
Implementation = Literal["fast", "stock"]
Rewritten = Literal["StatisticsGen", "Transform", "Evaluator"]
# The share of a split that an inferred schema wants in the categories of `train`.
INFERRED_MIN_DOMAIN_MASS = 0.99

# Beside TFDV's own names of anomalies: a distance between two data sets above its threshold; a feature that gives the
# label away, alone or in a sum; a feature of categories, or of numbers, that are dates.
DRIFT, SKEW, LEAK, DATE = "DRIFT", "SKEW", "LABEL_LEAK", "DATE_AS_CATEGORY"
DATE_NUMBER = "DATE_AS_NUMBER"
# What ExampleGen finds in the rows, and the gate judges.
EXTREME, PRECISION, NO_VALUES = "EXTREME_VALUES", "PRECISION_LOSS", "NO_VALUES_IN_TRAIN"
OUT_OF_RANGE, TEXT_CUT, UNDEFINED = "ID_OUT_OF_RANGE", "TEXT_CUT", "MOSTLY_UNDEFINED"
NO_CLASS = "CLASS_WITHOUT_ROWS"
SHARED_ROWS, CONTRADICTORY, COPIES = "ROWS_SHARED_WITH_TRAIN", "CONTRADICTORY_LABELS", "MOSTLY_ROWS_OF_TRAIN"
# The evaluated split has too few rows for any model to be blessed.
FEW_ROWS = "TOO_FEW_ROWS"
# The last day of a feature has passed.
EXPIRED = "FEATURE_EXPIRED"
_VALUE_ANOMALIES = (EXTREME, PRECISION, NO_VALUES, OUT_OF_RANGE, TEXT_CUT, UNDEFINED)
_ROW_ANOMALIES = (*_VALUE_ANOMALIES, NO_CLASS, SHARED_ROWS, CONTRADICTORY, FEW_ROWS)
Severity = Literal["stop", "warn", "ignore"]
# Unless a rule says otherwise; every other anomaly stops the run.
DEFAULT_SEVERITIES: Mapping[str, Severity] = {
    DATE_NUMBER: "warn",
    EXTREME: "warn",
    PRECISION: "warn",
    OUT_OF_RANGE: "warn",
    TEXT_CUT: "warn",
    UNDEFINED: "warn",
    NO_CLASS: "warn",
    CONTRADICTORY: "warn",
    COPIES: "warn",
    FEW_ROWS: "warn",
    EXPIRED: "warn",
}
# All anomalies that the gate judges.
ANOMALIES = (DRIFT, SKEW, LEAK, DATE, DATE_NUMBER, EXPIRED, *_ROW_ANOMALIES, *anomalies_pb2.AnomalyInfo.Type.keys())
Anomaly = Annotated[str, AfterValidator(lambda name: _check_anomaly(name))]


def _check_anomaly(name: str) -> str:
    if name not in ANOMALIES:
        raise ValueError(f"'{name}' is not an anomaly; {did_you_mean(name, list(ANOMALIES))}")
    return name


class TransformConfig(Declaration):
    """How raw columns become the inputs of the network."""

    module: str | None = None
    """Code with a `preprocessing_fn(inputs)` or `preprocessing_fn(inputs, custom_config)`. It is a Python file,
    relative to the config's own folder, or the dotted path of an installed module. `:NAME` behind it names another
    function. If omitted, `components.transform.preprocessing.preprocessing_fn`. docs/how-to/preprocessing-fn.md"""
    custom_config: dict[str, Any] = Field(default_factory=dict)
    """Further values that the function finds in its `custom_config`."""


class SeverityRule(Declaration):
    """Effect of an anomaly on the run."""

    anomaly: Anomaly
    """TFDV's name of the anomaly, which the gate's message shows (`ENUM_TYPE_UNEXPECTED_STRING_VALUES`), or `DRIFT` or
    `SKEW`. Before the run, three others are searched for. `LABEL_LEAK` is a feature that gives the label away by
    itself, or in a sum or product of up to four features. `DATE_AS_CATEGORY` is a categorical feature whose values are
    dates and will not come again. `DATE_AS_NUMBER` is a numeric feature of dates or epochs, which warns. In the rows,
    ExampleGen finds `ROWS_SHARED_WITH_TRAIN`, `CLASS_WITHOUT_ROWS` in a split other than `train`, and
    `CONTRADICTORY_LABELS`, rows that are equal in all features and have different labels, among others. In the values,
    it finds `NO_VALUES_IN_TRAIN`, which stops, and `EXTREME_VALUES`, `PRECISION_LOSS`, `ID_OUT_OF_RANGE`,
    `TEXT_CUT` and `MOSTLY_UNDEFINED` (a derived feature without a value in most rows of `train`), which warn.
    `FEATURE_EXPIRED` is a feature past the date `expires`, which warns."""
    features: tuple[str, ...] = ()
    """If omitted, all columns."""
    severity: Severity
    """`stop` ends the run, `warn` shows the anomaly, `ignore` does nothing."""


class Allowance(Declaration):
    """An anomaly that is known and passes for some time."""

    feature: str
    anomaly: Anomaly
    until: datetime.date
    """The last day, such as 2026-12-31. After it the anomaly stops the run again."""
    reason: Annotated[str, Field(min_length=1)]
    """Why it may pass; shown whenever it does."""


class Distance(Declaration):
    """Largest distance between two distributions of a feature."""

    measure: Literal["jensen_shannon", "l_infinity"] = "jensen_shannon"
    """The Jensen-Shannon divergence (base 2, for numbers and categories), or the largest difference of any category's
    share (for categories only). Both are from 0, alike, to 1. Numbers are counted between the edges of TFDV's bins: ten
    of equal width for each data set."""
    threshold: Annotated[float, Field(gt=0, le=1)]


class Comparison(Declaration):
    """Features that are compared, and their largest distances. A comparator in the schema goes first."""

    default: Distance | None = None
    """Defaults for features that are not named here."""
    excluded: tuple[str, ...] = ()
    """Columns that the default is not for. It is never for times, texts and vectors, whose values hardly come
    again; name them under `features` to compare them."""
    features: dict[str, Distance] = Field(default_factory=dict)
    """By column name."""


class Validation(Declaration):
    """Policy of the gate. Every anomaly stops the run, unless a rule or an allowance here differs."""

    severities: tuple[SeverityRule, ...] = ()
    """Where two rules fit, the later one counts."""
    allowed: tuple[Allowance, ...] = ()
    drift: Comparison = Comparison()
    """`train` against the `train` of the model that was pushed last; nothing is compared before the first push."""
    skew: Comparison = Comparison()
    """`train` against each other split that is not a hash share of it."""
    train_overlap_margin: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Margin between two shares. The first is the share of a split's rows with an equal row (in all features) in
    `train`. The second is the share of rows of `train` with another equal row. If the first is larger by more than the
    margin, `ROWS_SHARED_WITH_TRAIN` stops the run: the split would measure what the model remembers. 1 accepts all
    splits."""


class TfmaMetric(Declaration):
    """A metric of TFMA, of Keras, or of your own. docs/how-to/own-metric.md"""

    class_name: Annotated[str, Field(min_length=1)]
    """Name of the class in `tfma.metrics` or `tf.keras.metrics`, such as `MatthewsCorrelationCoefficient`. Or a
    subclass of `tfma.metrics.Metric` of your own: `metrics.py:MyMetric` or `my_package.metrics:MyMetric`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class."""
    name: str = ""
    """Name for thresholds and reports. If omitted, that of the class in the form `matthews_correlation_coefficient`."""
    better: Literal["higher", "lower"] = "higher"
    """Direction in which the metric improves, for `change_thresholds`."""

    @model_validator(mode="before")
    @classmethod
    def _set_name(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"class_name": values}
        if isinstance(values, dict) and not values.get("name") and isinstance(values.get("class_name"), str):
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", values["class_name"].rpartition(":")[2])
            values = {**values, "name": words.lower()}
        return values

    @property
    def is_own(self) -> bool:
        """Whether it is a class of the user's own."""
        return ":" in self.class_name


def _check_metric(value: Any) -> Any:
    """Take a string for one of this project's metrics, or for the class of another."""
    if not isinstance(value, str) or value in METRICS:
        return value
    if value[:1].isupper() or ":" in value:
        return TfmaMetric.model_validate(value)
    if value.endswith(".py"):
        raise ValueError(f"'{value}' is a file, not a metric; name the class in it: '{value}:CLASS'")
    hint = did_you_mean(value, list(METRICS))
    raise ValueError(
        f"'{value}' is not a metric; {hint}{'' if hint.endswith('?') else '.'} A metric of TFMA is named by its class, "
        "such as MatthewsCorrelationCoefficient"
    )


EvaluatedMetric = Annotated[MetricName | TfmaMetric, BeforeValidator(_check_metric)]


class Threshold(Declaration):
    """A bound on a metric that a model must keep to be blessed."""

    metric: str
    """A metric of `evaluation.metrics`."""
    lower_bound: float | None = None
    upper_bound: float | None = None
    slice_by: tuple[str, ...] = ()
    """Columns; every slice of them with at least `evaluation.min_rows_per_slice` rows must keep the bound. If omitted,
    the bound is on all rows together."""

    @model_validator(mode="after")
    def _check_bounds(self) -> "Threshold":
        low, high = self.lower_bound, self.upper_bound
        if low is None and high is None:
            raise ValueError("give lower_bound or upper_bound, or both")
        if low is not None and high is not None and low > high:
            raise ValueError(f"lower_bound: {low} is above upper_bound: {high}")
        return self


class ChangeThreshold(Declaration):
    """Largest regression of a metric against the last blessed model, on the same rows."""

    metric: str
    """A metric of `evaluation.metrics` that has a better direction."""
    max_regression: NonNegativeFloat
    """Largest difference in the bad direction, in the metric's own unit; 0 rejects any regression."""
    slice_by: tuple[str, ...] = ()
    significant: bool = False
    """Whether chance excuses a larger regression: a model is rejected only if the 95 % interval of the difference, on
    the same rows, is beyond the bound as a whole. For the metrics of this project alone; those of TFMA and of your own
    have no interval."""


class Challengers(Declaration):
    """Simple models that are fitted to `train` in each run, and evaluated on the same rows and slices."""

    linear: bool = True
    """Whether there is a linear model: the wide part by itself, with a weight for each ID and a slope for each
    number."""
    trees: bool = True
    """Whether there are boosted trees: HistGradientBoosting of scikit-learn, 100 iterations, on the numbers and the
    IDs. A model that they beat significantly gets a warning, which names the slices."""
    max_rows: PositiveInt = 50_000
    """Number of rows of `train` that they are fitted to at most; of more, it is a random sample by `seed`."""
    max_seconds: Annotated[float, Field(gt=0)] = 30
    """Time for all fits. A run continues without a challenger that takes longer, and its summary names it."""
    worse_than_linear: Literal["stop", "warn"] = "stop"
    """Effect of a model whose loss on the evaluated rows is significantly above that of the linear model: `stop` does
    not bless it."""


Predictions = Literal["probabilities", "logits", "numbers"]


class ModelSpec(Declaration):
    """How TFMA evaluates a model that a `run_fn` of your own has exported; the fields of TFMA's ModelSpec, and one."""

    predictions: Predictions | None = None
    """Meaning of the output, for the comparison with the constant predictor and the plots. If omitted, one output with
    the labels 0 and 1 in `train`, and several outputs, are probabilities, or logits if some cannot be probabilities.
    Any other output is a number."""

    signature_name: str = "serving_default"
    """Signature that predicts serialized tf.Example."""
    label_key: str | None = None
    """Column of the label, in the examples or in the outputs of `preprocessing_function_names`. If omitted,
    `label.column`."""
    prediction_key: str | None = None
    """Output of the signature, if it has several."""
    example_weight_key: str | None = None
    preprocessing_function_names: tuple[str, ...] = ()
    """Further signatures whose outputs TFMA reads, such as `transform_features` for a label that Transform computes."""


class Evaluation(Declaration):
    """Metrics of the model, their slices, and the bounds that a pushed model keeps."""

    split: SplitName = "test"
    """The split that is evaluated. It is best one that nothing else reads."""
    slice_by: tuple[tuple[str, ...], ...] = ()
    """Columns, or combinations of columns, whose values are reported one by one."""
    min_rows_per_slice: PositiveInt = 100
    """A slice with fewer rows is neither reported nor judged: its metrics would be noise."""
    metrics: tuple[EvaluatedMetric, ...] = Field(
        (),
        description="Names of metrics, and metrics of TFMA, of Keras or of your own. If no name is given, all metrics "
        f"of the kind of the label. {describe_metrics()} Accuracy, precision, recall and mean_cost are those of the "
        "labels that the model predicts, by its own threshold.",
    )
    plots: bool = True
    """Whether TFMA's plots are computed too: confusion matrix and calibration of a binary label, confusion matrix of a
    multiclass one. The run's page draws them."""
    model_spec: ModelSpec = ModelSpec()
    """How TFMA evaluates the model of a `run_fn` of your own."""
    thresholds: tuple[Threshold, ...] = ()
    """Bounds on metrics, beside the comparison with the constant predictor, which every candidate must pass."""
    change_thresholds: tuple[ChangeThreshold, ...] = ()
    """Bounds on the change against the last blessed model, as in TFMA."""
    challengers: Challengers = Challengers()
    """Models that the candidate is compared with, by log loss or squared error, with a 95 % interval of the
    difference. docs/how-to/intervals.md#challengers"""
    min_rows: PositiveInt = 20
    """The least number of rows of the evaluated split. With fewer, no model is blessed, whatever its metrics are. The
    gate warns of it before the training (`TOO_FEW_ROWS`); a rule of `validation.severities` may make that stop."""
    min_rows_per_class: PositiveInt = 5
    """The least number of rows of a class in the evaluated split. Of two classes both need it, or no model is blessed.
    Of several classes two need it, and a warning names the others."""
    insignificant_gain: Literal["stop", "warn"] = "stop"
    """Every candidate is compared with the constant predictor, which predicts the class shares or the mean of `train`,
    on the evaluated rows, by log loss or squared error. A candidate that is worse or equal is never blessed. `stop`
    also rejects a candidate whose gain has a 95 % interval that includes 0; `warn` blesses it."""

    @model_validator(mode="after")
    def _check_metrics_and_slices(self) -> "Evaluation":
        bounds: tuple[Threshold | ChangeThreshold, ...] = (*self.thresholds, *self.change_thresholds)
        own = [metric.name for metric in self.tfma_metrics]
        for metric in self.tfma_metrics:
            name = f"another `name`: {{class_name: {metric.class_name}, name: other_{metric.name}}}"
            if metric.name in METRICS:
                raise ValueError(
                    f"metrics: '{metric.name}' is a metric of this project; give {metric.class_name} {name}"
                )
            if own.count(metric.name) > 1:
                raise ValueError(f"metrics: two metrics are named '{metric.name}'; give one {name}")
        for bound in bounds:
            if bound.metric not in METRICS and bound.metric not in own:
                hint = did_you_mean(bound.metric, [*METRICS, *own])
                raise ValueError(f"a threshold is on '{bound.metric}', which is not a metric; {hint}")
            if self.named_metrics and bound.metric not in (*self.named_metrics, *own):
                raise ValueError(
                    f"a threshold is on '{bound.metric}', which is not in metrics: "
                    f"{', '.join([*self.named_metrics, *own])}"
                )
            if isinstance(bound, ChangeThreshold) and self.get_direction(bound.metric) is None:
                raise ValueError(f"a change threshold is on '{bound.metric}', which has no better direction")
            if isinstance(bound, ChangeThreshold) and bound.significant and bound.metric in own:
                raise ValueError(
                    f"significant: '{bound.metric}' has no interval; only metrics of this project have one"
                )
            if bound.slice_by and bound.slice_by not in self.slice_by:
                raise ValueError(f"a threshold is on slices by {list(bound.slice_by)}, which is not in slice_by")
        return self

    def without_paths(self) -> "Evaluation":
        """Return the section as a component's parameter: files of metrics are named without their folders."""
        metrics = [
            metric
            if isinstance(metric, str)
            else metric.model_copy(update={"class_name": metric.class_name.rpartition("/")[2]})
            for metric in self.metrics
        ]
        return self.model_copy(update={"metrics": tuple(metrics)})

    @property
    def named_metrics(self) -> tuple[MetricName, ...]:
        """The metrics of this project that the config names."""
        return tuple(metric for metric in self.metrics if isinstance(metric, str))

    @property
    def tfma_metrics(self) -> tuple[TfmaMetric, ...]:
        """The metrics of TFMA, of Keras and of the user's own."""
        return tuple(metric for metric in self.metrics if isinstance(metric, TfmaMetric))

    def get_direction(self, metric: str) -> Literal["higher", "lower"] | None:
        """Return the direction in which a metric improves; None if it has none."""
        own = {metric.name: metric.better for metric in self.tfma_metrics}
        return own[metric] if metric in own else METRICS[metric].better

    def select_metrics(self, label: LabelKind, *, has_costs: bool) -> tuple[MetricName, ...]:
        """Return the metrics of this project that are measured; arguments as for `metrics_of`."""
        return self.named_metrics or metrics_of(label, has_costs=has_costs)


class Replay(Declaration):
    """Replay of logged requests: the decisions of the new model beside those of the serving version."""

    log: Annotated[str, Field(min_length=1)] = ""
    """Folder that a server has written with `--log-requests`; on Vertex AI a gs:// folder with its shards. If omitted,
    `monitoring.request_log`."""
    rows: PositiveInt = 100_000
    """Maximum number of rows; the latest that the serving version answered are taken."""
    min_rows: PositiveInt = 100
    """With fewer rows nothing is judged, which the run's summary reports."""
    max_changed: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of rows with another decision. A row that the new model rejects is another decision."""
    by_slice: bool = True
    """Whether each slice of `evaluation.slice_by` must keep the bound, too, from `evaluation.min_rows_per_slice` rows
    on."""
    tolerance: NonNegativeFloat = 0.01
    """Largest relative difference of a predicted number that is no other decision. Classes are compared by their
    predicted label."""


class InfraValidation(Declaration):
    """Checks of the model server with the model, in a process of its own and over HTTP, before the push."""

    golden_requests: PositiveInt = 16
    """Number of rows of the evaluated split whose predictions by the server must be those of the evaluated model. They
    are sent to the server here, to every server that starts later, and to an endpoint on Vertex AI before it gets
    traffic."""
    golden_tolerance: NonNegativeFloat = 1e-3
    """Largest difference of a number in a prediction."""
    max_latency_ms: Annotated[float, Field(gt=0)] = 100
    """Upper bound of the 95th percentile of the latency of 100 single rows, one after the other."""
    max_memory_mb: Annotated[float, Field(gt=0)] = 2000
    """Upper bound of the memory of the server's process with the model loaded."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 300
    """Time in which the server must start."""
    replay: Replay | None = None
    """If omitted, no logged requests are replayed."""


class Push(Declaration):
    """Destination of a blessed model."""

    model_name: Name
    """The folder below the registry; one pipeline owns it."""
    registry: str | None = None
    """The registry's folder; relative to the config's own folder. If omitted, `registry` below the run root."""
    version: NonNegativeInt | None = None
    """The version to push as; rejected if it exists. If omitted, one more than the highest there."""
    promote: bool = True
    """Whether a version that is pushed to the folder serves at once. If not, it waits as the candidate until
    `python -m serving.registry promote`, and the serving version is unchanged. On Vertex AI `traffic_steps` decides."""
    target: str = "registry"
    """Destination of local runs. `registry` is a folder, `vertex` is Vertex AI's Model Registry and an endpoint. Runs
    on Vertex AI push there. `targets.py:MyRegistry` or `my_package.targets:MyRegistry` is a class of your own, with the
    methods of `serving/registry/protocol.py`. docs/how-to/own-push-target.md"""
    config: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class of your own, beside the model's name."""
    vertex: Deployment | None = None
    """Settings of serving on Vertex AI."""

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if value not in ("registry", "vertex") and ":" not in value:
            hint = did_you_mean(value, ["registry", "vertex"])
            raise ValueError(f"'{value}' is not a target; {hint}; a class of your own is written as FILE.py:CLASS")
        return value

    @model_validator(mode="after")
    def _check_promotion(self) -> "Push":
        if self.target == "vertex" and not self.promote:
            raise ValueError(
                "promote: false is for the folder; with target: vertex, end push.vertex.traffic_steps below 100"
            )
        return self
