"""Recognises the columns whose values are dates, times of day, or counts since 1970. Imports no TensorFlow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Array = NDArray[Any]

# A column is of a form if so many of its rows are.
_MOSTLY = 0.95
# Patterns that match none of so many values are not tried on all.
_SAMPLE_VALUES = 500

_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0?[1-9]|1[0-2])", "(?:0?[1-9]|[12][0-9]|3[01])"
_MONTH_NAME = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?)"
)
# May is both.
_LONG_MONTH = r"(?i)(?:january|february|march|april|june|july|august|september|october|november|december)"
_SHORT_MONTH = r"(?i)(?:^|[^a-z])(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)(?:[^a-z]|$)"
_WEEKDAY = "(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?,? )"
_CLOCK = r"[0-9]{1,2}:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?: ?[ap]\.?m\.?)?"
_ZONE = "(?: ?(?:z|utc|gmt|[+-][0-9]{2}:?(?:[0-9]{2})?))"
_AFTER_DATE = rf"(?:(?:t| |, ?){_CLOCK}{_ZONE}?)"
# What a name has if its values are likely to be times.
_TIME_NAME = re.compile(
    r"time|date|stamp|epoch"
    r"|(^|[\W_])(day|month|ts|dt|at|on|when|since|until|created|updated|modified|utc|unix)($|[\W_\d])",
    re.IGNORECASE,
)
_CAMEL_NAME = re.compile(r"[a-z](At|On)$")
# By the power of ten that a second has in them: 1990 to 2040, and, for a column whose name gives no hint, 2000 to 2030.
_NAMED_SECONDS, _PLAIN_SECONDS = (631_152_000, 2_208_988_800), (946_684_800, 1_893_456_000)
# Consecutive IDs of ten digits lie closer together.
_MIN_EPOCH_SPREAD_SECONDS = 86_400
_MIN_EPOCH_VALUES = 10


class TimeKind(StrEnum):
    """Kind of the values of a column of times."""

    DATE = "date"
    DATE_TIME = "date and time"
    MONTH = "month of a year"
    QUARTER = "quarter of a year"
    WEEK = "week of a year"
    TIME = "time of day or duration"
    EPOCH_SECONDS = "time in seconds since 1970"
    EPOCH_MILLISECONDS = "time in milliseconds since 1970"
    EPOCH_MICROSECONDS = "time in microseconds since 1970"
    EPOCH_NANOSECONDS = "time in nanoseconds since 1970"


_EPOCHS = {
    10**0: TimeKind.EPOCH_SECONDS,
    10**3: TimeKind.EPOCH_MILLISECONDS,
    10**6: TimeKind.EPOCH_MICROSECONDS,
    10**9: TimeKind.EPOCH_NANOSECONDS,
}


@dataclass(frozen=True)
class TimeForm:
    """How a column writes times.

    Attributes:
      kind: What its values are.
      date_format: Format of all values, in the letters of `strptime`; None if there is none, as of an epoch.
      is_ordered: Whether the letters of the values (of an epoch: the numbers) order them in time.
      is_ambiguous: Whether no value decides if the day or the month is first; `date_format` takes the month of 12/31
        and the day of 31.12 or 31-12.
    """

    kind: TimeKind
    date_format: str | None = None
    is_ordered: bool = False
    is_ambiguous: bool = False

    @property
    def comes_again(self) -> bool:
        """Whether a value of today comes again tomorrow, so that it can be a category."""
        return self.kind is TimeKind.TIME

    def __str__(self) -> str:
        return f"{self.kind}, the day or the month first (ambiguous)" if self.is_ambiguous else str(self.kind)


@dataclass(frozen=True)
class _Pattern:
    """A way to write a date: its expression, its format, and whether a time of day may follow."""

    kind: TimeKind
    expression: str
    date_format: str | None
    takes_clock: bool = True

    @property
    def full(self) -> str:
        return rf"(?i)^\s*(?:{self.expression}){f'{_AFTER_DATE}?' if self.takes_clock else ''}\s*$"


def _build_date(expression: str, date_format: str | None) -> _Pattern:
    return _Pattern(TimeKind.DATE, expression, date_format)


def _build_other(kind: TimeKind, expression: str, date_format: str | None = None) -> _Pattern:
    return _Pattern(kind, expression, date_format, takes_clock=False)


def _list_patterns() -> list[_Pattern]:
    patterns = []
    for mark, written in (("-", "-"), ("/", "/"), (r"\.", ".")):
        orders = [
            _build_date(f"{_DAY}{mark}{_MONTH}{mark}{_YEAR}", f"%d{written}%m{written}%Y"),
            _build_date(f"{_MONTH}{mark}{_DAY}{mark}{_YEAR}", f"%m{written}%d{written}%Y"),
        ]
        two_digits = [
            _build_date(f"{day}{mark}{month}{mark}[0-9]{{2}}", f"%{first}{written}%{second}{written}%y")
            for day, month, first, second in (
                ("(?:0[1-9]|[12][0-9]|3[01])", "(?:0[1-9]|1[0-2])", "d", "m"),
                ("(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])", "m", "d"),
            )
        ]
        if written == "/":
            two_digits = [
                _build_date(f"{_DAY}/{_MONTH}/[0-9]{{2}}", "%d/%m/%y"),
                _build_date(f"{_MONTH}/{_DAY}/[0-9]{{2}}", "%m/%d/%y"),
            ]
            orders, two_digits = orders[::-1], two_digits[::-1]
        patterns += [
            _build_date(f"{_YEAR}{mark}{_MONTH}{mark}{_DAY}", f"%Y{written}%m{written}%d"),
            *orders,
            *two_digits,
        ]
    for mark in ("-", " ", "/"):
        patterns += [
            _build_date(f"{_WEEKDAY}?{_DAY}{mark}{_MONTH_NAME}{mark}{_YEAR}", f"%d{mark}%b{mark}%Y"),
            _build_date(f"{_DAY}{mark}{_MONTH_NAME}{mark}[0-9]{{2}}", f"%d{mark}%b{mark}%y"),
            _build_date(f"{_YEAR}{mark}{_MONTH_NAME}{mark}{_DAY}", f"%Y{mark}%b{mark}%d"),
            _build_other(TimeKind.MONTH, f"{_MONTH_NAME}{mark}{_YEAR}", f"%b{mark}%Y"),
            _build_other(TimeKind.MONTH, f"{_YEAR}{mark}{_MONTH_NAME}", f"%Y{mark}%b"),
        ]
    return [
        *patterns,
        _build_date(rf"{_WEEKDAY}?{_MONTH_NAME}\.? {_DAY}, ?{_YEAR}", "%b %d, %Y"),
        _build_date(rf"{_WEEKDAY}?{_MONTH_NAME}\.? {_DAY} {_YEAR}", "%b %d %Y"),
        _build_date(rf"{_DAY}(?:st|nd|rd|th) (?:of )?{_MONTH_NAME},? {_YEAR}", None),
        _build_date(rf"{_WEEKDAY}?{_MONTH_NAME}\.? {_DAY}(?:st|nd|rd|th),? {_YEAR}", None),
        _build_date("(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])", "%Y%m%d"),
        # As ctime, Twitter and the logs of web servers write them.
        _build_other(TimeKind.DATE_TIME, f"{_WEEKDAY}{_MONTH_NAME} +{_DAY} {_CLOCK}(?: [A-Z+0-9]+)? {_YEAR}"),
        _build_other(TimeKind.DATE_TIME, rf"\[?{_DAY}/{_MONTH_NAME}/{_YEAR}:{_CLOCK}{_ZONE}?\]?"),
        _build_other(TimeKind.DATE_TIME, f"(?:19|20)[0-9]{{6}}t[0-9]{{4,6}}{_ZONE}?"),
        _build_other(TimeKind.MONTH, f"{_YEAR}-(?:0[1-9]|1[0-2])", "%Y-%m"),
        _build_other(TimeKind.MONTH, f"{_YEAR}/(?:0[1-9]|1[0-2])", "%Y/%m"),
        _build_other(TimeKind.MONTH, f"{_MONTH}/{_YEAR}", "%m/%Y"),
        _build_other(TimeKind.MONTH, f"{_MONTH_NAME}-[0-9]{{2}}", "%b-%y"),
        _build_other(TimeKind.QUARTER, f"{_YEAR}[- /]?q[1-4]|q[1-4][- /]?{_YEAR}"),
        _build_other(TimeKind.WEEK, f"{_YEAR}-?w(?:0[1-9]|[1-4][0-9]|5[0-3])(?:-?[1-7])?"),
        _build_other(TimeKind.TIME, r"-?[0-9]{1,3}:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?: ?[ap]\.?m\.?)?"),
        _build_other(TimeKind.TIME, r"(?:0?[1-9]|1[0-2]) ?[ap]\.?m\.?"),
        _build_other(TimeKind.TIME, r"-?[0-9]+ days?,? (?:[+-]?[0-9]{1,2}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?)?"),
    ]


_PATTERNS = _list_patterns()
# What may follow a date, and its format; the first that fits all values counts.
_CLOCKS = [
    (f"{separator}{clock}$", f"{written}{clock_format}")
    for separator, written in (("t", "T"), (" ", " "), (", ", ", "))
    for clock, clock_format in (
        ("[0-9]{1,2}:[0-9]{2}", "%H:%M"),
        ("[0-9]{1,2}:[0-9]{2}:[0-9]{2}", "%H:%M:%S"),
        ("[0-9]{1,2}:[0-9]{2} [ap]m", "%I:%M %p"),
        ("[0-9]{1,2}:[0-9]{2}:[0-9]{2} [ap]m", "%I:%M:%S %p"),
    )
]


# Arrow compiles an expression again for each column. Python has more white space, so it finds at least as much.
_ANY_PATTERN = re.compile("|".join(pattern.full.removeprefix("(?i)") for pattern in _PATTERNS), re.IGNORECASE)


def find_text_form(values: pa.Array, counts: Array) -> TimeForm | None:
    """Return how texts write times; None if they are other texts.

    Args:
      values: Distinct texts; [n] of string.
      counts: Number of rows of each; [n].
    """
    if not len(values):
        return None
    sample = values.take(pa.array(np.unique(np.linspace(0, len(values) - 1, _SAMPLE_VALUES).astype(np.int64))))
    if pc.mean(pc.match_substring_regex(sample, "[0-9]").cast(pa.float64())).as_py() < _MOSTLY / 2:
        return None
    if not any(map(_ANY_PATTERN.search, sample.to_pylist())):
        return None
    tried = [pattern for pattern in _PATTERNS if pc.any(pc.match_substring_regex(sample, pattern.full)).as_py()]
    matches = {
        pattern: pc.match_substring_regex(values, pattern.full).to_numpy(zero_copy_only=False) for pattern in tried
    }
    if not matches:
        return None
    rows = counts.sum()
    shares = {pattern: float(counts[fits].sum() / rows) for pattern, fits in matches.items()}
    best = max(shares, key=lambda pattern: shares[pattern])
    if shares[best] >= _MOSTLY:
        return _build_form(values, [pattern for pattern in shares if shares[pattern] == shares[best]])
    if float(counts[np.logical_or.reduce(list(matches.values()))].sum() / rows) >= _MOSTLY:
        return TimeForm(best.kind)
    return None


def find_other_texts(values: Sequence[str]) -> list[str]:
    """Return the texts of a sample that are no times."""
    return [value for value in values if not _ANY_PATTERN.search(value)]


def _build_form(values: pa.Array, patterns: Sequence[_Pattern]) -> TimeForm:
    """Return the form of values that fit each of some patterns, the preferred one first."""
    pattern = patterns[0]
    with_clock = pc.match_substring_regex(values, ":")
    has_clock = pattern.takes_clock and bool(pc.any(with_clock).as_py())
    kind = TimeKind.DATE_TIME if has_clock else pattern.kind
    date_format = _find_clock_format(values, pattern) if has_clock else pattern.date_format
    if date_format is not None and "%b" in date_format and _has_match(values, _LONG_MONTH):
        # Arrow reads both with either letter, but Python, which reads the bounds of a split, does not.
        date_format = None if _has_match(values, _SHORT_MONTH) else date_format.replace("%b", "%B")
    if date_format is not None and not _is_parsable(values, date_format):
        date_format = None
    is_iso = pattern.expression.startswith(_YEAR) and kind in (TimeKind.DATE, TimeKind.DATE_TIME, TimeKind.MONTH)
    padded = rf"(?i)^{_YEAR}[^0-9a-z]?[0-9]{{2}}([^0-9a-z]?[0-9]{{2}}($|[t ][0-9]{{2}}:))?"
    return TimeForm(
        kind,
        date_format,
        is_ordered=is_iso and bool(pc.all(pc.match_substring_regex(values, padded)).as_py()),
        is_ambiguous=len({other.date_format for other in patterns}) > 1,
    )


def _find_clock_format(values: pa.Array, pattern: _Pattern) -> str | None:
    for clock, clock_format in _CLOCKS:
        expression = rf"(?i)^\s*(?:{pattern.expression}){clock}"
        if pc.mean(pc.match_substring_regex(values, expression).cast(pa.float64())).as_py() >= _MOSTLY:
            return None if pattern.date_format is None else pattern.date_format + clock_format
    return None


def _has_match(values: pa.Array, expression: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(values, expression)).as_py())


def _is_parsable(values: pa.Array, date_format: str) -> bool:
    """Return whether nearly all values can be read by a format, as a split by time reads them."""
    trimmed = pc.utf8_trim_whitespace(values)
    read = pc.strptime(trimmed, format=date_format, unit="us", error_is_null=True)
    return bool(read.null_count <= (1 - _MOSTLY) * len(values))


def find_number_form(name: str, numbers: Array, counts: Array) -> TimeForm | None:
    """Return how numbers write times, as 20131231, 201312, or an epoch; None if they are other numbers.

    Numbers can be anything, so all of them must be times, and the range and the name have to agree.

    Args:
      name: Name of the column.
      numbers: Distinct numbers as float64; [n].
      counts: Number of rows of each; [n].
    """
    if len(numbers) < 2:
        return None
    is_named = bool(_TIME_NAME.search(name) or _CAMEL_NAME.search(name))
    return _find_calendar_form(numbers, counts, is_named=is_named) or _find_epoch_form(numbers, is_named=is_named)


def _find_calendar_form(numbers: Array, counts: Array, *, is_named: bool) -> TimeForm | None:
    if not (numbers == np.floor(numbers)).all():
        return None
    least = _MOSTLY if is_named else 1.0
    for divisor, kind, date_format in (
        (1, TimeKind.DATE, "%Y%m%d"),
        (10**4, TimeKind.DATE_TIME, "%Y%m%d%H%M"),
        (10**6, TimeKind.DATE_TIME, "%Y%m%d%H%M%S"),
    ):
        days = numbers // divisor
        if float(counts[_are_days(days)].sum() / counts.sum()) >= least:
            return TimeForm(kind, date_format, is_ordered=True)
    years, months = numbers // 100, numbers % 100
    is_month = (years >= 1900) & (years < 2100) & (months >= 1) & (months <= 12)
    # Codes of six digits, such as those of places, can be months by chance.
    if is_month.all() and (is_named or len(numbers) >= _MIN_EPOCH_VALUES):
        return TimeForm(TimeKind.MONTH, "%Y%m", is_ordered=True)
    return None


def _are_days(numbers: Array) -> Array:
    years, months, days = numbers // 10_000, numbers // 100 % 100, numbers % 100
    is_day: Array = (years >= 1900) & (years < 2100) & (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    return is_day


def _find_epoch_form(numbers: Array, *, is_named: bool) -> TimeForm | None:
    low, high = _NAMED_SECONDS if is_named else _PLAIN_SECONDS
    for second, kind in _EPOCHS.items():
        least, most = float(numbers.min()) / second, float(numbers.max()) / second
        if low <= least and most <= high:
            is_spread = most - least >= _MIN_EPOCH_SPREAD_SECONDS and len(numbers) >= _MIN_EPOCH_VALUES
            return TimeForm(kind, is_ordered=True) if is_named or is_spread else None
    return None
