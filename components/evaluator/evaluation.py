"""TFMA's config, derived from ours; and the summary of its results."""

import json
import math
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.view import util as view_util
from tensorflow_model_analysis.writers import eval_config_writer

from cli.counts import format_count
from components.config import ChangeThreshold, Evaluation, Threshold
from components.evaluator.challengers import LINEAR, TITLES, TREES, ChallengerFit
from components.evaluator.constant_predictor import ConstantComparison, PairedLosses, format_loss
from components.evaluator.plots import read_plots
from components.evaluator.resampling import CONSTANT, Gain, SliceErrors
from components.evaluator.sliced_predictions import CANDIDATE
from components.evaluator.tfma_metrics import PLOTS, build_metric_config
from components.min_rows import check_rows
from schemas.bootstrap import find_difference, find_interval
from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts, DecisionThreshold
from schemas.features import LabelKind
from schemas.metrics import EXAMPLE_COUNT, MEAN_COST, find_metric
from schemas.slices import OVERALL, name_slice
from serving.model.output_names import MEASURED_OUTPUT
from serving.model.signatures import LABEL, SERVING_EXAMPLES

# Beside TFMA's files.
SUMMARY_NAME = "summary.json"
BASELINE = "baseline"


def build_eval_config(
    evaluation: Evaluation, label: LabelKind, *, has_costs: bool = False, weight: str | None = None
) -> config_pb2.EvalConfig:
    """Return TFMA's own config for Evaluator.

    Args:
      evaluation: metrics, slices and thresholds.
      label: kind of the label.
      has_costs: whether the costs of a binary label's errors are declared.
      weight: column of the rows' weights; None where all weigh alike.
    """
    model = {"signature_name": SERVING_EXAMPLES, "prediction_key": MEASURED_OUTPUT[label], "label_key": LABEL}
    if weight is not None:
        model["example_weight_key"] = weight
    metrics = [_build_metric(name, label, evaluation) for name in evaluation.select_metrics(label, has_costs=has_costs)]
    for metric in evaluation.tfma_metrics:
        metrics.append(build_metric_config(metric))
        add_thresholds(metrics[-1], metric.name, evaluation)
    metrics += [build_metric_config(plot) for plot in PLOTS[label]] if evaluation.plots else []
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(**model), config_pb2.ModelSpec(name=BASELINE, is_baseline=True, **model)],
        slicing_specs=build_slicing_specs(evaluation),
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
        options=config_pb2.Options(min_slice_size=wrappers_pb2.Int32Value(value=evaluation.min_rows_per_slice)),
    )


def build_slicing_specs(evaluation: Evaluation) -> list[config_pb2.SlicingSpec]:
    """Return all rows together, and the slices of the config."""
    slices = [config_pb2.SlicingSpec(feature_keys=list(keys)) for keys in evaluation.slice_by]
    return [config_pb2.SlicingSpec(), *slices]


def _build_metric(name: str, label: LabelKind, evaluation: Evaluation) -> config_pb2.MetricConfig:
    metric = config_pb2.MetricConfig(
        class_name="BatchedMetric",
        module="components.evaluator.batched_metrics",
        config=json.dumps({"name": name, "label": label}),
    )
    add_thresholds(metric, name, evaluation)
    return metric


def add_thresholds(metric: config_pb2.MetricConfig, name: str, evaluation: Evaluation) -> None:
    """Add the bounds of the config on a metric."""
    bounds: tuple[Threshold | ChangeThreshold, ...] = (*evaluation.thresholds, *evaluation.change_thresholds)
    for bound in bounds:
        # TFMA has no intervals; `_judge_changes` holds the model against such a bound.
        if bound.metric == name and not (isinstance(bound, ChangeThreshold) and bound.significant):
            specs = [config_pb2.SlicingSpec(feature_keys=list(bound.slice_by))]
            metric.per_slice_thresholds.append(
                config_pb2.PerSliceMetricThreshold(
                    slicing_specs=specs, threshold=_build_threshold(bound, evaluation.get_direction(name))
                )
            )


