"""Says how far a batch prediction is, from the files that are there, whichever process or machine wrote them."""

import threading
import time
from typing import TextIO

from cli.errors import PipelineError
from serving.batch.job import Job, Record

_LIVE_SECONDS, _PLAIN_SECONDS, _REMOTE_SECONDS = 0.5, 10.0, 10.0


class Progress:
    """A context manager: one line that is overwritten on a terminal, else a line every few seconds."""

    def __init__(self, record: Record, job: Job, terminal: TextIO | None) -> None:
        """Args:
        record: record of the job.
        job: what is to be done.
        terminal: where to write; None writes nothing.
        """
        self._record = record
        self._job = job
        self._terminal = terminal
        self._live = terminal is not None and terminal.isatty()
        self._rows_of_finished: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        if self._terminal is not None:
            self._rows_before = self._counted()[0]
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
        shown = _LIVE_SECONDS if self._live else _PLAIN_SECONDS
        seconds = shown if self._record.folder.is_local else max(shown, _REMOTE_SECONDS)
        while not self._ended.wait(seconds):
            try:
                self._say(self._line())
            except PipelineError:
                # Whoever writes there will say it.
                continue

    def _say(self, line: str) -> None:
        assert self._terminal is not None
        self._terminal.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._terminal.flush()

    def _line(self) -> str:
        rows, files = self._counted()
        if rows == self._rows_before:
            # The rate is that of the prediction, without what comes before it.
            self._started = time.monotonic()
            return "loading the model" + (f"; {rows:,} rows are predicted already" if rows else "")
        rate = (rows - self._rows_before) / (time.monotonic() - self._started)
        return f"{rows:,} rows, {rate:,.0f} rows/s, {files} of {len(self._job.inputs)} files"

    def _counted(self) -> tuple[int, int]:
        """(rows, finished files); of an unfinished file, only whole parts count."""
        names = self._record.folder.names()
        finished = self._record.finished(names, self._job)
        for index in finished:
            if index not in self._rows_of_finished:
                outcome = self._record.outcome(index)
                self._rows_of_finished[index] = outcome.rows if outcome else 0
        unfinished = [index for index in range(len(self._job.inputs)) if index not in self._rows_of_finished]
        parts = sum(len(self._record.parts(names, index)) for index in unfinished)
        return sum(self._rows_of_finished.values()) + parts * self._job.rows_per_part, len(finished)
