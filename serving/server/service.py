"""The model service behind HTTP and gRPC: finds the version, checks rows, calls the model in batches."""

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.errors import PipelineError

# Imported first: it must come before TensorFlow.
from serving.model import tensorflow_without_keras  # noqa: F401
from serving.model.inputs import Columns, RequestError
from serving.model.model_call import Outputs
from serving.model.signatures import SERVING_EXAMPLES
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.worker_log import RequestLog
from serving.server import events, tracing
from serving.server.batching import Batcher, OverloadedError
from serving.server.experiment_metrics import ShadowMetrics, SplitMetrics
from serving.server.metrics import Metrics
from serving.server.model_versions import ServedVersion, ServedVersions, Snapshot, VersionPolicy
from serving.server.request_context import get_current_request
from serving.server.settings import ServerSettings
from serving.server.shadow import Shadow
from serving.server.split import Split, check_split_key
from serving.server.watchdog import HUNG_SECONDS, CallWatchdog

__all__ = ["NotFoundError", "NotReadyError", "OverloadedError", "RequestError", "Service"]

_LOG = logging.getLogger(__name__)
_HUNG_SECONDS = 60.0


class NotFoundError(Exception):
    """There is no model, version, label or signature of that name."""


class NotReadyError(Exception):
    """No version is served yet, or the server is about to stop."""