def _build_threshold(bound: Threshold | ChangeThreshold, better: str | None) -> config_pb2.MetricThreshold:
    if isinstance(bound, ChangeThreshold):
        lower_is_better = better == "lower"
        direction = (
            config_pb2.MetricDirection.LOWER_IS_BETTER
            if lower_is_better
            else config_pb2.MetricDirection.HIGHER_IS_BETTER
        )
        allowed = bound.max_regression if lower_is_better else -bound.max_regression
        change = config_pb2.GenericChangeThreshold(
            direction=direction, absolute=wrappers_pb2.DoubleValue(value=allowed)
        )
        return config_pb2.MetricThreshold(change_threshold=change)
    value = config_pb2.GenericValueThreshold()
    if bound.lower_bound is not None:
        value.lower_bound.value = bound.lower_bound
    if bound.upper_bound is not None:
        value.upper_bound.value = bound.upper_bound
    return config_pb2.MetricThreshold(value_threshold=value)


def set_decisions(config: config_pb2.EvalConfig, thresholds: Mapping[str, float], costs: DecisionCosts | None) -> None:
    """Complete the metrics of a binary label by the thresholds and costs of the trained models.

    Args:
      config: from `eval_config`.
      thresholds: threshold of each model, by TFMA's name of it.
      costs: costs of the errors, by which all models are judged.
    """
    decisions = {"thresholds": dict(thresholds), "costs": costs.model_dump() if costs is not None else None}
    for spec in config.metrics_specs:
        for metric in spec.metrics:
            if metric.class_name != "BatchedMetric":
                continue
            metric.config = json.dumps({**json.loads(metric.config), **decisions})


@dataclass(frozen=True)
class Failure:
    """A threshold that a model missed: the metric, the slice, the value it has and the bound it must keep.

    Attributes:
      metric: name of the metric.
      slice: name of the slice.
      value: value of the metric; None without one, NaN where it is undefined.
      bound: the bound, in words.
      reason: why the metric is undefined.
      origin: the numbers that the bound comes from, in words; empty for a bound of the config.
    """

    metric: str
    slice: str
    value: float | None
    bound: str
    reason: str = ""
    origin: str = ""

    @property
    def is_undefined(self) -> bool:
        """Whether the metric was measured and has no value."""
        return self.value is not None and math.isnan(self.value)

    def __str__(self) -> str:
        name = self.metric if self.slice == OVERALL else f"{self.metric} on {self.slice}"
        expected = f"{self.bound} expected{f' ({self.origin})' if self.origin else ''}"
        if self.is_undefined:
            return f"{name} undefined, since {self.reason}; {expected}"
        value = "has no value" if self.value is None else f"{self.value:.4f}"
        return f"{name} {value}; {expected}"


@dataclass(frozen=True)
class JudgedRows:
    """Findings on the evaluated rows beside TFMA's metrics.

    Attributes:
      classes: classes of the label, in the order of their IDs; none of a regression.
      losses: losses of the candidate and of the constant predictor.
      comparison: the candidate beside the constant predictor.
      decision: the candidate's threshold, if costs are declared.
      baseline_threshold: the last blessed model's, if there is one.
      errors: standard errors by slice; without metrics for a model of the user's own.
      outcomes: outcomes of the fits of the challengers.
      is_own: whether a `run_fn` of the user's own has exported the model.
    """

    classes: Sequence[str]
    losses: PairedLosses
    comparison: ConstantComparison
    decision: DecisionThreshold | None = None
    baseline_threshold: float | None = None
    errors: Mapping[str, SliceErrors] = field(default_factory=dict)
    outcomes: Sequence[ChallengerFit] = ()
    is_own: bool = False

    @property
    def class_rows(self) -> dict[str, float]:
        """Rows of each class, as ExampleGen counts them; of a regression, the number of rows."""
        if not self.classes:
            return {"rows": self.losses.rows + self.losses.non_finite}
        return dict(zip(self.classes, map(int, self.losses.class_rows), strict=True))


Metrics = Mapping[str, Mapping[str, float | None]]
# Lower and upper end by slice and metric; a metric without an interval is left out.
Intervals = Mapping[str, Mapping[str, Sequence[float]]]
# Difference, and the lower and the upper end of its interval, None without one, by slice and metric.
Differences = Mapping[str, Mapping[str, Sequence[float | None]]]


