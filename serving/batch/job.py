"""What a batch prediction is about, kept beside its output, so that a rerun knows what is done already.

    OUTPUT/part-00003-000012.parquet     the 13th part of the predictions for the 4th input file
           _job.json                     inputs, model and options; another job may not write here
           _outcomes/00003.json          the 4th file is finished; 00003.failed.json: it was refused
           _outcomes/00003.rejects.jsonl its bad rows
           _rejects.jsonl, _SUCCESS      of all files, once all are finished

What starts with `_` is left out by Arrow, pandas and Spark when they read the folder. Imports no TensorFlow.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, PositiveInt, ValidationError

from cli.errors import PushError
from schemas.data import Format, ReadOptions
from schemas.declaration import Declaration
from serving.batch.storage import Folder

OutputFormat = Literal["parquet", "csv", "jsonl"]

JOB_FILE = "_job.json"
SUCCESS_FILE = "_SUCCESS"
REJECTS_FILE = "_rejects.jsonl"
LOG_FILE = "_log.txt"
_OUTCOMES = "_outcomes"
_FAILED_ENDING = ".failed.json"
# Tells all workers that a file was refused.
_STOP_FILE = f"{_OUTCOMES}/stop"
_PART_PREFIX = "part-"
# What a difference is called, by the attribute of Job.
_CALLED = {
    "content_hash": "--model",
    "format": "--format",
    "reading": "how the input is read",
    "keys": "--key",
    "output_format": "--output-format",
    "rows_per_part": "--rows-per-part",
}


class InputFile(Declaration):
    """An input file as it was when the job began."""

    path: str
    bytes: int
    modified: str


class Job(Declaration):
    """All that decides what is written.

    `model` is only where the model was found; its `content_hash` counts.
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

    def part_name(self, index: int, part: int) -> str:
        """Of a part of the predictions for an input file."""
        return f"{_part_prefix(index)}{part:06d}.{self.output_format}"


class Outcome(Declaration):
    """How an input file ended.

    `reused` counts parts that an earlier run had written, `problems` describes the bad rows, a kind a line,
    `ids_out_of_range` counts by column the IDs that got the nearest ID, and `exit_code` is 0 unless the file was
    refused.
    """

    path: str
    rows: int = 0
    rejected: int = 0
    parts: int = 0
    reused: int = 0
    problems: tuple[str, ...] = ()
    ids_out_of_range: dict[str, int] = Field(default_factory=dict)
    model_version: str = ""
    schema_hash: str = ""
    error: str = ""
    exit_code: int = 0


