"""Which run pushed a model last, on real ML Metadata: for the page, and for the gate the same."""

from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.types import standard_artifacts

from components.history.local import LastPushedStatistics
from components.pusher.last_push import PushRecord
from oncall.local.garbage_collection import collect_garbage
from oncall.local.run_store import LocalRunStore
from pipeline.config import pipeline_config
from pipeline.run import artifact_lookup
from pipeline.stats.page import build_page
from serving.registry import Candidate
from tests.conftest import CENSUS_CONFIG
from tests.oncall.run_roots import NAME, Artifacts, Runs

IDS = [f"2026010{day}T000000.000000" for day in range(1, 8)]
OVER = "9"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "root")


def resolve(runs: Runs, run_id: str, *artifacts: mlmd.Artifact) -> None:
    """Put what History found into the context of a run, as TFX does."""
    type_id = runs.store.get_execution_type("tfx.dsl.components.common.resolver.Resolver").id
    execution = mlmd.Execution(type_id=type_id, last_known_state=mlmd.Execution.COMPLETE)
    context = runs.store.get_context_by_type_and_name("pipeline_run", run_id)
    events = [(artifact, mlmd.Event(type=mlmd.Event.OUTPUT)) for artifact in artifacts]
    runs.store.put_execution(execution, events, [context])


def last(runs: Runs, before: str = OVER, model: str = NAME) -> str | None:
    push = artifact_lookup.find_latest_push(runs.root, model, before=before)
    return push.run_id if push else None


def gate_finds(runs: Runs, model: str = NAME) -> list[str]:
    """Return the folders of the statistics that a run that starts now is compared with."""

    def live(type_: Any) -> list[Any]:
        artifacts = []
        for artifact in runs.store.get_artifacts_by_type(type_.TYPE_NAME):
            if artifact.state == mlmd.Artifact.LIVE:
                artifacts.append(type_())
                artifacts[-1].set_mlmd_artifact(artifact)
        return artifacts

    inputs = {
        "statistics": live(standard_artifacts.ExampleStatistics),
        "pushed_model": live(standard_artifacts.PushedModel),
    }
    resolved_inputs = LastPushedStatistics(model).resolve_artifacts(runs.store, inputs)
    assert len(resolved_inputs["statistics"]) == len(resolved_inputs["pushed_model"])
    return [artifact.uri for artifact in resolved_inputs["statistics"]]


def folders(*made: Artifacts) -> list[str]:
    return [artifacts["StatisticsGen"]["statistics"].uri for artifacts in made]


def test_nothing_was_pushed(runs: Runs) -> None:
    runs.run(IDS[0], until="Gate")
    assert last(runs) is None
    assert gate_finds(runs) == []


def test_runs_that_pushed_nothing_are_left_out(runs: Runs) -> None:
    pushed = runs.run(IDS[0])
    runs.run(IDS[1], until="Gate")
    runs.run(IDS[2], cached=pushed, pushes=False)
    runs.run(IDS[3], fails=("Pusher", "no", 5))
    runs.run(IDS[4], crashes_in="Trainer")
    assert last(runs) == IDS[0]
    assert gate_finds(runs) == folders(pushed)
    # Of a run's own page: those before it alone.
    assert last(runs, before=IDS[0]) is None
    again = runs.run(IDS[5])
    assert last(runs) == IDS[5] and last(runs, before=IDS[5]) == IDS[0]
    assert gate_finds(runs) == folders(again)


def test_what_the_gate_was_given_is_not_what_a_run_made(runs: Runs) -> None:
    # The third run took the first one's statistics from the cache, and was compared with the second one's.
    first, second = runs.run(IDS[0]), runs.run(IDS[1])
    for run_id in IDS[2:4]:
        runs.run(run_id, cached=first, until="Gate")
        resolve(runs, run_id, second["StatisticsGen"]["statistics"], second["Pusher"]["pushed_model"])
    third = artifact_lookup.find_run(runs.root, IDS[2])
    assert third.by_type["ExampleStatistics"].id == first["StatisticsGen"]["statistics"].id
    assert "PushedModel" not in third.by_type
    # It pushed nothing, whatever it was compared with.
    assert last(runs, before=IDS[3]) == IDS[1]
    assert gate_finds(runs) == folders(second)
    resolve(runs, IDS[0], second["StatisticsGen"]["statistics"])
    assert gate_finds(runs) == folders(second)