@dataclass(frozen=True)
class EvaluationReport:
    """Summary of an evaluation, for readers without TFMA.

    Attributes:
      metrics: the candidate's by slice, `OVERALL` first, then by column and value; None is an undefined metric.
      failures: why it is not blessed, in words: the rows, the constant predictor, then the thresholds that it missed,
        all rows together first; empty if it is blessed.
      warnings: weaknesses of a model that may be blessed, in words.
      constant_predictor: the numbers of `ConstantComparison`, and `text` of them.
      baseline: the last blessed model's metrics on the same rows; empty if there was none.
      decision: fields of the `DecisionThreshold` by which rows are predicted as the positive value. The threshold of
        the last blessed model and `text` of them are in it, too. Empty for a model without declared costs.
      weight_column: column by whose weights the rows count in all metrics; empty where all weigh alike.
      plots: curves and confusion matrix, as `read_plots` has them; empty without plots.
      intervals: 95 % intervals of the candidate's metrics.
      without_interval: reason by the metric that has no interval on all rows.
      changes: differences of the candidate from the last blessed model; empty if there was none.
      challengers: entry of each challenger by its name: a `text`, the `problem` of its fit if there is one, and its
        `rows`, `rows_of` and `seconds`. `metrics` and the candidate's `differences` are by slice and metric. `gains`
        are the differences of the mean losses by slice.
    """

    metrics: Metrics
    failures: Sequence[str]
    warnings: Sequence[str] = ()
    constant_predictor: Mapping[str, Any] = field(default_factory=dict)
    baseline: Metrics = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=dict)
    weight_column: str = ""
    plots: Mapping[str, Any] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    without_interval: Mapping[str, str] = field(default_factory=dict)
    changes: Differences = field(default_factory=dict)
    challengers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, evaluation_uri: str) -> "EvaluationReport":
        """Return what `write` wrote."""
        with tf.io.gfile.GFile(os.path.join(evaluation_uri, SUMMARY_NAME)) as file:
            return cls(**json.loads(file.read()))

    def with_warning(self, text: str) -> "EvaluationReport":
        """Return the summary with one warning more."""
        return replace(self, warnings=[*self.warnings, text])

    def write(self, evaluation_uri: str) -> None:
        """Write it beside TFMA's files."""
        with tf.io.gfile.GFile(os.path.join(evaluation_uri, SUMMARY_NAME), "w") as file:
            file.write(json.dumps(asdict(self), indent=1, allow_nan=False))


