"""Reads dates, date-times, times of day and epochs as seconds of a wall clock (schemas/tables/time_format.py).

Imports no TensorFlow.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.tables.time_format import (
    DAY_SECONDS,
    END_SECONDS,
    EPOCHS,
    FIRST_YEAR,
    LAST_YEAR,
    MIN_SECONDS,
    MONTHS,
    TimeFormat,
    build_pattern,
    describe_format,
    has_date,
)

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

# RFC 3339 allows +23:59; clocks have been at most 15:13 from UTC (Alaska in 1867).
_MAX_OFFSET_SECONDS = 16 * 3600
_TWO_DIGIT_CENTURY = 69
_INTEGER = r"^[+-]?[0-9]{1,18}(?:\.0+)?$"


def read_times(strings: pa.Array, times: TimeFormat) -> tuple[pa.Array, Mapping[int, str]]:
    """Return strings as times, and the reasons of faults by row.

    The times are wall seconds, or seconds since midnight, null where a value is missing or has a fault; [n] of int64.

    Args:
      strings: Values, null where one is missing; [n] of string.
      times: How they are written.
    """
    seconds, problem = _find_problems(strings, times)
    missing = np.asarray(strings.is_null())
    problem = np.where(missing, "", problem)
    faults = {
        int(row): f"{problem[row]}, found {_quote(strings[int(row)].as_py())}" for row in np.flatnonzero(problem != "")
    }
    return pa.array(seconds, pa.int64(), mask=missing | (problem != "")), faults


def are_times(strings: pa.Array, times: TimeFormat) -> Booleans:
    """Return whether each string is a time that `read_times` reads; [n] of string, none of which is null."""
    return np.asarray(_find_problems(strings, times)[1] == "")


def _find_problems(strings: pa.Array, times: TimeFormat) -> tuple[Integers, NDArray[np.str_]]:
    """Return the seconds of strings, and what is wrong with each; [n]."""
    time_format, time_zone = times.format, times.time_zone
    trimmed = pc.utf8_trim_whitespace(strings)
    if time_format in EPOCHS:
        seconds, is_time = _read_epochs(trimmed, EPOCHS[time_format])
        seconds = _to_wall_seconds(seconds, time_zone)
        problem = np.where(is_time, "", f"expected {describe_format(time_format)}")
    else:
        seconds, problem = _read_parts(trimmed, time_format, time_zone)
    if has_date(time_format):
        is_far = (problem == "") & ((seconds < MIN_SECONDS) | (seconds >= END_SECONDS))
        problem = np.where(is_far, f"expected a year from {FIRST_YEAR} to {LAST_YEAR}", problem)
    return seconds, problem


def _quote(text: str, most: int = 120) -> str:
    return repr(text) if len(text) <= most else f"{text[:most]!r}..."


def _read_epochs(strings: pa.Array, units: int) -> tuple[Integers, Booleans]:
    """Return the whole seconds of epochs, rounded down, and whether each string is a whole number."""
    is_integer = pc.fill_null(pc.match_substring_regex(strings, _INTEGER), False)
    digits = pc.replace_substring_regex(strings, r"^\+|\.0+$", "")
    numbers = pc.if_else(is_integer, digits, pa.scalar("0")).cast(pa.int64())
    return np.floor_divide(_to_integers(numbers), units), np.asarray(is_integer)


def _read_parts(strings: pa.Array, time_format: str, time_zone: str) -> tuple[Integers, NDArray[np.str_]]:
    """Return the seconds of strings of a format, and what is wrong with each; [n]."""
    parts = pc.extract_regex(strings, build_pattern(time_format))
    fits = np.asarray(parts.is_valid())
    names = {parts.type.field(number).name for number in range(parts.type.num_fields)}
    expected = f"expected {describe_format(time_format)}"
    if not fits.any():
        return np.zeros(len(strings), np.int64), np.full(len(strings), expected)

    def read_digits(name: str, default: int) -> Integers:
        if name not in names:
            return np.full(len(strings), default, np.int64)
        digits = pc.struct_field(parts, name)
        is_given = pc.fill_null(pc.not_equal(digits, ""), False)
        return _to_integers(pc.if_else(is_given, digits, pa.scalar(str(default))).cast(pa.int64()))

    hour, minute, second = read_digits("hour", 0), read_digits("minute", 0), read_digits("second", 0)
    is_valid = (hour < 24) & (minute < 60) & (second < 60)
    if "half" in names:
        half = pc.utf8_lower(pc.fill_null(pc.struct_field(parts, "half"), ""))
        is_given, is_afternoon = np.asarray(pc.not_equal(half, "")), np.asarray(pc.equal(half, "pm"))
        hour = read_digits("hour12", 0) if "hour12" in names else hour
        is_valid &= ~is_given | ((hour >= 1) & (hour <= 12))
        hour = np.where(is_given, hour % 12 + 12 * is_afternoon, hour)
    seconds = hour * 3600 + minute * 60 + second
    problem = np.where(fits & is_valid, "", expected)
    if not has_date(time_format):
        return seconds, problem
    year = read_digits("year", 0)
    if "short_year" in names:
        # As POSIX and Python read two digits: 69 is 1969, 68 is 2068.
        short = read_digits("short_year", 0)
        year = np.where(short < _TWO_DIGIT_CENTURY, 2000 + short, 1900 + short)
    month, day = read_digits("month", 1), read_digits("day", 1)
    if "month_name" in names:
        month = _parse_months(pc.struct_field(parts, "month_name"))
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (day <= _count_days_in_month(year, np.clip(month, 1, 12)))
    problem = np.where((problem == "") & ~exists, "expected a day that exists", problem)
    wall = count_days(year, np.clip(month, 1, 12), day) * DAY_SECONDS + seconds
    if "offset" in names:
        offset, has_offset, is_offset = _parse_offsets(pc.struct_field(parts, "offset"))
        problem = np.where((problem == "") & ~is_offset, "expected an offset from UTC of at most 16 hours", problem)
        within = has_offset & is_offset & (wall >= MIN_SECONDS) & (wall < END_SECONDS)
        wall[within] = _to_wall_seconds((wall - offset)[within], time_zone)
    return wall, problem


def _parse_months(names: pa.Array) -> Integers:
    first = pc.utf8_slice_codeunits(pc.utf8_lower(names), 0, 3)
    return _to_integers(pc.add(pc.index_in(first, pa.array(MONTHS)), 1))


def _parse_offsets(texts: pa.Array) -> tuple[Integers, Booleans, Booleans]:
    """Return the seconds of offsets from UTC, whether each value has an offset, and whether a clock can have it."""
    has_offset = np.asarray(pc.fill_null(pc.not_equal(texts, ""), False))
    digits = pc.replace_substring_regex(pc.fill_null(texts, ""), "[^0-9]", "")
    number = _to_integers(pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()))
    is_negative = np.asarray(pc.starts_with(pc.fill_null(texts, ""), "-"))
    seconds = (number // 100 * 60 + number % 100) * 60
    is_valid = (number % 100 < 60) & (seconds <= _MAX_OFFSET_SECONDS)
    return np.where(is_negative, -seconds, seconds), has_offset, is_valid


def _to_wall_seconds(seconds: Integers, time_zone: str) -> Integers:
    """Return what a clock in a zone shows at UTC seconds."""
    if time_zone == "UTC":
        return seconds
    within = (seconds >= MIN_SECONDS) & (seconds < END_SECONDS)
    times = pa.array(np.where(within, seconds, 0), pa.timestamp("s", "UTC")).cast(pa.timestamp("s", time_zone))
    return np.where(within, _to_integers(pc.local_timestamp(times).cast(pa.int64())), seconds)


def _to_integers(numbers: pa.Array) -> Integers:
    return np.asarray(pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _count_days_in_month(year: Integers, month: Integers) -> Integers:
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month - 1]
    return np.where((month == 2) & is_leap, 29, days)


def count_days(year: Integers, month: Integers, day: Integers) -> Integers:
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
