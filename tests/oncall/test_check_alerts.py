"""`check --alert`: tells what is news, once, again after some time, and when it is over."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cli.errors import DataError
from pipeline.alerts import notifier
from pipeline.alerts.config import Alerts
from pipeline.alerts.incidents import NEWEST_RUN, AlertState
from pipeline.run.local import record_rejection
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import NAME, Runs
from tests.oncall.traffic_logs import replace, rows_of_test, set_log, train, write_log
from tests.pipeline.alerts.webhooks import SECRET, Receiver, receiver, status

FIRST, SECOND, THIRD = "20260101T000000.000000", "20260102T000000.000000", "20260103T000000.000000"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as webhook:
        monkeypatch.setenv("HOOK", webhook.url)
        yield webhook


def configure(runs: Runs, run_id: str, **section: Any) -> None:
    """Give a run's config a section `alerts`."""
    file = runs.root.locate_record(run_id)
    values = json.loads(file.read_text())
    values["config"]["alerts"] = {"webhook_env": "HOOK", "timeout_seconds": 2, **section}
    file.write_text(json.dumps(values))


def later(runs: Runs, hours: float) -> None:
    """Move the last alerts so many hours back."""
    alert_state = AlertState.read(runs.root)
    for incident in alert_state.incidents.values():
        assert incident.notified is not None
        incident.notified -= hours * 3600
    alert_state.write(runs.root)


def test_nothing_is_said_when_all_is_well(runs: Runs, oncall: Oncall, hook: Receiver) -> None:
    runs.run(FIRST)
    configure(runs, FIRST)
    result = oncall("check", "--alert")
    assert (result.exit_code, result.output, hook.documents) == (0, "", [])
    assert not (runs.root.path / "alerts.json").exists()


def test_a_killed_run_is_told_once_again_after_a_day_and_when_it_is_over(
    runs: Runs, oncall: Oncall, hook: Receiver
) -> None:
    runs.run(FIRST)
    runs.run(SECOND, crashes_in="Trainer")
    configure(runs, SECOND)
    result = oncall("check", "--alert")
    assert (result.exit_code, result.stdout) == (1, "")
    (document,) = hook.documents
    assert (document["event"], document["state"], document["node"]) == ("failure", "CRASHED", "Trainer")
    assert document["why"].endswith("is gone: killed in Trainer")
    assert document["serving"] == "version 1 of census-income"
    assert document["last_good"] == FIRST
    assert any(command.startswith(f"python -m oncall resume {SECOND} ") for command in document["next"])
    assert result.stderr.splitlines()[0] == f"census-income: {document['what']}, on {document['host']}"

    again = oncall("check", "--alert")
    assert (again.exit_code, again.output, len(hook.documents)) == (1, "", 1)
    later(runs, 23)
    assert oncall("check", "--alert").output == ""
    later(runs, 2)
    assert "CRASHED" in oncall("check", "--alert").stderr
    later(runs, -48)
    assert "CRASHED" in oncall("check", "--alert").stderr
    assert [alert["since"] for alert in hook.documents] == [document["since"]] * 3

    runs.run(THIRD)
    configure(runs, THIRD)
    over = oncall("check", "--alert")
    assert (over.exit_code, over.stderr.splitlines()[0].split(", on")[0]) == (0, "census-income: ok again: newest run")
    assert [(alert["event"], alert["state"]) for alert in hook.documents[3:]] == [("recovered", "OK")]
    assert oncall("check", "--alert").output == ""