def summarize(
    evaluation_uri: str,
    evaluation: Evaluation | None = None,
    rows: JudgedRows | None = None,
    weight: str | None = None,
) -> EvaluationReport:
    """Judge a model by TFMA's results and, where these are known, by the number of rows and the constant predictor.

    Args:
      evaluation_uri: folder of TFMA's files.
      evaluation: section of the config; None for an EvalConfig, whose bounds alone judge.
      rows: findings on the evaluated rows; None if the losses are unknown.
      weight: column of the rows' weights; None where all weigh alike.
    """
    config = eval_config_writer.load_eval_run(evaluation_uri)[0]
    names = {spec.is_baseline: spec.name for spec in config.model_specs}
    # TFMA names a single model with the empty string.
    candidate = names[False] if len(names) > 1 else None
    metrics = read_metrics(evaluation_uri, candidate)
    baseline = read_metrics(evaluation_uri, names[True]) if True in names else {}
    # With a least size of its own, TFMA's config has left out the small slices. The stock executor leaves them empty,
    # and fails all thresholds on them.
    least = 0 if evaluation is None or config.options.HasField("min_slice_size") else evaluation.min_rows_per_slice
    small = {
        name
        for name, values in metrics.items()
        if name != OVERALL and evaluation is not None and (not values or (values.get(EXAMPLE_COUNT) or least) < least)
    }
    failures: list[str] = []
    warnings: list[str] = []
    if evaluation is not None and rows is not None:
        failures, warnings = _judge_rows(rows, evaluation)
    for failure in read_failures(evaluation_uri, metrics, baseline, rows):
        if failure.slice not in small:
            is_warning = rows is not None and failure.is_undefined and failure.slice != OVERALL
            (warnings if is_warning else failures).append(str(failure))
    metrics = {name: values for name, values in metrics.items() if name not in small}
    errors = {} if rows is None else {name: rows.errors[name] for name in metrics if name in rows.errors}
    if evaluation is not None and baseline:
        change_failures, change_warnings = _judge_changes(evaluation, metrics, baseline, errors, rows)
        failures += change_failures
        warnings += change_warnings
    intervals = _compute_intervals(metrics, errors)
    summary = EvaluationReport(
        metrics=metrics,
        failures=failures,
        warnings=warnings,
        baseline={name: values for name, values in baseline.items() if name not in small},
        weight_column=weight or "",
        intervals=intervals,
        without_interval=_explain_missing_intervals(
            metrics.get(OVERALL, {}), intervals.get(OVERALL, {}), errors.get(OVERALL)
        ),
        changes=_compute_differences(metrics, baseline, errors, BASELINE) if baseline else {},
    )
    if evaluation is None or rows is None:
        return summary
    threshold = DEFAULT_THRESHOLD if rows.decision is None else rows.decision.threshold
    return replace(
        summary,
        constant_predictor={**asdict(rows.comparison), "text": str(rows.comparison)},
        decision=_describe_decision(rows, metrics[OVERALL], evaluation.split),
        plots=read_plots(evaluation_uri, rows.classes, threshold, candidate),
        challengers={outcome.name: _describe_challenger(outcome, metrics, rows, errors) for outcome in rows.outcomes},
    )


def _compute_intervals(metrics: Metrics, errors: Mapping[str, SliceErrors]) -> dict[str, dict[str, Sequence[float]]]:
    intervals: dict[str, dict[str, Sequence[float]]] = {}
    for where, of_slice in errors.items():
        own = of_slice.errors.get(CANDIDATE, {})
        for name, value in metrics[where].items():
            interval = find_interval(find_metric(name), value, own.get(name), of_slice.effective_rows)
            if interval is not None:
                intervals.setdefault(where, {})[name] = [*interval]
    return intervals


def _explain_missing_intervals(
    metrics: Mapping[str, float | None], intervals: Container[str], errors: SliceErrors | None
) -> dict[str, str]:
    """Return the metrics that have a value and no interval, each with the reason."""
    reasons = {}
    for name, value in metrics.items():
        if value is None or not find_metric(name).has_interval:
            continue
        if errors is None or name not in errors.errors.get(CANDIDATE, {}):
            reasons[name] = "it is not computed from counts of rows"
        elif name not in intervals:
            rows = format_count(errors.rows, "row", "are")
            reasons[name] = f"{rows} too few, or resampled rows do not change it"
    return reasons


def _compute_differences(
    metrics: Metrics, others: Metrics, errors: Mapping[str, SliceErrors], other: str
) -> dict[str, dict[str, Sequence[float | None]]]:
    """Return the candidate's differences from another model, where both have a value."""
    differences: dict[str, dict[str, Sequence[float | None]]] = {}
    for where, of_slice in errors.items():
        own = of_slice.difference_errors.get(other, {})
        for name, value in metrics[where].items():
            compared = others.get(where, {}).get(name)
            if value is None or compared is None or not find_metric(name).has_interval:
                continue
            interval = find_difference(value - compared, own.get(name), of_slice.effective_rows)
            differences.setdefault(where, {})[name] = [value - compared, *(interval or (None, None))]
    return differences


