"""Times of a cron expression (https://en.wikipedia.org/wiki/Cron#Cron_expression), with the prefixes of Vertex AI.

    CRON_TZ=Europe/Berlin 30 3 * * MON-FRI

`Schedule.cron` names that page and the prefixes "CRON_TZ=" and "TZ=", which take a name of the IANA time zone
database. UTC without a prefix is a guess. So is the change to and from daylight saving time: a run is due in each
minute whose local time matches. One at 2:30 is skipped in spring, and made twice in autumn.
"""

import datetime
import re
import zoneinfo

_NAMES = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_NAMES |= {name: number for number, name in enumerate(_MONTHS, 1)}
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_PART = re.compile(r"(\*|\w+(?:-\w+)?)(?:/(\d+))?")
_MINUTE = datetime.timedelta(minutes=1)
# February 29 may be eight years away.
_HORIZON = datetime.timedelta(days=366 * 8)


class Cron:
    """A parsed expression."""

    def __init__(self, expression: str) -> None:
        """Parse an expression.

        Raises:
          ValueError: it is not valid, or names no minute that ever comes.
        """
        prefix, _, rest = expression.partition(" ")
        zone, text = (prefix.partition("=")[2], rest) if re.match("(CRON_)?TZ=", prefix) else ("UTC", expression)
        fields = text.split()
        if len(fields) != 5:
            raise ValueError("expected five fields")
        try:
            self._zone = zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{zone} is not a time zone") from error
        parsed = [_parse_field(field, *bounds) for field, bounds in zip(fields, _RANGES, strict=True)]
        self._minutes, self._hours, self._days, self._months, weekdays = parsed
        self._weekdays = {day % 7 for day in weekdays}
        # "If both day-of-month and day-of-week are restricted, one or both must match."
        self._is_either_day = not fields[2].startswith("*") and not fields[4].startswith("*")
        self.find_next(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))

    def find_next(self, moment: datetime.datetime) -> datetime.datetime:
        """Return the first minute after a moment in which a run is due, in UTC."""
        minute = moment.astimezone(datetime.UTC).replace(second=0, microsecond=0) + _MINUTE
        end = minute + _HORIZON
        while minute < end:
            local = minute.astimezone(self._zone)
            if not self._has_day(local.date()):
                following = datetime.datetime.combine(local.date() + datetime.timedelta(days=1), datetime.time())
                minute = following.replace(tzinfo=self._zone).astimezone(datetime.UTC)
            elif local.hour not in self._hours:
                minute += (60 - local.minute) * _MINUTE
            elif local.minute not in self._minutes:
                minute += _MINUTE
            else:
                return minute
        raise ValueError("no minute ever matches")

    def _has_day(self, day: datetime.date) -> bool:
        is_day, is_weekday = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return day.month in self._months and (is_day or is_weekday if self._is_either_day else is_day and is_weekday)


def _parse_field(field: str, low: int, high: int) -> set[int]:
    numbers: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None or match[2] == "0":
            raise ValueError(f"{part} is not valid")
        first, _, last = (f"{low}-{high}" if match[1] == "*" else match[1]).partition("-")
        start = _parse_number(first)
        # `5/15` is 5, 20, 35, ...
        stop = _parse_number(last) if last else high if match[2] else start
        if not low <= start <= stop <= high:
            raise ValueError(f"{part} is not within {low} and {high}")
        numbers.update(range(start, stop + 1, int(match[2] or 1)))
    return numbers


def _parse_number(text: str) -> int:
    try:
        return _NAMES[text.upper()] if text.upper() in _NAMES else int(text)
    except ValueError as error:
        raise ValueError(f"{text} is not a number") from error
