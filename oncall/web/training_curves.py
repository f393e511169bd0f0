"""The metrics of each epoch, from the history that Trainer keeps, or from the log while it trains."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.errors import DataError
from oncall.metadata import Outputs
from oncall.web.charts import Chart, ChartValue, Line, Mark, draw_chart
from schemas.metrics import find_metric

# The file's name in trainer/run.py, which also prints the lines.
_HISTORY = "history.json"
_EPOCH_LINE = re.compile(r"epoch (\d{1,6}) of (\d{1,6}): (.*)")
_MEASURED = re.compile(r"(\w+) (-?[\d.]+(?:e[-+]?\d+)?)(?:,|$)")
_EVAL = "val_"


@dataclass(frozen=True)
class TrainingCurves:
    """The metrics of the epochs.

    Attributes:
      metrics: values of each epoch by Keras's names; `val_` is the eval split. None is undefined.
      epochs: number of epochs that were asked for; None if it is not known.
      kept_epoch: epoch whose weights are kept, from 0; None while it trains.
    """

    metrics: Mapping[str, Sequence[float | None]]
    epochs: int | None = None
    kept_epoch: int | None = None

    @property
    def length(self) -> int:
        """Number of epochs that have ended."""
        return max(map(len, self.metrics.values()), default=0)


def read_training(outputs: Outputs) -> TrainingCurves | None:
    """Return the history of a run's training; None if Trainer has not ended, or keeps none.

    Raises:
      DataError: the file is damaged.
    """
    for artifact in outputs.get("Trainer", {}).get("model_run", ()):
        file = artifact.folder / _HISTORY
        # A `run_fn` of the user's own keeps none.
        if not file.is_file():
            continue
        try:
            history = json.loads(file.read_bytes())
            metrics = {str(name): [_to_number(v) for v in values] for name, values in history["metrics"].items()}
            return TrainingCurves(metrics, kept_epoch=int(history["kept_epoch"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: is damaged: {error}") from error
    return None


def parse_epochs(lines: Iterable[str]) -> TrainingCurves | None:
    """Return the epochs so far by the lines of a log, whose first ones may be cut off; None if it has none."""
    matches = [match for match in map(_EPOCH_LINE.search, lines) if match is not None]
    if not matches:
        return None
    by_epoch = {int(match[1]): dict(_MEASURED.findall(match[3])) for match in matches}
    names = dict.fromkeys(name for measured in by_epoch.values() for name in measured)
    numbers = range(1, int(matches[-1][1]) + 1)
    metrics = {name: [_to_number(by_epoch.get(number, {}).get(name)) for number in numbers] for name in names}
    return TrainingCurves(metrics, epochs=int(matches[-1][2]))


def _to_number(value: Any) -> float | None:
    number = float(value) if value is not None else math.nan
    return number if math.isfinite(number) else None


def draw_training(trainings: Mapping[str, TrainingCurves]) -> list[Chart]:
    """Return a chart for each metric, with a line for each split and run.

    Args:
      trainings: trainings by the name of the run; empty for a single one.
    """
    names = list(dict.fromkeys(name for training in trainings.values() for name in training.metrics))
    # The loss on train and on eval belong together, whatever the metric is called.
    losses = {name for name in names if find_metric(name.removeprefix(_EVAL)).is_loss or name == "loss"}
    groups = [sorted(losses), *([name] for name in names if name not in losses)]
    return [chart for group in groups if group and (chart := _draw_group(group, trainings)) is not None]


def _draw_group(names: Sequence[str], trainings: Mapping[str, TrainingCurves]) -> Chart | None:
    title = find_metric(names[-1].removeprefix(_EVAL)).title
    lines, marks = [], []
    length = max(max(training.length, training.epochs or 0) for training in trainings.values())
    for run, training in trainings.items():
        for name in names:
            split = "eval" if name.startswith(_EVAL) else "train"
            label = f"{run}, {split}" if run else split
            measured = training.metrics.get(name, ())
            values = [ChartValue(n, y, f"epoch {n + 1}, {label}: {_format(y)}") for n, y in enumerate(measured)]
            lines.append(Line(label, values))
        if training.kept_epoch is not None and not run:
            marks.append(Mark(training.kept_epoch, "kept", "kept", f"epoch {training.kept_epoch + 1} is kept"))
    return draw_chart(title, lines, [str(number + 1) for number in range(length)], marks)


def _format(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