def _judge_changes(
    evaluation: Evaluation,
    metrics: Metrics,
    baseline: Metrics,
    errors: Mapping[str, SliceErrors],
    rows: JudgedRows | None,
) -> tuple[list[str], list[str]]:
    """Return failures and warnings of the bounds on changes that ask for significance."""
    failures: list[str] = []
    warnings: list[str] = []
    differences = _compute_differences(metrics, baseline, errors, BASELINE)
    for bound in (bound for bound in evaluation.change_thresholds if bound.significant):
        sign = -1 if evaluation.get_direction(bound.metric) == "lower" else 1
        side = "below" if sign > 0 else "above"
        text = f"at most {bound.max_regression:g} {side} the last blessed model's"
        for where in (name for name, of_slice in errors.items() if of_slice.columns == bound.slice_by):
            if bound.metric not in differences.get(where, {}):
                reason = _explain_undefined(bound.metric, where, rows)
                failure = str(Failure(bound.metric, where, math.nan, text, reason))
                (failures if where == OVERALL else warnings).append(failure)
                continue
            difference, low, high = differences[where][bound.metric]
            assert difference is not None
            if -sign * difference <= bound.max_regression:
                continue
            # Without an interval chance excuses nothing.
            best = difference if low is None or high is None else (high if sign > 0 else low)
            line = f"{bound.metric} on {where}: a change of {format_difference(bound.metric, (difference, low, high))}"
            if -sign * best > bound.max_regression:
                failures.append(f"{line}, must be {text}")
            else:
                warnings.append(f"{line}, should be {text}; it may be chance")
    return failures, warnings


def format_difference(metric: str, difference: Sequence[float | None]) -> str:
    """Return a difference with its interval, `+0.0004 [-0.0010, +0.0018]`."""
    numbers = [f"{number:+{find_metric(metric).number_format}}" for number in difference if number is not None]
    return f"{numbers[0]} [{', '.join(numbers[1:])}]" if len(numbers) > 1 else f"{numbers[0]} (without an interval)"


def _describe_challenger(
    outcome: ChallengerFit, metrics: Metrics, rows: JudgedRows, errors: Mapping[str, SliceErrors]
) -> dict[str, Any]:
    """Return an entry of `EvaluationReport.challengers`."""
    name = outcome.name
    values = {where: of_slice.values[name] for where, of_slice in errors.items() if name in of_slice.values}
    gains = {where: of_slice.gains[name] for where, of_slice in errors.items() if name in of_slice.gains}
    overall = gains.get(OVERALL)
    loss = rows.comparison.loss
    # The gain over the constant predictor needs the candidate's predictions alone.
    whose = "its" if OVERALL in errors and CONSTANT in errors[OVERALL].gains else "the model's"
    problem = outcome.problem or ("" if overall is not None else f"{whose} predictions are not all numbers")
    if problem or overall is None:
        text = f"not compared: {problem}"
    else:
        sampled = f" of {outcome.rows_of:,}" if outcome.rows_of > outcome.rows else ""
        text = (
            f"{loss} {_format_optional_loss(overall.loss, loss)}; the model is {_describe_gain(overall, loss)}; "
            f"fitted to {outcome.rows:,}{sampled} rows in {outcome.seconds:.1f} s"
            f"{outcome.left_out and f', without {outcome.left_out}'}"
        )
    return {
        "text": text,
        "problem": problem,
        "rows": outcome.rows,
        "rows_of": outcome.rows_of,
        "seconds": outcome.seconds,
        "metrics": values,
        "differences": _compute_differences(metrics, values, errors, name),
        "gains": {where: [gain.gain, *(gain.interval or (None, None))] for where, gain in gains.items()},
    }


def _format_optional_loss(value: float | None, loss: str) -> str:
    return "undefined" if value is None else format_loss(value, loss)


def _describe_gain(gain: Gain, loss: str) -> str:
    """Return how much the candidate is better or worse, with the interval of it."""
    if gain.gain is None:
        return "not comparable, without a row of positive weight"
    word = "better" if gain.gain >= 0 else "worse"
    if gain.interval is None:
        return f"{word} by {format_loss(abs(gain.gain), loss)} (without an interval)"
    low, high = gain.interval if gain.gain >= 0 else (-gain.interval[1], -gain.interval[0])
    size = f"{format_loss(abs(gain.gain), loss)} [{format_loss(low, loss)}, {format_loss(high, loss)}]"
    is_chance = "" if gain.is_significant or gain.is_significant_loss else ", which may be chance"
    return f"{word} by {size}{is_chance}"


