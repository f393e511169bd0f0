"""Times of the registry, which are in UTC."""

import calendar
import time

from oncall.text_format import format_time


def parse_registry_time(text: str) -> float | None:
    """Return seconds since 1970; None if the text is not a time."""
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None


def to_local_time(text: str) -> str:
    """Return local time as in run IDs; a text that is not a time as it is."""
    seconds = parse_registry_time(text)
    return text if seconds is None else format_time(seconds)
