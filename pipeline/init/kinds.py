"""Chooses how a column is declared: its kind, its scale, its buckets and its embedding."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.init.exclusions import is_id_name, is_long
from pipeline.profile.columns import Column
from pipeline.profile.targets import Target
from schemas.features.columns import embedding_dimension

_MAX_SMALL_NUMBER = 64
# So few whole numbers are IDs, too, in tables of any size.
_FEW_IDS, _MIN_ROWS_OF_AN_ID = 8, 10
# In fewer rows the embeddings of buckets are learned by heart: a number gets some only where a line does not do.
_MANY_ROWS = 10_000
# With fewer rows for each column, a network of the usual size learns the noise of the columns by heart.
_WIDE_COLUMNS, _ROWS_FOR_A_COLUMN = 200, 50
# With fewer rows of two classes, a piecewise-linear function of each number is learned by heart.
_SMALL_ROWS = 2_500
_MIN_EXPLAINED_IN_DEEP = 0.001
# In few rows chance explains more.
_MIN_MISSING_EXPLAINED, _MIN_MISSING_IN_ROWS = 0.002, 4
_MAX_VOCABULARY = 5_000
_BUCKETS = 32
# So few numbers get a bucket each, small whole numbers more.
_FEW_NUMBERS, _FEW_WHOLE_NUMBERS = 12, 32
# Above this skewness a logarithm is tried; it has to bring the skewness down to so much of it.
_SKEWED, _LESS_SKEWED = 1.0, 0.5
# Whole numbers are codes if so much more of the label is explained by each value than by their size.
_MORE_BY_VALUE, _MORE_BY_VALUE_SHARE = 0.01, 0.2
_WITH_UNIT = re.compile(
    r"\s*[+-]?[\d.,]*\d[\d.,]*\s*[^\W\d_]{1,12}[\d/²³]{0,6}\s*|\s*[$€£¥]\s*[\d.,]*\d[\d.,]*\s*[kKmMbB]?\s*"
)
_UNITS_READ = 1_000
# A duration such as 3h 5m, 1 hour and 30 minutes, 2h05, PT1H30M. One number with a unit, 45m, may be beside them.
_TIME_PART = r"[0-9]+([.,][0-9]+)?\s?(weeks?|wks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\.?"
_SEVERAL_PARTS = rf"{_TIME_PART}((,|,? and)?\s*{_TIME_PART})+|[0-9]+h[0-9]{{2}}|P([0-9]+D)?T([0-9.]+[HMS])+"
_DURATION, _SEVERAL_PARTS = rf"(?i)^\s*({_SEVERAL_PARTS}|{_TIME_PART})\s*$", rf"(?i)^\s*({_SEVERAL_PARTS})\s*$"
_MOSTLY_DURATIONS, _MIN_SEVERAL_PARTS = 0.95, 0.05
# Some rows may have a zero by mistake.
_MIN_ZERO_PADDED = 0.01


@dataclass(frozen=True)
class ColumnKind:
    """How a column is declared, and why.

    Attributes:
      declared: Declaration of the feature.
      reason: Evidence for it.
      notes: What the user should check.
    """

    declared: dict[str, Any]
    reason: str
    notes: tuple[str, ...] = ()


def explain_code(column: Column, target: Target) -> str | None:
    """Return why the values of a column are categories, empty if no word is needed; None if they are quantities."""
    if not column.is_number:
        return ""
    if not column.is_integer:
        return "too long for a number" if is_long(column) else None
    # 010 and 10 are different codes.
    if column.compute_share(r"^\s*[+-]?0\d") >= _MIN_ZERO_PADDED:
        return "leading zeros"
    if column.present < 2 * column.distinct:
        return None
    # Numbers that are measured hardly repeat at this size; an ID does.
    if column.collapsed_pair:
        return f"as numbers, float32 would take {column.collapsed_pair[0]} for {column.collapsed_pair[1]}"
    if column.compute_quantile(0) >= 0 and column.compute_quantile(1) < _MAX_SMALL_NUMBER:
        return None
    if is_id_name(column.name):
        return "by the name"
    if column.is_repeated_number:
        by_value, by_size = target.score(column.codes), target.score(column.ids)
        if by_value > (1 + _MORE_BY_VALUE_SHARE) * by_size + _MORE_BY_VALUE:
            return f"its values explain {by_value:.1%} of the label, their size {by_size:.1%}"
    return None


def has_unit(column: Column) -> bool:
    """Return whether texts are numbers with a unit, such as '12 kg'."""
    if column.is_number or column.distinct <= 20:
        return False
    values = [value for value, _ in column.values[:_UNITS_READ]]
    return sum(bool(_WITH_UNIT.fullmatch(value)) for value in values) > 0.95 * len(values)


def is_duration(column: Column) -> bool:
    """Return whether texts are durations such as '3h 5m'."""
    if column.is_number or column.compute_share(_DURATION) < _MOSTLY_DURATIONS:
        return False
    return column.compute_share(_SEVERAL_PARTS) >= _MIN_SEVERAL_PARTS


def is_wide(rows: int, columns: int) -> bool:
    """Return whether a table has many columns, and few rows for each.

    >>> is_wide(10_000, 250), is_wide(48_842, 250), is_wide(344, 7)
    (True, False, False)
    """
    return columns >= _WIDE_COLUMNS and rows < _ROWS_FOR_A_COLUMN * columns


def is_small(rows: int, classes: int) -> bool:
    """Return whether a table has two classes and few rows.

    >>> is_small(600, 2), is_small(600, 3), is_small(600, 0), is_small(5_000, 2)
    (True, False, False, False)
    """
    return classes == 2 and rows < _SMALL_ROWS


def choose_kind(
    column: Column, target: Target, code_reason: str | None, explained: float = 1.0, *, wide: bool = False
) -> ColumnKind:
    """Return the declaration of a feature.

    Args:
      column: The column.
      target: Label of the rows.
      code_reason: Why its values are categories, as `explain_code` returns it.
      explained: Share of the label that it explains by itself.
      wide: Whether the table has few rows for its columns.
    """
    kind = _declare_kind(column, target, code_reason, wide=wide)
    if not wide or explained >= _MIN_EXPLAINED_IN_DEEP:
        return kind
    # The wide part's l1 penalty drops a weight of noise; the deep part has nothing like it.
    key = "encoding" if kind.declared["kind"] == "numeric" else "embedding"
    return ColumnKind({**kind.declared, key: "none"}, f"{kind.reason}; for the wide part only")


def _declare_kind(column: Column, target: Target, code_reason: str | None, *, wide: bool) -> ColumnKind:
    if code_reason is not None:
        return _declare_category(column, code_reason)
    low, high = column.compute_quantile(0), column.compute_quantile(1)
    description = f"{'integers' if column.is_integer else 'numbers'} from {low:g} to {high:g}"
    if column.missing_share:
        description += f", {column.missing_share:.1%} missing"
    if column.collapsed_pair:
        description += f"; float32 takes {column.collapsed_pair[0]} for {column.collapsed_pair[1]}"
    return _declare_number(column, target, description, wide=wide)


def _declare_category(column: Column, code_reason: str) -> ColumnKind:
    missing = {"missing": "unknown"} if column.missing_share else {}
    reason = f"{column.distinct:,} {'codes' if column.is_number else 'texts'}"
    if code_reason in ("by the name", "leading zeros"):
        reason += f", {code_reason}"
    elif code_reason:
        reason += f" ({code_reason})"
    if column.missing_share:
        reason += f", {column.missing_share:.1%} missing"
    if column.distinct > _MAX_VOCABULARY:
        size = round_up(2 * column.distinct, 100_000)
        return ColumnKind({"kind": "hash", "num_ids": size, **missing, "embedding": 16}, f"{reason}: too many to list")
    if column.distinct <= 2 and not column.missing_share:
        values = sorted(value for value, _ in column.values)
        return ColumnKind({"kind": "vocabulary_list", "values": values, **missing, "embedding": 4}, reason)
    return ColumnKind(declare_vocabulary(column.distinct, missing), reason)


def declare_vocabulary(distinct: int, missing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declaration of a learned vocabulary.

    Args:
      distinct: Number of different categories.
      missing: Keys on missing values.
    """
    rare: dict[str, Any] = {"min_count": 3} if distinct > 1_000 else {}
    size, dimension = _compute_vocabulary_size(distinct), embedding_dimension(distinct)
    return {"kind": "vocabulary", "max_size": size, **rare, **missing, "embedding": dimension}