def _judge_rows(rows: JudgedRows, evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """Return failures and warnings of the number of rows, their predictions and the constant predictor."""
    check = check_rows(rows.class_rows, rows.classes, evaluation)
    failures, warnings = [*check.failures], [*check.warnings]
    if rows.losses.non_finite:
        count, total = rows.losses.non_finite, rows.losses.non_finite + rows.losses.rows
        failures.append(
            f"predictions: NaN or infinite for {count:,} of {format_count(total, 'row')} of {evaluation.split}, must "
            "be finite"
        )
    problem = rows.comparison.explain_problem(evaluation.split)
    if problem:
        is_warning = rows.comparison.is_better and evaluation.insignificant_gain == "warn"
        (warnings if is_warning else failures).append(problem)
    for name, is_stop in ((LINEAR, evaluation.challengers.worse_than_linear == "stop"), (TREES, False)):
        problem, is_failure = _judge_challenger(name, rows, evaluation)
        if problem:
            (failures if is_failure and is_stop else warnings).append(problem)
    return failures, warnings


def _judge_challenger(name: str, rows: JudgedRows, evaluation: Evaluation) -> tuple[str, bool]:
    """Return the problem of a candidate beside a challenger, empty if there is none, and whether it is worse."""
    gains = {where: of_slice.gains[name] for where, of_slice in rows.errors.items() if name in of_slice.gains}
    if OVERALL not in gains:
        return "", False
    overall, loss = gains.pop(OVERALL), rows.comparison.loss
    worse = sorted(where for where, gain in gains.items() if gain.is_significant_loss)
    slices = f"; significantly worse on {', '.join(worse)}" if worse else ""
    text = f"{TITLES[name]}: by {loss} on {evaluation.split} the model is {_describe_gain(overall, loss)}{slices}"
    if name == TREES:
        return (f"{text}; they may find what the model does not", False) if overall.is_significant_loss else ("", False)
    if overall.is_significant_loss:
        or_serve = "" if rows.is_own else ", serve the linear model with model.architecture: wide"
        return (
            f"{text}; must not be significantly worse: train the model longer or with other layers{or_serve}, or bless "
            "it with evaluation.challengers.worse_than_linear: warn",
            True,
        )
    if not overall.is_significant:
        return f"{text}; it is not significantly better", False
    return (text, False) if worse else ("", False)


def _describe_decision(rows: JudgedRows, metrics: Mapping[str, float | None], split: str) -> dict[str, Any]:
    """Return `EvaluationReport.decision`."""
    if rows.decision is None:
        return {}
    cost = metrics.get(MEAN_COST)
    measured = "" if cost is None else f"; {cost:.4g} on {split}"
    return {
        **rows.decision.model_dump(),
        "baseline_threshold": rows.baseline_threshold,
        "text": f"{rows.decision}{measured}",
    }


def read_metrics(evaluation_uri: str, model: str | None = None) -> dict[str, dict[str, float | None]]:
    """Return the metrics of the candidate, or of `BASELINE`, by slice, `OVERALL` first, then by column and value."""
    by_slice = {}
    # `load_eval_result` converts the plots of all slices, too, for a second.
    for record in tfma.load_metrics(evaluation_uri):
        key, outputs = view_util.convert_metrics_proto_to_dict(record, model_name=model) or ((), None)
        if outputs is None:
            # TFMA has an entry without content for a model under another name.
            continue
        values = next(iter(next(iter(outputs.values())).values()))
        named = {metric: float(value["doubleValue"]) for metric, value in values.items() if "doubleValue" in value}
        by_slice[name_slice(key)] = {
            metric: value if math.isfinite(value) else None
            for metric, value in named.items()
            if not metric.endswith("_diff")
        }
    return dict(sorted(by_slice.items(), key=lambda item: (item[0] != OVERALL, item[0])))


def read_failures(evaluation_uri: str, metrics: Metrics, baseline: Metrics, rows: JudgedRows | None) -> list[Failure]:
    """Return the thresholds that the candidate missed, all rows together first.

    Args:
      evaluation_uri: folder of TFMA's files.
      metrics: the candidate's metrics.
      baseline: the last blessed model's metrics; empty if there was none.
      rows: the evaluated rows, for the reason of an undefined metric; None if they are unknown.
    """
    result = tfma.load_validation_result(evaluation_uri)
    if result is None:
        return []
    failures = []
    for validation in result.metric_validations_per_slice:
        where = name_slice([(k.column, _read_slice_value(k)) for k in validation.slice_key.single_slice_keys])
        for failure in validation.failures:
            name = failure.metric_key.name
            is_own = metrics.get(where, {}).get(name) is None
            values = _ComparedMetric(metrics.get(where, {}).get(name), baseline.get(where, {}).get(name))
            bound, origin = _describe_bound(failure.metric_threshold, values)
            is_change = failure.metric_threshold.HasField("change_threshold")
            measured = failure.metric_value.double_value.value if failure.HasField("metric_value") else None
            failures.append(
                Failure(
                    metric=name,
                    slice=where,
                    # TFMA's own value of a change is the difference.
                    value=values.candidate if is_change and values.is_complete else measured,
                    bound=bound,
                    reason=_explain_undefined(name, where, rows) if is_own else "it is for the last blessed model",
                    origin=origin,
                )
            )
    failures += [
        Failure("every threshold", " x ".join(spec.feature_keys) or OVERALL, None, "on at least one slice large enough")
        for spec in result.missing_slices
    ]
    # Without a threshold TFMA validates nothing; the constant predictor still judges every candidate.
    if not (result.validation_ok or result.missing_thresholds or failures):
        failures.append(Failure("validation", OVERALL, None, "a pass, for which TFMA gives no reason,"))
    return sorted(failures, key=lambda f: (f.slice != OVERALL, f.slice, f.metric))


def _explain_undefined(metric: str, where: str, rows: JudgedRows | None) -> str:
    """Return why the candidate's metric has no value on a slice."""
    if rows is None:
        return "the rows do not define it"
    if rows.losses.non_finite:
        return "a prediction is NaN or infinite"
    where_rows = "of the split" if where == OVERALL else "of the slice"
    classes = [value for value, count in rows.class_rows.items() if not count] if where == OVERALL else []
    described = find_metric(metric)
    if classes and described.needs_both_classes:
        return f"no row {where_rows} has the class '{classes[0]}'"
    positive = rows.classes[-1] if rows.classes else ""
    return described.undefined.format(rows=where_rows, positive=positive)


def _read_slice_value(key: Any) -> Any:
    value = getattr(key, key.WhichOneof("kind"))
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class _ComparedMetric:
    """The value of a metric of the candidate and of the last blessed model; None where it is undefined or missing."""

    candidate: float | None
    baseline: float | None

    @property
    def is_complete(self) -> bool:
        """Whether both are numbers."""
        return self.candidate is not None and self.baseline is not None


def _describe_bound(threshold: config_pb2.MetricThreshold, values: _ComparedMetric) -> tuple[str, str]:
    """Return a bound in words, and the numbers that it comes from."""
    if threshold.HasField("change_threshold"):
        return _describe_change(threshold.change_threshold, values)
    bound = threshold.value_threshold
    parts = [f"at least {bound.lower_bound.value:g}"] if bound.HasField("lower_bound") else []
    parts += [f"at most {bound.upper_bound.value:g}"] if bound.HasField("upper_bound") else []
    return " and ".join(parts) or "within its threshold", ""


def _describe_change(change: config_pb2.GenericChangeThreshold, values: _ComparedMetric) -> tuple[str, str]:
    is_relative = change.HasField("relative") and not change.HasField("absolute")
    allowed = change.relative.value if is_relative else change.absolute.value
    is_upper = change.direction == config_pb2.MetricDirection.LOWER_IS_BETTER
    side, sign, size = ("at most", "plus", allowed) if is_upper else ("at least", "minus", -allowed)
    if not values.is_complete or values.baseline is None:
        text = f"{size:.3g} times that" if is_relative else f"{size:g}"
        return f"{side} the last blessed model's {sign} {text}", ""
    limit = values.baseline * (1 + allowed) if is_relative else values.baseline + allowed
    text = f"{size:.3g} times that" if is_relative else f"{size:g}"
    return f"{side} {limit:.4f}", f"{values.baseline:.4f} of the last blessed model {sign} {text}"
