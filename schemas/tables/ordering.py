"""Compares the strings of a column with bounds: as numbers, as dates of a declared format, or letter by letter.

Letters order ISO 8601 dates and words. They do not order other dates, or numbers with different numbers of digits:
"9" comes after "10". Such values are rejected. Imports no TensorFlow.
"""

import re
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from schemas.sensitive import MASK
from schemas.tables.number_format import PLAIN, PLAIN_NUMBER, NumberFormat, to_plain_numbers

_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)"
)
# Dates that do not begin with the year, or that spell the month.
_UNORDERED_DATE = re.compile(
    rf"^\s*\d{{1,2}}[-/. ]\d{{1,2}}[-/. ]\d{{2,4}}(?!\d)|(?=.*\d)(^|[^a-z]){_MONTH}([^a-z]|$)", re.IGNORECASE
)
_SIGNED = re.compile(r"^\s*[+-]\d")
# Digits and what stands between those of a date or number: such a bound orders no other text.
_DIGITS = re.compile(r"^(?=.*\d)[\d\s:./,TZ+-]+$")
_NUMBER = re.compile(rf"^\s*{PLAIN_NUMBER}\s*$")


class MisfitError(ValueError):
    """A value cannot be compared: its index, and the reason with the remedy."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index, self.reason = index, reason


def explain_unordered(text: str) -> str | None:
    """Return why letters do not order a bound; None where they may."""
    if _UNORDERED_DATE.search(text):
        return (
            f'{text!r} is a date that its letters do not order; give date_format, such as "%d/%m/%Y", or write '
            'the dates as "2013-02-01"'
        )
    if _SIGNED.search(text):
        return f"{text!r} is a number that its letters do not order; give it without quotes"
    return None


def check_format(date_format: str, bounds: Sequence[str]) -> None:
    """Reject a format of dates that bounds do not have.

    Raises:
      ValueError: names the bound.
    """
    for bound in bounds:
        try:
            _parse_dates(pa.array([bound]), date_format)
        except pa.ArrowInvalid as error:
            raise ValueError(f"date_format: {date_format!r} does not describe the bound {bound!r}") from error


def are_within(
    texts: pa.Array,
    *,
    at_least: float | str | None,
    below: float | str | None,
    date_format: str | None,
    numbers: NumberFormat = PLAIN,
    is_sensitive: bool = False,
) -> pa.Array:
    """Return whether each value is within bounds, [n]; a missing one is not.

    Args:
      texts: values of a column, null where one is missing.
      at_least: least value; None if there is no bound.
      below: value that is the first too high; None if there is no bound.
      date_format: format of dates in values and bounds; None compares numbers, or letters.
      numbers: format of numbers in values.
      is_sensitive: whether an error must not show a value.

    Raises:
      MisfitError: a value cannot be compared with the bounds.
    """
    bounds = [bound for bound in (at_least, below) if bound is not None]
    values, low, high = texts, at_least, below
    show: Callable[[str], str] = (lambda _: MASK) if is_sensitive else repr
    if date_format is not None:
        expected = f"expected a date as date_format {date_format!r} describes it"
        values = _convert(texts, lambda some: _parse_dates(some, date_format), expected, show)
        low, high = (
            None if bound is None else _parse_dates(pa.array([bound]), date_format)[0] for bound in (at_least, below)
        )
    elif isinstance(bounds[0], str):
        for bound in bounds:
            _check_letters(texts, str(bound), show)
    else:
        expected = f"expected a finite number, to be compared with {bounds[0]:g}"
        values = _convert(texts, lambda some: _parse_numbers(some, numbers), expected, show)
    inside = pc.is_valid(values)
    if low is not None:
        inside = pc.and_(inside, pc.greater_equal(values, low))
    if high is not None:
        inside = pc.and_(inside, pc.less(values, high))
    return pc.fill_null(inside, False)


def _parse_numbers(texts: pa.Array, format: NumberFormat) -> pa.Array:
    numbers = to_plain_numbers(pc.utf8_trim_whitespace(texts), format).cast(pa.float64())
    if pc.all(pc.is_finite(numbers)).as_py() is False or numbers.null_count > texts.null_count:
        raise pa.ArrowInvalid("not finite")
    return numbers


def _parse_dates(texts: pa.Array, date_format: str) -> pa.Array:
    return pc.strptime(pc.utf8_trim_whitespace(texts), format=date_format, unit="us")


def _convert(
    texts: pa.Array, convert: Callable[[pa.Array], pa.Array], expected: str, show: Callable[[str], str]
) -> pa.Array:
    try:
        return convert(texts)
    except pa.ArrowInvalid as error:
        first, last = 0, len(texts)
        while last - first > 1:
            half = (first + last) // 2
            try:
                convert(texts[first:half])
                first = half
            except pa.ArrowInvalid:
                last = half
        raise MisfitError(
            first,
            f"{expected}, found {show(texts[first].as_py())}; correct the row, give the bounds and date_format as the "
            "column writes them, or name the text in data.missing_values",
        ) from error


def _check_letters(texts: pa.Array, bound: str, show: Callable[[str], str]) -> None:
    """Raise a MisfitError for the first value that letters and numbers order differently to the bound."""
    same_digits = "^" + "".join("[0-9]" if c.isdigit() else re.escape(c) for c in bound) + "([^0-9]|$)"
    others = pc.fill_null(pc.invert(pc.match_substring_regex(texts, same_digits)), False)
    for value in pc.unique(texts.filter(others)).to_pylist():
        if _is_misordered(value, bound):
            remedy = (
                "give the bound without quotes"
                if _NUMBER.match(value) and _NUMBER.match(bound)
                else 'give the bounds as the column writes them and date_format, such as "%d/%m/%Y"'
                if _DIGITS.match(bound) or _UNORDERED_DATE.search(value)
                else "list the values under `values`"
            )
            reason = f"{show(value)} is not ordered against the bound {bound!r} by its letters; {remedy}"
            raise MisfitError(pc.index(texts, value).as_py(), f"{reason}, or name the text in data.missing_values")


def _is_misordered(value: str, bound: str) -> bool:
    if _DIGITS.match(bound):
        # A month is ordered against a day of a year: 2013-11 and 2013-11-05.
        digits = re.sub(r"\d", "0", value)
        return not re.match(re.escape(digits) + r"(?!\d)", re.sub(r"\d", "0", bound))
    return (value < bound) != (_pad_numbers(value) < _pad_numbers(bound)) or bool(_UNORDERED_DATE.search(value))


def _pad_numbers(text: str) -> str:
    """Return a string whose letters order numbers within it."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(20), text)
