"""How times are written: formats, and the wall seconds that they stand for. Imports neither NumPy nor TensorFlow.

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

from schemas.declaration import find_close_match

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

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"  # fmt: skip
_CODES = {
    "Y": r"(?P<year>[0-9]{4})",
    "y": r"(?P<short_year>[0-9]{2})",
    "m": r"(?P<month>[0-9]{1,2})",
    "b": rf"(?P<month_name>(?i:{'|'.join(MONTHS)}))",
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
        return describe_format(self.format)

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
    names = set(re.compile(build_pattern(time_format)).groupindex)
    has_date = bool(names & {"year", "short_year"}) and bool(names & {"month", "month_name"})
    if names & {"year", "short_year", "month", "month_name", "day"} and not has_date:
        raise ValueError(f"'{time_format}' needs a year and a month (%Y-%m), or no part of a date")
    if not names & {"year", "short_year", "hour", "hour12"}:
        words = [ISO8601, TIME_OF_DAY, *EPOCHS]
        close = find_close_match(time_format, words)
        hint = f"did you mean '{close}'?" if close else f"expected codes of strptime, or {', '.join(words)}"
        raise ValueError(f"'{time_format}' has neither a date nor an hour; {hint}")
    if ("hour12" in names) != ("half" in names):
        raise ValueError(f"'{time_format}': %I and %p need each other")


def check_time_zone(name: str) -> None:
    """Check that a time zone exists.

    Raises:
      ValueError: It does not.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{name}' is not in the tz database; expected a name such as Europe/Berlin") from error


def has_date(time_format: str) -> bool:
    """Return whether values of a format have a date; otherwise they are times of day."""
    return time_format in (ISO8601, *EPOCHS) or (time_format != TIME_OF_DAY and bool(re.search("%[Yy]", time_format)))


def describe_format(time_format: str) -> str:
    """Return the description of a value of a format, for messages."""
    return {
        ISO8601: "a date or a time such as 2024-02-29 or 2024-02-29T13:45:00+01:00",
        TIME_OF_DAY: "a time of day such as 13:45 or 1:45 pm",
    }.get(
        time_format,
        f"{time_format.replace('_', ' ')}, a whole number"
        if time_format in EPOCHS
        else f"a time written as {time_format}",
    )


@cache
def build_pattern(time_format: str) -> str:
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
        raise ValueError(f"'{time_format}' has two codes of one part")
    return expression
