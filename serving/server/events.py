"""Events of a server for other programs: one JSON object a line, on standard output."""

import sys
import time
from typing import Any

import orjson


def write(event: str, **values: Any) -> None:
    """Write one line and flush it; omit values that are None."""
    fields = {key: value for key, value in values.items() if value is not None}
    line = orjson.dumps({"time": _now(), "event": event, **fields}, option=orjson.OPT_APPEND_NEWLINE)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