def _declare_number(column: Column, target: Target, description: str, *, wide: bool) -> ColumnKind:
    missing: dict[str, Any] = {"missing": "mean"} if column.missing_share else {}
    explained = target.score(np.isnan(column.numbers).astype(np.int64)) if column.missing_share else 0.0
    if explained > max(_MIN_MISSING_EXPLAINED, _MIN_MISSING_IN_ROWS / column.rows):
        # The mean of the others hides which values are missing.
        missing["missing_indicator"] = True
        description += f", which explains {explained:.1%}"
    mostly_zero = column.zero_share > 0.5
    if mostly_zero:
        description += f", {column.zero_share:.0%} zero"
    skewness = column.compute_skewness()
    scale = "z_score"
    if abs(skewness) > _SKEWED:
        of_logs = column.compute_skewness(of_logs=True)
        if abs(of_logs) <= _LESS_SKEWED * abs(skewness):
            scale = "log_z_score"
            description += f", skewness {skewness:.1f}, of the logarithms {of_logs:.1f}"
    declared: dict[str, Any] = {"kind": "numeric", "scale": scale}
    has_rows = column.rows >= _MANY_ROWS and not wide
    is_few = (
        column.is_integer and column.distinct <= _FEW_IDS and column.present >= _MIN_ROWS_OF_AN_ID * column.distinct
    )
    is_curve = column.distinct > 2 and (has_rows or target.is_nonlinear(column, of_logs=scale == "log_z_score"))
    if (is_few and not wide) or is_curve:
        # For the wide part. Beside a piecewise-linear function of the number, the deep part is worse with them.
        declared["buckets"] = _declare_buckets(column, mostly_zero=mostly_zero)
        if is_small(column.rows, target.classes):
            declared["embedding"] = 8
    return ColumnKind({**declared, **missing}, description)


