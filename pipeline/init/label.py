"""Chooses the kind of the label and its classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from pipeline.init.label_order import MAX_NUMBERED_CLASSES, judge_order
from pipeline.init.notes import Notes, Rank
from pipeline.init.requests import Requests
from pipeline.init.spellings import WRITE_AS_TWO, describe_booleans
from pipeline.init.splits import Rows
from pipeline.profile.columns import Column
from schemas.features import LabelKind
from schemas.tables.values import as_missing, find_class_meaning

_POSITIVE = ("1", "true", "t", "yes", "y", "positive", "pos", "late", "churned", ">50k", "spam", "malignant", "fraud")
_NEGATIVE = ("0", "-1", "false", "f", "no", "n", "negative", "neg", "none", "<=50k", "ham", "benign", "normal")
_MAX_CLASSES = 100
# A class of so few rows may be missing in `train` (0.3 ** 10 is below 1e-5).
_RARE_CLASS = 10
# More whole numbers than these, all of them rare, are no classes.
_FEW_NUMBERS = 8
# Numbers that stand for a missing value, two values beside them, and the largest share of the rows with such a number.
_CODE = re.compile(r"\s*(-1|-?9+)(\.0+)?\s*")
_TWO_VALUES = ({0.0, 1.0}, {1.0, 2.0})
_MAX_CODE_SHARE, _MAX_MINUS_ONE_SHARE = 0.3, 0.1
_MAX_SHOWN = 5
# Longer strings, nearly all different, are free text.
_LONG_CHARS = 40


@dataclass(frozen=True)
class ChosenLabel:
    """The label as the config declares it.

    Attributes:
      declared: Its declaration.
      summary: What it is, in a few words.
      evidence: Why it is that; empty if that is obvious.
      classes: Its classes in the order of their IDs; empty for a regression.
      column: Its values, each class in one spelling, null where the label is missing.
      rare_rows: Number of rows of classes that are too rare to learn.
    """

    declared: dict[str, Any]
    summary: str
    evidence: str
    classes: list[str]
    column: Column
    rare_rows: int = 0

    @property
    def reason(self) -> str:
        return f"{self.summary}; {self.evidence}" if self.evidence else self.summary

    @property
    def kind(self) -> LabelKind:
        kind: LabelKind = self.declared.get("kind", "binary")
        return kind


def choose_label(
    columns: Mapping[str, Column], is_test: Rows | None, missing_values: Sequence[str], requests: Requests, notes: Notes
) -> ChosenLabel:
    """Choose the kind of a label and its classes.

    Args:
      columns: Columns of the table by name, null where a value is missing.
      is_test: Whether each row is one of test; None if chance decides. Classes are those of the other rows.
      missing_values: Strings that stand for a missing label.
      requests: Choices of the user.
      notes: Gets what the user should check.

    Raises:
      DataError: The label cannot be learned.
      ConfigError: The label is not of the kind that the user requests.
    """
    column = columns[requests.label]
    where = f"--label {column.name}"
    if not column.present:
        raise DataError(f"{where}: the column has no values")
    if column.present < column.rows:
        missing = column.rows - column.present
        notes.add(
            Rank.ROWS,
            f"label '{column.name}': {format_count(missing, 'row', 'have')} none and are left out (drop_missing)",
        )
    written = column
    column = _merge_spellings(column, notes)
    if column.distinct < 2:
        raise DataError(f"{where}: all values are {column.values[0][0]!r}; there is nothing to learn")
    if requests.kind is None:
        column, code = _without_code(column, notes)
        spellings = [value for value, _ in written.values if _CODE.fullmatch(value) and float(value) == code]
        missing_values = [*missing_values, *spellings]
    if requests.kind is not None:
        _check_kind(column, requests.kind)
        kind, reason = requests.kind, f"--kind {requests.kind}"
    else:
        kind, reason = _judge_kind(column, columns, notes)
    base: dict[str, Any] = {"column": column.name}
    if list(missing_values) != [""]:
        base["missing_values"] = list(missing_values)
    if column.present < column.rows:
        base["drop_missing"] = True
    match kind:
        case "regression":
            low, high = column.compute_quantile(0), column.compute_quantile(1)
            if np.float32(low) == np.float32(high):
                raise DataError(
                    f"{where}: numbers from {low:.17g} to {high:.17g}, which float32 rounds to one number; there is "
                    f"nothing to learn. Subtract {low:.17g} from each, or give --kind multiclass"
                )
            return ChosenLabel({"kind": kind, **base}, f"numbers from {low:g} to {high:g}", reason, [], column)
        case "binary":
            return _choose_binary(column, base)
        case _:
            return _choose_multiclass(column, is_test, base, reason, requests)


def _judge_kind(column: Column, columns: Mapping[str, Column], notes: Notes) -> tuple[LabelKind, str]:
    """Return the kind of a label, by evidence, and the evidence."""
    where = f"--label {column.name}"
    first = column.values[0][0]
    if column.is_date and not column.is_number:
        raise DataError(f"{where}: holds dates such as {first!r}; expected two values, classes or numbers. Derive one")
    if column.distinct == 2:
        return "binary", ""
    if column.is_number:
        if not column.is_integer:
            return "regression", "not whole numbers"
        if _is_row_id(column):
            raise DataError(
                f"{where}: has another number in each row ({first}, ...), as an ID has; expected a value to predict"
            )
        if column.distinct > MAX_NUMBERED_CLASSES:
            return "regression", f"{column.distinct:,} whole numbers"
        if _has_rare_codes(column):
            codes = ", ".join(f"{value} ({format_count(rows, 'row')})" for value, rows in column.values[2:])
            notes.add(Rank.LABEL, f"label '{column.name}': too rare to learn, left out: {codes}")
            return "multiclass", ""
        if column.values[0][1] < _RARE_CLASS and column.distinct > _FEW_NUMBERS:
            return "regression", f"{column.distinct} whole numbers, each in fewer than {_RARE_CLASS} rows"
        evidence = judge_order(column, columns)
        kinds: tuple[LabelKind, LabelKind] = ("multiclass", "regression")
        kind, other = reversed(kinds) if evidence.is_number else kinds
        what = "a number" if evidence.is_number else "classes"
        why = ", ".join(evidence.reasons) or "nothing speaks for an order"
        reason = f"{column.distinct} whole numbers taken as {what} ({why})"
        notes.add(Rank.LABEL, f"label '{column.name}': {reason}; if that is wrong, add --kind {other}")
        return kind, f"{reason}; otherwise --kind {other}"
    if column.distinct > _MAX_CLASSES:
        raise DataError(f"{where}: {_explain_too_many(column)}")
    return "multiclass", ""


def _without_code(column: Column, notes: Notes) -> tuple[Column, float | None]:
    """Return a label of 0 and 1, or 1 and 2, without a number that stands for a missing label, and that number.

    A class of -1 beside 0 and 1 may be the least of three: it is one unless it is rare.
    """
    codes = [(value, rows) for value, rows in column.values if _CODE.fullmatch(value)]
    others = {float(value) for value, _ in column.values if not _CODE.fullmatch(value)} if column.is_integer else set()
    if column.distinct != 3 or len(codes) != 1 or others not in _TWO_VALUES:
        return column, None
    (code, rows) = codes[0]
    most = _MAX_MINUS_ONE_SHARE if float(code) == -1 else _MAX_CODE_SHARE
    if not _RARE_CLASS <= rows <= most * column.present:
        return column, None
    notes.add(
        Rank.LABEL,
        f"label '{column.name}': {code} in {format_count(rows, 'row')} stands for a missing label: these rows are left "
        "out; if it is a class, add --kind multiclass",
    )
    return Column(column.name, as_missing(column.texts, (code,))), float(code)


def _has_rare_codes(column: Column) -> bool:
    """Return whether all but two values of a label are numbers such as -1 and 99 that few rows have."""
    rare = column.values[2:]
    low, high = sorted(float(value) for value, _ in column.values[:2])
    are_codes = all(_CODE.fullmatch(value) and not low <= float(value) <= high for value, _ in rare)
    return are_codes and column.values[1][1] >= _RARE_CLASS > sum(rows for _, rows in rare)


def _explain_too_many(column: Column) -> str:
    expected = f"expected two values, up to {_MAX_CLASSES} classes, or numbers"
    if column.number_share > 0.5:
        others = column.not_numbers
        examples = ", ".join(map(repr, others[:_MAX_SHOWN]))
        problem = f"holds numbers and {len(others):,} strings such as {examples}"
        return f"{problem}; {expected}. Correct the rows, or add --missing-value"
    mean = float(pc.mean(pc.utf8_length(column.texts)).as_py())
    if column.distinct > 0.9 * column.present:
        what = "free text" if mean > _LONG_CHARS else "different strings"
        return f"holds {what}, {column.distinct:,} in {format_count(column.present, 'row')}; {expected}"
    return f"{column.distinct:,} different strings; {expected}"


def _is_row_id(column: Column) -> bool:
    """Return whether whole numbers occur once each and leave out few: 1 to n in any order."""
    numbers = column.numbers[~np.isnan(column.numbers)]
    is_dense = len(numbers) > 20 and float(np.ptp(numbers)) < 1.1 * len(numbers)
    return is_dense and column.distinct == column.present


def _check_kind(column: Column, kind: str) -> None:
    """Check the values of a label against the kind that the user requests."""
    where = f"--kind {kind}: label '{column.name}'"
    if kind == "regression" and not column.is_number:
        other = (column.not_numbers or [column.values[0][0]])[0]
        raise ConfigError(f"{where} holds {other!r}; expected numbers only")
    examples = ", ".join(repr(value) for value, _ in column.values[:_MAX_SHOWN])
    more = ", ..." if column.distinct > _MAX_SHOWN else ""
    if kind == "binary" and column.distinct != 2:
        other = "multiclass or regression" if column.is_number else "multiclass"
        values = f"{format_count(column.distinct, 'value')} ({examples}{more})"
        raise ConfigError(f"{where} has {values}; expected two. Use --kind {other}")
    if kind == "multiclass" and column.distinct == 2:
        raise ConfigError(f"{where} has two values ({examples}); expected three or more. Use --kind binary")
    if kind == "multiclass" and column.distinct > _MAX_CLASSES:
        raise ConfigError(
            f"{where} has {format_count(column.distinct, 'value')} ({examples}{more}); expected at most {_MAX_CLASSES}"
        )


def _merge_spellings(column: Column, notes: Notes) -> Column:
    """Return the label with each class in one spelling: 1.0 as 1, and TRUE as true, if both occur."""
    if column.distinct > 4 * _MAX_CLASSES:
        return column
    values = column.values
    of_class: dict[str, list[str]] = {}
    for value, _ in values:
        of_class.setdefault(find_class_meaning(value) or value, []).append(value)
    several = {key: spellings for key, spellings in of_class.items() if len(spellings) > 1}
    if several:
        chosen = {value: _choose_spelling(spellings) for spellings in several.values() for value in spellings}
        examples = "; ".join(" and ".join(map(repr, spellings)) for spellings in list(several.values())[:_MAX_SHOWN])
        notes.add(Rank.LABEL, f"label '{column.name}': {examples} are one value each, however they are written")
        old = [value for value, _ in values]
        index = pc.index_in(column.texts, pa.array(old))
        column = Column(column.name, pa.array([chosen.get(value, value) for value in old]).take(index))
    if booleans := describe_booleans(column.values):
        text = f"label '{column.name}': yes and no are written in several ways, each of which is a class: {booleans}"
        notes.add(Rank.LABEL, f"{text}; {WRITE_AS_TWO} the label (docs/how-to/derived-columns.md)")
        return column
    folded: dict[str, list[str]] = {}
    for value, _ in column.values:
        folded.setdefault(value.strip().casefold(), []).append(value)
    alike = [spellings for spellings in folded.values() if len(spellings) > 1]
    if alike:
        examples = "; ".join(" and ".join(map(repr, spellings)) for spellings in alike[:_MAX_SHOWN])
        text = f"label '{column.name}': {examples} differ only in case or spaces, and are separate classes"
        notes.add(Rank.LABEL, text)
    return column


def _choose_spelling(spellings: Sequence[str]) -> str:
    """Return the shortest spelling, such as 1 rather than 1.0; of equally short ones, the most frequent."""
    return min(spellings, key=len)


def _choose_binary(column: Column, base: dict[str, Any]) -> ChosenLabel:
    counts = dict(column.values)
    positive = _choose_positive(list(counts))
    (negative,) = (value for value in counts if value != positive)
    share = counts[positive] / column.present
    reason = f"two values, the positive one in {share:.1%} of the rows"
    return ChosenLabel({**base, "positive": positive, "negative": negative}, reason, "", [negative, positive], column)


def _choose_positive(values: Sequence[str]) -> str:
    """Return the value that is predicted, of two, the more frequent first."""
    if all(Column("", pa.array([value])).is_number for value in values):
        return max(values, key=float)
    words = [value.strip().lower().rstrip(".") for value in values]
    positive = [value for value, word in zip(values, words, strict=True) if word in _POSITIVE]
    negative = [value for value, word in zip(values, words, strict=True) if word in _NEGATIVE]
    if len(positive) == 1:
        return positive[0]
    if len(negative) == 1:
        return next(value for value in values if value != negative[0])
    for value, word in zip(values, words, strict=True):
        others = [other for other in words if other != word]
        if any(
            other in (f"{prefix}{word}" for prefix in ("not ", "no ", "non-", "non", "un", "not_", "no_", "in"))
            for other in others
        ):
            return value
    return values[1]


def _choose_multiclass(
    column: Column, is_test: Rows | None, base: dict[str, Any], reason: str, requests: Requests
) -> ChosenLabel:
    counts = dict(column.values)
    learned = column if is_test is None else Column(column.name, column.texts.filter(pa.array(~is_test)))
    classes = [value for value, count in learned.values if count >= _RARE_CLASS]
    rare = column.present - sum(counts[value] for value in classes)
    hint = "; if they are numbers to predict, --kind regression" if column.is_number else ""
    if len(classes) < 2 or (len(classes) < 3 and requests.kind == "multiclass"):
        raise DataError(
            f"--label {column.name}: {len(classes)} of {len(counts)} classes have {_RARE_CLASS} rows or more; "
            f"expected {'three' if requests.kind else 'two'} or more; put the rare ones together, or add rows{hint}"
        )
    usable = Column(column.name, column.texts.filter(pc.fill_null(pc.is_in(column.texts, pa.array(classes)), False)))
    if len(classes) == 2:
        two = _choose_binary(usable, base)
        return ChosenLabel(two.declared, two.summary, "", two.classes, column, rare)
    if usable.is_integer:
        classes.sort(key=float)
    most = max(counts.values()) / column.present
    text = f"{len(classes)} classes, the most frequent {most:.1%} of the rows"
    declared = {"kind": "multiclass", **base, "classes": classes}
    return ChosenLabel(declared, text, reason, classes, column, rare)
