"""What a model server answers, whatever the protocol: finds the version, checks rows, calls the model in batches."""

import asyncio
import gc
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import PipelineError

# First: whatever imports TensorFlow comes after it.
from serving.model import tensorflow_without_keras  # noqa: F401
from serving.model.inputs import (
    Columns,
    RequestError,
    check_columns,
    columns_of,
    columns_of_examples,
    rows_out_of_range,
)
from serving.model.predictor import check_finite
from serving.model.signatures import SERVING_EXAMPLES
from serving.server.batching import Batcher, Outputs, OverloadedError
from serving.server.metrics import Metrics
from serving.server.model_versions import Policy, Served, Snapshot, Versions

__all__ = ["NotFoundError", "NotReadyError", "OverloadedError", "RequestError", "Service", "Settings"]

_LOG = logging.getLogger(__name__)


class NotFoundError(Exception):
    """There is no model, version, label or signature of that name."""


class NotReadyError(Exception):
    """No version is served yet, or the server is about to stop."""


@dataclass(frozen=True)
class Settings:
    """How a model is served.

    Attributes:
      model_dir: the folder of versions, or of one.
      model_name: in the paths; left out, the folder's name.
      policy: which versions, as `Policy.parse` takes it.
      allow_unvalidated: whether models are served that no push has left there.
      poll_seconds: between two looks at the folder.
      max_batch_rows: one call of the model gets at most so many rows, of several requests.
      max_waiting_rows: so many rows may wait; what comes then is refused at once.
      max_request_rows: maximum number of rows of one request.
      max_request_bytes: maximum number of bytes of one request; Vertex AI sends no more than 1.5 MB.
      timeout_seconds: a request that has waited so long for the model is refused.
      drain_seconds: so long it continues answering after SIGTERM, not ready any more.
      access_log: whether each request is logged.
    """

    model_dir: str
    model_name: str | None = None
    policy: str = "champion"
    allow_unvalidated: bool = False
    poll_seconds: float = 1.0
    max_batch_rows: int = 512
    max_waiting_rows: int = 4096
    max_request_rows: int = 4096
    max_request_bytes: int = 1_500_000
    timeout_seconds: float = 5.0
    drain_seconds: float = 2.0
    access_log: bool = True


