"""An output is identified by its files, and a damaged one is not used again."""

from pathlib import Path

import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.run import inventory
from tests.oncall.run_roots import NAME, Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "run")


def _record_model(runs: Runs) -> mlmd.Artifact:
    """Return a model whose files are kept with its execution."""
    model = runs.run("20260101T000000.000000")["Trainer"]["model"]
    (event,) = [e for e in runs.store.get_events_by_artifact_ids([model.id]) if e.type == mlmd.Event.OUTPUT]
    (execution,) = runs.store.get_executions_by_id([event.execution_id])
    inventory.record_files(runs.store, execution, [model])
    return model


def _state(store: ml_metadata.MetadataStore, artifact: mlmd.Artifact) -> int:
    return int(store.get_artifacts_by_id([artifact.id])[0].state)


def test_what_is_whole_stays(runs: Runs) -> None:
    model = _record_model(runs)
    assert inventory.forget_damaged(runs.store, f"{NAME}.Trainer") == []
    assert inventory.find_damaged(runs.store, [model.id]) == []
    assert _state(runs.store, model) == mlmd.Artifact.LIVE


@pytest.mark.parametrize("damage", ["removed", "cut short", "added"])
def test_what_is_not_whole_is_marked_as_deleted_and_no_file_is_touched(damage: str, runs: Runs) -> None:
    model = _record_model(runs)
    file = Path(model.uri) / "Format-Serving" / "saved_model.pb"
    if damage == "removed":
        file.unlink()
    elif damage == "cut short":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.with_name("more").touch()
    assert inventory.find_damaged(runs.store, [model.id]) == [model.uri]
    assert inventory.forget_damaged(runs.store, f"{NAME}.Trainer") == [model.uri]
    assert _state(runs.store, model) == mlmd.Artifact.DELETED
    assert inventory.forget_damaged(runs.store, f"{NAME}.Trainer") == []
    assert Path(model.uri).is_dir()


def test_what_older_releases_made_is_let_be(runs: Runs) -> None:
    model = runs.run("20260101T000000.000000")["Trainer"]["model"]
    (Path(model.uri) / "Format-Serving" / "saved_model.pb").unlink()
    assert inventory.forget_damaged(runs.store, f"{NAME}.Trainer") == []
    assert inventory.forget_damaged(runs.store, f"{NAME}.Tuner") == []
    assert inventory.find_damaged(runs.store, [model.id]) == []
    assert inventory.find_damaged(runs.store, []) == []