class Service:
    """One model and its versions, in one event loop."""

    def __init__(self, versions: ServedVersions, settings: ServerSettings, metrics: Metrics) -> None:
        self.versions, self.settings, self.metrics = versions, settings, metrics
        self.model_name = settings.model_name or versions.model_name
        # TensorFlow itself uses all cores for one call.
        self._executor = ThreadPoolExecutor(1, "model")
        self.watchdog = CallWatchdog(settings.timeout_seconds + HUNG_SECONDS)
        self._batchers: dict[tuple[int, str], tuple[ServedVersion, Batcher]] = {}
        self.is_stopping = False
        self.request_log: RequestLog | None = None
        self.shadow = self.split = None
        if settings.shadow is not None:
            self.shadow = Shadow(settings.shadow, ShadowMetrics(metrics.options), events.write)
            self.shadow.follow(self.snapshot)
        if settings.split is not None:
            self.split = Split(settings.split, settings.split_key, SplitMetrics(metrics.options))
            check_split_key(settings, self.snapshot.find(None, None))

    @property
    def snapshot(self) -> Snapshot:
        return self.versions.snapshot

    def find_default(self) -> ServedVersion | None:
        """Return the version that answers a request that names none; None before it is loaded."""
        return self.snapshot.find(None, None)

    @property
    def is_ready(self) -> bool:
        """Whether requests are served."""
        return not self.is_stopping and self.snapshot.default is not None

    def find(self, model: str | None = None, version: int | None = None, label: str | None = None) -> ServedVersion:
        """Return the version that a request is for, and log it as the one that is to answer.

        Raises:
          NotFoundError: there is no such model, version or label.
          NotReadyError: the request names no version, and there is no default.
        """
        served = self.resolve(model, version, label)
        # The split may choose another one.
        entry = get_current_request().entry
        if entry is not None and (self.split is None or version is not None or label is not None):
            entry.chosen = served.number
        return served

    def resolve(self, model: str | None, version: int | None, label: str | None) -> ServedVersion:
        """Return the version that a name, a number or a label stands for; without them the default.

        Raises:
          NotFoundError: there is no such model, version or label.
          NotReadyError: no version is named, and there is no default.
        """
        if model is not None and model != self.model_name:
            raise NotFoundError(f"there is no model '{model[:80]}'; this server has '{self.model_name}'")
        snapshot = self.snapshot
        served = snapshot.find(version, label)
        if served is not None:
            return served
        if version is None and label is None:
            raise NotReadyError("no version is served yet")
        numbers = ", ".join(str(number) for number in sorted(snapshot.served)) or "none"
        if version is not None:
            reason = snapshot.states[version].error if version in snapshot.states else ""
            raise NotFoundError(f"version {version} is not served{f' ({reason})' if reason else ''}; served: {numbers}")
        labels = ", ".join(f"{name} ({number})" for name, number in snapshot.labels.items()) or "none"
        raise NotFoundError(f"no version has the label '{str(label)[:80]}'; labels: {labels}")

    def select_signature(self, served: ServedVersion, signature: Any) -> ServedVersion:
        """Return the version with the signature that a request names.

        Raises:
          NotFoundError: the version has no such signature.
        """
        if signature not in served.predictor.signatures:
            names = ", ".join(served.predictor.signatures)
            raise NotFoundError(f"there is no signature '{str(signature)[:80]}'; version {served.number} has {names}")
        return served.select(signature)

    def check_capacity(self, rows: int = 1) -> None:
        """Reject rows for which the queue has no place, before any work is done for them.

        Raises:
          OverloadedError: the queue is full.
        """
        waiting = sum(batcher.waiting_rows for _, batcher in self._batchers.values())
        if waiting and waiting + rows > self.settings.max_waiting_rows:
            self.metrics.rejected.inc()
            raise OverloadedError(f"{waiting} rows are waiting already; try again later")

    async def answer_instances(self, served: ServedVersion, instances: Any) -> Outputs:
        """Return the outputs for rows of named values.

        Raises:
          RequestError: a row does not fit, or there are too many or none.
          OverloadedError: the queue is full.
        """
        if not isinstance(instances, list) or not instances:
            raise RequestError('expected {"instances": [{FEATURE: VALUE, ...}, ...]} with at least one row')
        self._check_rows(len(instances))
        entry = get_current_request().entry
        if entry is not None:
            instances = entry.take_row_keys(served.predictor, instances)
        with tracing.start_child("convert"):
            columns = served.predictor.convert_rows(instances)
        return await self._submit(served, columns, len(instances))

    async def answer_columns(self, served: ServedVersion, columns: Any) -> Outputs:
        """Return the outputs for named columns; raises as `answer_instances`."""
        if (
            isinstance(columns, list)
            and isinstance(served.predictor, TensorPredictor)
            and len(served.predictor.specs) == 1
        ):
            # TF Serving's rule: a single input need not be named.
            columns = dict.fromkeys(served.predictor.specs, columns)
        entry = get_current_request().entry
        if entry is not None and isinstance(columns, Mapping):
            columns = entry.take_column_keys(served.predictor, columns)
        if not isinstance(columns, Mapping) or not columns:
            raise RequestError('expected {"inputs": {FEATURE: [VALUE, ...], ...}} with at least one row')
        first = next(iter(columns.values()))
        self._check_rows(len(first) if isinstance(first, list) else 1)
        # Rejects columns that are not lists, or are not as long as the first.
        with tracing.start_child("convert"):
            converted = served.predictor.convert_columns(columns)
        return await self._submit(served, converted, len(first))

    async def answer_examples(self, served: ServedVersion, examples: Sequence[bytes]) -> Outputs:
        """Return the outputs for serialized tf.Example; raises as `answer_instances`."""
        if SERVING_EXAMPLES not in served.predictor.signatures:
            raise NotFoundError(f"version {served.number} has no signature '{SERVING_EXAMPLES}'")
        return await self.answer_records(served, examples)

    async def answer_records(self, served: ServedVersion, records: Sequence[bytes]) -> Outputs:
        """Return the outputs for serialized tf.Example, also of a model that takes nothing else."""
        self._check_rows(len(records))
        entry = get_current_request().entry
        if entry is not None:
            entry.take_records(records)
        with tracing.start_child("convert"):
            columns = served.predictor.convert_examples(records)
        return await self._submit(served, columns, len(records))

    def _check_rows(self, rows: int) -> None:
        if not rows:
            raise RequestError("the request has no rows")
        if rows > self.settings.max_request_rows:
            raise RequestError(f"the request has {rows:,} rows; at most {self.settings.max_request_rows:,} are taken")
        self.check_capacity(rows)

    async def _submit(self, served: ServedVersion, columns: Columns, rows: int) -> Outputs:
        tracing.add_rows(served.number, rows)
        for column, count in served.predictor.count_out_of_range(columns).items():
            self.metrics.out_of_range.labels(column).inc(count)
        batcher = self._find_batcher(served)
        try:
            answer = await batcher.submit(columns, rows, timeout_seconds=self.settings.timeout_seconds)
        except OverloadedError:
            self.metrics.rejected.inc()
            raise
        except ValueError as error:
            raise RequestError(str(error)) from error
        finally:
            self.metrics.waiting_rows.set(batcher.waiting_rows)
        outputs = answer.outputs
        served.predictor.check_finite(outputs, columns)
        request = get_current_request()
        if request.entry is not None:
            request.entry.take_answer(served, answer)
        if self.shadow is not None:
            self.shadow.add_job(request, self.snapshot, served, columns, outputs, rows)
        return outputs

    def _find_batcher(self, served: ServedVersion) -> Batcher:
        owner, batcher = self._batchers.get((served.number, served.signature), (None, None))
        if batcher is None or owner is not served:
            batcher = Batcher(
                self.watchdog.watch(served.number, served.predictor.predict_columns),
                self._executor,
                max_batch_rows=self.settings.max_batch_rows,
                max_waiting_rows=self.settings.max_waiting_rows,
                observe=self.metrics.batch_rows.observe,
            )
            self._batchers[(served.number, served.signature)] = (served, batcher)
        return batcher

    async def watch(self) -> None:
        """Load new versions of the folder and drop old ones until cancelled, whatever goes wrong at one read."""
        failure = ""
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            before = self.snapshot
            try:
                await self._refresh()
                if self.snapshot is not before:
                    self._drop_batchers()
                    gc.collect()
                failure = ""
            except Exception as error:
                # The serving version is unchanged; the folder may be fixed at the next poll.
                self.metrics.refresh_failures.inc()
                if failure != (failure := f"{type(error).__name__}: {error}"):
                    is_foreseen = isinstance(error, PipelineError | OSError)
                    _LOG.error("%s: cannot be read: %s", self.versions.folder, error, exc_info=not is_foreseen)

    async def _refresh(self) -> None:
        """Read the folder in a thread that ends with the process: a folder may hang for ever.

        Raises:
          Exception: whatever reading it raised.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            error: Exception | None = None
            try:
                self.versions.refresh()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(_finish, done, error)

        threading.Thread(target=read, name="versions", daemon=True).start()
        while not (await asyncio.wait([done], timeout=_HUNG_SECONDS))[0]:
            self.metrics.refresh_failures.inc()
            message = "%s: a read takes more than %g s; the serving version is unchanged"
            _LOG.error(message, self.versions.folder, _HUNG_SECONDS)
        done.result()

    def _drop_batchers(self) -> None:
        """Drop the batchers of versions that are no longer served; their last requests still get answers."""
        served = self.snapshot.served
        self._batchers = {
            (number, signature): pair
            for (number, signature), pair in self._batchers.items()
            if number in served and served[number].select(signature) is pair[0]
        }


def _finish(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def open_request_log(service: Service) -> RequestLog | None:
    """Return the request log that the settings ask for.

    Raises:
      ConfigError: requests of the default version cannot be logged.
    """
    settings = service.settings.request_log
    if settings is None:
        return None
    return RequestLog(settings, service.model_name, service.metrics.request_log, service.find_default)


def freeze_garbage() -> None:
    """Exclude all objects of now, those of TensorFlow, from garbage collection, which takes a fifth of a second with
    them.

    The models, which are full of cycles, are loaded later, so that a collection after one was dropped takes
    milliseconds.
    """
    gc.collect()
    gc.freeze()


def open_versions(settings: ServerSettings, folder: str, metrics: Metrics) -> ServedVersions:
    """Return the versions in a folder, loaded once.

    Raises:
      PushError: the folder cannot be read.
      ConfigError: the policy is unknown, or serves no champion that a labelled version could be compared with.
    """
    policy = replace(VersionPolicy.parse(settings.policy), labels=settings.experiment_labels)
    versions = ServedVersions(
        Path(folder).absolute(),
        policy,
        allow_unvalidated=settings.allow_unvalidated,
        on_change=metrics.update_versions,
    )
    versions.refresh()
    return versions
