"""A database that another process holds for 2, 9 and 60 seconds: at the start, in a node's work, and in a write."""

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults import injections
from tests.faults.invariants import Before, explained, no_findings
from tests.faults.processes import Place

pytestmark = pytest.mark.slow
Plant = Callable[[str, injections.Act], None]
# Gate is never answered from the cache, and quick.
NODE = "Gate"
WORK: Plant = injections.in_executor
WRITE: Plant = injections.at_publish


def _held_by(place: Place) -> int:
    return int((place.folder / "holder").read_text())


@pytest.mark.parametrize("seconds", [2, 9])
def test_a_run_starts_once_a_short_lock_ends(seconds: int, place: Place) -> None:
    before = Before.of(place)
    holder = injections.lock(place.root.metadata, seconds)
    code, said = place.run_again()
    holder.wait()
    assert code == 0, said
    assert f"waits for {place.root.metadata}, at most 30 s: it is locked by process {holder.pid} (" in said
    before.check()


def test_a_run_does_not_start_on_a_database_that_stays_locked(place: Place) -> None:
    before, runs = Before.of(place), place.oncall("runs")["total"]
    holder = injections.lock(place.root.metadata, 60)
    code, said = place.run_again()
    finding = place.oncall("doctor", code=1)["findings"][0]
    holder.kill()
    holder.wait()
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 6
    assert f"the database is locked by process {holder.pid} (" in line
    assert line.endswith("for more than 30 s; end it, and the same command goes on from the cache")
    assert (finding["kind"], "is locked by" in finding["said"]) == ("database", True)
    assert place.oncall("runs")["total"] == runs
    before.check()
    assert place.run_again()[0] == 0


@pytest.mark.parametrize("plant", [WORK, WRITE], ids=["in a node's work", "in a write"])
@pytest.mark.parametrize("seconds", [2, 9])
def test_a_run_goes_on_once_a_short_lock_ends(seconds: int, plant: Plant, place: Place) -> None:
    before = Before.of(place)
    code, said = place.run_again(partial(plant, NODE, partial(injections.lock, place.root.metadata, seconds)))
    assert code == 0, said
    if plant is WORK or seconds == 9:
        assert (
            f"{NODE} waits for {place.root.metadata}, at most 30 s: it is locked by process {_held_by(place)}" in said
        )
    before.check()


@pytest.mark.parametrize("plant", [WORK, WRITE], ids=["in a node's work", "in a write"])
def test_a_run_ends_when_its_database_stays_locked_and_the_next_goes_on(plant: Plant, place: Place) -> None:
    before = Before.of(place)
    code, said = place.run_again(partial(plant, NODE, partial(injections.lock, place.root.metadata, 60)))
    os.kill(_held_by(place), signal.SIGKILL)
    assert code == 6, said
    before.check()
    found = explained(place, state="FAILED", node=NODE, cause="the database is locked by ", exit_code=6)
    assert "python -m oncall doctor" in found["try"][0]
    code, said = place.resume()
    assert code == 0, said
    before.check()
    assert no_findings(place)
