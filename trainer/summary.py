"""Summaries of Trainer and Tuner."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, format_number, get_only_artifact
from schemas.metrics import METRICS
from trainer.config import format_values, parse_values
from trainer.run import HISTORY_FILE


@dataclass(frozen=True)
class TrainerSummary(NodeSummary):
    """Result of a training.

    Attributes:
      epochs: Number of epochs; 0 for a `run_fn` of the user's own, which keeps no history.
      kept_epoch: Number of the epoch whose weights are kept, from 1.
      metrics: Metrics of that epoch on eval.
    """

    epochs: int
    kept_epoch: int
    metrics: Mapping[str, float | None]

    @classmethod
    def read(cls, outputs: Outputs) -> "TrainerSummary":
        file = Path(get_only_artifact(outputs, "model_run").uri) / HISTORY_FILE
        if not file.exists():
            return cls(epochs=0, kept_epoch=0, metrics={})
        history = json.loads(file.read_bytes())
        metrics, kept_epoch = history["metrics"], history["kept_epoch"]
        return cls(
            epochs=len(metrics["loss"]),
            kept_epoch=kept_epoch + 1,
            metrics={
                name.removeprefix("val_"): values[kept_epoch]
                for name, values in metrics.items()
                if name.startswith("val_")
            },
        )

    @property
    def headline(self) -> str:
        if not self.epochs:
            return "exported by your run_fn"
        metrics = [METRICS[name].describe(value) for name, value in self.metrics.items()]
        return f"eval {', '.join(metrics)}, kept epoch {self.kept_epoch} of {self.epochs}"


@dataclass(frozen=True)
class TunerSummary(NodeSummary):
    """Result of a search.

    Attributes:
      trials: Number of trials.
      score: Objective of the best one.
      values: Its hyper-parameters, by their paths in the config.
    """

    trials: int
    score: float | None
    values: Mapping[str, Any]

    @classmethod
    def read(cls, outputs: Outputs) -> "TunerSummary":
        (file,) = Path(get_only_artifact(outputs, "tuner_results").uri).iterdir()
        best, *others = json.loads(file.read_bytes())
        values = {key: value for key, value in best.items() if key not in ("trial_id", "score")}
        return cls(1 + len(others), best["score"], parse_values({"values": values}))

    @property
    def headline(self) -> str:
        trials, score = format_count(self.trials, "trial"), format_number(self.score)
        return f"best of {trials}: {score} with {format_values(self.values)}"