def test_another_trouble_is_news_and_the_first_is_not_over_before_the_last_is(
    runs: Runs, oncall: Oncall, hook: Receiver
) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Gate", "no", 3))
    configure(runs, SECOND)
    oncall("check", "--alert")
    model = runs.registry.find_folder(1) / "saved_model.pb"
    good = model.read_bytes()
    model.write_text("mine")
    assert "not ok: content; still not ok: newest run, on " in oncall("check", "--alert").stderr
    document = hook.documents[1]
    assert (document["state"], document["since"]) == ("NOT_OK", hook.documents[0]["since"])
    # The failed run was told.
    assert document["why"] == "content: version 1: its files are NOT those that were pushed: saved_model.pb changed"
    assert [command.partition(" --run-root")[0] for command in document["next"]] == [f"python -m oncall resume {FIRST}"]
    model.write_bytes(good)
    assert oncall("check", "--alert").output == ""
    runs.run(THIRD, fails=("Gate", "no", 3))
    configure(runs, THIRD)
    assert THIRD in oncall("check", "--alert").stderr
    assert hook.documents[2]["count"] == 2


def test_what_a_run_has_told_itself_is_not_told_again(runs: Runs, oncall: Oncall, hook: Receiver) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Gate", "no", 3))
    configure(runs, SECOND)
    alert_state = AlertState.read(runs.root)
    alert_state.add(NEWEST_RUN, SECOND).notified = time.time()
    alert_state.write(runs.root)
    result = oncall("check", "--alert")
    assert (result.exit_code, result.output, hook.documents) == (1, "", [])


