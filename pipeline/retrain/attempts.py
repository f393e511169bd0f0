"""The runs that `pipeline retrain` has started, kept in RUN_ROOT/retrain.json, and the wait after failures."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from cli.errors import RunRootError
from cli.state_files import write_atomically
from cli.terminal import INTERRUPTED_EXIT_CODE
from pipeline.retrain.config import Retrain
from pipeline.run.run_root import RunRoot

_FILE = "retrain.json"
_MAX_KEPT = 50
_HOUR_SECONDS, _DAY_SECONDS = 3600.0, 86_400.0


class Attempt(BaseModel):
    """One start of a run.

    Attributes:
      started: Time in seconds since 1970.
      reason: Conditions that held.
      data_hash: Hash of its input files, schema and config; empty if it is not known.
      exit_code: Exit code of the run; None while it runs, or if its process was killed.
      job_id: ID of the job on Vertex AI; empty for a run on this machine.
    """

    started: float
    reason: str
    data_hash: str = ""
    exit_code: int | None = None
    job_id: str = ""


class Attempts(BaseModel):
    """The attempts of a run root, the oldest first."""

    attempts: list[Attempt] = Field(default_factory=list)

    @classmethod
    def read(cls, root: RunRoot) -> "Attempts":
        """Return the attempts on file; none if it is missing.

        Raises:
          RunRootError: It is damaged, or cannot be read; without it, the wait between two starts is not known.
        """
        file = _get_path(root)
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            problem = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is damaged"
            raise RunRootError(
                f"{file}: {problem}, expected the starts of `pipeline retrain`; restore it, or move it away: then the "
                "next run starts without a wait"
            ) from error

    def write(self, root: RunRoot) -> None:
        """Write the newest attempts.

        Raises:
          RunRootError: They cannot be written.
        """
        self.attempts = self.attempts[-_MAX_KEPT:]
        try:
            write_atomically(_get_path(root), self.model_dump_json(indent=1))
        except OSError as error:
            raise RunRootError(f"{error.filename}: cannot be written: {error.strerror}") from error


def _get_path(root: RunRoot) -> Path:
    return root.path / _FILE


def count_failures(attempts: Sequence[Attempt], succeeded_at: float) -> int:
    """Return the number of failures since the last success.

    Args:
      attempts: Attempts, the oldest first.
      succeeded_at: Start of the newest run that succeeded, whoever started it; 0 if there is none.
    """
    failures = 0
    for attempt in reversed(attempts):
        if attempt.exit_code == 0 or attempt.started < succeeded_at:
            break
        # A run that a person ended is not a failure.
        failures += attempt.exit_code != INTERRUPTED_EXIT_CODE
    return failures


def compute_wait(retrain: Retrain, failures: int) -> float:
    """Return the seconds between the last start and the next: the interval, doubled by each failure, up to the limit.

    The interval itself is kept even where it is longer than the limit of the doubling.
    """
    interval = retrain.min_interval_hours * _HOUR_SECONDS
    # A larger exponent would overflow, and the limit is reached long before.
    doubled = interval * 2.0 ** min(failures, 64)
    return max(interval, min(doubled, retrain.max_backoff_days * _DAY_SECONDS))