class Record:
    """What is known of a job from the files in its folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def job(self) -> Job | None:
        """Return the job that writes here; None where there is none yet.

        Raises:
          PushError: the file that says so is damaged.
        """
        content = self.folder.read(JOB_FILE)
        try:
            return None if content is None else Job.model_validate_json(content)
        except ValidationError as error:
            raise PushError(f"{self.folder.path(JOB_FILE)}: is damaged; give another OUTPUT") from error

    def summary(self) -> dict[str, object] | None:
        """Return what was written at the end of the job; None before."""
        content = self.folder.read(SUCCESS_FILE)
        return None if content is None else dict(json.loads(content))

    def claim(self, job: Job) -> None:
        """Make the folder this job's, or continue with it; a rejected file may have been fixed meanwhile.

        Raises:
          PushError: the folder holds another job or other files.
        """
        names = self.folder.names() - {LOG_FILE}
        known = self.job()
        if known is None and names:
            raise PushError(f"{self.folder.uri}: holds other files, such as {min(names)}; give a folder of its own")
        ended_badly = {name for name in names if name.endswith(_FAILED_ENDING) or name == _STOP_FILE}
        # A job that has predicted nothing yet may be any other.
        if known is not None and names - ended_badly - {JOB_FILE}:
            self._refuse_another(known, job, names)
        if job != known:
            self.folder.write(JOB_FILE, job.model_dump_json(indent=1).encode())
        # Last: as long as they are there, the files they are about may be fixed.
        for name in ended_badly:
            self.folder.delete(name)

    def outcome(self, index: int) -> Outcome | None:
        """Of a finished file; None before."""
        content = self.folder.read(_outcome_name(index))
        return None if content is None else Outcome.model_validate_json(content)

    def finished(self, names: set[str], job: Job) -> list[int]:
        """Return the indices of the files that are finished, from the folder's names."""
        return [index for index in range(len(job.inputs)) if _outcome_name(index) in names]

    def failed(self, names: set[str]) -> list[Outcome]:
        """Of the files that were refused, from the folder's names."""
        found = [self.folder.read(name) for name in sorted(names) if name.endswith(_FAILED_ENDING)]
        return [Outcome.model_validate_json(content) for content in found if content is not None]

    def parts(self, names: set[str], index: int) -> set[str]:
        """Return the parts of a file that are there, from the folder's names."""
        return {name for name in names if name.startswith(_part_prefix(index))}

    def finish(self, index: int, outcome: Outcome, rejects: bytes = b"") -> None:
        """Record how a file ended; its rejects first, so that a finished file has them."""
        if rejects:
            self.folder.write(_rejects_name(index), rejects)
        name = _failed_name(index) if outcome.exit_code else _outcome_name(index)
        self.folder.write(name, outcome.model_dump_json(indent=1).encode())
        if outcome.exit_code:
            self.folder.write(_STOP_FILE, b"")

    def stopped(self) -> bool:
        """Whether a file was refused, so that the run is to end."""
        return self.folder.read(_STOP_FILE) is not None

    def rejects(self, job: Job) -> bytes:
        """Return the bad rows of all files, which are finished."""
        return b"".join(self.folder.read(_rejects_name(index)) or b"" for index in range(len(job.inputs)))

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Mark the job as done."""
        self.folder.write(SUCCESS_FILE, json.dumps(summary, indent=1).encode())

    def _refuse_another(self, known: Job, job: Job, names: set[str]) -> None:
        fixed = self._mended(known, job, names)
        different = differences(known, job, fixed)
        if different:
            reasons = "; ".join(different)
            raise PushError(f"{self.folder.uri}: holds another job: {reasons}. Give another OUTPUT, or remove it")
        for index in fixed:
            for name in self.parts(names, index):
                self.folder.delete(name)

    @staticmethod
    def _mended(known: Job, job: Job, names: set[str]) -> list[int]:
        """Return the files that were refused and are others now."""
        if [file.path for file in known.inputs] != [file.path for file in job.inputs]:
            return []
        pairs = enumerate(zip(known.inputs, job.inputs, strict=True))
        return [index for index, (old, new) in pairs if old != new and _failed_name(index) in names]


def differences(known: Job, job: Job, fixed: Sequence[int] = ()) -> list[str]:
    """Return what another job in the same folder would do otherwise, in words; changes of the fixed files do not
    count.
    """
    found = []
    old, new = {f.path: f for f in known.inputs}, {f.path: f for f in job.inputs}
    gone, added = [path for path in old if path not in new], [path for path in new if path not in old]
    indices = {file.path: index for index, file in enumerate(job.inputs)}
    changed = [path for path in new if path in old and old[path] != new[path] and indices[path] not in fixed]
    for paths, what in ((gone, "is no longer among the input files"), (added, "is new"), (changed, "has changed")):
        if paths:
            found.append(f"{paths[0]} {what}" + (f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""))
    for attribute, called in _CALLED.items():
        before, now = getattr(known, attribute), getattr(job, attribute)
        if before != now:
            found.append(f"{called} was {_shown(known, attribute, job)}, is {_shown(job, attribute, known)}")
    return found


def _shown(job: Job, attribute: str, other: Job) -> str:
    if attribute == "content_hash":
        return f"{job.model} ({job.content_hash[:12]})"
    value = getattr(job, attribute)
    if isinstance(value, ReadOptions):
        usual = other.reading.model_dump()
        changed = {k: v for k, v in value.model_dump(exclude_defaults=True).items() if v != usual[k]}
        return json.dumps(changed, ensure_ascii=False)
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def _part_prefix(index: int) -> str:
    return f"{_PART_PREFIX}{index:05d}-"


def _outcome_name(index: int) -> str:
    return f"{_OUTCOMES}/{index:05d}.json"


def _failed_name(index: int) -> str:
    return f"{_OUTCOMES}/{index:05d}{_FAILED_ENDING}"


def _rejects_name(index: int) -> str:
    return f"{_OUTCOMES}/{index:05d}.rejects.jsonl"