def _declare_buckets(column: Column, *, mostly_zero: bool) -> dict[str, Any]:
    is_small = (
        column.is_integer
        and column.compute_quantile(0) > -_MAX_SMALL_NUMBER
        and column.compute_quantile(1) < _MAX_SMALL_NUMBER
    )
    if column.distinct <= (_FEW_WHOLE_NUMBERS if is_small else _FEW_NUMBERS):
        values = np.unique(column.numbers[~np.isnan(column.numbers)])
        boundaries = [float(f"{middle:.6g}") for middle in (values[:-1] + values[1:]) / 2]
        # Each value gets a bucket, unless the middle between two is one of them after rounding.
        if (
            (values[:-1] < boundaries).all()
            and (boundaries < values[1:]).all()
            and _are_distinct_in_float32(boundaries)
        ):
            return {"kind": "boundaries", "boundaries": boundaries}
    kind = "nonzero_quantiles" if mostly_zero else "quantiles"
    return {"kind": kind, "count": max(2, min(_BUCKETS, column.distinct - 1))}


def _are_distinct_in_float32(numbers: list[float]) -> bool:
    with np.errstate(over="ignore"):
        return len(np.unique(np.array(numbers, np.float32))) == len(numbers) and bool(
            np.isfinite(np.array(numbers, np.float32)).all()
        )


def without_values(declared: Mapping[str, Any], distinct: int) -> dict[str, Any]:
    """Return a declaration that learns in the run what it would list: categories, or boundaries between values.

    Args:
      declared: Declaration of a feature.
      distinct: Number of different values.
    """
    kept = {key: value for key, value in declared.items() if key != "values"}
    if declared["kind"] == "vocabulary_list":
        kept |= {"kind": "vocabulary", "max_size": _compute_vocabulary_size(distinct)}
    if declared.get("buckets", {}).get("kind") == "boundaries":
        kept["buckets"] = {"kind": "quantiles", "count": max(2, min(_BUCKETS, distinct - 1))}
    return kept


def _compute_vocabulary_size(distinct: int) -> int:
    return round_up(max(10, int(1.2 * distinct)), 10_000)


def round_up(number: int, most: int) -> int:
    """Return a number rounded up to two digits, at most some other."""
    digits = int(10 ** max(0, len(str(number)) - 2))
    return min(most, -(-number // digits) * digits)
