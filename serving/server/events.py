"""What a server tells programs: one JSON object a line, on standard output."""

import sys
import time
from typing import Any

import orjson


def write(event: str, **values: Any) -> None:
    """Write one line at once; values that are None are left out."""
    known = {key: value for key, value in values.items() if value is not None}
    line = orjson.dumps({"time": _now(), "event": event, **known}, option=orjson.OPT_APPEND_NEWLINE)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
