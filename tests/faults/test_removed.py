"""Files deleted, versions rolled back, databases held: no unvalidated model is pushed, and the next run succeeds."""

from functools import partial
from pathlib import Path

import pytest

from oncall.local.metadata import LocalMetadata
from tests.faults import injections
from tests.faults.invariants import Before, check_explanation, is_blessed
from tests.faults.processes import Place

pytestmark = [pytest.mark.slow, pytest.mark.proof]


def _find_output(place: Place, node: str, key: str) -> Path:
    """Return the folder of an output of a node in the newest run, made by it or reused."""
    outputs = LocalMetadata(place.root.database).get_run_outputs(place.record().run_id)
    (artifact,) = outputs[node][key]
    return Path(artifact.uri)


def _remove_output(place: Place, node: str, key: str, name: str) -> None:
    gone = _find_output(place, node, key) / name
    (place.folder / "removed").write_text(str(gone))
    injections.remove(gone)


@pytest.mark.parametrize(
    ("node", "key", "name"),
    [
        ("Transform", "transform_graph", "transform_fn/saved_model.pb"),
        ("Evaluator", "blessing", "BLESSED"),
    ],
)
def test_what_was_deleted_behind_the_cache_is_made_again(node: str, key: str, name: str, place: Place) -> None:
    before, folder = Before.of(place), _find_output(place, node, key)
    gone = folder / name
    injections.remove(gone)
    code, output = place.run_again()
    assert code == 0, output
    assert f"{node} does not use {folder}: " in output
    assert place.states()[node] == "complete"
    before.check_artifacts(gone=(gone,))
    assert place.registry.is_intact(1)
    assert is_blessed(place, place.registry.read_champion() or 0)
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
    fault = partial(injections.at_driver, at, partial(_remove_output, place, node, key, name))
    code, output = place.run("seed=30", fault=fault)
    assert code == 6, output
    gone = (Path((place.folder / "removed").read_text()),)
    before.check(gone=gone)
    folder = gone[0].parent if name else gone[0]
    check_explanation(place, state="FAILED", node=at, cause=f"{at}: {folder}: files of it are gone", exit_code=6)
    code, output = place.resume()
    assert code == 0, output
    assert f"{node} does not use {folder}" in output
    before.check_artifacts(gone=gone)
    champion = place.registry.read_champion()
    assert champion is not None
    assert champion > before.champion
    assert is_blessed(place, champion)


def test_a_rollback_is_not_undone_by_a_cached_rerun_which_names_the_serving_version(place: Place) -> None:
    assert place.run("seed=29")[0] == 0
    newest = place.registry.read_champion()
    assert newest is not None
    place.oncall("rollback", "--version", "1", "--reason", "bad predictions", "--yes")
    before = Before.of(place)
    code, output = place.run_again()
    assert code == 0, output
    before.check()
    assert before.champion == 1
    pusher = place.oncall("lineage", "v1")["made_from"]["run"]
    assert f"pushed   nothing: version {newest} holds this very model already" in output
    assert f"serving  version 1 of census-income, pushed by run {pusher}" in output
    assert place.oncall("runs")["runs"][0]["pushed"].startswith("nothing: ")


def test_the_second_of_two_runs_at_once_is_refused_by_the_first_ones_name(place: Place) -> None:
    before, runs = Before.of(place), place.oncall("runs")["total"]
    first = place.start_again(partial(injections.at_driver, "Gate", injections.wait_for(place.folder / "go")))
    try:
        first.wait_for(lambda: place.record().running_node == "Gate")
        name = f"{place.record().run_id}, process {first.process.pid} ("
        code, output = place.run_again()
        resumed, _ = place.resume()
    finally:
        (place.folder / "go").touch()
    assert (code, resumed, output.count("\n")) == (6, 6, 1), output
    assert output.startswith(f"error: {place.folder}: another run is using it: {name}")
    assert first.wait() == 0, first.read_output()
    assert place.oncall("runs")["total"] == runs + 1
    before.check()


def test_a_fresh_database_over_an_old_root_is_refused(place: Place) -> None:
    before, aside = Before.of(place), place.folder / "aside"
    place.root.metadata.rename(aside)
    code, output = place.run_again()
    aside.rename(place.root.metadata)
    assert (code, output.count("\n")) == (6, 1), output
    assert "has artifacts but no metadata.sqlite; a fresh database would overwrite them" in output
    before.check()
    assert place.run_again()[0] == 0
