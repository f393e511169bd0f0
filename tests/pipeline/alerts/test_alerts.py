"""Notifications of a run's end, and how often they are sent."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError, DataError, PushError, RunRootError
from cli.interrupts import Interrupts
from pipeline.alerts import notifier
from pipeline.alerts.config import Alerts
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED, AlertState
from pipeline.config import pipeline_config
from pipeline.config.nodes import list_nodes
from pipeline.run.local import record_rejection
from pipeline.run.records import PushResult, RecordFile, create_record, read_newest_records
from pipeline.run.run_root import RunRoot, generate_run_id
from tests.conftest import CENSUS_CONFIG
from tests.pipeline.alerts.webhooks import SECRET, Receiver, hangs, receiver, status

pytestmark = pytest.mark.integration

NAME = "census-income"


@pytest.fixture
def root(tmp_path: Path) -> RunRoot:
    return RunRoot(tmp_path)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as webhook:
        monkeypatch.setenv("HOOK", webhook.url)
        yield webhook


def to_hook(**named: Any) -> Alerts:
    return Alerts(webhook_env="HOOK", **{"timeout_seconds": 2.0, **named})


def start_record(root: RunRoot, section: Alerts) -> RecordFile:
    config = pipeline_config.load(CENSUS_CONFIG).model_copy(update={"alerts": section})
    return RecordFile(
        root,
        create_record(config, generate_run_id(), log=root.locate_log("x"), expected=list_nodes(config), resumes=None),
    )


def run(
    root: RunRoot,
    section: Alerts,
    *,
    fails_in: str = "",
    error: str = "",
    code: int = 1,
    reason: str = "",
    stops_after: str = "",
    prints_alert: bool = False,
    missed: tuple[str, ...] = (),
) -> RecordFile:
    """Return a run as pipeline/run/local.py records it and tells of it."""
    file = start_record(root, section)
    file.record.until = stops_after or None
    for node in file.record.expected:
        file.on_node_start(node)
        file.on_node_end(node, "failed" if node == fails_in else "complete", error if node == fails_in else "")
        if node in (fails_in, stops_after):
            break
    push = PushResult(version=2, wrote=True, destination="/registry/2")
    summary = {"serving": "version 2 of census-income"}
    file.end(exit_code=code if fails_in else 0, error=error, reason=reason, summary=summary, push=push)
    notifier.report_end(section, root, file, missed=missed, prints=prints_alert)
    return file


def events(hook: Receiver) -> list[tuple[str, str, int]]:
    return [(alert["event"], alert["state"], alert["count"]) for alert in hook.documents]


def only(root: RunRoot) -> Any:
    return next(read_newest_records(root))


def test_a_failure_says_what_why_since_when_and_what_next(root: RunRoot, hook: Receiver) -> None:
    good = run(root, to_hook()).record
    failed = run(root, to_hook(), fails_in="Trainer", error="Trainer: ValueError: loss is NaN").record
    (document,) = hook.documents
    text = document.pop("text")
    assert document.pop("time") >= document["since"]
    assert document == {
        "pipeline": NAME,
        "event": "failure",
        "run_id": failed.run_id,
        "state": "FAILED",
        "exit_code": 1,
        "node": "Trainer",
        "what": f"run {failed.run_id} FAILED in Trainer with exit code 1",
        "why": "Trainer: ValueError: loss is NaN",
        "since": document["since"],
        "count": 1,
        "last_good": good.run_id,
        "next": [
            f"python -m oncall why {failed.run_id} --run-root {root.path}",
            f"python -m oncall diff {good.run_id} {failed.run_id} --run-root {root.path}    # since the last good run",
            f"python -m oncall log {failed.run_id} --run-root {root.path}    # the whole story",
            f"python -m oncall resume {failed.run_id} --run-root {root.path}    # once the cause is fixed",
        ],
        "serving": "version 2 of census-income",
        "host": failed.host,
        "run_root": str(root.path),
        "log": failed.log,
    }
    lines = text.splitlines()
    assert lines[:4] == [
        f"{NAME}: run {failed.run_id} FAILED in Trainer with exit code 1, on {failed.host}",
        "why      Trainer: ValueError: loss is NaN",
        f"since    {document['since']}; the last good run is {good.run_id}",
        "serving  version 2 of census-income",
    ]
    assert lines[4].startswith(f"next     python -m oncall why {failed.run_id}")
    assert only(root).alert == "posted"


def test_failures_in_a_row_are_counted_from_the_first_and_a_good_run_ends_them(root: RunRoot, hook: Receiver) -> None:
    run(root, to_hook())
    first = run(root, to_hook(), fails_in="Gate", error="no").record
    run(root, to_hook(), stops_after="SchemaGen")
    run(root, to_hook(), fails_in="Pusher", error="no", code=130, reason="SIGTERM")
    run(root, to_hook())
    run(root, to_hook())
    assert events(hook) == [("failure", "FAILED", 1), ("aborted", "ABORTED", 2), ("recovered", "SUCCEEDED", 2)]
    assert hook.documents[1]["since"] == hook.documents[0]["since"] == hook.documents[2]["since"]
    assert "interrupted by SIGTERM in Pusher" in hook.documents[1]["why"]
    assert "; pushed version 2 to /registry/2" in hook.documents[2]["what"]
    since = hook.documents[2]["since"]
    assert f"\nbefore   not well since {since}, 2 times in a row\n" in hook.documents[2]["text"]
    assert first.started > 0
    assert not (root.path / "alerts.json").exists()


def test_only_what_is_asked_for_is_posted(root: RunRoot, hook: Receiver) -> None:
    all_good = to_hook(events=("success",))
    run(root, all_good, fails_in="Gate", error="no")
    run(root, all_good)
    run(root, all_good, stops_after="Gate")
    assert events(hook) == [("recovered", "SUCCEEDED", 1), ("success", "INCOMPLETE", 0)]
    assert hook.documents[1]["why"] == "stopped after Gate, as asked"
    run(root, to_hook(events=()), fails_in="Gate", error="no")
    assert len(hook.documents) == 2


def test_without_a_webhook_nothing_is_said(root: RunRoot, capfd: pytest.CaptureFixture[str]) -> None:
    run(root, Alerts(), fails_in="Gate", error="no")
    assert capfd.readouterr() == ("", "")
    assert only(root).alert == ""


def test_what_is_printed_is_the_text_of_the_alert(
    root: RunRoot, hook: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    run(root, to_hook(), prints_alert=True)
    assert capfd.readouterr() == ("", "")
    missed = ("auc on sex=Male: 0.84", "auc on sex=Female: 0.85")
    run(root, to_hook(), fails_in="InfraValidator", error="x <= 3 & more", code=4, prints_alert=True, missed=missed)
    out, err = capfd.readouterr()
    assert (out, err.rstrip("\n")) == ("", hook.documents[0]["text"].replace("&lt;", "<").replace("&amp;", "&"))
    assert "\nwhy      InfraValidator: x <= 3 & more\n         auc on sex=Male: 0.84\n" in err


def test_hostile_text_neither_moves_a_terminal_nor_calls_a_channel(
    root: RunRoot, hook: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    run(
        root,
        to_hook(),
        fails_in="Gate",
        error="\x1b[31mred <!channel>\n" + "x" * 5000 + "\n" + "line\n" * 50,
        prints_alert=True,
    )
    assert "\x1b" not in capfd.readouterr().err
    (document,) = hook.documents
    assert "\\x1b[31mred &lt;!channel&gt;" in document["text"]
    assert "xxx...\n" in document["text"]
    assert "and 32 lines more" in document["text"]
    assert len(document["text"]) < 3000
    assert document["why"].startswith("Gate: \x1b[31mred <!channel>\nxxx")


def test_a_webhook_that_fails_changes_nothing_is_said_once_and_kept(
    root: RunRoot, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver(status(404)) as hook:
        monkeypatch.setenv("HOOK", hook.url)
        run(root, to_hook(), fails_in="Gate", error="no")
    assert capfd.readouterr().err == "alert not posted: the webhook answered HTTP 404 Not Found\n"
    record = only(root)
    assert (record.alert, record.exit_code) == ("not posted: the webhook answered HTTP 404 Not Found", 1)
    assert AlertState.read(root).incidents[NEWEST_RUN].pending is True
    written = "".join(path.read_text() for path in root.path.rglob("*") if path.is_file())
    assert SECRET not in written
    assert "HOOK" in written


def test_an_address_that_is_missing_is_said_though_nothing_is_to_be_posted(
    root: RunRoot, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    run(root, to_hook())
    message = "not posted: alerts.webhook_env: the environment variable HOOK is not set"
    assert (capfd.readouterr().err, only(root).alert) == (f"alert {message}\n", message)


def test_ctrl_c_leaves_a_webhook_that_hangs_and_the_run_as_it_ended(
    root: RunRoot, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver(hangs) as hook, Interrupts():
        monkeypatch.setenv("HOOK", hook.url)

        def interrupt() -> None:
            while not hook.documents:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        run(root, to_hook(timeout_seconds=60), fails_in="Gate", error="no", code=3)
        thread.join()
    # Before the receiver hangs up by itself.
    assert time.monotonic() - began < 9
    assert capfd.readouterr().err == "alert not posted: interrupted\n"
    assert (only(root).alert, only(root).exit_code) == ("not posted: interrupted", 3)


def refuse(root: RunRoot, error: Any) -> None:
    refusal = record_rejection(root, NAME, error, sys.argv)
    notifier.report_rejection(to_hook(), root, refusal, serving="version 1", prints=False)


def test_refusals_are_counted_with_the_failures_around_them(
    root: RunRoot, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["local_runner.py", "--config", "a b.yaml", "--quiet"])
    run(root, to_hook())
    run(root, to_hook(), fails_in="Gate", error="no")
    refuse(root, DataError("/data/train.csv: no such file"))
    refuse(root, RunRootError(f"{root.path}: another run is using it"))
    assert events(hook)[1:] == [("refusal", "REFUSED", 2), ("refusal", "REFUSED", 3)]
    first, second = hook.documents[1:]
    assert (first["why"], first["exit_code"], first["run_id"]) == ("/data/train.csv: no such file", 3, None)
    assert first["next"] == [
        "python local_runner.py --config 'a b.yaml' --dry-run    # once it is fixed: checks it, and starts nothing"
    ]
    assert second["next"][0].startswith(f"python -m oncall doctor --run-root {root.path} ")
    assert first["since"] == second["since"] == hook.documents[0]["since"]
    run(root, to_hook(), fails_in="Gate", error="no")
    assert events(hook)[3] == ("failure", "FAILED", 4)
    assert set(AlertState.read(root).incidents) == {NEWEST_RUN}
    refuse(root, PushError("taken"))
    run(root, to_hook())
    assert events(hook)[4:] == [("refusal", "REFUSED", 3), ("recovered", "SUCCEEDED", 3)]


def test_a_refusal_makes_no_run_root(tmp_path: Path, hook: Receiver) -> None:
    refuse(RunRoot(tmp_path / "none"), ConfigError("no"))
    assert events(hook) == [("refusal", "REFUSED", 1)]
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("mine")
    refuse(RunRoot(tmp_path / "file" / "run"), RunRootError("not a folder"))
    assert len(hook.documents) == 2


def test_a_run_that_was_killed_is_told_once_by_whoever_comes_next(root: RunRoot, hook: Receiver) -> None:
    file = start_record(root, to_hook())
    file.on_node_start("ExampleGen")
    file.record.process_started -= 100
    for _ in range(2):
        notifier.report_crash(to_hook(), root, file.record, serving="version 1", prints=False)
    assert events(hook) == [("failure", "CRASHED", 1)]
    (document,) = hook.documents
    assert document["why"].endswith("is gone: killed in ExampleGen")
    assert (document["node"], document["serving"]) == ("ExampleGen", "version 1")
    assert document["next"][1].startswith(f"python -m oncall resume {file.record.run_id} ")


def test_a_run_that_goes_on_is_no_failure_in_the_row(root: RunRoot, hook: Receiver) -> None:
    with root.lock():
        start_record(root, to_hook()).on_node_start("ExampleGen")
        refuse(root, RunRootError("another run is using it"))
    assert events(hook) == [("refusal", "REFUSED", 1)]


@pytest.mark.parametrize("content", ["{", "[]", '{"incidents": 3}', ""])
def test_a_damaged_memory_is_begun_anew(content: str, root: RunRoot, hook: Receiver) -> None:
    (root.path / "alerts.json").write_text(content)
    refuse(root, DataError("no"))
    assert AlertState.read(root).incidents[REFUSED].count == 1


def test_a_memory_that_cannot_be_written_is_said(
    root: RunRoot, hook: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    (root.path / "alerts.json").mkdir()
    refuse(root, DataError("no"))
    assert capfd.readouterr().err == f"{root.path}/alerts.json: cannot be written: Is a directory\n"
    assert events(hook) == [("refusal", "REFUSED", 1)]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (f"alerts.webhook_env=https://hooks.example/{SECRET}", "webhook_env is the name of an environment variable"),
        (f"alerts.webhook_file=https://hooks.example/{SECRET}", "webhook_file is the path of a file"),
        (f"alerts.webhook=https://hooks.example/{SECRET}", "unknown key 'webhook', did you mean 'webhook_env'?"),
        ("alerts={webhook_env: A, webhook_file: B}", "give one of them"),
        ("alerts.timeout_seconds=0", "greater than 0, found 0"),
        ("alerts.events=[failures]", "'traffic', found 'failures'"),
    ],
)
def test_a_section_that_is_wrong_is_told_without_the_address(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pipeline_config.load(CENSUS_CONFIG, [setting])
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_dry_run_says_where_alerts_would_go(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notifier.describe_plan(Alerts()) == "none are posted"
    assert (
        notifier.describe_plan(to_hook())
        == "failure, aborted, refusal, recovered, traffic posted to the address in HOOK"
    )
    monkeypatch.delenv("HOOK")
    assert notifier.describe_plan(to_hook()).startswith(
        "NOT posted: alerts.webhook_env: the environment variable HOOK is not"
    )
    assert hook.documents == []


def test_a_file_named_in_the_config_is_sought_beside_it(tmp_path: Path) -> None:
    loaded = pipeline_config.load(CENSUS_CONFIG, ["alerts.webhook_file=../secrets/hook"])
    assert loaded.alerts.webhook_file == str(CENSUS_CONFIG.parent.parent / "secrets" / "hook")
    assert json.loads(loaded.model_dump_json())["alerts"]["webhook_env"] is None
