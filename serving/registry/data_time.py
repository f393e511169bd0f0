"""The newest time of the rows that a model was trained on, which its age counts from."""

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.registry.protocol import ModelRegistry

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class DataTime:
    """Newest time of the training data.

    Attributes:
      seconds: Time in seconds since 1970.
      source: Origin of the time, in words: a column, the date of a span, or the files.
      span: Number of the newest span; None without spans.
    """

    seconds: float
    source: str
    span: int | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "DataTime | None":
        """Return the fields that a push has written; None if there are none, or others."""
        seconds, source, span = values.get("seconds"), values.get("source"), values.get("span")
        if not isinstance(seconds, int | float) or not isinstance(source, str) or not isinstance(span, int | None):
            return None
        return cls(float(seconds), source, span)

    def measure_age(self, now: float | None = None) -> float:
        """Return the seconds from the newest row until now; 0 for a time in the future."""
        return max((time.time() if now is None else now) - self.seconds, 0.0)

    def describe(self, now: float | None = None) -> str:
        """Return the age, the time and its origin in words."""
        date = datetime.datetime.fromtimestamp(self.seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")
        return f"{format_age(self.measure_age(now))} old: data until {date} UTC, by {self.source}"


def format_age(seconds: float) -> str:
    """Return an age in days, or in hours below two days."""
    return f"{seconds / DAY_SECONDS:,.0f} days" if seconds >= 2 * DAY_SECONDS else f"{seconds / 3600:.1f} hours"


def read_data_time(registry: ModelRegistry, version: int) -> DataTime | None:
    """Return the data time of a version; None of one that an earlier release or another tool wrote.

    Raises:
      PushError: The registry cannot be read.
    """
    details = next((registered.details for registered in registry.list_versions() if registered.number == version), {})
    values = details.get("data")
    in_release = DataTime.parse(values) if isinstance(values, Mapping) else None
    return in_release if in_release is not None else find_data_time(registry.read_history(), version)


def find_data_time(history: Sequence[Mapping[str, Any]], version: int) -> DataTime | None:
    """Return the data time that the push of a version has in the history of a registry; None if it has none."""
    for event in reversed(history):
        values = event.get("data")
        if event.get("version") == version and event.get("action") == "push" and isinstance(values, Mapping):
            return DataTime.parse(values)
    return None