def test_what_could_not_be_posted_is_tried_again_without_another_mail(
    runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(FIRST, crashes_in="Gate")
    configure(runs, FIRST)
    with receiver(status(404), status(404), status(200)) as hook:
        monkeypatch.setenv("HOOK", hook.url)
        first = oncall("check", "--alert")
        assert "CRASHED" in first.stderr
        assert first.stderr.endswith("alert not posted: the webhook answered HTTP 404 Not Found\n")
        assert oncall("check", "--alert").stderr == "alert not posted: the webhook answered HTTP 404 Not Found\n"
        assert json.loads(oncall("check", "--alert", "--json").stdout)["alert"] == "posted"
        assert oncall("check", "--alert").output == ""
        assert len(hook.documents) == 3
    assert SECRET not in (runs.root.path / "alerts.json").read_text()


def test_without_a_webhook_it_is_printed_for_cron(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST, crashes_in="Gate")
    assert f"why      newest run: {FIRST} CRASHED: its process" in oncall("check", "--alert").stderr
    assert oncall("check", "--alert").output == ""


def test_a_section_of_another_release_is_said_and_stops_nothing(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST, crashes_in="Gate")
    configure(runs, FIRST, pigeon="yes")
    result = oncall("check", "--alert")
    assert result.exit_code == 1
    assert "alerts: those of the newest run's config are not of this release" in result.stderr
    assert "CRASHED" in result.stderr


def refuse(runs: Runs, why: str = "/data/train.csv: no such file", prints: bool = False) -> None:
    """Start a run that pipeline/run/local.py rejects, with an alert."""
    section = Alerts(webhook_env="HOOK", timeout_seconds=2)
    refusal = record_rejection(runs.root, NAME, DataError(why), ["local_runner.py"])
    notifier.report_rejection(section, runs.root, refusal, serving="version 1", prints=prints)


def test_a_refusal_that_could_not_be_posted_is_posted_the_next_time(
    runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(FIRST)
    configure(runs, FIRST)
    with receiver(status(404), status(404), status(200)) as hook:
        monkeypatch.setenv("HOOK", hook.url)
        refuse(runs, prints=True)
        assert oncall("check", "--alert").stderr == "alert not posted: the webhook answered HTTP 404 Not Found\n"
        assert oncall("check", "--alert").output == ""
        assert oncall("check", "--alert").output == ""
        first, _, posted = hook.documents
    assert (posted["event"], posted["state"], posted["why"]) == ("refusal", "REFUSED", "/data/train.csv: no such file")
    assert {name for name in posted if posted[name] != first[name]} <= {"time", "serving", "text", "next"}


def test_a_refusal_that_was_told_is_not_told_again_and_another_is(runs: Runs, oncall: Oncall, hook: Receiver) -> None:
    runs.run(FIRST)
    configure(runs, FIRST)
    refuse(runs)
    result = oncall("check", "--alert")
    assert (result.exit_code, result.output, len(hook.documents)) == (1, "", 1)
    refuse(runs)
    assert oncall("check", "--alert").output == ""
    assert [alert["count"] for alert in hook.documents] == [1, 2]


def test_a_database_that_can_be_read_again_is_told(runs: Runs, oncall: Oncall, hook: Receiver) -> None:
    runs.run(FIRST)
    configure(runs, FIRST)
    good = runs.root.metadata.read_bytes()
    for _ in range(2):
        runs.root.metadata.write_bytes(good[:5000])
        assert "not ok: database, on " in oncall("check", "--alert").stderr
        runs.root.metadata.write_bytes(good)
        assert "ok again: database, on " in oncall("check", "--alert").stderr
    assert [alert["event"] for alert in hook.documents] == ["failure", "recovered"] * 2


def test_what_is_not_ok_is_told_whole(runs: Runs, oncall: Oncall, hook: Receiver) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Gate", f"no:\n  {'x' * 300}", 3))
    configure(runs, SECOND)
    (runs.registry.find_folder(1) / "saved_model.pb").write_text("mine")
    oncall("check", "--alert")
    assert hook.documents[0]["why"].startswith(f"newest run: {SECOND} FAILED: Gate: no:\n  {'x' * 300}\ncontent: ")


def test_traffic_is_told_once_and_again_only_for_a_further_feature(
    runs: Runs, oncall: Oncall, hook: Receiver, tmp_path: Path
) -> None:
    train(runs.run(FIRST))
    configure(runs, FIRST)
    set_log(runs, FIRST, log := tmp_path / "log")
    rows = rows_of_test(500)
    changed = replace(rows, "age", pc.multiply(rows.column("age"), 3))
    write_log(log, changed)
    assert oncall("check", "--alert").exit_code == 1
    (document,) = hook.documents
    assert (document["event"], document["state"]) == ("traffic", "NOT_OK")
    assert document["what"] == "not ok: live traffic"
    assert "UTC: age differs from the training data; age: " in document["why"]
    assert [command.split(" --run-root")[0] for command in document["next"]] == ["python -m oncall traffic"]

    (finding,) = json.loads(oncall("show", FIRST, "--json").stdout)["findings"].items()
    assert finding[0] == "live traffic"
    assert "UTC: age differs from the training data; age: " in finding[1]
    assert f"finding    live traffic: {finding[1][:30]}" in oncall("show", FIRST).stdout

    # More rows of the same: other numbers, and no news.
    write_log(log, changed, name="2")
    assert (oncall("check", "--alert").output, len(hook.documents)) == ("", 1)
    # A further feature is news.
    write_log(log, replace(changed, "sex", pa.array(["unknown"] * 500)), name="2")
    assert "sex" in oncall("check", "--alert").stderr
    assert len(hook.documents) == 2
    # One that comes and goes with the rows of a window is not.
    for table in (changed, replace(changed, "sex", pa.array(["unknown"] * 500))):
        write_log(log, table, name="2")
        assert (oncall("check", "--alert").output, len(hook.documents)) == ("", 2)
    later(runs, 25)
    assert "live traffic" in oncall("check", "--alert").stderr

    for name in ("1", "2"):
        write_log(log, rows, name=name)
    result = oncall("check", "--alert")
    assert (result.exit_code, "ok again: live traffic" in result.stderr) == (0, True)
    assert hook.documents[-1]["event"] == "recovered"


def test_an_alert_of_traffic_is_posted_only_if_the_config_asks_for_it(
    runs: Runs, oncall: Oncall, hook: Receiver, tmp_path: Path
) -> None:
    train(runs.run(FIRST))
    configure(runs, FIRST, events=["failure"])
    set_log(runs, FIRST, log := tmp_path / "log")
    write_log(log, replace(rows_of_test(300), "age", pa.array([1.0] * 300, pa.float32())))
    result = oncall("check", "--alert")
    assert ("live traffic" in result.stderr, hook.documents) == (True, [])
