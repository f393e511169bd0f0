"""Finds the strings that stand for a missing value: of all features, of single columns, and of the label."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count
from pipeline.init.exclusions import is_id_name
from pipeline.init.label_order import MAX_NUMBERED_CLASSES
from pipeline.init.notes import Notes, Rank
from pipeline.profile.columns import Column

# What often stands for a missing value, in any case: anywhere, and among numbers only.
_ANYWHERE = r"\?|n/?a|n\.a\.?|null|[+-]?nan|\\n|<na>|<null>|#n/?a|#null!|#div/0!|#value!|#ref!|#num!|#name\?"
_AMONG_NUMBERS = (
    r"[(\[<]?(none|nil|blank|empty|missing|unknown|undefined|not (available|applicable|known|reported))[)\]>]?"
    r"|tb[dac]|n\.d\.?|\?{2,}|[-\u2013\u2014]+|\.{1,3}|\*+"
)
_MISSING_ANYWHERE = re.compile(rf"\s*({_ANYWHERE})\s*", re.IGNORECASE)
_MISSING_NUMBER = re.compile(rf"\s*({_ANYWHERE}|{_AMONG_NUMBERS})\s*", re.IGNORECASE)
# A class may have one of these names; it is one unless numbers of the same table are missing so.
_POSSIBLE_CLASSES = ("na", "n/a", "null")
# A column with more numbers than this is one of numbers; the rows with other strings are bad rows.
MOSTLY_NUMBERS = 0.99
_MAX_DISTINCT = 5_000
# In a column with so many numbers, that many of them different, a repeated string is probably no category.
_MIN_NUMBERS, _MIN_DIFFERENT = 0.5, 20
# So many repeated strings, without a digit, stand for a missing value if all others are numbers.
_MAX_GUESSES = 2
# Codes beside numbers, such as A12 and 12-1, name things as the numbers do.
_CODE = re.compile(r"(?=.*\d)[\w./-]+")
# Fill values: -99, 999.0, 1e20, 9.969209968386869e+36 (NetCDF's default).
_NINES = re.compile(r"-?9{2,}(\.(0+|9+))?")
_HUGE = 1e15
_MIN_REPEATS, _MIN_ROWS = 2, 20
_MAX_SHOWN = 5
# Numbers that may be natural are markers only this many ranges away from all others.
_FAR_RANGES = 5
# A number in more rows than this is not an exception.
_MAX_FILLED = 0.5


@dataclass(frozen=True)
class MissingValues:
    """Strings that stand for a missing value.

    Attributes:
      anywhere: Those of `data.missing_values`.
      of_columns: Further ones by column, which are values in other columns or numbers.
      of_label: Those of the label.
    """

    anywhere: list[str] = field(default_factory=lambda: [""])
    of_columns: dict[str, list[str]] = field(default_factory=dict)
    of_label: list[str] = field(default_factory=lambda: [""])

    def list_strings(self, name: str) -> list[str]:
        """Return the strings that stand for a missing value of a feature."""
        return [*self.anywhere, *self.of_columns.get(name, ())]


def is_missing_number(value: str) -> bool:
    """Return whether a string often stands for a missing number."""
    return bool(_MISSING_NUMBER.fullmatch(value))


def find_missing(columns: Mapping[str, Column], label: str, requested: Sequence[str], notes: Notes) -> MissingValues:
    """Return what stands for a missing value, by evidence.

    Args:
      columns: All columns; the empty string is null already.
      label: Name of the label's column.
      requested: Strings that the user names.
      notes: Gets what the user should check.
    """
    markers = {name: _find_markers(column) for name, column in columns.items() if name != label}
    possible = list(dict.fromkeys(marker for own in markers.values() for marker in own))
    among_numbers = {m for name, own in markers.items() if columns[name].not_numbers for m in own}
    anywhere = ["", *requested]
    for marker in possible:
        # A marker of one column may be a category of another: there its rows are not missing.
        is_category = any(marker not in own and _has_value(columns[n], marker) for n, own in markers.items())
        # Among all numbers, NaN stays an error unless some numbers are missing so.
        if not is_category and (not _is_nan(marker) or marker in among_numbers):
            anywhere.append(marker)
    anywhere = list(dict.fromkeys(anywhere))
    of_columns = {n: [m for m in own if m not in anywhere] for n, own in markers.items()}
    guesses = {n: _guess_missing_strings(columns[n], [*own, *anywhere], notes) for n, own in markers.items()}
    of_columns = {name: [*own, *guesses[name]] for name, own in of_columns.items() if own or guesses[name]}
    _note_column_markers(columns, of_columns, notes)
    fills = [
        fill for name, own in markers.items() for fill in _find_fills(columns[name], [*own, *guesses[name], *requested])
    ]
    for fill in fills:
        if fill.is_certain:
            of_columns[fill.name] = [*of_columns.get(fill.name, ()), fill.spelling]
    of_label = ["", *requested, *_find_label_strings(columns.get(label), requested, among_numbers, notes)]
    if label in columns and columns[label].distinct > MAX_NUMBERED_CLASSES:
        of_target = _find_fills(columns[label], of_label)
        of_label += [fill.spelling for fill in of_target if fill.is_certain]
        fills += of_target
    _note_fills(fills, notes)
    return MissingValues(anywhere, of_columns, list(dict.fromkeys(of_label)))


def _find_markers(column: Column) -> list[str]:
    """Return the values of a column that stand for a missing one, beside the empty string."""
    others = column.not_numbers
    marks = [value for value in others if is_missing_number(value)]
    if marks:
        rest = [value for value in others if value not in marks]
        is_rare = _count_rows(column, rest) <= (1 - MOSTLY_NUMBERS) * (column.present - _count_rows(column, marks))
        if is_rare or are_missing_words(column, rest, marks):
            return marks
    if not column.is_number and column.distinct < _MAX_DISTINCT:
        return [value for value, _ in column.values if _MISSING_ANYWHERE.fullmatch(value)]
    return []


def _guess_missing_strings(column: Column, markers: Sequence[str], notes: Notes) -> list[str]:
    """Return the few repeated strings among numbers, which probably stand for a missing value; note other strings.

    Args:
      column: The column.
      markers: What stands for a missing value in it already.
      notes: Gets a note on strings that are not taken as missing.
    """
    rest = [value for value in column.not_numbers if value not in markers]
    if are_missing_words(column, rest, markers):
        return rest
    are_codes = sum(bool(_CODE.fullmatch(value)) for value in rest) > len(rest) / 2 or is_id_name(column.name)
    if rest and not are_codes and _is_mostly_numbers(column, rest, markers):
        examples = ", ".join(map(repr, rest[:_MAX_SHOWN]))
        count = f"{len(rest):,} different strings" if len(rest) > 1 else "a string"
        notes.add(
            Rank.MISSING,
            f"'{column.name}' holds numbers and in {format_count(_count_rows(column, rest), 'row')} {count} such as "
            f"{examples}: "
            "not read as a number; correct these rows, or name what stands for a missing value with --missing-value",
        )
    return []


def are_missing_words(column: Column, strings: Sequence[str], markers: Sequence[str]) -> bool:
    """Return whether the strings among the numbers of a column, beside its markers, probably stand for missing too."""
    is_word = 0 < len(strings) <= _MAX_GUESSES and not any(re.search(r"\d", value) for value in strings)
    is_repeated = is_word and min(_count_rows(column, [value]) for value in strings) >= _MIN_REPEATS
    return is_repeated and _is_mostly_numbers(column, strings, markers)


def _is_mostly_numbers(column: Column, strings: Sequence[str], markers: Sequence[str]) -> bool:
    """Return whether a column has numbers of all kinds, and strings in more rows than bad rows are."""
    others = _count_rows(column, strings)
    present = column.present - _count_rows(column, markers)
    is_mostly = _MIN_NUMBERS * present <= present - others < MOSTLY_NUMBERS * present
    return is_mostly and column.distinct - len(column.not_numbers) > _MIN_DIFFERENT


def _count_rows(column: Column, values: Sequence[str]) -> int:
    """Return how many rows have one of these values."""
    if not values:
        return 0
    return int(pc.sum(pc.is_in(column.texts, pa.array(values, pa.string()))).as_py() or 0)


def _is_nan(marker: str) -> bool:
    return marker.strip().lower() == "nan"


def _has_value(column: Column, value: str) -> bool:
    return bool(value) and pc.index(column.texts, pa.scalar(value)).as_py() >= 0


def _note_column_markers(columns: Mapping[str, Column], of_columns: Mapping[str, Sequence[str]], notes: Notes) -> None:
    for name, markers in of_columns.items():
        marks = " or ".join(markers)
        rows = _count_rows(columns[name], markers)
        notes.add(
            Rank.MISSING,
            f"'{name}' holds {marks} in {format_count(rows, 'row')}: declared as missing "
            f"(features.{name}.missing_values)",
        )


@dataclass(frozen=True)
class _Fill:
    """A repeated number at the end of a column's range, far from the others.

    Attributes:
      name: Name of the column.
      value: The number.
      spelling: The number as the column writes it first.
      rows: Number of rows with it.
      others: Text of the range of the other numbers.
      is_certain: Whether it stands for a missing value beyond doubt.
    """

    name: str
    value: float
    spelling: str
    rows: int
    others: str
    is_certain: bool


def _find_fills(column: Column, markers: Sequence[str]) -> list[_Fill]:
    """Return the numbers of a column that stand for a missing one, or may do so."""
    texts = column.texts
    if markers:
        texts = texts.filter(pc.invert(pc.fill_null(pc.is_in(texts, pa.array(list(markers))), False)))
    plain = Column(column.name, texts) if markers else column
    if plain.present < _MIN_ROWS or not plain.is_number or plain.distinct < 3:
        return []
    numbers, counts = np.unique(plain.numbers[~np.isnan(plain.numbers)], return_counts=True)
    if len(numbers) < 3:
        return []
    fills = []
    for at, rest in ((0, numbers[1:]), (-1, numbers[:-1])):
        value, rows, low, high = float(numbers[at]), int(counts[at]), float(rest[0]), float(rest[-1])
        if rows < _MIN_REPEATS:
            continue
        is_certain = _is_fill(value, low, high) and rows <= _MAX_FILLED * plain.present
        if is_certain or _is_possible_fill(value, low, high):
            others = f"{low:g} to {high:g}"
            fills.append(_Fill(column.name, value, _find_spelling(plain, value), rows, others, is_certain))
    return fills


def _note_fills(fills: Sequence[_Fill], notes: Notes) -> None:
    """Note each number once, with its columns."""
    of_value: dict[tuple[float, bool], list[_Fill]] = {}
    for fill in fills:
        of_value.setdefault((fill.value, fill.is_certain), []).append(fill)
    for (value, is_certain), alike in of_value.items():
        first = alike[0]
        where = f"'{first.name}' is {value:g} in {format_count(first.rows, 'row')} and {first.others} in the others"
        if len(alike) > 1:
            more = ", ".join(f"'{fill.name}'" for fill in alike[1:_MAX_SHOWN])
            rest = f" and {len(alike) - _MAX_SHOWN:,} more" if len(alike) > _MAX_SHOWN else ""
            where += f"; so are {more}{rest}"
        remedy = f"if {value:g} stands for a missing value, add --missing-value {value:g}"
        notes.add(Rank.MISSING, f"{where}: {'declared as missing (missing_values)' if is_certain else remedy}")


def _is_fill(value: float, low: float, high: float) -> bool:
    """Return whether a repeated extreme value is a fill value, beyond doubt."""
    distance = max(value - high, low - value)
    if abs(value) >= _HUGE:
        return abs(value) > 1e6 * max(abs(low), abs(high), 1.0)
    if not _NINES.fullmatch(f"{value:.15g}"):
        return False
    return distance > _FAR_RANGES * (high - low) or (value <= -99 and low >= 0)


def _is_possible_fill(value: float, low: float, high: float) -> bool:
    distance = max(value - high, low - value)
    is_nines = bool(_NINES.fullmatch(f"{value:.15g}")) and abs(value) > 99
    return (value in (-1.0, -9.0) and low >= 0) or (is_nines and distance > high - low)


def _find_spelling(column: Column, value: float) -> str:
    first = int(np.flatnonzero(column.numbers == value)[0])
    return str(column.texts[first].as_py()).strip()


def _find_label_strings(
    column: Column | None, requested: Sequence[str], among_numbers: set[str], notes: Notes
) -> list[str]:
    """Return the label's strings for a missing value; a class may be called NA."""
    if column is None:
        return []
    markers = [marker for marker in _find_markers(column) if marker not in requested]
    markers += [] if column.is_number else _guess_missing_strings(column, [*markers, *requested], notes)
    if column.not_numbers and markers and _is_numbers_but(column, markers):
        marks = f"{' or '.join(map(repr, markers))} in {format_count(_count_rows(column, markers), 'row')}"
        notes.add(Rank.LABEL, f"label '{column.name}': {marks} among numbers stands for a missing label")
        return markers
    missing = []
    for marker in markers:
        rows = _count_rows(column, [marker])
        is_class = marker.strip().lower() in _POSSIBLE_CLASSES
        if is_class and (marker not in among_numbers or _is_like_others(column, marker)):
            remedy = f"if it stands for a missing label, add --missing-value {marker}"
            text = f"'{marker}' in {format_count(rows, 'row')} is a class; {remedy}"
        else:
            missing.append(marker)
            text = f"'{marker}' in {format_count(rows, 'row')} stands for a missing label: these rows are left out"
        notes.add(Rank.LABEL, f"label '{column.name}': {text}")
    return missing


def _is_numbers_but(column: Column, markers: Sequence[str]) -> bool:
    return all(value in markers for value in column.not_numbers)


def _is_like_others(column: Column, marker: str) -> bool:
    """Return whether all values are written as a marker is: AF, AS, EU, NA."""
    form = re.sub(r"[A-Z]", "A", marker)
    return all(re.sub(r"[A-Z]", "A", value) == form for value, _ in column.values)
