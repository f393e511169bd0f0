"""Joins waiting requests into one call of the model.

No request waits for others: requests that arrive while the model is busy go into its next call. So batches are small
when the server is idle, and grow under load.
"""

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from serving.model.model_call import Answer, ModelCall, Outputs
from serving.server import tracing

Call = Callable[[Mapping[str, Sequence[Any]]], Outputs]


# A call of the model that the event loop itself may make: the way to another thread and back takes some 0.2 ms.
_QUICK_SECONDS = 0.001
_DEADLINE_MESSAGE = "the request waited past its deadline; try again later"


class OverloadedError(Exception):
    """The queue is full, or the rows have waited past their deadline; the same request may succeed later."""


@dataclass
class _WaitingRequest:
    columns: Mapping[str, list[Any]]
    rows: int
    deadline: float
    answer: "asyncio.Future[Answer]"
    # For traces: nanoseconds at which it was queued and called, and the number of rows in its call.
    queued: int
    called: int = 0
    batch_rows: int = 0


class Batcher:
    """Calls a model for rows from many requests; belongs to one event loop.

    Attributes:
      waiting_rows: number of rows in the queue.
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
        call: function from columns to outputs, [rows, ...] each.
        executor: executor of the calls; the event loop continues meanwhile. It calls a quick model for a single
            row itself.
        max_batch_rows: maximum number of rows of a call, unless a single request has more.
        max_waiting_rows: maximum number of waiting rows; further requests are rejected at once.
        observe: called with the number of rows of each call.
        """
        self._call, self._executor, self._observe = call, executor, observe
        self._max_batch_rows, self._max_waiting_rows = max_batch_rows, max_waiting_rows
        self._queue: deque[_WaitingRequest] = deque()
        self.waiting_rows = 0
        self._running: asyncio.Task[None] | None = None
        # Of the last call for a single row.
        self._single_seconds = math.inf

    async def submit(self, columns: Mapping[str, list[Any]], rows: int, *, timeout_seconds: float) -> Answer:
        """Return the answer to these rows.

        Raises:
          OverloadedError: the queue is full, or the model did not get to them in time.
          Exception: the model's own, if a call with these rows failed.
        """
        if self._queue and self.waiting_rows + rows > self._max_waiting_rows:
            raise OverloadedError(f"{self.waiting_rows} rows are waiting already; try again later")
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + timeout_seconds
        request = _WaitingRequest(columns, rows, deadline, loop.create_future(), time.time_ns())
        self._queue.append(request)
        self.waiting_rows += rows
        if self._running is None:
            self._running = loop.create_task(self._run())
        # A call of the model may take longer than the deadline.
        timer = loop.call_later(timeout_seconds, _fail, request, OverloadedError(_DEADLINE_MESSAGE))
        try:
            return await request.answer
        finally:
            timer.cancel()
            tracing.add_call(request.queued, request.called, request.batch_rows)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._take_batch(time.monotonic()):
                self._observe(_mark_call(batch))
                started = time.perf_counter()
                is_single = len(batch) == 1 and batch[0].rows == 1
                columns = _join_columns(batch)
                try:
                    if is_single and self._single_seconds < _QUICK_SECONDS:
                        outputs = self._call(columns)
                    else:
                        outputs = await loop.run_in_executor(self._executor, self._call, columns)
                except Exception as error:
                    await self._retry_one_by_one(batch, error)
                else:
                    _set_answers(batch, ModelCall(columns, outputs))
                if is_single:
                    self._single_seconds = time.perf_counter() - started
        finally:
            self._running = None

    def _take_batch(self, now: float) -> list[_WaitingRequest]:
        """Return the oldest requests, as many as fit; drop those past their deadline and those whose client
        is gone.
        """
        batch: list[_WaitingRequest] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._max_batch_rows):
            request = self._queue.popleft()
            self.waiting_rows -= request.rows
            if request.answer.done():
                continue
            if now > request.deadline:
                request.answer.set_exception(OverloadedError(_DEADLINE_MESSAGE))
                continue
            batch.append(request)
            rows += request.rows
        return batch

    async def _retry_one_by_one(self, batch: list[_WaitingRequest], error: Exception) -> None:
        """Call the model again for each request: the rows of one must not fail the others."""
        loop = asyncio.get_running_loop()
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for request in batch:
            try:
                outputs = await loop.run_in_executor(self._executor, self._call, request.columns)
            except Exception as own_error:
                _fail(request, own_error)
            else:
                _set_answers([request], ModelCall(request.columns, outputs))


def _mark_call(batch: Sequence[_WaitingRequest]) -> int:
    """Set the time and the size of the call of these requests; return the number of rows."""
    rows, now = sum(request.rows for request in batch), time.time_ns()
    for request in batch:
        request.called, request.batch_rows = now, rows
    return rows


def _fail(request: _WaitingRequest, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)


def _join_columns(batch: Sequence[_WaitingRequest]) -> Mapping[str, list[Any]]:
    if len(batch) == 1:
        return batch[0].columns
    return {
        name: list(itertools.chain.from_iterable(request.columns[name] for request in batch))
        for name in batch[0].columns
    }


def _set_answers(batch: Sequence[_WaitingRequest], call: ModelCall) -> None:
    start = 0
    for request in batch:
        end = start + request.rows
        # The client may have closed its connection.
        if not request.answer.done():
            outputs = {name: values[start:end] for name, values in call.outputs.items()}
            request.answer.set_result(Answer(request.columns, outputs, request.rows, call, start))
        start = end
