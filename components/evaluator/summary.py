"""Summaries of Evaluator, and of the nodes that resolve an earlier blessed model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx.components.evaluator import constants

from cli.node_summary import NodeSummary, Outputs, count_text, only_artifact
from components.evaluator.evaluation import OVERALL, Metrics, Summary
from schemas.metrics import METRICS


@dataclass(frozen=True)
class EvaluatorSummary(NodeSummary):
    """The verdict on a model, and its metrics.

    Attributes:
      blessed: Whether the model may be pushed.
      failures, warnings, constant_predictor, decision, weight_column, metrics: As `Summary` has them.
    """

    blessed: bool
    failures: Sequence[str]
    warnings: Sequence[str]
    constant_predictor: Mapping[str, Any]
    decision: Mapping[str, Any]
    weight_column: str
    metrics: Metrics

    @classmethod
    def read(cls, outputs: Outputs) -> "EvaluatorSummary":
        summary = Summary.read(only_artifact(outputs, "evaluation").uri)
        properties = only_artifact(outputs, "blessing").custom_properties
        return cls(
            blessed=properties[constants.ARTIFACT_PROPERTY_BLESSED_KEY].int_value == constants.BLESSED_VALUE,
            failures=summary.failures,
            warnings=summary.warnings,
            constant_predictor=summary.constant_predictor,
            decision=summary.decision,
            weight_column=summary.weight_column,
            metrics=summary.metrics,
        )

    @property
    def headline(self) -> str:
        verdict = "blessed" if self.blessed else f"NOT blessed for {count_text(len(self.failures), 'reason')}"
        verdict += f", {count_text(len(self.warnings), 'warning')}" if self.warnings else ""
        overall = self.metrics.get(OVERALL, {})
        texts = [
            metric.describe(overall[name]) for name, metric in METRICS.items() if metric.rank == 1 and name in overall
        ]
        return ", ".join([*texts[:1], verdict])

    def lines(self) -> list[tuple[str, str]]:
        lines = [("warning", text) for text in self.warnings]
        if self.constant_predictor:
            lines.append(("constant", self.constant_predictor["text"]))
        if self.decision:
            lines.append(("decision", self.decision["text"]))
        lines.append(("model", "blessed" if self.blessed else "NOT blessed:"))
        return [*lines, *(("", failure) for failure in self.failures)]


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
