"""Metrics and judgement of Evaluator, from the summary that it writes beside TFMA's files."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.errors import DataError, RunRootError
from oncall.metadata import Outputs
from oncall.run_store import RunStore
from pipeline.run.records import EVALUATION
from schemas.metrics import find_metric

# The file's name in components/evaluator/evaluation.py.
_SUMMARY = "summary.json"


def _read_summary(outputs: Outputs) -> dict[str, Any]:
    artifacts = outputs.get("Evaluator", {}).get("evaluation", ())
    return next(filter(None, (_read_file(artifact.folder) for artifact in artifacts)), {})


def _read_file(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


Interval = tuple[float, float]


@dataclass(frozen=True)
class CandidateMetrics:
    """The candidate's metrics and gains by `slice: name`; all empty if the files are missing.

    Attributes:
      metrics: metrics; NaN if one is undefined.
      intervals: their 95 % intervals.
      gains: gains over the challengers, as `slice: gain over name`.
      gain_intervals: the 95 % intervals of the gains.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    gains: Mapping[str, float]
    gain_intervals: Mapping[str, Interval]


def read_candidate_metrics(outputs: Outputs) -> CandidateMetrics:
    """Return the candidate's metrics and gains, from one reading of the file."""
    summary = _read_summary(outputs)
    gains = _convert_gains(summary)
    return CandidateMetrics(
        metrics=_convert_metrics(summary),
        intervals=_convert_intervals(summary),
        gains={name: gain for name, (gain, _) in gains.items()},
        gain_intervals={name: interval for name, (_, interval) in gains.items() if interval is not None},
    )


def _convert_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    try:
        return {
            f"{slice_name}: {name}": math.nan if value is None else float(value)
            for slice_name, metrics in summary.get("metrics", {}).items()
            for name, value in metrics.items()
        }
    except (AttributeError, TypeError, ValueError):
        return {}


def _convert_intervals(summary: Mapping[str, Any]) -> dict[str, Interval]:
    try:
        return {
            f"{slice_name}: {name}": (float(interval[0]), float(interval[1]))
            for slice_name, intervals in summary.get("intervals", {}).items()
            for name, interval in intervals.items()
        }
    except (AttributeError, IndexError, TypeError, ValueError):
        return {}


def _convert_gains(summary: Mapping[str, Any]) -> dict[str, tuple[float, Interval | None]]:
    try:
        return {
            f"{slice_name}: gain over {name}": (float(gain[0]), _to_interval(gain[1:]))
            for name, challenger in summary.get("challengers", {}).items()
            for slice_name, gain in challenger.get("gains", {}).items()
            if gain[0] is not None
        }
    except (AttributeError, IndexError, TypeError, ValueError):
        return {}


@dataclass(frozen=True)
class Judgement:
    """Evaluator's judgement of a run's model, in sentences; all empty if it cannot be read.

    Attributes:
      missed: reasons why the model was not blessed.
      warned: warnings, which do not keep it from being blessed.
      constant: comparison with the loss of the constant predictor.
      challengers: comparisons with the challengers, by their names.
      decision: threshold of a binary label and the costs it was chosen by; empty without declared costs.
      weight_column: column by whose weights the rows count in the metrics; empty where all weigh alike.
    """

    missed: Sequence[str] = ()
    warned: Sequence[str] = ()
    constant: str = ""
    decision: str = ""
    weight_column: str = ""
    challengers: Mapping[str, str] = field(default_factory=dict)


def read_judgement(store: RunStore, run_id: str) -> Judgement:
    """Return the judgement of a run's model.

    A rehearsal is not in ML Metadata: its record names the folder of the evaluation.
    """
    try:
        summary = _read_summary(store.metadata.get_run_outputs(run_id))
    except RunRootError:
        record = store.find_run(run_id).record
        summary = _read_file(Path(record.summary.get(EVALUATION, ""))) if record is not None else {}
    return Judgement(
        missed=_convert_lines(summary.get("failures")),
        warned=_convert_lines(summary.get("warnings")),
        constant=_get_text(summary.get("constant_predictor")),
        decision=_get_text(summary.get("decision")),
        weight_column=str(summary.get("weight_column", "")),
        challengers=_read_challengers(summary.get("challengers")),
    )


