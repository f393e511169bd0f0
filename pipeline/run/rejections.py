"""The runs that were not started since the last that ended, kept in RUN_ROOT/refused.json. Imports no TensorFlow.

Such a run leaves no record; the file has the reason why there is no newer run.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from cli.errors import PipelineError
from cli.state_files import read_state, write_atomically
from pipeline.run.run_order import list_runs
from pipeline.run.run_root import RunRoot


class Rejection(BaseModel):
    """The last run that was not started, and the number of those before it.

    Attributes:
      pipeline: Name of the pipeline.
      why: Reason; may have several lines.
      error: Name of the error's class.
      exit_code: Exit code of the command.
      command: Arguments of the command, with the program's name.
      folder: Current folder of the command, which its relative paths start from.
      last, since: Times of the last and of the first, in seconds since 1970.
      count: Number of runs that were not started.
      newest_run: ID of the newest run on record then; empty if there was none.
    """

    pipeline: str
    why: str
    error: str = ""
    exit_code: int
    command: list[str]
    folder: str = ""
    last: float
    since: float
    count: int = Field(ge=1)
    newest_run: str = ""


@dataclass(frozen=True)
class RejectionFile:
    """The file of one run root."""

    root: RunRoot

    @property
    def _file(self) -> Path:
        return self.root.path / "refused.json"

    def read(self) -> Rejection | None:
        """Return its content; None if the file is missing or damaged."""
        return read_state(self._file, Rejection)

    def create(self, pipeline: str, error: PipelineError, command: list[str]) -> Rejection:
        """Return the rejection of a run that is not started now, which counts those before it."""
        before, now = self.read(), time.time()
        return Rejection(
            pipeline=pipeline,
            why=str(error),
            error=type(error).__name__,
            exit_code=error.exit_code,
            command=command,
            folder=os.getcwd(),
            last=now,
            since=before.since if before else now,
            count=before.count + 1 if before else 1,
            newest_run=next((i for i in list_runs(self.root) if self.root.locate_record(i).is_file()), ""),
        )

    def write(self, rejection: Rejection) -> None:
        """Write the file. A run root that does not exist is not made.

        Raises:
          OSError: The file cannot be written.
        """
        if self.root.path.is_dir():
            write_atomically(self._file, rejection.model_dump_json(indent=1))

    def remove(self) -> None:
        """Remove the file, because a run has ended.

        Raises:
          OSError: The file cannot be removed.
        """
        self._file.unlink(missing_ok=True)
