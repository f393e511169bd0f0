"""Durations, times, sizes and long texts, as the commands print them."""

import math
import time
from collections.abc import Iterable


def join_heading(text: str) -> str:
    """Return the first line, with the next if it is only a heading."""
    first, *rest = [" ".join(line.split()) for line in text.splitlines() if line.strip()] or [""]
    return f"{first} {rest[0]}" if rest and first.endswith(":") else first


def shorten(text: str, width: int = 80) -> str:
    """Return the first line, cut at `width` characters."""
    line = join_heading(text)
    return line if len(line) <= width else f"{line[: width - 3]}..."


def format_seconds(value: float | None) -> str:
    """Return a duration in seconds, minutes or hours."""
    if value is None or not math.isfinite(value):
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes = int(value) // 60
    return f"{minutes} min" if minutes < 180 else f"{minutes // 60} h"


def format_time(value: float | None) -> str:
    """Return seconds since 1970 as local time, as run IDs are."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value)) if value else ""
    except (OverflowError, ValueError, OSError):
        # A damaged record.
        return f"{value:g} seconds after 1970"


def format_bytes(size: float) -> str:
    """Return a size in kB or MB."""
    return f"{size / 1e3:,.1f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def format_labels(pairs: Iterable[tuple[str, object]]) -> list[str]:
    """Return a line for each label and its text, without the pairs whose text is empty."""
    return [f"{label:<10} {text}" for label, text in pairs if text not in ("", None)]