def test_statistics_from_the_cache_are_those_of_the_run_that_pushed(runs: Runs) -> None:
    first = runs.run(IDS[0], until="Gate")
    made = runs.run(IDS[1], cached={"StatisticsGen": first["StatisticsGen"]})
    assert last(runs) == IDS[1]
    assert gate_finds(runs) == folders(first) == folders(made)


def test_a_push_that_was_killed_after_the_version(runs: Runs, tmp_path: Path) -> None:
    runs.run(IDS[0])
    runs.run(IDS[1], crashes_in="Pusher")
    # The version exists, but there is no record of it: the next run finds it.
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"another model")
    runs.registry.push(
        Candidate(NAME, run_id=IDS[1], model_id=1, folder=tmp_path / "model", metrics={"overall": {"auc": 0.9}})
    )
    third = runs.run(IDS[2], pushes=False)
    runs.run(IDS[3], pushes=False)
    assert last(runs) == IDS[2]
    assert gate_finds(runs) == folders(third)


def test_a_rollback_does_not_change_which_model_was_pushed_last(runs: Runs) -> None:
    runs.run(IDS[0])
    runs.run(IDS[1])
    runs.registry.roll_back(reason="bad")
    assert runs.registry.read_champion() == 1
    assert last(runs) == IDS[1]
    runs.registry.promote(2)
    third = runs.run(IDS[2])
    assert runs.registry.gc(keep_last=1).versions == [1]
    assert last(runs) == IDS[2]
    assert gate_finds(runs) == folders(third)


def test_another_models_push_is_not_compared_with(runs: Runs) -> None:
    first = runs.run(IDS[0])
    second = runs.run(IDS[1])
    artifact = second["Pusher"]["pushed_model"]
    artifact.custom_properties["pushed_destination"].string_value = "/elsewhere/other/1"
    runs.store.put_artifacts([artifact])
    assert last(runs) == IDS[0] and gate_finds(runs) == folders(first)
    assert last(runs, model="other") == IDS[1] and gate_finds(runs, model="other") == folders(second)


def test_gc_changes_neither(runs: Runs) -> None:
    first, second = runs.run(IDS[0]), runs.run(IDS[1])
    # This one found the first version, which is older than the last push.
    third = runs.run(IDS[2], pushes=False)
    artifact = third["Pusher"]["pushed_model"]
    artifact.custom_properties["pushed_destination"].string_value = str(runs.registry.find_folder(1))
    runs.store.put_artifacts([artifact])
    for run_id in IDS[3:6]:
        runs.run(run_id, until="Gate")
    removed = collect_garbage(
        LocalRunStore(runs.root.path), keep_last=1, keep_pushed=False, yes=True, folder=None, model=None
    )
    assert first["Pusher"]["pushed_model"].id in removed.document["artifacts"]
    assert last(runs) == IDS[1]
    assert gate_finds(runs) == folders(second)


@pytest.mark.parametrize(
    ("destination", "model"),
    [
        ("/runs/census/registry/census-income/12", "census-income"),
        ("/runs/a@b/registry/census/1", "census"),
        ("/runs/registry/a@b/1", "a@b"),
        ("projects/p/locations/l/models/census-income@3", "census-income"),
        ("", ""),
    ],
)
def test_a_destination_names_its_model(destination: str, model: str) -> None:
    assert PushRecord(1, True, destination).model == model


def test_the_page_names_the_run_that_pushed(runs: Runs) -> None:
    loaded = pipeline_config.load(CENSUS_CONFIG)
    pushed = runs.run(IDS[0], rows=1000)
    runs.run(IDS[1], until="Gate", rows=2000)
    resolve(runs, IDS[1], pushed["StatisticsGen"]["statistics"], pushed["Pusher"]["pushed_model"])
    runs.run(IDS[2], until="Gate", rows=3000)
    run_id, html = build_page(loaded, runs.root, IDS[2])
    assert run_id == IDS[2]
    assert f"the train split of run {IDS[0]}, whose model was pushed last" in html
    assert "pushed train: 1,000 rows" in html and "train: 3,000 rows" in html
    assert "No model was pushed before this run" in build_page(loaded, runs.root, IDS[0])[1]
    # Its statistics were removed.
    artifact = pushed["StatisticsGen"]["statistics"]
    artifact.state = mlmd.Artifact.DELETED
    runs.store.put_artifacts([artifact])
    _, html = build_page(loaded, runs.root, IDS[2])
    assert f"that of run {IDS[0]}, whose statistics were removed" in html
    assert gate_finds(runs) == []
