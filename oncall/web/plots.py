"""Evaluator's curves and confusion matrix, as the pages draw them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The side of a plot in pixels, and the margin of its labels.
SIDE, MARGIN = 180, 34
_TITLES = {
    "roc": ("ROC curve", "false positive rate", "true positive rate"),
    "precision_recall": ("Precision and recall", "recall", "precision"),
    "calibration": ("Calibration", "mean prediction", "share of positive rows"),
}


@dataclass(frozen=True)
class Path:
    """The curve of one run: its name, and its points in pixels."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def text(self) -> str:
        """The points as the attribute of a polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True)
class Curve:
    """Curves in the square from 0 to 1.

    Attributes:
      title: heading.
      x, y: names of the axes.
      paths: a curve for each run.
      has_diagonal: whether a diagonal shows what chance, or a calibrated model, gives.
      has_dots: whether each point is drawn.
    """

    title: str
    x: str
    y: str
    paths: Sequence[Path]
    has_diagonal: bool
    has_dots: bool


@dataclass(frozen=True)
class Plots:
    """Curves, and the rows by true and predicted class; both empty if nothing is stored.

    Attributes:
      curves: curves in the order of the page.
      classes: values of the label.
      confusion: rows of the true classes, each by predicted class, with their shares.
    """

    curves: Sequence[Curve]
    classes: Sequence[str]
    confusion: Sequence[Sequence[tuple[float, float]]]


def build_plots(plots: Mapping[str, Any]) -> Plots:
    """Return what a run's page draws of `EvaluationReport.plots`; a damaged plot is left out."""
    try:
        confusion = plots.get("confusion") or {"classes": [], "rows": []}
        rows = [[(value, value / (sum(row) or 1.0)) for value in row] for row in confusion["rows"]]
        return Plots(overlay_plots({"": plots}).curves, [str(name) for name in confusion["classes"]], rows)
    except (KeyError, TypeError, ValueError):
        return Plots([], [], [])


def overlay_plots(plots: Mapping[str, Mapping[str, Any]]) -> Plots:
    """Return the curves of several runs, by name, in the same squares; a damaged one is left out."""
    try:
        curves = [
            Curve(
                *_TITLES[name],
                [Path(run, _scale_points(stored[name])) for run, stored in plots.items() if stored.get(name)],
                name != "precision_recall",
                name == "calibration",
            )
            for name in _TITLES
            if any(stored.get(name) for stored in plots.values())
        ]
    except (KeyError, TypeError, ValueError):
        return Plots([], [], [])
    return Plots(curves, [], [])


def _scale_points(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(MARGIN + SIDE * float(x), 10 + SIDE * (1 - float(y))) for x, y in points]
