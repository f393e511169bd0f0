"""Rows of requests that wait together go into one call of the model; too many are refused."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from serving.server import batching
from serving.server.batching import Batcher, OverloadedError


class BlockingModel:
    """Doubles x; waits in its first call until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __call__(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        self.calls.append(list(columns["x"]))
        self.entered.set()
        assert self.go_on.wait(10)
        if -1 in columns["x"]:
            raise RuntimeError("a bad row")
        return {"y": np.array(columns["x"]) * 2}


@pytest.fixture
def model() -> BlockingModel:
    return BlockingModel()


def make_batcher(model: BlockingModel, **limits: int) -> Batcher:
    settings = {"max_batch_rows": 4, "max_waiting_rows": 6, **limits}
    return Batcher(model, ThreadPoolExecutor(1), **settings)


async def submit_first(model: BlockingModel, batcher: Batcher) -> "asyncio.Task[Any]":
    """Return a request that the model is busy with."""
    first = asyncio.create_task(batcher.submit({"x": [0]}, 1, timeout_seconds=10))
    await asyncio.to_thread(model.entered.wait, 10)
    return first


def submit_all(batcher: Batcher, values: list[list[int]], timeout_seconds: float = 10) -> "list[asyncio.Task[Any]]":
    return [
        asyncio.create_task(batcher.submit({"x": rows}, len(rows), timeout_seconds=timeout_seconds)) for rows in values
    ]


def test_what_comes_while_the_model_is_busy_goes_into_one_call(model: BlockingModel) -> None:
    async def run() -> None:
        batcher = make_batcher(model)
        first = await submit_first(model, batcher)
        tasks = submit_all(batcher, [[1], [2, 3], [4], [5]])
        await asyncio.sleep(0)
        assert batcher.waiting_rows == 5
        model.go_on.set()
        answers = [(await task).outputs["y"].tolist() for task in (first, *tasks)]
        assert answers == [[0], [2], [4, 6], [8], [10]]
        # Four rows are the most of a call; requests are not divided.
        assert model.calls == [[0], [1, 2, 3, 4], [5]]
        assert batcher.waiting_rows == 0

    asyncio.run(run())


def test_beyond_the_bound_requests_are_refused_at_once(model: BlockingModel) -> None:
    async def run() -> None:
        batcher = make_batcher(model)
        first = await submit_first(model, batcher)
        tasks = submit_all(batcher, [[1, 2, 3], [4, 5, 6]])
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="6 rows are waiting already; try again later"):
            await batcher.submit({"x": [7]}, 1, timeout_seconds=10)
        model.go_on.set()
        assert [(await task).outputs["y"].tolist() for task in (first, *tasks)] == [[0], [2, 4, 6], [8, 10, 12]]

    asyncio.run(run())


def test_a_request_larger_than_a_batch_is_one_call(model: BlockingModel) -> None:
    async def run() -> None:
        model.go_on.set()
        batcher = make_batcher(model, max_waiting_rows=2)
        answer = await batcher.submit({"x": list(range(9))}, 9, timeout_seconds=10)
        assert answer.outputs["y"].tolist() == [2 * x for x in range(9)]

    asyncio.run(run())


def test_rows_past_their_deadline_are_refused_and_not_predicted(model: BlockingModel) -> None:
    async def run() -> None:
        batcher = make_batcher(model)
        first = await submit_first(model, batcher)
        (late,) = submit_all(batcher, [[1]], timeout_seconds=0.0)
        (patient,) = submit_all(batcher, [[2]])
        await asyncio.sleep(0.01)
        model.go_on.set()
        with pytest.raises(OverloadedError, match="waited past its deadline"):
            await late
        assert (await patient).outputs["y"].tolist() == [4]
        assert (await first).outputs["y"].tolist() == [0]
        assert model.calls == [[0], [2]]

    asyncio.run(run())


def test_a_failed_call_fails_none_but_the_request_at_fault(model: BlockingModel) -> None:
    async def run() -> None:
        batcher = make_batcher(model)
        first = await submit_first(model, batcher)
        good, bad, other = submit_all(batcher, [[1], [-1], [2]])
        await asyncio.sleep(0)
        model.go_on.set()
        with pytest.raises(RuntimeError, match="a bad row"):
            await bad
        assert [(await task).outputs["y"].tolist() for task in (first, good, other)] == [[0], [2], [4]]

    asyncio.run(run())


def test_a_request_whose_client_has_gone_is_not_predicted(model: BlockingModel) -> None:
    async def run() -> None:
        batcher = make_batcher(model)
        first = await submit_first(model, batcher)
        gone, other = submit_all(batcher, [[1], [2]])
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.go_on.set()
        assert (await other).outputs["y"].tolist() == [4]
        await first
        assert model.calls == [[0], [2]]

    asyncio.run(run())


@pytest.mark.parametrize(("quick_seconds", "is_own"), [(1e9, True), (0.0, False)])
def test_a_quick_model_is_called_for_a_single_row_without_another_thread(
    monkeypatch: pytest.MonkeyPatch, quick_seconds: float, is_own: bool
) -> None:
    monkeypatch.setattr(batching, "_QUICK_SECONDS", quick_seconds)
    calls: list[tuple[int, bool]] = []

    def call(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        calls.append((len(columns["x"]), threading.current_thread() is threading.main_thread()))
        return {"y": np.array(columns["x"])}

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(call, executor, max_batch_rows=4, max_waiting_rows=6)
            for xs in ([[0]], [[1]], [[2], [3]], [[4, 5]]):
                await asyncio.gather(*(batcher.submit({"x": x}, len(x), timeout_seconds=10) for x in xs))

    asyncio.run(run())
    # Nobody knows before the first call.
    assert calls == [(1, False), (1, is_own), (2, False), (2, False)]
