"""The shadow: a labelled version that is asked the same rows as the serving version, after the answer has gone out.

Nobody waits for its answers. They are compared with those of the serving version, counted, and dropped; the request log
does not have them. A thread asks it. Its queue is bounded and drops what does not fit; between two calls of the model
the thread rests, so that it takes a small share of one core. It has the server's own priority: a thread of a lower one
would wait for a core while it holds the interpreter's lock, and the requests with it.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from serving.model.inputs import Columns, ModelInput
from serving.model.model_call import Outputs
from serving.model.output_comparison import OutputsDifferError, compare_outputs
from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor
from serving.server.experiment_metrics import ShadowMetrics
from serving.server.label_share import LabelShare
from serving.server.model_versions import ServedVersion, Snapshot
from serving.server.request_context import RequestContext

_LOG = logging.getLogger(__name__)
_SALT = "shadow"
_MAX_WAITING_ROWS = 4096
# A call of more rows keeps a core, and the interpreter's lock, for longer than a call for requests does.
_MAX_CALL_ROWS = 256
# The thread rests 19 times as long as it works: 5 % of one core. It gathers rows meanwhile, since a call of many takes
# little longer than one of few. A longer rest would have longer calls, each of which delays the requests of its time.
_REST_FACTOR, _MIN_REST_SECONDS = 19.0, 0.05
_SUMMARY_SECONDS = 60.0

WriteEvent = Callable[..., None]


class ShadowJob(NamedTuple):
    """Rows of an answered request.

    Attributes:
      version: Version that the shadow is.
      columns: Inputs of the model, as they were converted for the serving version.
      outputs: Answer of the serving version.
      rows: Number of rows.
    """

    version: ServedVersion
    columns: Columns
    outputs: Outputs
    rows: int


@dataclass
class ShadowSummary:
    """Answers of one version as the shadow so far, in this process.

    Attributes:
      version: Number of the version.
      rows: Rows that were compared.
      changed: Rows with another decision.
      difference: Sum of the differences of scores.
      largest: Largest of them.
      errors: Rows without an answer.
      seconds: Time in the model.
    """

    version: int
    rows: int = 0
    changed: int = 0
    difference: float = 0.0
    largest: float = 0.0
    errors: int = 0
    seconds: float = 0.0

    def to_event(self) -> dict[str, Any]:
        """Return the fields of an event, with shares and means; None of no rows."""
        fields = asdict(self)
        asked = self.rows + self.errors
        fields["changed_share"] = round(self.changed / self.rows, 6) if self.rows else None
        fields["mean_difference"] = round(fields.pop("difference") / self.rows, 6) if self.rows else None
        fields["largest_difference"] = round(fields.pop("largest"), 6) if self.rows else None
        fields["ms_per_row"] = round(fields.pop("seconds") / asked * 1000, 4) if asked else None
        return fields


class Shadow:
    """The shadow of one server process."""

    def __init__(
        self,
        label_share: LabelShare,
        metrics: ShadowMetrics,
        write_event: WriteEvent,
        *,
        summary_seconds: float = _SUMMARY_SECONDS,
    ) -> None:
        """Args:
        label_share: Label of the version, and share of the requests.
        metrics: Metrics of its answers.
        write_event: Function that writes an event and its fields.
        summary_seconds: Time between two events with a summary.
        """
        self._label_share, self._metrics, self._write_event = label_share, metrics, write_event
        self._sample = label_share.build_sample(_SALT)
        self._summary_seconds = summary_seconds
        self._snapshot: Snapshot | None = None
        self._version: ServedVersion | None = None
        self._state = ""
        self._jobs: queue.SimpleQueue[ShadowJob] = queue.SimpleQueue()
        # Each is written by one thread, so neither needs a lock.
        self._rows_in = self._rows_out = 0
        self._summary: ShadowSummary | None = None
        self._reported: ShadowSummary | None = None
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="shadow", daemon=True).start()

    def follow(self, snapshot: Snapshot) -> None:
        """Take the version that has the label now; log once what is asked, or why nothing is."""
        self._snapshot = snapshot
        version, default = snapshot.find(None, self._label_share.label), snapshot.find(None, None)
        label = self._label_share.label
        mismatch = ""
        if version is None or version is default:
            state = f"shadow: waits for a version with the label {label}"
        elif default is None:
            state = "shadow: no version serves yet"
        elif mismatch := _explain_mismatch(default.predictor, version.predictor):
            state = f"shadow: version {version.number} is not asked: it {mismatch} version {default.number}"
        else:
            state = f"shadow: version {version.number} is asked for {self._label_share.share:g} of the requests"
        self._version = None if mismatch or default is None or version is default else version
        if state != self._state:
            self._state = state
            (_LOG.error if mismatch else _LOG.info)(state)

    def add_job(
        self,
        context: RequestContext,
        snapshot: Snapshot,
        served: ServedVersion,
        columns: Columns,
        outputs: Outputs,
        rows: int,
    ) -> None:
        """Keep the rows of an answer for the shadow, if their request is one of its share.

        Only answers of the serving version are compared, whether or not a request named it.

        Args:
          context: Request.
          snapshot: Versions that are served.
          served: Version that answered.
          columns: Inputs of the model.
          outputs: Its answer.
          rows: Number of rows.
        """
        if snapshot is not self._snapshot:
            self.follow(snapshot)
        version = self._version
        if version is None or served.number != snapshot.default or rows > _MAX_WAITING_ROWS:
            return
        if not self._sample.has_key(context.request_id):
            return
        if served.signature not in version.predictor.signatures:
            return
        context.shadow_jobs.append(ShadowJob(version.select(served.signature), columns, outputs, rows))

    def send(self, jobs: Sequence[ShadowJob]) -> None:
        """Queue jobs whose answer has gone out, or drop them; never block. Called in the event loop's thread."""
        for job in jobs:
            if self._rows_in - self._rows_out + job.rows > _MAX_WAITING_ROWS:
                self._metrics.dropped.inc(job.rows)
            else:
                self._rows_in += job.rows
                self._jobs.put(job)

    def stop(self) -> None:
        """Stop asking, and write the last summary."""
        self._stopping.set()
        self._write_summary()

    def _run(self) -> None:
        due = time.monotonic() + self._summary_seconds
        while not self._stopping.is_set():
            batch = self._take_batch(max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                self._write_summary()
                due = time.monotonic() + self._summary_seconds
            if not batch:
                continue
            started = time.monotonic()
            self._answer(batch)
            self._rows_out += sum(job.rows for job in batch)
            self._stopping.wait(max(_REST_FACTOR * (time.monotonic() - started), _MIN_REST_SECONDS))

    def _take_batch(self, timeout_seconds: float) -> list[ShadowJob]:
        """Return the oldest jobs of one version, as many as fit; none if the time is over."""
        try:
            batch = [self._jobs.get(timeout=timeout_seconds)]
        except queue.Empty:
            return []
        rows = batch[0].rows
        while rows < _MAX_CALL_ROWS:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            batch.append(job)
            rows += job.rows
        return batch

    def _answer(self, batch: Sequence[ShadowJob]) -> None:
        """Ask for the rows of jobs; those of one version, in one call."""
        by_version: dict[int, list[ShadowJob]] = {}
        for job in batch:
            by_version.setdefault(id(job.version), []).append(job)
        for jobs in by_version.values():
            if not self._compare(jobs) and len(jobs) > 1:
                # The rows of one request must not fail the others.
                for job in jobs:
                    self._compare([job], is_last_try=True)

    def _compare(self, jobs: Sequence[ShadowJob], *, is_last_try: bool = False) -> bool:
        """Ask for the rows of jobs in one call and count the differences; return whether it succeeded."""
        version, rows = jobs[0].version, sum(job.rows for job in jobs)
        columns = _join_columns(jobs)
        started = time.perf_counter()
        try:
            outputs = version.predictor.predict_columns(columns)
            version.predictor.check_finite(outputs, columns)
            comparison = compare_outputs(_join_outputs(jobs), outputs)
        except Exception as error:
            # Whatever a version does that nobody waits for, the server answers its requests.
            if len(jobs) == 1 or is_last_try:
                self._count_errors(version, rows, time.perf_counter() - started, error)
            return False
        self._count(version, rows, time.perf_counter() - started, comparison.changed, comparison.differences)
        return True

    def _find_summary(self, version: ServedVersion) -> ShadowSummary:
        if self._summary is None or self._summary.version != version.number:
            self._write_summary()
            self._summary = ShadowSummary(version.number)
        return self._summary

    def _count(self, version: ServedVersion, rows: int, seconds: float, changed: Any, differences: Any) -> None:
        summary, label = self._find_summary(version), str(version.number)
        changes, difference, largest = int(changed.sum()), float(differences.sum()), float(differences.max())
        summary.rows += rows
        summary.changed += changes
        summary.difference += difference
        summary.largest = max(summary.largest, largest)
        summary.seconds += seconds
        self._metrics.rows.labels(label).inc(rows)
        self._metrics.changed.labels(label).inc(changes)
        self._metrics.difference.labels(label).inc(difference)
        self._metrics.largest.labels(label).set(summary.largest)
        self._metrics.seconds.labels(label).inc(seconds)

    def _count_errors(self, version: ServedVersion, rows: int, seconds: float, error: Exception) -> None:
        summary, label = self._find_summary(version), str(version.number)
        if not summary.errors:
            is_foreseen = isinstance(error, OutputsDifferError | ValueError)
            _LOG.error("shadow: version %s has no answer: %s", label, error, exc_info=not is_foreseen)
        summary.errors += rows
        summary.seconds += seconds
        self._metrics.errors.labels(label).inc(rows)
        self._metrics.seconds.labels(label).inc(seconds)

    def _write_summary(self) -> None:
        """Write an event, if there is anything new since the last one."""
        if self._summary is not None and self._summary != self._reported:
            self._reported = replace(self._summary)
            self._write_event("shadow", **self._reported.to_event())


def _explain_mismatch(default: Predictor | TensorPredictor, version: Predictor | TensorPredictor) -> str:
    """Return why a version cannot be asked with the converted inputs of the default; empty if it can."""
    if isinstance(default, TensorPredictor) or isinstance(version, TensorPredictor):
        own = getattr(version, "specs", None)
        return "" if own == getattr(default, "specs", None) else "takes other inputs than"
    for name, field in version.inputs.items():
        if name not in default.inputs:
            return f"takes '{field.column}', unlike"
        if _find_conversion_rule(field) != _find_conversion_rule(default.inputs[name]):
            return f"converts '{field.column}' otherwise than"
    return ""


def _find_conversion_rule(field: ModelInput) -> Any:
    """Return what decides on the converted values of an input."""
    return replace(field.rule, num_ids=None, tokens=None, sensitive=False)


def _join_columns(jobs: Sequence[ShadowJob]) -> Columns:
    if len(jobs) == 1:
        return jobs[0].columns
    return {name: [*chain.from_iterable([job.columns[name] for job in jobs])] for name in jobs[0].columns}


def _join_outputs(jobs: Sequence[ShadowJob]) -> Outputs:
    if len(jobs) == 1:
        return jobs[0].outputs
    return {name: np.concatenate([job.outputs[name] for job in jobs]) for name in jobs[0].outputs}
