"""Records of runs: their process, progress and end."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cli.errors import RunRootError
from pipeline.config import pipeline_config
from pipeline.config.nodes import list_nodes
from pipeline.run import records
from pipeline.run.records import PushResult, RecordFile, RunRecord, RunState, create_record, read_newest_records
from pipeline.run.run_root import RunRoot, generate_run_id
from schemas.sensitive import MASK
from tests.conftest import CENSUS_CONFIG, ROOT


@pytest.fixture
def root(tmp_path: Path) -> RunRoot:
    return RunRoot(tmp_path)


def start_record(root: RunRoot, log: Path | None = None) -> RecordFile:
    config = pipeline_config.load(CENSUS_CONFIG)
    return RecordFile(
        root, create_record(config, generate_run_id(), log=log, expected=list_nodes(config), resumes=None)
    )


def only(root: RunRoot) -> RunRecord:
    (record,) = read_newest_records(root)
    return record


def test_a_record_says_who_runs_what(root: RunRoot) -> None:
    start_record(root)
    record = only(root)
    assert (record.pid, record.pipeline) == (os.getpid(), "census-income")
    assert record.expected == list(list_nodes(pipeline_config.load(CENSUS_CONFIG)))
    assert set(record.code) == {"pipeline", "components", "trainer", "serving", "schemas"}
    assert record.packages["tfx"] == "1.21.0"
    assert record.config["training"]["epochs"] == 6
    again = pipeline_config.load(CENSUS_CONFIG, ["training.epochs=5"])
    other = create_record(again, "run", log=None, expected=[], resumes=None)
    assert record.config_hash != other.config_hash
    assert (
        create_record(pipeline_config.load(CENSUS_CONFIG), "run", log=None, expected=[], resumes=None).config_hash
        == record.config_hash
    )


def test_the_revision_is_that_of_this_checkout_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert records.read_git_revision()[0] == (head.stdout.strip() or None)
    monkeypatch.setattr(records, "_ROOT", ROOT / "pipeline")
    assert records.read_git_revision() == (None, None)
    monkeypatch.setattr(records, "_ROOT", tmp_path)
    assert records.read_git_revision() == (None, None)


def test_its_config_can_be_run_again(root: RunRoot, tmp_path: Path) -> None:
    start_record(root)
    file = tmp_path / "again.json"
    file.write_text(json.dumps(only(root).config))
    assert pipeline_config.load(file).model_dump() == pipeline_config.load(CENSUS_CONFIG).model_dump()


def test_a_node_has_its_part_of_the_log_and_its_error(root: RunRoot, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("before\n")
    file = start_record(root, log)
    file.on_node_start("ExampleGen")
    assert only(root).running_node == "ExampleGen"
    with log.open("a") as out:
        out.write("Traceback ...\n")
    file.on_node_end("ExampleGen", "failed", "a row does not fit")
    node = only(root).nodes["ExampleGen"]
    assert log.read_bytes()[node.log_from : node.log_to] == b"Traceback ...\n"
    assert (node.state, node.error, only(root).running_node) == ("failed", "a row does not fit", None)


def test_a_run_goes_on_only_while_the_lock_is_held_by_a_process_that_lives(root: RunRoot) -> None:
    with root.lock():
        assert root.is_locked
        file = start_record(root)
        file.on_node_start("Trainer")
        assert only(root).get_state(locked=root.is_locked) == RunState.RUNNING
    assert not root.is_locked
    assert only(root).get_state(locked=root.is_locked) == RunState.CRASHED
    # The lock is another run's, and this process is gone.
    file.record.process_started -= 100
    file.on_node_start("Evaluator")
    assert only(root).get_state(locked=True) == RunState.CRASHED


@pytest.mark.parametrize(
    ("exit_code", "reason", "node_state", "expected"),
    [
        (0, "", "complete", RunState.SUCCEEDED),
        (0, "", "cached", RunState.CACHED),
        (3, "", "failed", RunState.FAILED),
        (130, "SIGTERM", "failed", RunState.ABORTED),
    ],
)
def test_how_a_run_ended(root: RunRoot, exit_code: int, reason: str, node_state: str, expected: RunState) -> None:
    file = start_record(root)
    file.record.expected = ["Trainer", "Pusher"]
    file.on_node_start("Trainer")
    file.on_node_end("Trainer", node_state, "")
    file.on_node_start("Pusher")
    file.on_node_end("Pusher", "complete", "")
    file.end(exit_code=exit_code, error="", reason=reason, summary={"serving": "version 1"})
    assert only(root).get_state(locked=False) == expected
    assert only(root).summary == {"serving": "version 1"}


def test_a_run_that_did_not_come_to_all_nodes_is_incomplete(root: RunRoot) -> None:
    file = start_record(root)
    file.record.until = "Gate"
    for node in file.record.expected[:6]:
        file.on_node_start(node)
        file.on_node_end(node, "complete", "")
    # As Evaluator's JSON has them.
    file.end(exit_code=0, error="", reason="", summary={}, intervals={"overall": {"auc": [0.8, 1]}}, warnings=("old",))
    assert (file.record.flat_intervals, file.record.warnings) == ({"overall: auc": (0.8, 1.0)}, ["old"])
    assert only(root) == file.record
    assert (only(root).get_state(locked=False), only(root).succeeded) == (RunState.INCOMPLETE, False)
    file.update(alert="posted")
    assert (only(root).alert, only(root).until) == ("posted", "Gate")


def test_the_part_of_a_node_that_failed_goes_on_to_the_end(root: RunRoot, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("")
    file = start_record(root, log)
    file.on_node_start("Gate")
    file.on_node_end("Gate", "failed", "no")
    log.write_text("Traceback\n")
    file.end(exit_code=3, error="no", reason="", summary={})
    assert only(root).nodes["Gate"].log_to == len("Traceback\n")


def test_a_record_that_cannot_be_written_is_a_refusal(root: RunRoot) -> None:
    root.records.write_text("mine")
    with pytest.raises(RunRootError, match=f"{root.records}/.*: cannot be written: File exists"):
        start_record(root)
    assert root.records.read_text() == "mine"


def test_a_damaged_record_hides_no_other(root: RunRoot) -> None:
    start_record(root)
    root.locate_record("9").write_text("{")
    assert len(list(read_newest_records(root))) == 1


def test_the_categories_of_sensitive_features_are_masked_for_readers_and_kept_for_another_run(root: RunRoot) -> None:
    values = {"kind": "vocabulary_list", "values": ["CANARY"], "sensitive": True}
    config = pipeline_config.load(CENSUS_CONFIG, [f"features.relationship={json.dumps(values)}"])
    record = create_record(config, "run", log=None, expected=[], resumes=None)
    assert record.config["features"]["relationship"]["values"] == ["CANARY"]
    assert record.shown_config["features"]["relationship"]["values"] == MASK
    assert record.shown_config["features"]["age"] == record.config["features"]["age"]


@pytest.mark.parametrize(
    ("push", "label", "reason", "text"),
    [
        (PushResult(), "nothing", "", "nothing"),
        (
            PushResult(version=1, destination="/r/1"),
            "nothing",
            "version 1 holds this very model already",
            "nothing: version 1 holds this very model already",
        ),
        (
            PushResult(version=2, wrote=True, destination="/a: b to c/2"),
            "version 2",
            "",
            "version 2 to /a: b to c/2",
        ),
        # A push target of one's own may name no destination.
        (
            PushResult(version=3, wrote=True, note="a rollback"),
            "version 3",
            "",
            "version 3, as the candidate: a rollback",
        ),
    ],
)
def test_the_record_keeps_the_result_of_the_push(
    push: PushResult, label: str, reason: str, text: str, root: RunRoot
) -> None:
    file = start_record(root)
    file.end(exit_code=0, error="", reason="", summary={"serving": "none"}, push=push)
    record = only(root)
    assert record.push == push
    assert (push.label, push.reason, str(push)) == (label, reason, text)
    assert record.result_texts == {"pushed": text, "serving": "none"}
