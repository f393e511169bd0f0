"""The runs that were refused since the last that ended, kept in RUN_ROOT/refused.json. Imports no TensorFlow.

What was not started is not a run and leaves no record: whoever asks why there is no newer run finds it here.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from cli.errors import PipelineError
from cli.state_files import read_state, write_atomically
from pipeline.run.run_root import RunRoot


class Refusal(BaseModel):
    """The last run that was refused, and how often that was before.

    Attributes:
      pipeline: its name.
      why: it was not started; may have several lines.
      exit_code: its exit code.
      command: its arguments, the program's name among them.
      folder: Current folder of the command, which its relative paths start from.
      last, since: when it was, and when the first was, in seconds since 1970.
      count: number of them.
    """

    pipeline: str
    why: str
    exit_code: int
    command: list[str]
    folder: str = ""
    last: float
    since: float
    count: int = Field(ge=1)


@dataclass(frozen=True)
class Refusals:
    """Those of one run root."""

    root: RunRoot

    @property
    def _file(self) -> Path:
        return self.root.path / "refused.json"

    def known(self) -> Refusal | None:
        """Return what is kept; None where nothing is, or the file is damaged."""
        return read_state(self._file, Refusal)

    def another(self, pipeline: str, error: PipelineError, command: list[str]) -> Refusal:
        """Return a run that is refused now, after those that are kept."""
        before, now = self.known(), time.time()
        return Refusal(
            pipeline=pipeline,
            why=str(error),
            exit_code=error.exit_code,
            command=command,
            folder=os.getcwd(),
            last=now,
            since=before.since if before else now,
            count=before.count + 1 if before else 1,
        )

    def keep(self, refusal: Refusal) -> None:
        """Write it down. A run root that is not there is not made.

        Raises:
          OSError: it cannot be written.
        """
        if self.root.path.is_dir():
            write_atomically(self._file, refusal.model_dump_json(indent=1))

    def forget(self) -> None:
        """Is called when a run has ended.

        Raises:
          OSError: the file cannot be removed.
        """
        self._file.unlink(missing_ok=True)
