"""Reads dates, date-times, times of day and epochs as seconds of a wall clock. Imports no TensorFlow.

A time is kept as the seconds since 1970-01-01 00:00 that a clock in the feature's time zone shows (`wall seconds`).
So the hour and the weekday are those of the place, whatever offset a value is written with. A time of day is kept as
the seconds since midnight.

Formats are those of `strptime` (https://docs.python.org/3/library/datetime.html#format-codes), `iso8601` and epochs.
`iso8601` is https://www.rfc-editor.org/rfc/rfc3339; the T may be a space, and the offset may be omitted. Arrow's own
`strptime` accepts 29 February 2023 and ignores offsets, and Python's takes 10 microseconds a value.
"""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

ISO8601, TIME_OF_DAY = "iso8601", "time_of_day"
# Units of an epoch in a second.
EPOCHS: Mapping[str, int] = {
    "epoch_seconds": 1,
    "epoch_milliseconds": 10**3,
    "epoch_microseconds": 10**6,
    "epoch_nanoseconds": 10**9,
}
DAY_SECONDS = 86_400
_EPOCH = datetime.datetime(1970, 1, 1)
FIRST_YEAR, LAST_YEAR = 1900, 2100
# Wall seconds of 1900-01-01 00:00 and of 2101-01-01 00:00.
MIN_SECONDS, END_SECONDS = -2_208_988_800, 4_133_980_800
# RFC 3339 allows +23:59; clocks have been at most 15:13 from UTC (Alaska in 1867).
_MAX_OFFSET_SECONDS = 16 * 3600
_TWO_DIGIT_CENTURY = 69

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"  # fmt: skip
_CODES = {
    "Y": r"(?P<year>[0-9]{4})",
    "y": r"(?P<short_year>[0-9]{2})",
    "m": r"(?P<month>[0-9]{1,2})",
    "b": rf"(?P<month_name>(?i:{'|'.join(_MONTHS)}))",
    "B": rf"(?P<month_name>(?i:{_LONG_MONTHS}))",
    "d": r"(?P<day>[0-9]{1,2})",
    "H": r"(?P<hour>[0-9]{1,2})",
    "I": r"(?P<hour12>[0-9]{1,2})",
    "p": r"(?P<half>(?i:[ap]m))",
    "M": r"(?P<minute>[0-9]{1,2})",
    "S": r"(?P<second>[0-9]{1,2})",
    "f": r"(?P<fraction>[0-9]{1,9})",
    "z": r"(?P<offset>Z|z|[+-][0-9]{2}:?[0-9]{2})",
    "a": r"(?:(?i:mon|tue|wed|thu|fri|sat|sun))",
    "A": r"(?:(?i:monday|tuesday|wednesday|thursday|friday|saturday|sunday))",
    "%": "%",
}
_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
_ISO = (
    rf"(?P<year>[0-9]{{4}})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})"
    rf"(?:[Tt ]{_CLOCK} ?(?P<offset>Z|z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?"
)
_TIME_OF_DAY = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?: ?(?P<half>(?i:[ap]m)))?"
)
_INTEGER = r"^[+-]?[0-9]{1,18}(?:\.0+)?$"


@dataclass(frozen=True)
class TimeFormat:
    """How the times of a column are written.

    Attributes:
      format: `iso8601`, `time_of_day`, a key of EPOCHS, or codes of strptime.
      time_zone: Zone of the wall clock, and of values without an offset.
    """

    format: str = ISO8601
    time_zone: str = "UTC"

    @property
    def expected(self) -> str:
        """Description of a value, for messages."""
        return _name(self.format)

    def write(self, seconds: int) -> str:
        """Return wall seconds as `read_times` reads them."""
        wall = _EPOCH + datetime.timedelta(seconds=seconds)
        if self.format in EPOCHS:
            utc = int(wall.replace(tzinfo=ZoneInfo(self.time_zone)).timestamp())
            return str(utc * EPOCHS[self.format])
        if self.format == TIME_OF_DAY:
            return wall.strftime("%H:%M:%S")
        if self.format == ISO8601:
            return wall.isoformat()
        return wall.strftime(self.format.replace("%z", wall.replace(tzinfo=ZoneInfo(self.time_zone)).strftime("%z")))