class Service:
    """One model and its versions, in one event loop."""

    def __init__(self, versions: Versions, settings: Settings, metrics: Metrics) -> None:
        self.versions, self.settings, self.metrics = versions, settings, metrics
        self.model_name = settings.model_name or versions.model_name
        # TensorFlow itself uses all cores for one call.
        self._executor = ThreadPoolExecutor(1, "model")
        self._batchers: dict[int, tuple[Served, Batcher]] = {}
        self.stopping = False

    @property
    def snapshot(self) -> Snapshot:
        return self.versions.snapshot

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return not self.stopping and self.snapshot.default is not None

    def find(self, model: str | None = None, version: int | None = None, label: str | None = None) -> Served:
        """Return the version that a request is for.

        Raises:
          NotFoundError: there is no such model, version or label.
          NotReadyError: it names none, and none is the default.
        """
        if model is not None and model != self.model_name:
            raise NotFoundError(f"there is no model '{model[:80]}'; this server has '{self.model_name}'")
        snapshot = self.snapshot
        found = snapshot.find(version, label)
        if found is not None:
            return found
        if version is None and label is None:
            raise NotReadyError("no version is served yet")
        served = ", ".join(str(number) for number in sorted(snapshot.served)) or "none"
        if version is not None:
            reason = snapshot.states[version].error if version in snapshot.states else ""
            raise NotFoundError(f"version {version} is not served{f' ({reason})' if reason else ''}; served: {served}")
        labels = ", ".join(f"{name} ({number})" for name, number in snapshot.labels.items()) or "none"
        raise NotFoundError(f"no version has the label '{str(label)[:80]}'; labels: {labels}")

    def check_capacity(self, rows: int = 1) -> None:
        """Refuses rows for which there is no place in the queue, before any work is done for them.

        Raises:
          OverloadedError: there is none.
        """
        waiting = sum(batcher.waiting_rows for _, batcher in self._batchers.values())
        if waiting and waiting + rows > self.settings.max_waiting_rows:
            self.metrics.refused.inc()
            raise OverloadedError(f"{waiting} rows are waiting already; try again later")

    async def answer_instances(self, served: Served, instances: Any) -> Outputs:
        """Return the outputs for rows of named values.

        Raises:
          RequestError: a row does not fit, or there are too many or none.
          OverloadedError: too much is waiting.
        """
        if not isinstance(instances, list) or not instances:
            raise RequestError('expected {"instances": [{FEATURE: VALUE, ...}, ...]} with at least one row')
        self._check_rows(len(instances))
        return await self._submit(served, columns_of(served.predictor.inputs, instances), len(instances))

    async def answer_columns(self, served: Served, columns: Any) -> Outputs:
        """Return the outputs for named columns; raises as `answer_instances`."""
        if not isinstance(columns, Mapping) or not columns:
            raise RequestError('expected {"inputs": {FEATURE: [VALUE, ...], ...}} with at least one row')
        first = next(iter(columns.values()))
        self._check_rows(len(first) if isinstance(first, list) else 1)
        # Those that are not lists, or are not as long as the first, are refused here.
        checked = check_columns(served.predictor.inputs, columns)
        return await self._submit(served, checked, len(first))

    async def answer_examples(self, served: Served, examples: Sequence[bytes]) -> Outputs:
        """Return the outputs for serialized tf.Example; raises as `answer_instances`."""
        self._check_rows(len(examples))
        if SERVING_EXAMPLES not in served.predictor.signatures:
            raise NotFoundError(f"version {served.number} has no signature '{SERVING_EXAMPLES}'")
        return await self._submit(served, columns_of_examples(served.predictor.inputs, examples), len(examples))

    def _check_rows(self, rows: int) -> None:
        if not rows:
            raise RequestError("the request has no rows")
        if rows > self.settings.max_request_rows:
            raise RequestError(f"the request has {rows:,} rows; at most {self.settings.max_request_rows:,} are taken")
        self.check_capacity(rows)

    async def _submit(self, served: Served, columns: Columns, rows: int) -> Outputs:
        inputs = served.predictor.inputs
        for column, count in rows_out_of_range(inputs, columns).items():
            self.metrics.out_of_range.labels(column).inc(count)
        batcher = self._batcher(served)
        try:
            outputs = await batcher.submit(columns, rows, timeout_seconds=self.settings.timeout_seconds)
        except OverloadedError:
            self.metrics.refused.inc()
            raise
        except ValueError as error:
            raise RequestError(str(error)) from error
        finally:
            self.metrics.waiting_rows.set(batcher.waiting_rows)
        check_finite(outputs, inputs, columns)
        return outputs

    def _batcher(self, served: Served) -> Batcher:
        known = self._batchers.get(served.number)
        if known is None or known[0] is not served:
            batcher = Batcher(
                served.predictor.predict_columns,
                self._executor,
                max_batch_rows=self.settings.max_batch_rows,
                max_waiting_rows=self.settings.max_waiting_rows,
                observe=self.metrics.batch_rows.observe,
            )
            known = self._batchers[served.number] = (served, batcher)
        return known[1]

    async def watch(self) -> None:
        """Follows the folder until it is cancelled: new versions are taken up, old ones let go."""
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            before = self.snapshot
            try:
                await asyncio.to_thread(self.versions.refresh)
                if self.snapshot is not before:
                    self._forget()
                    freeze_garbage()
            except (PipelineError, OSError) as error:
                # The serving version is unchanged; the next look may find the folder fixed.
                _LOG.error("%s: cannot be looked at: %s", self.versions.folder, error)
                self.metrics.refresh_failures.inc()

    def _forget(self) -> None:
        """Lets go of models that are no longer served, once their last requests are answered."""
        served = self.snapshot.served
        self._batchers = {key: known for key, known in self._batchers.items() if served.get(key) is known[0]}


def freeze_garbage() -> None:
    """Take what is there now out of Python's search for garbage, and what is garbage by now away.

    To look through all of TensorFlow takes a fifth of a second; it is done once a version instead of at any time. A
    model that was let go is full of cycles: it would stay for ever if it were left out of the search.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()


def open_versions(settings: Settings, folder: str, metrics: Metrics) -> Versions:
    """Return the versions in a folder, looked at once.

    Raises:
      PushError: the folder cannot be read.
      ConfigError: the policy is none.
    """
    versions = Versions(
        Path(folder).absolute(),
        Policy.parse(settings.policy),
        allow_unvalidated=settings.allow_unvalidated,
        changed=metrics.versions_changed,
    )
    versions.refresh()
    return versions
