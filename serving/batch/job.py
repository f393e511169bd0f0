"""The job of a batch prediction and its state, kept beside its output, so that a rerun continues it.

    OUTPUT/part-00003-000012.parquet     the 13th part of the predictions for the 4th input file
           _job.json                     inputs, model and options. Another job may not write here.
           _outcomes/00003.json          the 4th file is finished (00003.failed.json: was rejected).
           _outcomes/00003.rejects.jsonl its bad rows.
           _rejects.jsonl, _SUCCESS      bad rows and mark of all files, once all are finished

Arrow, pandas and Spark ignore names that start with `_` when they read the folder. Imports no TensorFlow.
"""

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt, ValidationError

from cli.errors import PushError
from schemas.data import Format, ReadOptions
from schemas.declaration import Declaration
from serving.batch.storage import OutputFolder

OutputFormat = Literal["parquet", "csv", "jsonl"]

JOB_FILE = "_job.json"
SUCCESS_FILE = "_SUCCESS"
REJECTS_FILE = "_rejects.jsonl"
LOG_FILE = "_log.txt"
_OUTCOMES = "_outcomes"
_FAILED_ENDING = ".failed.json"
# Makes all workers stop, since a file was rejected.
_STOP_FILE = f"{_OUTCOMES}/stop"
_PART_PREFIX = "part-"
# Names of the attributes of Job in messages.
_ATTRIBUTE_NAMES = {
    "content_hash": "--model",
    "format": "--format",
    "reading": "the read options",
    "keys": "--key",
    "output_format": "--output-format",
    "rows_per_part": "--rows-per-part",
}


class InputFile(Declaration):
    """An input file at the start of the job."""

    path: str
    bytes: int
    modified: str


class Job(Declaration):
    """Everything that decides on the output.

    `model` is only the path of the model; its `content_hash` is compared.
    """

    inputs: tuple[InputFile, ...]
    model: str
    content_hash: str
    format: Format
    reading: ReadOptions
    keys: tuple[str, ...]
    output_format: OutputFormat
    rows_per_part: PositiveInt
    allow_unvalidated: bool = False

    def format_part_name(self, index: int, part: int) -> str:
        """Return the name of a part of the predictions for an input file."""
        return f"{_format_part_prefix(index)}{part:06d}.{self.output_format}"


class Outcome(Declaration):
    """The outcome of an input file.

    `reused` counts the parts of earlier runs. `problems` describes the bad rows, a kind a line. `values_out_of_range`
    counts by column the IDs that were replaced by the nearest ID. `exit_code` is 0 unless the file was rejected.
    """

    path: str
    rows: int = 0
    rejected: int = 0
    parts: int = 0
    reused: int = 0
    problems: tuple[str, ...] = ()
    values_out_of_range: dict[str, int] = Field(default_factory=dict)
    model_version: str = ""
    schema_hash: str = ""
    error: str = ""
    exit_code: int = 0


class Summary(Declaration):
    """The content of `_SUCCESS`: the outcomes of all files together, and the model."""

    rows: int
    rejected: int
    values_out_of_range: dict[str, int]
    files: int
    parts: int
    model: str
    model_version: str
    schema_hash: str
    content_hash: str
    finished: str


