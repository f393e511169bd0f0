"""Chooses the kind of each feature, and which columns are left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.profile import Column, Target
from pipeline.init.notes import Notes, Rank
from pipeline.init.requests import Requests
from pipeline.init.table import RawTable
from schemas.errors import DataError
from schemas.features import safe_name

_MAX_IDENTITY = 64
MAX_VOCABULARY = 5_000
_BUCKETS = 32
_LEAK, SUSPECT = 0.75, 0.5
_ID_NAME = re.compile(r"(?i:(^|[\W_])(id|uuid|guid)$)|[a-z]I[dD]$")
_CODE_NAME = re.compile(r"(^|[\W_])(code|zip|zipcode|postcode|postal)$", re.IGNORECASE)


@dataclass(frozen=True)
class ChosenFeature:
    """A column that becomes a feature.

    Attributes:
      column: The column, in the rows that have a label.
      declared: Its declaration in the config.
      reason: Evidence for the choice.
      explained: Share of the label that it explains by itself.
    """

    column: Column
    declared: dict[str, Any]
    reason: str
    explained: float


@dataclass
class ChosenColumns:
    """Which columns are features, and which are left out, each with its reason."""

    features: list[ChosenFeature] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def choose_columns(
    columns: Mapping[str, Column], target: Target, table: RawTable, requests: Requests, notes: Notes
) -> ChosenColumns:
    """Choose what becomes of each column but the label.

    Args:
      columns: Columns in the rows that have a label, by name.
      target: The label of these rows.
      table: What was found when the files were read.
      requests: Choices of the user.
      notes: Gets what the user should look at.

    Raises:
      DataError: No column can be a feature.
    """
    chosen = ChosenColumns()
    for column in columns.values():
        if column.name != requests.label:
            _choose(column, chosen, target, table, requests, notes)
    if not chosen.features:
        ignored = "; ".join(f"{name}: {why}" for name, why in chosen.ignored)
        raise DataError(f"no column can be a feature: {ignored}")
    return chosen


def _choose(
    column: Column, chosen: ChosenColumns, target: Target, table: RawTable, requests: Requests, notes: Notes
) -> None:
    ignored = _why_not(column, chosen.features, requests)
    if ignored:
        chosen.ignored.append((column.name, ignored))
        return
    explained = target.explained(column.ids)
    if explained > _LEAK:
        chosen.ignored.append(
            (column.name, f"LEAK? explains {explained:.0%} of the label by itself; is it known beforehand?")
        )
        notes.add(Rank.LEAK, f"'{column.name}' explains {explained:.0%} of the label: left out as a likely leak")
        return
    declared, reason = _declared(column)
    if column.name in table.mixed:
        count, text = table.mixed[column.name]
        reason += f"; {count:,} rows have a text such as {text!r}, see max_bad_rows"
    reason += f"; explains {explained:.1%} of the label"
    if explained > SUSPECT:
        reason += ": SUSPICIOUS, is it known beforehand?"
        notes.add(Rank.LEAK, f"'{column.name}' explains {explained:.0%} of the label: make sure it is no leak")
    chosen.features.append(ChosenFeature(column, declared, reason, explained))


def _why_not(column: Column, features: Sequence[ChosenFeature], requests: Requests) -> str:
    """Why a column is no feature; empty if it is one."""
    names = {safe_name(feature.column.name): feature.column.name for feature in features}
    if not column.present:
        return "empty"
    if column.distinct == 1:
        missing = f" or missing ({column.missing_share:.1%})" if column.missing_share else ""
        return f"constant: always {column.values[0][0]!r}{missing}"
    if column.missing_share > 0.99:
        return f"missing in {column.missing_share:.1%} of the rows"
    if column.is_date:
        return f"date, such as {column.values[0][0]!r}; derive a weekday, a month or an age from it"
    unique = column.distinct / column.present
    if unique > 0.95 and column.rows > 100 and (column.is_integer or not column.is_number):
        return f"id: {column.distinct:,} different values in {column.present:,} rows"
    if column.distinct > 100 and _ID_NAME.search(column.name):
        return (
            f"id by its name, {column.distinct:,} different values; to keep the rows of one in one split, make it "
            "data.group_column"
        )
    if safe_name(column.name) in (*names, safe_name(requests.label)):
        same = names.get(safe_name(column.name), requests.label)
        return f"would have the name of '{same}' in the served model ('{safe_name(column.name)}'); rename it"
    return ""


def _declared(column: Column) -> tuple[dict[str, Any], str]:
    """The declaration of a feature, and why it is that."""
    named = bool(_CODE_NAME.search(column.name))
    # Numbers that are measured hardly repeat at this size; an ID does.
    is_code = named or (bool(column.collapsed) and column.present >= 2 * column.distinct)
    if not column.is_number or is_code:
        missing = {"missing": "unknown"} if column.missing_share else {}
        counted = f"{column.distinct:,} {'codes' if is_code else 'texts'}{', by the name' if named else ''}"
        if is_code and not named:
            counted += f" (as numbers, float32 would take {column.collapsed[0]} for {column.collapsed[1]})"
        if column.missing_share:
            counted += f", {column.missing_share:.1%} missing"
        if column.distinct > MAX_VOCABULARY:
            size = round_up(2 * column.distinct, 100_000)
            return {"kind": "hash", "num_ids": size, **missing, "embedding": 16}, f"{counted}: too many to list"
        if column.distinct <= 2 and not column.missing_share:
            values = sorted(value for value, _ in column.values)
            return {"kind": "vocabulary_list", "values": values, **missing, "embedding": 4}, counted
        room = round_up(max(10, int(1.2 * column.distinct)), 10_000)
        declared: dict[str, Any] = {"kind": "vocabulary", "max_size": room}
        if column.distinct > 1_000:
            declared["min_count"] = 3
        return {**declared, **missing, "embedding": _dimension(column.distinct)}, counted
    low, high = column.quantile(0), column.quantile(1)
    shown = f"{'integers' if column.is_integer else 'numbers'} from {low:g} to {high:g}"
    if column.missing_share:
        shown += f", {column.missing_share:.1%} missing"
    if column.is_integer and low >= 0 and high < _MAX_IDENTITY:
        size = int(high) + 1
        declared = {"kind": "identity", "num_ids": size}
        if column.missing_share:
            declared = {"kind": "identity", "num_ids": size + 1, "missing": size}
        return {**declared, "embedding": _dimension(size)}, f"{shown}: few enough to be ids"
    if column.collapsed:
        shown += f"; float32 takes {column.collapsed[0]} for {column.collapsed[1]}"
    return _declared_number(column, shown)


def _declared_number(column: Column, shown: str) -> tuple[dict[str, Any], str]:
    missing = {"missing": "mean"} if column.missing_share else {}
    median, tail = abs(column.quantile(0.5)), max(abs(column.quantile(0.99)), abs(column.quantile(0.01)))
    mostly_zero = column.zero_share > 0.5
    long_tail = mostly_zero or tail > 10 * median > 0
    scale = "log_z_score" if long_tail else "z_score"
    if mostly_zero:
        shown += f", {column.zero_share:.0%} zero"
    elif long_tail:
        shown += ", a long tail"
    declared: dict[str, Any] = {"kind": "numeric", "scale": scale}
    if column.distinct > 3:
        kind = "nonzero_quantiles" if mostly_zero else "quantiles"
        declared["buckets"] = {"kind": kind, "count": min(_BUCKETS, column.distinct - 1)}
        declared |= {"embedding": 8}
    return {**declared, **missing}, shown


def _dimension(values: int) -> int:
    """Of an embedding; a few sizes only, since columns of one size share a table."""
    return 4 if values <= 8 else 8 if values <= 200 else 16


def round_up(number: int, most: int) -> int:
    """To two digits."""
    digits = int(10 ** max(0, len(str(number)) - 2))
    return min(most, -(-number // digits) * digits)
