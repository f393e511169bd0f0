"""Progress of a batch prediction, computed from the finished files of all processes and machines."""

import threading
import time
from typing import TextIO

from cli.errors import PipelineError
from serving.batch.job import Job, JobState

_LIVE_SECONDS, _PLAIN_SECONDS, _REMOTE_SECONDS = 0.5, 10.0, 10.0


class Progress:
    """A context manager: one line that is overwritten on a terminal, else a line every few seconds."""

    def __init__(self, state: JobState, job: Job, terminal: TextIO | None) -> None:
        """Args:
        state: state of the job.
        job: the job.
        terminal: stream to write to; None writes nothing.
        """
        self._state = state
        self._job = job
        self._terminal = terminal
        self._live = terminal is not None and terminal.isatty()
        self._rows_of_finished: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        if self._terminal is not None:
            self._rows_before = self._count()[0]
            self._started = time.monotonic()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._terminal is not None:
            self._thread.join()
            if self._live:
                self._terminal.write("\r\x1b[K")

    def _watch(self) -> None:
        seconds = _LIVE_SECONDS if self._live else _PLAIN_SECONDS
        if not self._state.folder.is_local:
            seconds = max(seconds, _REMOTE_SECONDS)
        while not self._ended.wait(seconds):
            try:
                self._print(self._build_line())
            except PipelineError:
                # The process that writes there reports the error.
                continue

    def _print(self, line: str) -> None:
        assert self._terminal is not None
        self._terminal.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._terminal.flush()

    def _build_line(self) -> str:
        rows, files = self._count()
        if rows == self._rows_before:
            # The rate excludes the time before the first part.
            self._started = time.monotonic()
            return "loading the model" + (f"; {rows:,} rows are predicted already" if rows else "")
        rate = (rows - self._rows_before) / (time.monotonic() - self._started)
        return f"{rows:,} rows, {rate:,.0f} rows/s, {files} of {len(self._job.inputs)} files"

    def _count(self) -> tuple[int, int]:
        """Return the numbers of rows and finished files; only whole parts of an unfinished file count."""
        names = self._state.folder.list_names()
        finished = self._state.list_finished(names, self._job)
        for index in finished:
            if index not in self._rows_of_finished:
                outcome = self._state.read_outcome(index)
                self._rows_of_finished[index] = outcome.rows if outcome else 0
        unfinished = [index for index in range(len(self._job.inputs)) if index not in self._rows_of_finished]
        parts = sum(len(self._state.list_parts(names, index)) for index in unfinished)
        return sum(self._rows_of_finished.values()) + parts * self._job.rows_per_part, len(finished)
