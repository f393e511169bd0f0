"""What somebody has deleted, rolled back or held: nothing unvalidated is pushed, and the next run makes it good."""

from functools import partial
from pathlib import Path

import pytest

from oncall.metadata import Metadata
from tests.faults import injections
from tests.faults.invariants import Before, blessed, explained
from tests.faults.processes import Place

pytestmark = pytest.mark.slow


def _output(place: Place, node: str, key: str) -> Path:
    """Return the folder of what a node gave out in the newest run, whether it made it or took it from the cache."""
    outputs = Metadata(place.root.database).outputs(place.record().run_id)
    (artifact,) = outputs[node][key]
    return Path(artifact.uri)


def _remove_output(place: Place, node: str, key: str, name: str) -> None:
    gone = _output(place, node, key) / name
    (place.folder / "removed").write_text(str(gone))
    injections.remove(gone)


@pytest.mark.parametrize(
    ("node", "key", "name"),
    [
        ("Transform", "transform_graph", "transform_fn/saved_model.pb"),
        ("Evaluator", "blessing", "BLESSED"),
    ],
)
def test_what_was_deleted_behind_the_cache_is_made_anew(node: str, key: str, name: str, place: Place) -> None:
    before, folder = Before.of(place), _output(place, node, key)
    gone = folder / name
    injections.remove(gone)
    code, said = place.run_again()
    assert code == 0, said
    assert f"{node} does not use {folder}: " in said
    assert place.states()[node] == "complete"
    before.check_artifacts(gone=(gone,))
    assert place.registry.fits(1)
    assert blessed(place, place.registry.champion() or 0)
    assert place.run_again()[0] == 0
    assert place.states()[node] == "cached"


@pytest.mark.parametrize(
    ("at", "node", "key", "name"),
    [
        ("Evaluator", "ExampleGen", "examples", "Split-test"),
        ("Pusher", "Evaluator", "blessing", ""),
    ],
    ids=["examples before Evaluator", "the blessing before Pusher"],
)
def test_what_is_deleted_during_a_run_stops_it_before_the_push(
    at: str, node: str, key: str, name: str, place: Place
) -> None:
    before = Before.of(place)
    seed = f"seed={30 + place.oncall('runs')['total']}"
    fault = partial(injections.at_driver, at, partial(_remove_output, place, node, key, name))
    code, said = place.run(seed, fault=fault)
    assert code == 6, said
    gone = (Path((place.folder / "removed").read_text()),)
    before.check(gone=gone)
    folder = gone[0].parent if name else gone[0]
    explained(place, state="FAILED", node=at, cause=f"{at}: {folder}: files of it are gone", exit_code=6)
    code, said = place.resume()
    assert code == 0, said
    assert f"{node} does not use {folder}" in said
    before.check_artifacts(gone=gone)
    champion = place.registry.champion()
    assert champion is not None
    assert champion > before.champion
    assert blessed(place, champion)


def test_a_rollback_is_not_undone_by_a_cached_rerun_which_says_what_serves(place: Place) -> None:
    if place.registry.champion() == 1:
        assert place.run("seed=29")[0] == 0
    newest = place.registry.champion()
    assert newest is not None
    place.oncall("rollback", "--version", "1", "--reason", "bad predictions", "--yes")
    before = Before.of(place)
    code, said = place.run_again()
    assert code == 0, said
    before.check()
    assert before.champion == 1
    pusher = place.oncall("lineage", "v1")["made_from"]["run"]
    assert f"pushed   nothing: version {newest} holds this very model already" in said
    assert f"serving  version 1 of census-income, pushed by run {pusher}" in said
    assert place.oncall("runs")["runs"][0]["pushed"].startswith("nothing: ")


def test_the_second_of_two_runs_at_once_is_refused_by_the_first_ones_name(place: Place) -> None:
    before, known = Before.of(place), place.oncall("runs")["total"]
    first = place.start_again(partial(injections.at_driver, "Gate", injections.wait_for(place.folder / "go")))
    try:
        first.wait_for(lambda: place.record().running_node == "Gate")
        name = f"{place.record().run_id}, process {first.process.pid} ("
        code, said = place.run_again()
        resumed, _ = place.resume()
    finally:
        (place.folder / "go").touch()
    assert (code, resumed, said.count("\n")) == (6, 6, 1), said
    assert said.startswith(f"error: {place.folder}: another run is using it: {name}")
    assert first.wait() == 0, first.said()
    assert place.oncall("runs")["total"] == known + 1
    before.check()


def test_a_fresh_database_over_an_old_root_is_refused(place: Place) -> None:
    before, aside = Before.of(place), place.folder / "aside"
    place.root.metadata.rename(aside)
    code, said = place.run_again()
    aside.rename(place.root.metadata)
    assert (code, said.count("\n")) == (6, 1), said
    assert "has artifacts but no metadata.sqlite; a fresh database would overwrite them" in said
    before.check()
    assert place.run_again()[0] == 0