def check_format(time_format: str) -> None:
    """Check that a format reads a date or a time of day.

    Raises:
      ValueError: The format has an unknown code, the same code twice, or misses a part; the message names it.
    """
    if time_format in (ISO8601, TIME_OF_DAY, *EPOCHS):
        return
    names = set(re.compile(_expression(time_format)).groupindex)
    has_date = bool(names & {"year", "short_year"}) and bool(names & {"month", "month_name"})
    if names & {"year", "short_year", "month", "month_name", "day"} and not has_date:
        raise ValueError(f"format: '{time_format}' needs a year and a month (%Y-%m), or no part of a date")
    if not names & {"year", "short_year", "hour", "hour12"}:
        others = ", ".join([ISO8601, TIME_OF_DAY, *EPOCHS])
        raise ValueError(
            f"format: '{time_format}' has neither a date nor an hour; expected codes of strptime, or {others}"
        )
    if ("hour12" in names) != ("half" in names):
        raise ValueError(f"format: '{time_format}': %I and %p need each other")


def check_time_zone(name: str) -> None:
    """Check that a time zone exists.

    Raises:
      ValueError: It does not.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"time_zone: '{name}' is not in the tz database; expected a name such as Europe/Berlin"
        ) from error


def has_date(time_format: str) -> bool:
    """Return whether values of a format have a date; otherwise they are times of day."""
    return time_format in (ISO8601, *EPOCHS) or (time_format != TIME_OF_DAY and bool(re.search("%[Yy]", time_format)))


def read_times(strings: pa.Array, times: TimeFormat) -> tuple[pa.Array, Mapping[int, str]]:
    """Return strings as times, and the reasons of faults by row.

    The times are wall seconds, or seconds since midnight, null where a value is missing or has a fault; [n] of int64.

    Args:
      strings: Values, null where one is missing; [n] of string.
      times: How they are written.
    """
    time_format, time_zone = times.format, times.time_zone
    trimmed = pc.utf8_trim_whitespace(strings)
    if time_format in EPOCHS:
        seconds, is_time = _read_epochs(trimmed, EPOCHS[time_format])
        seconds = _wall_seconds(seconds, time_zone)
        problem = np.where(is_time, "", f"expected {_name(time_format)}")
    else:
        seconds, problem = _read_parts(trimmed, time_format, time_zone)
    if has_date(time_format):
        is_far = (problem == "") & ((seconds < MIN_SECONDS) | (seconds >= END_SECONDS))
        problem = np.where(is_far, f"expected a year from {FIRST_YEAR} to {LAST_YEAR}", problem)
    missing = np.asarray(strings.is_null())
    problem = np.where(missing, "", problem)
    faults = {
        int(row): f"{problem[row]}, found {_quote(strings[int(row)].as_py())}" for row in np.flatnonzero(problem != "")
    }
    return pa.array(seconds, pa.int64(), mask=missing | (problem != "")), faults


def _name(time_format: str) -> str:
    return {
        ISO8601: "a date or a time such as 2024-02-29 or 2024-02-29T13:45:00+01:00",
        TIME_OF_DAY: "a time of day such as 13:45 or 1:45 pm",
    }.get(
        time_format,
        f"{time_format.replace('_', ' ')}, a whole number"
        if time_format in EPOCHS
        else f"a time written as {time_format}",
    )


def _quote(text: str, most: int = 120) -> str:
    return repr(text) if len(text) <= most else f"{text[:most]!r}..."


@cache
def _expression(time_format: str) -> str:
    """Return the regular expression of a format, anchored, with a named group for each part.

    Raises:
      ValueError: The format has an unknown code, or two codes of one part.
    """
    if time_format == ISO8601:
        return f"^{_ISO}$"
    if time_format == TIME_OF_DAY:
        return f"^{_TIME_OF_DAY}$"
    parts = []
    for code, other in re.findall(r"%(.?)|([^%]+)", time_format):
        if other:
            parts.append(re.escape(other))
        elif code in _CODES:
            parts.append(_CODES[code])
        else:
            raise ValueError(
                f"format: '%{code}' is not supported; expected one of {', '.join(f'%{c}' for c in _CODES)}"
            )
    expression = f"^{''.join(parts)}$"
    names = re.findall(r"\?P<(\w+)>", expression)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or ("year" in names and "short_year" in names) or ("hour" in names and "hour12" in names):
        raise ValueError(f"format: '{time_format}' has two codes of one part")
    return expression


def _read_epochs(strings: pa.Array, units: int) -> tuple[Integers, Booleans]:
    """Return the whole seconds of epochs, rounded down, and whether each string is a whole number."""
    is_integer = pc.fill_null(pc.match_substring_regex(strings, _INTEGER), False)
    digits = pc.replace_substring_regex(strings, r"^\+|\.0+$", "")
    numbers = pc.if_else(is_integer, digits, pa.scalar("0")).cast(pa.int64())
    return np.floor_divide(_integers(numbers), units), np.asarray(is_integer)


def _read_parts(strings: pa.Array, time_format: str, time_zone: str) -> tuple[Integers, NDArray[np.str_]]:
    """Return the seconds of strings of a format, and what is wrong with each; [n]."""
    parts = pc.extract_regex(strings, _expression(time_format))
    fits = np.asarray(parts.is_valid())
    names = {parts.type.field(number).name for number in range(parts.type.num_fields)}
    expected = f"expected {_name(time_format)}"

    def part(name: str, default: int) -> Integers:
        if name not in names:
            return np.full(len(strings), default, np.int64)
        digits = pc.struct_field(parts, name)
        is_given = pc.fill_null(pc.not_equal(digits, ""), False)
        return _integers(pc.if_else(is_given, digits, pa.scalar(str(default))).cast(pa.int64()))

    hour, minute, second = part("hour", 0), part("minute", 0), part("second", 0)
    is_valid = (hour < 24) & (minute < 60) & (second < 60)
    if "half" in names:
        half = pc.utf8_lower(pc.fill_null(pc.struct_field(parts, "half"), ""))
        is_given, is_afternoon = np.asarray(pc.not_equal(half, "")), np.asarray(pc.equal(half, "pm"))
        hour = part("hour12", 0) if "hour12" in names else hour
        is_valid &= ~is_given | ((hour >= 1) & (hour <= 12))
        hour = np.where(is_given, hour % 12 + 12 * is_afternoon, hour)
    seconds = hour * 3600 + minute * 60 + second
    problem = np.where(fits & is_valid, "", expected)
    if not has_date(time_format):
        return seconds, problem
    year = part("year", 0)
    if "short_year" in names:
        # As POSIX and Python read two digits: 69 is 1969, 68 is 2068.
        short = part("short_year", 0)
        year = np.where(short < _TWO_DIGIT_CENTURY, 2000 + short, 1900 + short)
    month, day = part("month", 1), part("day", 1)
    if "month_name" in names:
        month = _month_numbers(pc.struct_field(parts, "month_name"))
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (day <= _days_in_month(year, np.clip(month, 1, 12)))
    problem = np.where((problem == "") & ~exists, "expected a day that exists", problem)
    wall = days_from_civil(year, np.clip(month, 1, 12), day) * DAY_SECONDS + seconds
    if "offset" in names:
        offset, has_offset, is_offset = _offsets(pc.struct_field(parts, "offset"))
        problem = np.where((problem == "") & ~is_offset, "expected an offset from UTC of at most 16 hours", problem)
        within = has_offset & is_offset & (wall >= MIN_SECONDS) & (wall < END_SECONDS)
        wall[within] = _wall_seconds((wall - offset)[within], time_zone)
    return wall, problem


def _month_numbers(names: pa.Array) -> Integers:
    first = pc.utf8_slice_codeunits(pc.utf8_lower(names), 0, 3)
    return _integers(pc.add(pc.index_in(first, pa.array(_MONTHS)), 1))


def _offsets(texts: pa.Array) -> tuple[Integers, Booleans, Booleans]:
    """Return the seconds of offsets from UTC, whether each value has an offset, and whether a clock can have it."""
    has_offset = np.asarray(pc.fill_null(pc.not_equal(texts, ""), False))
    digits = pc.replace_substring_regex(pc.fill_null(texts, ""), "[^0-9]", "")
    number = _integers(pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()))
    is_negative = np.asarray(pc.starts_with(pc.fill_null(texts, ""), "-"))
    seconds = (number // 100 * 60 + number % 100) * 60
    is_valid = (number % 100 < 60) & (seconds <= _MAX_OFFSET_SECONDS)
    return np.where(is_negative, -seconds, seconds), has_offset, is_valid


def _wall_seconds(seconds: Integers, time_zone: str) -> Integers:
    """Return what a clock in a zone shows at UTC seconds."""
    if time_zone == "UTC":
        return seconds
    within = (seconds >= MIN_SECONDS) & (seconds < END_SECONDS)
    times = pa.array(np.where(within, seconds, 0), pa.timestamp("s", "UTC")).cast(pa.timestamp("s", time_zone))
    return np.where(within, _integers(pc.local_timestamp(times).cast(pa.int64())), seconds)


def _integers(numbers: pa.Array) -> Integers:
    return np.asarray(pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _days_in_month(year: Integers, month: Integers) -> Integers:
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month - 1]
    return np.where((month == 2) & is_leap, 29, days)


def days_from_civil(year: Integers, month: Integers, day: Integers) -> Integers:
    """Return the days since 1970-01-01 of dates of the Gregorian calendar.

    Source: Howard Hinnant, https://howardhinnant.github.io/date_algorithms.html#days_from_civil
    """
    shifted = year - (month <= 2)
    era = np.floor_divide(shifted, 400)
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    days: Integers = era * 146_097 + day_of_era - 719_468
    return days
