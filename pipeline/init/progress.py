"""Reports the progress of work that takes more than a few seconds."""

import time
from collections.abc import Callable

_QUIET_SECONDS = 5.0


class ProgressLines:
    """Passes on a line now and then.

    Attributes:
      report: Function that shows a line.
    """

    def __init__(self, report: Callable[[str], None] = lambda line: None) -> None:
        self.report = report
        self._last = time.monotonic()

    def report_step(self, line: str) -> None:
        """Report a line, unless the last one is recent."""
        now = time.monotonic()
        if now - self._last >= _QUIET_SECONDS:
            self._last = now
            self.report(line)
