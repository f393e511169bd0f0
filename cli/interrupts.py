"""Handling of Ctrl-C and SIGTERM, which end a run at any stage within seconds, with a complete record."""

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from cli.terminal import INTERRUPTED_EXIT_CODE

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A process is to end within 5 s, and to write its record takes some of them.
_GRACE_SECONDS = 3.0


def exit_at_once(code: int) -> None:
    """End the process without waiting for its threads: one may be in native code for minutes."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def skip_teardown() -> Iterator[None]:
    """End the process after the last lines of a program, with the exit code that it would have.

    The interpreter would remove every object first. With TensorFlow and TFX loaded, that takes as long as to load them.
    An interrupted command does not wait for its threads either.
    """
    code = 0
    try:
        yield
    except SystemExit as end:
        code = _resolve_exit_code(end)
    except BaseException:
        # As the interpreter does at the end of a program.
        traceback.print_exc()
        code = 1
    if code != INTERRUPTED_EXIT_CODE:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    exit_at_once(code)


def _resolve_exit_code(end: SystemExit) -> int:
    """Return the code of `sys.exit`, and print its message if it has one."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)  # noqa: T201 (the interpreter prints it)
    return 1


class Interrupts:
    """Turns both signals into KeyboardInterrupt, and remembers them: libraries swallow exceptions, or replace them.

    Python runs its handlers when the main thread is back from native code. TensorFlow stays there for minutes, and
    where a library waits for a thread of its own, an exception does not end the process. So a thread of this class
    ends it, if nothing else has by then.

    Attributes:
      received: the name of the first signal that came; empty until then.
      end_process: called by that thread to put the end on record, and to leave the process; None for not.
    """

    def __init__(self) -> None:
        self.received = ""
        self.end_process: Callable[[], None] | None = None
        self._is_held = False
        # Who has it ends the run.
        self._ending = threading.Lock()

    def __enter__(self) -> "Interrupts":
        # `nohup` and `&` let a process ignore a signal; so it stays.
        asked = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._receive) for number in asked}
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(self._reads,), name="interrupts", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_process = None
        self.release()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # The thread reads to the end.
        os.close(self._writes)

    def _watch(self, reads: int) -> None:
        asked = {number.value: number.name for number in self._before}
        with open(reads, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                if number[0] not in asked:
                    continue
                time.sleep(_GRACE_SECONDS)
                with self._ending:
                    self.received = self.received or asked[number[0]]
                    if self.end_process is not None:
                        self.end_process()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        if not self._is_held:
            raise KeyboardInterrupt(self.received)

    def check(self) -> None:
        """Raise what a signal should have raised, if a library swallowed it."""
        if self.received:
            raise KeyboardInterrupt(self.received)

    def hold(self) -> None:
        """Remember signals and raise none from now on: the next steps are short, and must not be cut off."""
        if not self._is_held:
            self._ending.acquire()
            self._is_held = True

    def release(self) -> None:
        """Let signals raise again from now on; `check` raises one that came meanwhile."""
        if self._is_held:
            self._is_held = False
            self._ending.release()

    def translate_error(self, error: BaseException) -> BaseException:
        """Return the interrupt that caused an error, or the error itself."""
        return KeyboardInterrupt(self.received) if self.received else error
