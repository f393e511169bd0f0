"""Times in statistics, which are wall seconds there, as dates and as times of day."""

import datetime
import math
from collections.abc import Callable, Sequence

from schemas.tables.time_format import DAY_SECONDS, TIME_OF_DAY

# In so long a range, the minute of a mean or of a quantile means nothing, and ten of them do not fit on a page.
_LONG_SECONDS = 90 * DAY_SECONDS
_EPOCH = datetime.datetime(1970, 1, 1)


def build_time_writer(format_: str, samples: Sequence[float]) -> Callable[[float], str]:
    """Return a function that writes wall seconds: as a time of day, a date, or, in a short range, a date and a minute.

    Args:
      format_: The feature's format in the config.
      samples: Some values of the column; if all are midnights, the column has dates.
    """
    if format_ == TIME_OF_DAY:
        pattern = "%H:%M:%S" if any(value % 60 for value in samples) else "%H:%M"
    elif any(value % DAY_SECONDS for value in samples) and max(samples) - min(samples) < _LONG_SECONDS:
        pattern = "%Y-%m-%d %H:%M"
    else:
        pattern = "%Y-%m-%d"

    def write(seconds: float) -> str:
        return (_EPOCH + datetime.timedelta(seconds=math.floor(seconds))).strftime(pattern)

    return write


def format_duration(seconds: float) -> str:
    """Return a number of seconds in the largest unit of which it has one: `3.5 h`."""
    for unit, size in (("days", DAY_SECONDS), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.4g} {unit}"
    return f"{seconds:.4g} s"
