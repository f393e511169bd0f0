"""Ctrl-C and SIGTERM end a run at any stage, and its record says so."""

import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Turns both signals into KeyboardInterrupt, and remembers them: libraries swallow exceptions, or replace them.

    Attributes:
      received: the name of the first signal that came; empty until then.
    """

    def __init__(self) -> None:
        self.received = ""
        self._is_held = False

    def __enter__(self) -> "Interrupts":
        # `nohup` and `&` let a process ignore a signal; so it stays.
        asked = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._receive) for number in asked}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        if not self._is_held:
            raise KeyboardInterrupt(self.received)

    def check(self) -> None:
        """Raises what a signal should have raised, if a library swallowed it."""
        if self.received:
            raise KeyboardInterrupt(self.received)

    def hold(self) -> None:
        """From now on a signal is only remembered: what follows is short, and must not be cut off."""
        self._is_held = True

    def release(self) -> None:
        """From now on a signal raises again; `check` raises one that came meanwhile."""
        self._is_held = False

    def instead_of(self, error: BaseException) -> BaseException:
        """The interrupt that an error came of, or the error itself."""
        return KeyboardInterrupt(self.received) if self.received else error
