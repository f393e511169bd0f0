"""Ends the process if a call of the model does not return: native code cannot be interrupted."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cli.interrupts import exit_at_once
from serving.model.model_call import Outputs
from serving.server import events

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 1.0
# After the deadline of the rows, so that no one waits for the answer.
HUNG_SECONDS = 10.0

Call = Callable[[Mapping[str, Sequence[Any]]], Outputs]


class _RunningCall(NamedTuple):
    version: int
    started: float


class CallWatchdog:
    """Finds calls that take too long, from a thread of its own: a call may hang in the event loop's thread."""

    def __init__(self, limit_seconds: float) -> None:
        """Args:
        limit_seconds: time after which a call hangs.
        """
        self.limit_seconds = limit_seconds
        self._calls: dict[int, _RunningCall] = {}

    def watch(self, version: int, call: Call) -> Call:
        """Return a function that is watched whenever it runs.

        Args:
          version: Number of the model's version, for the log.
          call: Function from columns to outputs.
        """
        calls, thread, clock = self._calls, threading.get_ident, time.monotonic

        def run(columns: Mapping[str, Sequence[Any]]) -> Outputs:
            calls[thread()] = _RunningCall(version, clock())
            try:
                return call(columns)
            finally:
                del calls[thread()]

        return run

    def start(self, end: Callable[[int, float], None]) -> None:
        """Start the thread.

        Args:
          end: Called with the version and the seconds of a call that hangs.
        """
        threading.Thread(target=self._run, args=(end,), name="watchdog", daemon=True).start()

    def _run(self, end: Callable[[int, float], None]) -> None:
        ticks: dict[_RunningCall, int] = {}
        while True:
            time.sleep(_TICK_SECONDS)
            # Ticks are counted, since a stopped process has no time for its calls either.
            ticks = {call: ticks.get(call, -1) + 1 for call in self._calls.copy().values()}
            for call, number in ticks.items():
                if number * _TICK_SECONDS >= self.limit_seconds:
                    end(call.version, number * _TICK_SECONDS)


def end_process(version: int, seconds: float) -> None:
    """End the process, with a line in the log; whoever started it starts another one."""
    _LOG.error("a call of version %d has taken %g s and hangs; the process ends", version, seconds)
    events.write("hung", version=version, seconds=seconds)
    events.flush()
    exit_at_once(1)
