"""Runs are in the order of ML Metadata's IDs, whatever the clocks were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oncall.local.run_store import LocalRunStore
from pipeline.alerts.alert import find_streak
from pipeline.run.artifact_lookup import find_latest_push, list_runs
from pipeline.run.records import find_clock_conflicts, read_newest_records
from pipeline.run.run_order import list_runs as list_ordered
from tests.oncall.run_roots import NAME, Runs

FUTURE, LATER, LAST = (f"202{year}0101T000000.000000" for year in (9, 6, 7))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Return a run root with a run of the future, a later one that failed, and one that was killed before a node."""
    runs = Runs(tmp_path / "run")
    runs.run(FUTURE, overrides={"started": 2e9})
    runs.run(LATER, fails=("Trainer", "no", 1), pushes=False, overrides={"started": 1.7e9})
    last = max(execution.id for execution in runs.store.get_executions())
    runs.run(LAST, crashes_in="ExampleGen", overrides={"started": 1.8e9, "last_execution": last})
    return runs


def test_every_reader_has_the_same_order(runs: Runs) -> None:
    order = [LAST, LATER, FUTURE]
    assert list_ordered(runs.root) == order
    assert [record.run_id for record in read_newest_records(runs.root)] == order
    assert list_runs(runs.root) == order
    store = LocalRunStore(runs.root.path)
    assert (store.record_ids, store.run_ids) == (order, order)
    assert store.find_last_success(LATER) == FUTURE
    streak = find_streak(runs.root)
    assert (streak.count, streak.last_good) == (2, FUTURE)


def test_a_push_of_the_future_is_the_last_one_for_the_runs_after_it(runs: Runs) -> None:
    last = find_latest_push(runs.root, NAME, before=LATER)
    assert last is not None
    assert last.run_id == FUTURE
    assert find_latest_push(runs.root, NAME, before=FUTURE) is None


def test_clocks_that_disagree_are_reported(runs: Runs) -> None:
    records = list(read_newest_records(runs.root))
    (conflict,) = find_clock_conflicts(records[1:], now=2.1e9)
    assert conflict.text.startswith(f"run {FUTURE} started 83333.3 h after the start of run {LATER}, which came later")
    (conflict,) = find_clock_conflicts(records, now=1.9e9)
    assert conflict.text.startswith(f"run {FUTURE} started 27777.8 h after now; ")


def test_a_run_that_ended_before_its_first_node_is_after_those_that_it_found(runs: Runs) -> None:
    record = runs.root.locate_record(LAST)
    other = record.read_text().replace(LAST, "20200101T000000.000000").replace('"state": "running"', '"state": "x"')
    last = max(execution.id for execution in runs.store.get_executions())
    text = other.replace(f'"last_execution": {last - 1}', f'"last_execution": {last}')
    runs.root.locate_record("20200101T000000.000000").write_text(text)
    assert list_ordered(runs.root)[0] == "20200101T000000.000000"


def test_without_a_database_the_ids_are_the_order(runs: Runs, document: Callable[..., Any] | None = None) -> None:
    del document
    runs.root.metadata.unlink()
    assert list_ordered(runs.root)[0] == FUTURE
