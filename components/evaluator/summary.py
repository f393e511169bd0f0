"""Summaries of Evaluator, and of the nodes that resolve an earlier blessed model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx.components.evaluator import constants

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, get_only_artifact
from components.evaluator.evaluation import Differences, EvaluationReport, Intervals, Metrics, format_difference
from schemas.metrics import METRICS, find_metric
from schemas.slices import OVERALL


@dataclass(frozen=True)
class EvaluatorSummary(NodeSummary):
    """The verdict on a model, and its metrics.

    Attributes:
      blessed: Whether the model may be pushed.
      failures, warnings, constant_predictor, decision, weight_column, metrics, intervals, without_interval, changes,
        challengers: As `EvaluationReport` has them.
    """

    blessed: bool
    failures: Sequence[str]
    warnings: Sequence[str]
    constant_predictor: Mapping[str, Any]
    decision: Mapping[str, Any]
    weight_column: str
    metrics: Metrics
    intervals: Intervals
    without_interval: Mapping[str, str]
    changes: Differences
    challengers: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, outputs: Outputs) -> "EvaluatorSummary":
        summary = EvaluationReport.read(get_only_artifact(outputs, "evaluation").uri)
        properties = get_only_artifact(outputs, "blessing").custom_properties
        return cls(
            blessed=properties[constants.ARTIFACT_PROPERTY_BLESSED_KEY].int_value == constants.BLESSED_VALUE,
            failures=summary.failures,
            warnings=summary.warnings,
            constant_predictor=summary.constant_predictor,
            decision=summary.decision,
            weight_column=summary.weight_column,
            metrics=summary.metrics,
            intervals=summary.intervals,
            without_interval=summary.without_interval,
            changes=summary.changes,
            challengers=summary.challengers,
        )

    @property
    def headline(self) -> str:
        verdict = "blessed" if self.blessed else f"NOT blessed for {format_count(len(self.failures), 'reason')}"
        verdict += f", {format_count(len(self.warnings), 'warning')}" if self.warnings else ""
        overall = self.metrics.get(OVERALL, {})
        texts = [
            metric.describe(overall[name]) for name, metric in METRICS.items() if metric.rank == 1 and name in overall
        ]
        return ", ".join([*texts[:1], verdict])

    def format_lines(self) -> list[tuple[str, str]]:
        lines = [("warning", text) for text in self.warnings]
        lines += [("95 %", text) for text in self._describe_intervals()]
        if self.constant_predictor:
            lines.append(("constant", self.constant_predictor["text"]))
        lines += [(name, challenger["text"]) for name, challenger in self.challengers.items()]
        if self.decision:
            lines.append(("decision", self.decision["text"]))
        lines.append(("model", "blessed" if self.blessed else "NOT blessed:"))
        return [*lines, *(("", failure) for failure in self.failures)]

    def _describe_intervals(self) -> Iterator[str]:
        """Yield the intervals on all rows, those of the differences from the baseline, and what has none."""
        metrics = {name: find_metric(name) for name in self.metrics.get(OVERALL, {})}
        intervals = self.intervals.get(OVERALL, {})
        if intervals:
            yield ", ".join(
                f"{metrics[name].describe(self.metrics[OVERALL][name])} "
                f"[{', '.join(metrics[name].format(end) for end in interval)}]"
                for name, interval in intervals.items()
            )
        if changes := self.changes.get(OVERALL):
            # A metric that no replicates are computed of may be the same by chance.
            is_same = bool(intervals) and all(change == [0, None, None] for change in changes.values())
            texts = (
                ["no difference in any row"]
                if is_same
                else (f"{metrics[name].title} {format_difference(name, change)}" for name, change in changes.items())
            )
            yield f"against the last blessed model: {', '.join(texts)}"
        reasons: dict[str, list[str]] = {}
        for name, reason in self.without_interval.items():
            reasons.setdefault(reason, []).append(metrics[name].title)
        for reason, titles in reasons.items():
            yield f"no interval of {', '.join(titles)}: {reason}"


@dataclass(frozen=True)
class BaselineSummary(NodeSummary):
    """ID of the last blessed model's artifact; None if there is none."""

    model_id: int | None

    @classmethod
    def read(cls, outputs: Outputs) -> "BaselineSummary":
        models = outputs.get("model", ())
        return cls(models[0].id if models else None)

    @property
    def headline(self) -> str:
        return f"model {self.model_id}" if self.model_id else "no earlier blessed model"


@dataclass(frozen=True)
class WarmStartSummary(BaselineSummary):
    """ID of the artifact of the model whose weights the training starts from; None if there is none."""

    @property
    def headline(self) -> str:
        return f"model {self.model_id}" if self.model_id else "no blessed model to start from"
