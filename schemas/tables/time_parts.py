"""Parts of times: month, weekday, hour and others, from wall seconds (schemas/tables/times.py). Imports no TensorFlow.

All is arithmetic of integers that NumPy's arrays and TensorFlow's int64 tensors share, so training, evaluation, batch
and online have the same parts.
"""

from collections.abc import Callable, Mapping
from typing import Any

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
# 1970-01-01 was a Thursday; Monday is 0, as in Python and in ISO 8601.
_FIRST_WEEKDAY = 3


def _compute_days(seconds: Any) -> Any:
    return seconds // _DAY


def _compute_second_of_day(seconds: Any) -> Any:
    return seconds % _DAY


def _compute_weekday(seconds: Any) -> Any:
    return (_compute_days(seconds) + _FIRST_WEEKDAY) % 7


def _to_civil(days: Any) -> tuple[Any, Any, Any]:
    """Return year, month and day of days since 1970-01-01, all of the same shape.

    Source: Howard Hinnant, https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    """
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = (month_from_march + 2) % 12 + 1
    # 1 for January and February, which belong to the year before in a year that begins in March.
    return year_of_era + era * 400 + (14 - month) // 12, month, day


def _compute_first_day(year: Any) -> Any:
    """Return the days from 1970-01-01 to the first of January of years."""
    before = year - 1
    return 365 * (year - 1970) + (before // 4 - before // 100 + before // 400) - (1969 // 4 - 1969 // 100 + 1969 // 400)


def _compute_day_of_year(seconds: Any) -> Any:
    days = _compute_days(seconds)
    return days - _compute_first_day(_to_civil(days)[0])


def _compute_iso_week(seconds: Any) -> Any:
    """Return the week of ISO 8601, from 0 for week 1: the week of a date is that of its Thursday."""
    thursday = _compute_days(seconds) - _compute_weekday(seconds) + 3
    return (thursday - _compute_first_day(_to_civil(thursday)[0])) // 7


PARTS: Mapping[str, Callable[[Any], Any]] = {
    "year": lambda seconds: _to_civil(_compute_days(seconds))[0],
    "days_since_1970": _compute_days,
    "month": lambda seconds: _to_civil(_compute_days(seconds))[1] - 1,
    "day_of_month": lambda seconds: _to_civil(_compute_days(seconds))[2] - 1,
    "day_of_year": _compute_day_of_year,
    "week": _compute_iso_week,
    "weekday": _compute_weekday,
    "hour": lambda seconds: _compute_second_of_day(seconds) // _HOUR,
    "minute_of_day": lambda seconds: _compute_second_of_day(seconds) // _MINUTE,
}
"""The part of wall seconds by its name: int64 of the same shape, from 0 on but for the year."""

NUM_VALUES: Mapping[str, int] = {
    "month": 12, "day_of_month": 31, "day_of_year": 366, "week": 53, "weekday": 7, "hour": 24, "minute_of_day": 1_440,
}  # fmt: skip
"""Number of values of each part that recurs."""

DATE_PARTS = tuple(part for part in PARTS if part not in ("hour", "minute_of_day"))
"""The parts that a time of day does not have."""
