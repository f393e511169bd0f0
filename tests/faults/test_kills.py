"""`kill -9` in the driver, the executor and the publisher of every node, and SIGTERM: each is resumed from there."""

import os
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults import injections
from tests.faults.invariants import Before, blessed, explained
from tests.faults.processes import Place, context

pytestmark = pytest.mark.slow
RESOLVERS = ("History", "Baseline")
POINTS: dict[str, Callable[[str, injections.Act], None]] = {
    "driver": injections.at_driver,
    "executor": injections.in_executor,
    "publish": injections.at_publish,
}


def _threads() -> None:
    os._exit(len(os.listdir(f"/proc/{os.getppid()}/task")))


def test_the_process_that_runs_fork_from_has_one_thread() -> None:
    process = context().Process(target=_threads)
    process.start()
    process.join()
    assert process.exitcode == 1


def test_a_run_killed_at_every_point_of_every_node_goes_on_from_there(place: Place) -> None:
    before, order = Before.of(place), tuple(place.record().nodes)
    # Nothing that a node reads is as it was, or the cache would answer for it.
    schema = place.config.parent / "schema.pbtxt"
    other = schema.with_name("other.pbtxt")
    other.write_text(schema.read_text().replace("max: 120.0", "max: 121.0"))
    assert other.read_text() != schema.read_text()
    changed = ("data.max_bad_rows=1", f"data.schema_file={other}", "seed=21")
    walk = [(node, point) for node in order for point in POINTS if point != "executor" or node not in RESOLVERS]
    for number, (node, point) in enumerate(walk):
        fault = partial(POINTS[point], node, injections.die)
        code, said = place.resume(fault) if number else place.run(*changed, fault=fault)
        assert code == -9, (node, point, said)
        if (node, point) in (("Pusher", "executor"), ("Pusher", "publish")):
            # It is pushed, and what serves is whole; ML Metadata does not know it yet.
            before.check_artifacts()
            assert (place.registry.champion(), place.registry.fits(2)) == (2, True)
        else:
            before.check()
        explained(place, state="CRASHED", node=node, cause=f"is gone: killed in {node}", exit_code=None)
    code, said = place.resume()
    assert code == 0, said
    before.check_artifacts()
    assert place.registry.versions() == [1, 2]
    assert place.registry.champion() == 2
    assert blessed(place, 1)
    assert blessed(place, 2)
    assert place.oncall("doctor")["findings"] == []
    assert place.oncall("check")["ok"] is True