class JobState:
    """The state of a job, read from and written to the files in its folder."""

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder

    def read_job(self) -> Job | None:
        """Return the job of the folder; None before the first one.

        Raises:
          PushError: its file is damaged.
        """
        content = self.folder.read(JOB_FILE)
        try:
            return None if content is None else Job.model_validate_json(content)
        except ValidationError as error:
            raise PushError(f"{self.folder.build_path(JOB_FILE)}: is damaged; give another OUTPUT") from error

    def read_summary(self) -> Summary | None:
        """Return the summary of the finished job; None before."""
        content = self.folder.read(SUCCESS_FILE)
        return None if content is None else Summary.model_validate_json(content)

    def claim(self, job: Job) -> None:
        """Make the folder this job's, or continue with it; a rejected file may have been fixed meanwhile.

        Raises:
          PushError: the folder holds another job or other files.
        """
        names = self.folder.list_names() - {LOG_FILE}
        recorded = self.read_job()
        if recorded is None and names:
            raise PushError(f"{self.folder.uri}: holds other files, such as {min(names)}; give a folder of its own")
        rejections = {name for name in names if name.endswith(_FAILED_ENDING) or name == _STOP_FILE}
        # A job without predictions may be replaced by any other.
        if recorded is not None and names - rejections - {JOB_FILE}:
            self._reject_other_job(recorded, job, names)
        if job != recorded:
            self.folder.write(JOB_FILE, job.model_dump_json(indent=1).encode())
        # Deleted last: while these files exist, the rejected input files may be fixed.
        for name in rejections:
            self.folder.delete(name)

    def read_outcome(self, index: int) -> Outcome | None:
        """Return the outcome of a file; None before it is finished."""
        content = self.folder.read(_format_outcome_name(index))
        return None if content is None else Outcome.model_validate_json(content)

    def list_finished(self, names: set[str], job: Job) -> list[int]:
        """Return the indices of the files that are finished, from the folder's names."""
        return [index for index in range(len(job.inputs)) if _format_outcome_name(index) in names]

    def read_failures(self, names: set[str]) -> list[Outcome]:
        """Return the outcomes of the rejected files, from the folder's names."""
        contents = [self.folder.read(name) for name in sorted(names) if name.endswith(_FAILED_ENDING)]
        return [Outcome.model_validate_json(content) for content in contents if content is not None]

    def list_parts(self, names: set[str], index: int) -> set[str]:
        """Return the existing parts of a file, from the folder's names."""
        return {name for name in names if name.startswith(_format_part_prefix(index))}

    def finish(self, index: int, outcome: Outcome, rejects: bytes = b"") -> None:
        """Write the outcome of a file; its rejects first, so that a finished file has them."""
        if rejects:
            self.folder.write(_format_rejects_name(index), rejects)
        name = _format_failure_name(index) if outcome.exit_code else _format_outcome_name(index)
        self.folder.write(name, outcome.model_dump_json(indent=1).encode())
        if outcome.exit_code:
            self.folder.write(_STOP_FILE, b"")

    def is_stopped(self) -> bool:
        """Return whether a file was rejected, so that the run has to end."""
        return self.folder.read(_STOP_FILE) is not None

    def read_rejects(self, job: Job) -> bytes:
        """Return the bad rows of all files after the last one is finished."""
        return b"".join(self.folder.read(_format_rejects_name(index)) or b"" for index in range(len(job.inputs)))

    def write_summary(self, summary: Summary) -> None:
        """Mark the job as done."""
        self.folder.write(SUCCESS_FILE, summary.model_dump_json(indent=1).encode())

    def _reject_other_job(self, recorded: Job, job: Job, names: set[str]) -> None:
        fixed = self._find_fixed_files(recorded, job, names)
        differences = describe_differences(recorded, job, fixed)
        if differences:
            reasons = "; ".join(differences)
            raise PushError(f"{self.folder.uri}: holds another job: {reasons}. Give another OUTPUT, or remove it")
        for index in fixed:
            for name in self.list_parts(names, index):
                self.folder.delete(name)

    @staticmethod
    def _find_fixed_files(recorded: Job, job: Job, names: set[str]) -> list[int]:
        """Return the indices of the rejected files that have changed since."""
        if [file.path for file in recorded.inputs] != [file.path for file in job.inputs]:
            return []
        pairs = enumerate(zip(recorded.inputs, job.inputs, strict=True))
        return [index for index, (old, new) in pairs if old != new and _format_failure_name(index) in names]


def describe_differences(recorded: Job, job: Job, fixed: Sequence[int] = ()) -> list[str]:
    """Return the differences between two jobs in the same folder, except changes of the fixed files."""
    differences = []
    old, new = {f.path: f for f in recorded.inputs}, {f.path: f for f in job.inputs}
    gone, added = [path for path in old if path not in new], [path for path in new if path not in old]
    indices = {file.path: index for index, file in enumerate(job.inputs)}
    changed = [path for path in new if path in old and old[path] != new[path] and indices[path] not in fixed]
    for paths, what in ((gone, "is no longer among the input files"), (added, "is new"), (changed, "has changed")):
        if paths:
            differences.append(f"{paths[0]} {what}" + (f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""))
    for attribute, name in _ATTRIBUTE_NAMES.items():
        if getattr(recorded, attribute) != getattr(job, attribute):
            before, now = _format_attribute(recorded, attribute, job), _format_attribute(job, attribute, recorded)
            differences.append(f"{name} was {before}, is {now}")
    return differences


def _format_attribute(job: Job, attribute: str, other: Job) -> str:
    if attribute == "content_hash":
        return f"{job.model} ({job.content_hash[:12]})"
    value = getattr(job, attribute)
    if isinstance(value, ReadOptions):
        usual = other.reading.model_dump()
        changed = {k: v for k, v in value.model_dump(exclude_defaults=True).items() if v != usual[k]}
        return json.dumps(changed, ensure_ascii=False)
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def _format_part_prefix(index: int) -> str:
    return f"{_PART_PREFIX}{index:05d}-"


def _format_outcome_name(index: int) -> str:
    return f"{_OUTCOMES}/{index:05d}.json"


def _format_failure_name(index: int) -> str:
    return f"{_OUTCOMES}/{index:05d}{_FAILED_ENDING}"


def _format_rejects_name(index: int) -> str:
    return f"{_OUTCOMES}/{index:05d}.rejects.jsonl"
