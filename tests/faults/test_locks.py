"""A database that another process holds, for a while and for good: at the start, in a node's work, and in a write."""

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults import injections
from tests.faults.invariants import Before, check_explanation, has_no_findings
from tests.faults.processes import Place

pytestmark = pytest.mark.proof
Plant = Callable[[str, injections.Act], None]
# Gate is never reused from the cache, and quick.
NODE = "Gate"
WORK: Plant = injections.in_executor
WRITE: Plant = injections.at_publish


LIMIT_SECONDS = 1.0
HELD_SECONDS = 60.0


def _held_by(place: Place) -> int:
    return int((place.folder / "holder").read_text())


def _waits(place: Place, at_most: str = "30") -> str:
    return f"waits for {place.root.metadata}, at most {at_most} s: it is locked by process {_held_by(place)} ("


def test_a_run_starts_once_a_lock_ends(place: Place) -> None:
    before = Before.of(place)
    with injections.lock(place.root.metadata, HELD_SECONDS) as holder:
        running = place.start_again()
        running.wait_for(lambda: _waits(place) in running.read_output())
        holder.kill()
    assert running.wait() == 0, running.read_output()
    before.check()


def test_a_run_does_not_start_on_a_database_that_stays_locked(place: Place) -> None:
    before, runs = Before.of(place), place.oncall("runs")["total"]
    with injections.lock(place.root.metadata, HELD_SECONDS) as holder:
        code, output = place.run_again(partial(injections.shorten_wait, LIMIT_SECONDS, injections.nothing))
        finding = place.oncall("doctor", code=1)["findings"][0]
        holder.kill()
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 6
    assert f"the database is locked by process {holder.pid} (" in line
    assert line.endswith("for more than 1 s; end it, and the same command continues from the cache")
    assert (finding["kind"], "is locked by" in finding["message"]) == ("database", True)
    assert place.oncall("runs")["total"] == runs
    before.check()
    assert place.run_again()[0] == 0


@pytest.mark.parametrize("plant", [WORK, WRITE], ids=["in a node's work", "in a write"])
def test_a_run_goes_on_once_a_lock_ends(plant: Plant, place: Place) -> None:
    before = Before.of(place)
    running = place.start_again(partial(plant, NODE, partial(injections.lock, place.root.metadata, HELD_SECONDS)))
    running.wait_for(lambda: f"{NODE} waits for " in running.read_output())
    os.kill(_held_by(place), signal.SIGKILL)
    assert running.wait() == 0, running.read_output()
    assert f"{NODE} {_waits(place)}" in running.read_output()
    before.check()


def test_a_write_goes_on_that_was_held_up_for_less_than_ml_metadata_waits_itself(place: Place) -> None:
    before = Before.of(place)
    code, output = place.run_again(partial(WRITE, NODE, partial(injections.lock, place.root.metadata, 2)))
    assert code == 0, output
    before.check()


@pytest.mark.parametrize("plant", [WORK, WRITE], ids=["in a node's work", "in a write"])
def test_a_run_ends_when_its_database_stays_locked_and_the_next_goes_on(plant: Plant, place: Place) -> None:
    before = Before.of(place)
    held = partial(plant, NODE, partial(injections.lock, place.root.metadata, HELD_SECONDS))
    code, output = place.run_again(partial(injections.shorten_wait, LIMIT_SECONDS, held))
    os.kill(_held_by(place), signal.SIGKILL)
    assert code == 6, output
    before.check()
    explanation = check_explanation(place, state="FAILED", node=NODE, cause="the database is locked by ", exit_code=6)
    assert "python -m oncall doctor" in explanation["try"][0]
    code, output = place.resume()
    assert code == 0, output
    before.check()
    assert has_no_findings(place)
