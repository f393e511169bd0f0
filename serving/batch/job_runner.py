"""One batch prediction, from the flags to a summary: input files, model, folder, Beam, and what came of it."""

import datetime
import os
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, DataError, PipelineError, PushError
from cli.terminal import own_terminal
from schemas.data import Format
from schemas.tables.typed_columns import too_many_bad_rows
from serving.batch import input_files, model_loader
from serving.batch.job import LOG_FILE, REJECTS_FILE, Job, Outcome, OutputFormat, Record
from serving.batch.prediction_tables import MODEL_VERSION, PLACE
from serving.batch.progress import Progress
from serving.batch.storage import Folder
from serving.registry import content_hash

_ERRORS = {kind.exit_code: kind for kind in (PipelineError, ConfigError, DataError, PushError)}


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
      source: a file, a pattern or a folder.
      output: the folder to write to.
      model: as `model_loader.version_folder` takes it.
      format: None guesses it from the names.
      csv: options of CSV files that are not as the model says, by name.
      missing_values: None takes what the model says.
      ignored_columns: columns of the input that the training table does not have.
      keys: columns to copy.
      output_format: output format of the parts.
      rows_per_part: what a killed run loses at most, for each worker.
      max_bad_rows: so many rows may not fit, over all files.
      workers: processes on this machine.
      allow_unvalidated: whether a model is used that no push has left there.
      beam_arguments: for Beam, after our own.
      quiet: whether nothing is said on the way.
    """

    source: str
    output: str
    model: str
    format: Format | None = None
    csv: Mapping[str, Any] = field(default_factory=dict)
    missing_values: tuple[str, ...] | None = None
    ignored_columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    output_format: OutputFormat = "parquet"
    rows_per_part: int = 100_000
    max_bad_rows: int = 0
    workers: int = 1
    allow_unvalidated: bool = False
    beam_arguments: tuple[str, ...] = ()
    quiet: bool = False


def run(request: Request) -> dict[str, Any]:
    """Predicts what is not predicted yet, and returns the summary that `--json` prints.

    Raises:
      ConfigError: a flag is wrong.
      DataError: the input cannot be read or does not fit the model.
      PushError: the model cannot be loaded, or the output cannot be written or holds another job.
      PipelineError: something failed that only the log explains.
      KeyboardInterrupt: Ctrl-C; what is finished stays.
    """
    started = time.monotonic()
    folder = model_loader.version_folder(request.model)
    job = _job(request, folder)
    record = Record(Folder(request.output))
    if record.summary() is None:
        input_files.check_names(job, model_loader.declared(folder))
    with record.folder.locked():
        record.claim(job)
        summary = record.summary()
        already_done = summary is not None
        reused = 0
        if summary is None:
            outcomes = _outcomes(request, record, job, folder)
            reused = sum(outcome.reused for outcome in outcomes)
            summary = _finish(record, job, outcomes, request.max_bad_rows)
    seconds = round(time.monotonic() - started, 2)
    return {
        "output": record.folder.uri,
        **summary,
        "already_done": already_done,
        "reused_parts": summary["parts"] if already_done else reused,
        "seconds": seconds,
    }


def _job(request: Request, folder: Path) -> Job:
    for name in request.keys:
        if name in (*PLACE, MODEL_VERSION):
            raise ConfigError(
                f"--key {name}: the output has a column of this name of its own; rename that of the input"
            )
    files = input_files.input_files(request.source)
    return Job(
        inputs=files,
        model=request.model if request.model.startswith("gs://") else str(folder),
        content_hash=content_hash(folder),
        format=request.format or input_files.input_format(request.source, files),
        reading=input_files.reading(
            model_loader.read_options(folder), files, request.csv, request.missing_values, request.ignored_columns
        ),
        keys=tuple(dict.fromkeys(request.keys)),
        output_format=request.output_format,
        rows_per_part=request.rows_per_part,
        allow_unvalidated=request.allow_unvalidated,
    )


def _outcomes(request: Request, record: Record, job: Job, folder: Path) -> list[Outcome]:
    """Of all files, those that are not finished predicted.

    Raises:
      DataError, PushError, ConfigError: a file was refused.
    """
    indices = range(len(job.inputs))
    before = record.finished(record.folder.names(), job)
    left = [index for index in indices if index not in before]
    if left:
        _predict(request, record, job, folder, left)
    names = record.folder.names()
    failed = record.failed(names)
    if failed:
        raise _ERRORS.get(failed[0].exit_code, PipelineError)("\n".join(outcome.error for outcome in failed))
    outcomes = []
    for index in indices:
        outcome = record.outcome(index)
        if outcome is None:
            raise PipelineError(f"{job.inputs[index].path}: the runner ended without it; run the command again")
        # A file that was finished before was not looked at again.
        outcomes.append(outcome.model_copy(update={"reused": outcome.parts}) if index in before else outcome)
    return outcomes


def _finish(record: Record, job: Job, outcomes: Sequence[Outcome], max_bad_rows: int) -> dict[str, Any]:
    """Gathers the bad rows, and marks the job as done."""
    rejected = sum(outcome.rejected for outcome in outcomes)
    if rejected > max_bad_rows:
        problems = [problem for outcome in outcomes for problem in outcome.problems]
        raise too_many_bad_rows(problems, max_bad_rows, input_files.FLAGS)
    if rejected:
        record.folder.write(REJECTS_FILE, record.rejects(job))
    summary = {
        "rows": sum(outcome.rows for outcome in outcomes),
        "rejected": rejected,
        "ids_out_of_range": dict(sum((Counter(outcome.ids_out_of_range) for outcome in outcomes), Counter[str]())),
        "files": len(outcomes),
        "parts": sum(outcome.parts for outcome in outcomes),
        "model": job.model,
        "model_version": outcomes[0].model_version,
        "schema_hash": outcomes[0].schema_hash,
        "content_hash": job.content_hash,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    record.write_summary(summary)
    return summary


def _predict(request: Request, record: Record, job: Job, folder: Path, left: Sequence[int]) -> None:
    """Run Beam over the files that are left; how they end stands in the folder."""
    log = _log(record.folder)
    with (
        own_terminal(log, "stderr") as terminal,
        Progress(record, job, None if request.quiet else terminal),
        _explained(log),
    ):
        # Seconds of imports that a finished job does not wait for.
        from serving.batch import beam_pipeline
        from serving.batch.predict_file import PredictFile

        # A worker without a file would only load the model.
        workers = min(request.workers, len(left))
        arguments = beam_pipeline.arguments(workers, request.beam_arguments, job, request.output)
        # Here too, where a model that cannot be loaded is told at once; one process loads it once.
        model_loader.loaded(folder, allow_unvalidated=job.allow_unvalidated)
        predict_file = PredictFile(job, str(folder), request.output, request.max_bad_rows)
        names = record.folder.names()
        beam_pipeline.run([(index, sorted(record.parts(names, index))) for index in left], predict_file, arguments)
    if not record.folder.is_local:
        log.unlink()


def _log(folder: Folder) -> Path:
    """Where what Beam and TensorFlow print goes."""
    if folder.is_local:
        return Path(folder.uri) / LOG_FILE
    handle, path = tempfile.mkstemp(prefix="batch-", suffix=".log")
    os.close(handle)
    return Path(path)


@contextmanager
def _explained(log: Path) -> Iterator[None]:
    """Yield what is not the user's fault ends in one line too; the log has the rest."""
    try:
        yield
    except Exception as error:
        kind, text = _escaped(error)
        if kind is not None:
            raise kind(text) from error
        traceback.print_exc()
        first = (text.strip() or "no message").splitlines()[0]
        raise PipelineError(f"{type(error).__name__}: {first}; {log} has the whole story") from error


def _escaped(error: Exception) -> tuple[type[PipelineError] | None, str]:
    """Return an error of ours as it was before it came through Beam, as one does that cannot be written to a full
    disk.
    """
    text = str(error)
    named = re.findall(rf"{re.escape(PipelineError.__module__)}\.(\w+): (.+)", text)
    kind = type(error) if isinstance(error, PipelineError) else None
    if named:
        kinds = {other.__name__: other for other in _ERRORS.values()}
        kind, text = kinds.get(named[-1][0], PipelineError), named[-1][1]
    return kind, text.partition(" [while running")[0]
