"""Chooses the kind of the label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.profile import Column
from pipeline.init.requests import Requests
from schemas.errors import DataError

_POSITIVE = ("1", "1.0", "true", "t", "yes", "y", "positive", "pos", "late", "churned", ">50k")
_MAX_CLASSES = 100
# A class with fewer rows might not be in every split.
_RARE_CLASS = 20


@dataclass(frozen=True)
class ChosenLabel:
    """The label as the config declares it.

    Attributes:
      declared: Its declaration.
      reason: Evidence for the choice.
      classes: Its classes in the order of their IDs; empty for a regression.
      rare_rows: Number of rows of classes that are too rare to learn.
    """

    declared: dict[str, Any]
    reason: str
    classes: list[str]
    rare_rows: int = 0


def choose_label(column: Column, missing_values: Sequence[str], requests: Requests) -> ChosenLabel:
    """Choose the kind of a label and its classes.

    Args:
      column: Column of the label, null where it is missing.
      missing_values: Strings that stand for a missing label.
      requests: Choices of the user.

    Raises:
      DataError: The label cannot be learned.
    """
    if not column.present:
        raise DataError(f"--label {column.name}: the column has no values")
    base: dict[str, Any] = {"column": column.name}
    if list(missing_values) != [""]:
        base["missing_values"] = list(missing_values)
    if column.present < column.rows:
        base["drop_missing"] = True
    counts = dict(column.values)
    if len(counts) < 2:
        raise DataError(f"--label {column.name}: all values are {next(iter(counts))!r}; there is nothing to learn")
    if len(counts) == 2:
        known = [value for value in counts if value.strip().lower() in _POSITIVE]
        positive = known[0] if len(known) == 1 else list(counts)[1]
        (negative,) = (value for value in counts if value != positive)
        share = counts[positive] / column.present
        reason = f"two values, the positive one in {share:.1%} of the rows"
        return ChosenLabel({**base, "positive": positive, "negative": negative}, reason, [negative, positive])
    if column.is_number and (len(counts) > 20 or not column.is_integer):
        low, high = column.quantile(0), column.quantile(1)
        return ChosenLabel({"kind": "regression", **base}, f"numbers from {low:g} to {high:g}", [])
    if len(counts) > _MAX_CLASSES:
        raise DataError(
            f"--label {column.name}: {len(counts):,} different texts; expected two values, up to {_MAX_CLASSES} "
            "classes, or numbers"
        )
    classes = [value for value, count in counts.items() if count >= _RARE_CLASS]
    rare = column.present - sum(counts[value] for value in classes)
    if len(classes) < 3:
        raise DataError(
            f"--label {column.name}: {len(classes)} of {len(counts)} classes have {_RARE_CLASS} rows or more; "
            "expected three or more; put the rare ones together, or add rows"
        )
    most = counts[classes[0]] / column.present
    reason = f"{len(classes)} classes, the most frequent {most:.1%} of the rows"
    return ChosenLabel({"kind": "multiclass", **base, "classes": classes}, reason, classes, rare)
