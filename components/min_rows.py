"""The least number of rows that a model may be judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.config import Evaluation

# Labels of a single class do not show how well a model separates classes.
_LEAST_CLASSES = 2


@dataclass(frozen=True)
class RowCheck:
    """Findings on the number of rows of a split.

    Attributes:
      failures: reasons why no model can be blessed on the split, one line each.
      warnings: classes that the evaluation says little about.
    """

    failures: Sequence[str]
    warnings: Sequence[str]


def check_rows(labels: Mapping[str, float], classes: Sequence[str], evaluation: Evaluation) -> RowCheck:
    """Hold the rows of the evaluated split against the least numbers of the config.

    Args:
      labels: rows of each class of the split; or, without classes, `rows` among others.
      classes: all classes, in order; empty for a regression.
      evaluation: the least numbers, and the name of the split.
    """
    split = evaluation.split
    rows = int(sum(labels.get(value, 0) for value in classes) if classes else labels["rows"])
    remedy = f"give '{split}' more rows"
    failures = []
    if rows < evaluation.min_rows:
        failures.append(
            f"rows of {split}: {rows}, must be at least {evaluation.min_rows} (evaluation.min_rows); {remedy}"
        )
    least = evaluation.min_rows_per_class
    rare = {value: int(labels.get(value, 0)) for value in classes if labels.get(value, 0) < least}
    named = ", ".join(f"'{value}' {count}" for value, count in rare.items())
    bound = f"at least {least} (evaluation.min_rows_per_class)"
    if len(classes) == _LEAST_CLASSES and rare:
        failures.append(f"rows of {split} by class: {named}, each class must have {bound}; {remedy}")
    elif classes and len(classes) - len(rare) < _LEAST_CLASSES:
        failures.append(f"rows of {split} by class: {named}, {_LEAST_CLASSES} classes must have {bound}; {remedy}")
    elif rare:
        return RowCheck(failures, [f"rows of {split} by class: {named}; the metrics of these classes are uncertain"])
    return RowCheck(failures, [])
