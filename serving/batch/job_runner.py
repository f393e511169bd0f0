"""Runs a batch prediction, from the options to the summary."""

import datetime
import json
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
from cli.terminal import redirect_output
from schemas.data import Format
from schemas.tables.typed_columns import build_bad_rows_error
from serving.batch import input_files, model_loader
from serving.batch.job import LOG_FILE, REJECTS_FILE, Job, JobState, Outcome, OutputFormat, Summary
from serving.batch.prediction_tables import MODEL_VERSION, PLACE
from serving.batch.progress import Progress
from serving.batch.storage import OutputFolder
from serving.beam.config import BeamOptions
from serving.registry import compute_content_hash

_ERRORS = {kind.exit_code: kind for kind in (PipelineError, ConfigError, DataError, PushError)}


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
      output: folder of the predictions.
      summary: summary of the job.
      already_done: whether the job was finished before.
      reused_parts: number of parts of earlier runs.
      seconds: duration.
    """

    output: str
    summary: Summary
    already_done: bool
    reused_parts: int
    seconds: float

    def to_json(self) -> str:
        """Return the document that `--json` prints."""
        values = {name: value for name, value in vars(self).items() if name != "summary"}
        return json.dumps({"output": values.pop("output"), **self.summary.model_dump(), **values}, indent=2)


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch prediction.

    Attributes:
      source: file, pattern or folder.
      output: folder of the predictions.
      model: argument of `model_loader.find_version_folder`.
      format: format of the input; None detects it.
      csv: options of CSV files that differ from the model's, by name.
      missing_values: strings that stand for a missing value; None uses the model's.
      ignored_columns: columns of the input that the training table does not have.
      keys: columns to copy.
      output_format: output format of the parts.
      rows_per_part: rows of a part, which is the most that each worker of a killed run loses.
      max_bad_rows: maximum number of bad rows of all files.
      workers: processes on this machine.
      allow_unvalidated: whether to use a model that no push wrote.
      beam: options of Beam.
      quiet: whether no progress is printed.
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
    beam: BeamOptions = field(default_factory=BeamOptions)
    quiet: bool = False


def run_job(options: BatchOptions) -> RunResult:
    """Predict the unfinished files, and return the result of the run.

    Raises:
      ConfigError: a flag is wrong.
      DataError: the input cannot be read or does not fit the model.
      PushError: the model cannot be loaded, or the output cannot be written or holds another job.
      PipelineError: another error, whose traceback is in the log.
      KeyboardInterrupt: Ctrl-C; finished parts are kept.
    """
    started = time.monotonic()
    folder = model_loader.find_version_folder(options.model)
    job = _build_job(options, folder)
    state = JobState(OutputFolder(options.output))
    if state.read_summary() is None:
        input_files.check_names(job, model_loader.read_features(folder))
    with state.folder.lock():
        state.claim(job)
        summary = state.read_summary()
        already_done = summary is not None
        reused = 0
        if summary is None:
            outcomes = _predict_files(options, state, job, folder)
            reused = sum(outcome.reused for outcome in outcomes)
            summary = _finish(state, job, outcomes, options.max_bad_rows)
    seconds = round(time.monotonic() - started, 2)
    return RunResult(
        output=state.folder.uri,
        summary=summary,
        already_done=already_done,
        reused_parts=summary.parts if already_done else reused,
        seconds=seconds,
    )


def _build_job(options: BatchOptions, folder: Path) -> Job:
    for name in options.keys:
        if name in (*PLACE, MODEL_VERSION):
            raise ConfigError(
                f"--key {name}: the output already has a column of this name; rename the column of the input"
            )
    files = input_files.list_input_files(options.source)
    return Job(
        inputs=files,
        model=options.model if options.model.startswith("gs://") else str(folder),
        content_hash=compute_content_hash(folder),
        format=options.format or input_files.detect_format(options.source, files),
        reading=input_files.build_read_options(
            model_loader.read_options(folder), files, options.csv, options.missing_values, options.ignored_columns
        ),
        keys=tuple(dict.fromkeys(options.keys)),
        output_format=options.output_format,
        rows_per_part=options.rows_per_part,
        allow_unvalidated=options.allow_unvalidated,
    )


def _predict_files(options: BatchOptions, state: JobState, job: Job, folder: Path) -> list[Outcome]:
    """Predict the unfinished files, and return the outcomes of all.

    Raises:
      DataError, PushError, ConfigError: a file was rejected.
    """
    indices = range(len(job.inputs))
    before = state.list_finished(state.folder.list_names(), job)
    unfinished = [index for index in indices if index not in before]
    if unfinished:
        _run_beam(options, state, job, folder, unfinished)
    names = state.folder.list_names()
    failures = state.read_failures(names)
    if failures:
        raise _ERRORS.get(failures[0].exit_code, PipelineError)("\n".join(outcome.error for outcome in failures))
    outcomes = []
    for index in indices:
        outcome = state.read_outcome(index)
        if outcome is None:
            raise PipelineError(f"{job.inputs[index].path}: the runner ended without it; run the command again")
        # All parts of a file that was finished before are reused.
        outcomes.append(outcome.model_copy(update={"reused": outcome.parts}) if index in before else outcome)
    return outcomes


def _finish(state: JobState, job: Job, outcomes: Sequence[Outcome], max_bad_rows: int) -> Summary:
    """Write the bad rows of all files, and mark the job as done."""
    rejected = sum(outcome.rejected for outcome in outcomes)
    if rejected > max_bad_rows:
        problems = [problem for outcome in outcomes for problem in outcome.problems]
        raise build_bad_rows_error(problems, max_bad_rows, input_files.FLAGS)
    if rejected:
        state.folder.write(REJECTS_FILE, state.read_rejects(job))
    summary = Summary(
        rows=sum(outcome.rows for outcome in outcomes),
        rejected=rejected,
        values_out_of_range=dict(sum((Counter(outcome.values_out_of_range) for outcome in outcomes), Counter[str]())),
        files=len(outcomes),
        parts=sum(outcome.parts for outcome in outcomes),
        model=job.model,
        model_version=outcomes[0].model_version,
        schema_hash=outcomes[0].schema_hash,
        content_hash=job.content_hash,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    state.write_summary(summary)
    return summary


def _run_beam(options: BatchOptions, state: JobState, job: Job, folder: Path, unfinished: Sequence[int]) -> None:
    """Run Beam over the unfinished files; it writes their outcomes to the folder."""
    log = _create_log(state.folder)
    with (
        redirect_output(log, "stderr") as terminal,
        Progress(state, job, None if options.quiet else terminal),
        _reraise_as_one_line(log),
    ):
        # These imports take seconds, which a finished job does not need.
        from serving.batch import beam_pipeline
        from serving.batch.predict_file import PredictFile

        # A worker without a file would load the model for nothing.
        workers = min(options.workers, len(unfinished))
        arguments = beam_pipeline.prepare_arguments(options.beam, workers, job, options.output)
        # Loaded here, too, so that a damaged model is reported at once; a process loads it once.
        model_loader.load_predictor(folder, allow_unvalidated=job.allow_unvalidated)
        predict_file = PredictFile(job, str(folder), options.output, options.max_bad_rows)
        names = state.folder.list_names()
        beam_pipeline.run_pipeline(
            [(index, sorted(state.list_parts(names, index))) for index in unfinished], predict_file, arguments
        )
    if not state.folder.is_local:
        log.unlink()


def _create_log(folder: OutputFolder) -> Path:
    """Return the file for the output of Beam and TensorFlow."""
    if folder.is_local:
        return Path(folder.uri) / LOG_FILE
    handle, path = tempfile.mkstemp(prefix="batch-", suffix=".log")
    os.close(handle)
    return Path(path)


@contextmanager
def _reraise_as_one_line(log: Path) -> Iterator[None]:
    """Raise any error as one of the pipeline's with one line; the log gets the traceback."""
    try:
        yield
    except Exception as error:
        kind, text = _parse_error(error)
        if kind is not None:
            raise kind(text) from error
        traceback.print_exc()
        first = (text.strip() or "no message").splitlines()[0]
        raise PipelineError(f"{type(error).__name__}: {first}; {log} has the traceback") from error


def _parse_error(error: Exception) -> tuple[type[PipelineError] | None, str]:
    """Return the class and the message of an error; Beam wraps those of worker processes."""
    text = str(error)
    named = re.findall(rf"{re.escape(PipelineError.__module__)}\.(\w+): (.+)", text)
    kind = type(error) if isinstance(error, PipelineError) else None
    if named:
        kinds = {other.__name__: other for other in _ERRORS.values()}
        kind, text = kinds.get(named[-1][0], PipelineError), named[-1][1]
    return kind, text.partition(" [while running")[0]