def read_plots(outputs: Outputs) -> dict[str, Any]:
    """Return the curves and the confusion matrix; empty if there are none that can be read."""
    plots = _read_summary(outputs).get("plots", {})
    return plots if isinstance(plots, dict) else {}


def _get_text(section: Any) -> str:
    return str(section.get("text", "")) if isinstance(section, dict) else ""


def _read_challengers(section: Any) -> dict[str, str]:
    texts = {str(name): _get_text(entry) for name, entry in section.items()} if isinstance(section, dict) else {}
    return {name: text for name, text in texts.items() if text}


def _convert_lines(lines: Any) -> list[str]:
    return [str(line) for line in lines] if isinstance(lines, list) else []


@dataclass(frozen=True)
class MetricValue:
    """One metric of one slice.

    Attributes:
      value: the candidate's value; None if it is undefined.
      baseline: the baseline's value on the same rows; None if there is none.
      interval: 95 % interval of the value; None if none was stored.
      change_interval: 95 % interval of the paired difference from the baseline; None if none was stored.
    """

    value: float | None
    baseline: float | None = None
    interval: Interval | None = None
    change_interval: Interval | None = None

    @property
    def change(self) -> float | None:
        """Difference from the baseline; None if one of the values is undefined."""
        return None if self.value is None or self.baseline is None else self.value - self.baseline

    def judge(self, metric: str) -> str:
        """Return `better` or `worse` than the baseline, `within noise`; empty if neither can be stated."""
        return judge_change(metric, self.change_interval)


def judge_change(metric: str, interval: Interval | None) -> str:
    """Return `better` or `worse` if an interval of a change excludes 0, else `within noise`.

    Empty without an interval, and for a metric that has no better direction.
    """
    direction = find_metric(metric).better
    if interval is None or direction is None:
        return ""
    low, high = interval
    if low <= 0 <= high:
        return "within noise"
    return "better" if (low > 0) == (direction == "higher") else "worse"


def read_metrics_by_slice(outputs: Outputs) -> dict[str, dict[str, MetricValue]]:
    """Return the metrics by slice and name, with the baseline's; none if Evaluator has not ended.

    Raises:
      DataError: they cannot be read.
    """
    if "Evaluator" not in outputs:
        return {}
    summary = _read_summary(outputs)
    try:
        baseline, intervals, changes = (summary.get(name, {}) for name in ("baseline", "intervals", "changes"))
        slices = {
            str(slice_name): {
                str(name): MetricValue(
                    _to_number(value),
                    _to_number(baseline.get(slice_name, {}).get(name)),
                    _to_interval(intervals.get(slice_name, {}).get(name, ())),
                    _to_interval(changes.get(slice_name, {}).get(name, ())[1:]),
                )
                for name, value in metrics.items()
            }
            for slice_name, metrics in summary.get("metrics", {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{_SUMMARY}: is damaged: {error}") from error
    if not slices:
        uris = ", ".join(artifact.uri for artifact in outputs["Evaluator"].get("evaluation", ())) or "Evaluator"
        raise DataError(f"{uris}: holds no {_SUMMARY} that can be read; was it deleted?")
    return slices


def _to_interval(ends: Sequence[Any]) -> Interval | None:
    low, high = (_to_number(end) for end in (*ends, None, None)[:2])
    return None if low is None or high is None else (low, high)


def _to_number(value: Any) -> float | None:
    # An undefined metric is null in the file; earlier releases wrote NaN.
    return None if value is None or not math.isfinite(value) else float(value)
