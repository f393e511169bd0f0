"""Finds columns that write the same in several ways: numbers with and without a sign or units, and yes and no."""

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count
from pipeline.init.notes import Notes, Rank
from schemas.tables.number_format import PLAIN, PLAIN_NUMBER, NumberFormat, to_plain_numbers

# Some of a column's numbers are in another format if so many of its values are, and nearly all are in one of the two.
_LEAST_SHARE, _MOSTLY = 0.01, 0.95
# 12A is the number of a house sooner than one with a unit.
_UNIT = r"^[+-]?[0-9][0-9.,]*(\s[A-Za-z/]{1,6}|[A-Za-z/]{2,6}|\s?[%\x{b0}\x{b5}][A-Za-z]{0,2})$"
_LEAST_WITH_UNIT, _MAX_UNITS = 20, 5
# Accounting and SAP write negative amounts so; 12K without a fraction may be the number of a house.
_OTHER_WAYS = {
    "in parentheses": r"^\([0-9][0-9.,]*\)$",
    "with the sign at the end": r"^[0-9][0-9.,]*[+-]$",
    "with K, M or B": r"^[+-]?[0-9]+[.,][0-9]+\s?[kKmMbB]$",
}
WRITE_AS_TWO = "write them as two values, or derive"
_YES, _NO = frozenset(("1", "true", "t", "yes", "y", "on")), frozenset(("0", "false", "f", "no", "n", "off"))
_PLAIN_NUMBER = rf"^{PLAIN_NUMBER}$"
_OTHER_FORMATS = (PLAIN, NumberFormat(","), NumberFormat(".", ","), NumberFormat(",", "."))


def note_signs(columns: Mapping[str, pa.Array], format: NumberFormat, notes: Notes) -> None:
    """Note columns of numbers that have several currencies, or a percent sign in some rows only.

    Args:
      columns: Strings of columns of numbers by name, as the files write them.
      format: How numbers are written.
      notes: Gets a note for each column.
    """
    for name, strings in columns.items():
        signs = _count_currencies(strings, format)
        if len(signs) > 1:
            counts = ", ".join(f"{count:,} in {sign}" for sign, count in signs.items())
            notes.add(Rank.ROWS, f"'{name}' has amounts in several currencies ({counts}); they are not converted")
        if format.percent:
            _note_percent(name, strings, format, notes)


def _note_percent(name: str, strings: pa.Array, format: NumberFormat, notes: Notes) -> None:
    has_sign = pc.match_substring(strings, "%")
    signed, others = strings.filter(has_sign), strings.filter(pc.invert(has_sign))
    numbers = to_plain_numbers(pc.utf8_trim_whitespace(others), format).cast(pa.float64())
    # 0.355 beside 35.5% is the same number.
    is_whole = pc.fill_null(pc.greater(pc.abs(numbers), 1), False)
    if not len(signed) or not pc.any(is_whole).as_py():
        return
    with_sign, without = signed[0].as_py(), others.filter(is_whole)[0].as_py()
    value = to_plain_numbers(pa.array([with_sign.strip()]), format).cast(pa.float64())[0].as_py()
    notes.add(
        Rank.ROWS,
        f"'{name}' has a percent sign in {format_count(len(signed), 'row')} and none in "
        f"{len(numbers) - numbers.null_count:,}: "
        f"{with_sign!r} is read as {value:g}, and {without!r} as it is; write them in "
        "one way, or leave it out (--drop)",
    )


def _count_currencies(strings: pa.Array, format: NumberFormat) -> dict[str, int]:
    """Return the number of rows with each currency; US$ is not $."""
    counts = {}
    for sign in sorted(format.currency, key=len, reverse=True):
        counts[sign] = _count_matches(strings, re.escape(sign))
        strings = pc.replace_substring(strings, sign, "")
    return {sign: counts[sign] for sign in format.currency if counts[sign]}


def _count_matches(strings: pa.Array, expression: str) -> int:
    return int(pc.sum(pc.match_substring_regex(strings, expression)).as_py() or 0)


def explain_mixed(strings: pa.Array, format: NumberFormat) -> str:
    """Return why a column of strings would be one of numbers, were they written in one way; empty if it would not.

    Args:
      strings: The column, as the files write it.
      format: How most numbers are written.
    """
    value_counts = pc.value_counts(pc.utf8_trim_whitespace(pc.drop_null(strings)))
    # Others may stand for a missing value.
    value_counts = value_counts.filter(pc.match_substring_regex(value_counts.field("values"), "[0-9]"))
    values, counts = value_counts.field("values"), value_counts.field("counts")
    rows = pc.sum(counts).as_py() or 0
    if 2 * rows < len(strings) - strings.null_count:
        return ""
    is_number = _are_numbers(values, format)
    numbers = pc.sum(counts.filter(is_number)).as_py() or 0
    if not _LEAST_SHARE <= numbers / max(1, rows) <= 1 - _LEAST_SHARE:
        return ""
    others = values.filter(pc.invert(is_number))
    other_counts = counts.filter(pc.invert(is_number))
    ways = [("in another format", _are_numbers(others, other_format)) for other_format in _OTHER_FORMATS]
    ways += [(way, pc.match_substring_regex(others, pattern)) for way, pattern in _OTHER_WAYS.items()]
    for way, fits in [*ways, ("with a unit", _match_units(others))]:
        count = pc.sum(other_counts.filter(fits)).as_py() or 0
        if count >= _LEAST_SHARE * rows and numbers + count >= _MOSTLY * rows:
            example = others.filter(fits)[0].as_py()
            usual = values.filter(is_number)[0].as_py()
            return f"has {format_count(numbers, 'number')} such as {usual!r} and {count:,} {way} such as {example!r}"
    return ""


def describe_booleans(values: Sequence[tuple[str, int]]) -> str:
    """Return the spellings of yes and no in a column that has several words for one of them; empty for any other.

    Args:
      values: Each value and the number of its rows.
    """
    words = {value.strip().casefold() for value, _ in values}
    if len(words) < 3 or not words <= _YES | _NO or words <= _YES or words <= _NO:
        return ""
    return ", ".join(f"{value!r} in {format_count(rows, 'row')}" for value, rows in values)


def _are_numbers(values: pa.Array, format: NumberFormat) -> pa.Array:
    if format.is_plain:
        return pc.match_substring_regex(values, _PLAIN_NUMBER)
    return to_plain_numbers(values, format).is_valid()


def _match_units(values: pa.Array) -> pa.Array:
    """Return whether each value is a number with a unit; none is if there are few values, or many units."""
    fits = pc.match_substring_regex(values, _UNIT)
    units = pc.unique(pc.replace_substring_regex(values.filter(fits), r"^[+-]?[0-9][0-9.,]*\s?", ""))
    return fits if len(values) >= _LEAST_WITH_UNIT and len(units) <= _MAX_UNITS else pc.and_(fits, False)
