"""Job servers that this process has started. Imports no Beam.

Beam stops them at the exit of the process, when the folder of temporary files may be gone.
"""

from collections.abc import Callable
from typing import Any

_STOPS: dict[str, Callable[[], None]] = {}
_CONNECTIONS: dict[str, Any] = {}


def start_once(key: str, build: Callable[[], Any]) -> Any:
    """Return the connection to a job server, which is started unless it is running.

    Args:
      key: name of the server and its options.
      build: function that returns the server, which has `start` and `stop`.
    """
    if key not in _CONNECTIONS:
        server = build()
        _CONNECTIONS[key] = server.start()
        _STOPS[key] = server.stop
    return _CONNECTIONS[key]


def stop_all() -> None:
    """Stop all job servers; the next job starts them again."""
    _CONNECTIONS.clear()
    while _STOPS:
        _, stop = _STOPS.popitem()
        stop()
