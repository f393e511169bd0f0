"""Joins the rows of requests that wait at the same time into one call of the model.

No request waits for company: whatever has come while the model was busy goes into its next call, so that batches are
small when it is quiet, and grow by themselves under load.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]
Call = Callable[[Mapping[str, Sequence[Any]]], Outputs]


_TOO_LATE = "the request waited past its deadline; try again later"


class OverloadedError(Exception):
    """The queue is full, or the rows have waited past their deadline; the same request may succeed later."""


@dataclass
class _Waiting:
    columns: Mapping[str, list[Any]]
    rows: int
    deadline: float
    answer: "asyncio.Future[Outputs]"


class Batcher:
    """Calls a model for rows from many requests; belongs to one event loop.

    Attributes:
      waiting_rows: in the queue now.
    """

    def __init__(
        self,
        call: Call,
        executor: Executor,
        *,
        max_batch_rows: int,
        max_waiting_rows: int,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Args:
        call: from columns to outputs, [rows, ...] each.
        executor: where it runs; the event loop continues meanwhile.
        max_batch_rows: one call gets at most so many, or a single request that has more.
        max_waiting_rows: beyond these, requests are refused at once.
        observe: is told the number of rows of each call.
        """
        self._call, self._executor, self._observe = call, executor, observe
        self._max_batch_rows, self._max_waiting_rows = max_batch_rows, max_waiting_rows
        self._queue: deque[_Waiting] = deque()
        self.waiting_rows = 0
        self._running: asyncio.Task[None] | None = None

    async def submit(self, columns: Mapping[str, list[Any]], rows: int, *, timeout_seconds: float) -> Outputs:
        """Return the outputs for these rows.

        Raises:
          OverloadedError: the queue is full, or the model did not get to them in time.
          Exception: the model's own, if a call with these rows failed.
        """
        if self._queue and self.waiting_rows + rows > self._max_waiting_rows:
            raise OverloadedError(f"{self.waiting_rows} rows are waiting already; try again later")
        loop = asyncio.get_running_loop()
        one = _Waiting(columns, rows, time.monotonic() + timeout_seconds, loop.create_future())
        self._queue.append(one)
        self.waiting_rows += rows
        if self._running is None:
            self._running = loop.create_task(self._run())
        # The model may be busy for longer than that.
        late = loop.call_later(timeout_seconds, _fail, one, OverloadedError(_TOO_LATE))
        try:
            return await one.answer
        finally:
            late.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._next_batch(time.monotonic()):
                self._observe(sum(one.rows for one in batch))
                try:
                    outputs = await loop.run_in_executor(self._executor, self._call, _joined(batch))
                except Exception as error:
                    await self._one_by_one(batch, error)
                else:
                    _share_out(batch, outputs)
        finally:
            self._running = None

    def _next_batch(self, now: float) -> list[_Waiting]:
        """Return the oldest requests, as many as fit; those past their deadline, or gone, leave the queue on the
        way.
        """
        batch: list[_Waiting] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._max_batch_rows):
            one = self._queue.popleft()
            self.waiting_rows -= one.rows
            if one.answer.done():
                continue
            if now > one.deadline:
                one.answer.set_exception(OverloadedError(_TOO_LATE))
                continue
            batch.append(one)
            rows += one.rows
        return batch

    async def _one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """After a failed call: one request's rows must not fail those of the others."""
        loop = asyncio.get_running_loop()
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for one in batch:
            try:
                outputs = await loop.run_in_executor(self._executor, self._call, one.columns)
            except Exception as own:
                _fail(one, own)
            else:
                _share_out([one], outputs)


def _fail(one: _Waiting, error: Exception) -> None:
    if not one.answer.done():
        one.answer.set_exception(error)


def _joined(batch: Sequence[_Waiting]) -> Mapping[str, list[Any]]:
    if len(batch) == 1:
        return batch[0].columns
    return {name: list(itertools.chain.from_iterable(one.columns[name] for one in batch)) for name in batch[0].columns}


def _share_out(batch: Sequence[_Waiting], outputs: Outputs) -> None:
    start = 0
    for one in batch:
        end = start + one.rows
        # Whoever asked may have gone.
        if not one.answer.done():
            one.answer.set_result({name: values[start:end] for name, values in outputs.items()})
        start = end
