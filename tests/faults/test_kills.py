"""`kill -9` in drivers, in the executor of every component and in publishers, and SIGTERM: each is resumed from there."""

import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults import injections
from tests.faults.invariants import Before, check_explanation, has_no_findings, is_blessed
from tests.faults.processes import Place
from tests.forked import context

pytestmark = [pytest.mark.slow, pytest.mark.proof]
DATA_NODES = ("ExampleGen", "SchemaGen", "StatisticsGen", "ExampleValidator", "Gate", "Transform")
MODEL_NODES = ("Trainer", "Evaluator", "InfraValidator", "Pusher")
POINTS: dict[str, Callable[[str, injections.Act], None]] = {
    "driver": injections.at_driver,
    "executor": injections.in_executor,
    "publish": injections.at_publish,
}


# Drivers and publishers are TFX's own, so a node of each kind is enough. Executors are each component's own.
KILLED_AT = {
    "driver": ("ExampleGen", "History", "Transform", "Trainer", "Pusher"),
    "executor": (*DATA_NODES, *MODEL_NODES),
    "publish": ("ExampleGen", "SchemaGen", "Baseline", "Evaluator", "Pusher"),
}


def _threads() -> None:
    os._exit(len(os.listdir(f"/proc/{os.getppid()}/task")))


def test_the_process_that_runs_fork_from_has_one_thread() -> None:
    process = context().Process(target=_threads)
    process.start()
    process.join()
    assert process.exitcode == 1


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_in_every_component_continues_from_there(point: str, place: Place) -> None:
    before, order = Before.of(place), tuple(place.record().nodes)
    # No node may be reused: the config, the schema and the seed are all changed.
    schema = place.config.parent / "schema.pbtxt"
    other = schema.with_name("other.pbtxt")
    other.write_text(schema.read_text().replace("max: 120.0", "max: 121.0"))
    assert other.read_text() != schema.read_text()
    changes = ("data.max_bad_rows=1", f"data.schema_file={other}", "seed=21")
    nodes = [node for node in order if node in KILLED_AT[point]]
    assert len(nodes) == len(KILLED_AT[point])
    for number, node in enumerate(nodes):
        fault = partial(POINTS[point], node, injections.die)
        code, output = place.resume(fault) if number else place.run(*changes, fault=fault)
        assert code == -9, (node, output)
        if node == "Pusher" and point != "driver":
            # It is pushed, and the serving version is whole; ML Metadata does not have it yet.
            before.check_artifacts()
            assert (place.registry.read_champion(), place.registry.is_intact(2)) == (2, True)
        else:
            before.check()
        check_explanation(place, state="CRASHED", node=node, cause=f"is gone: killed in {node}", exit_code=None)
    code, output = place.resume()
    assert code == 0, output
    before.check_artifacts()
    assert place.registry.list_numbers() == [1, 2]
    assert place.registry.read_champion() == 2
    assert is_blessed(place, before.champion)
    assert is_blessed(place, 2)
    assert has_no_findings(place)
    assert place.oncall("check")["ok"] is True
    # Drift is counted from the serving version, though its push was cut off before it was published to ML Metadata.
    code, output = place.run(*changes)
    assert code == 0, output
    assert re.search(r"History complete in .* s: version 2\n", output)


def test_sigterm_ends_a_run_as_aborted_and_it_continues(place: Place) -> None:
    before = Before.of(place)
    fault = partial(injections.in_executor, "Gate", injections.terminate)
    code, output = place.run_again(fault)
    assert code == 130, output
    before.check()
    check_explanation(place, state="ABORTED", node="Gate", cause="interrupted by SIGTERM in Gate", exit_code=130)
    assert place.resume()[0] == 0
    before.check()


def test_what_a_run_had_half_written_to_its_database_when_it_was_killed_is_taken_back(place: Place) -> None:
    before = Before.of(place)
    journal = place.folder / "metadata.sqlite-journal"
    assert _killed_in_a_write(place, journal), "no write was interrupted"
    assert journal.stat().st_size > 0
    before.check()
    assert place.oncall("why", "latest")["state"] == "CRASHED"
    findings = [finding for finding in place.oncall("doctor", code=1)["findings"] if finding["kind"] == "database"]
    assert "has an unfinished change of a process that was killed" in findings[0]["message"]
    assert place.resume()[0] == 0
    before.check()
    assert not journal.exists()
    assert has_no_findings(place)


def _killed_in_a_write(place: Place, journal: Path) -> bool:
    """Kill runs until one leaves a journal that SQLite has to roll back."""
    for _ in range(20):
        running = place.start_again()
        pid = running.process.pid
        assert pid is not None
        while running.process.is_alive():
            if not _size(journal):
                continue
            os.kill(pid, signal.SIGSTOP)
            # It may have been the end of the write.
            if _is_hot(journal):
                os.kill(pid, signal.SIGKILL)
                return running.wait() == -9
            os.kill(pid, signal.SIGCONT)
        running.wait()
    return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _is_hot(journal: Path) -> bool:
    """Return whether its header is whole: https://www.sqlite.org/fileformat.html#the_rollback_journal."""
    try:
        head = journal.read_bytes()[:12]
    except FileNotFoundError:
        return False
    return head[:8] == bytes.fromhex("d9d505f920a163d7") and head[8:] != bytes(4)
