"""JSON as RFC 8259 defines it: without NaN and infinity, which Python writes and other readers reject."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any) -> str:
    """Return a value as indented JSON; a number that is not finite becomes null."""
    return json.dumps(_replace_nonfinite(value), indent=2, allow_nan=False)


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
