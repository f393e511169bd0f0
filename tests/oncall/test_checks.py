"""`check` and `doctor`: expected against actual, and what is wrong with a run root."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from oncall.local import doctor
from serving.registry.local.ledger import Intent
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import content

FIRST, SECOND, THIRD = "20260101T000000.000000", "20260102T000000.000000", "20260103T000000.000000"
Document = Callable[..., Any]


@contextmanager
def server(answer: bytes, status: int = 200) -> Iterator[str]:
    """Yield a model server's /health, as far as it is asked."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def checks(health: dict[str, Any]) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in health["checks"]}


def test_all_is_well_after_a_push(runs: Runs, oncall: Oncall, document: Document) -> None:
    runs.run(FIRST)
    expected = ("newest run", "champion", "age", "content", "pushed by")
    assert checks(document("check")) == dict.fromkeys(expected, True)
    assert oncall("check").exit_code == 0
    (runs.root.path / "retrain.json").write_text("{")
    (damaged,) = [check for check in document("check")["checks"] if not check["ok"]]
    assert (damaged["name"], "retrain.json: is damaged, expected" in damaged["message"]) == ("retraining", True)


@pytest.mark.parametrize("ends", ["fails", "crashes"])
def test_a_newest_run_that_did_not_end_well_is_not_ok(ends: str, runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Gate", "no", 3)) if ends == "fails" else runs.run(SECOND, crashes_in="Trainer")
    result = oncall("check")
    assert result.exit_code == 1
    assert "NOT ok" in result.output
    assert f"try        python -m oncall why {SECOND}" in result.output


def test_a_run_that_goes_on_hides_not_how_the_one_before_ended(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    with runs.root.lock():
        runs.run(SECOND, crashes_in="Trainer")
        health = document("check")
    assert checks(health)["newest run"] is True
    newest, active = health["checks"][:2]
    assert newest["message"] == f"{FIRST} SUCCEEDED"
    assert (active["name"], active["ok"]) == ("active run", True)
    assert active["message"].startswith(f"{SECOND} RUNNING: in Trainer for ")


def test_a_champion_that_was_changed_or_is_gone_is_not_ok(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    (runs.registry.find_folder(1) / "saved_model.pb").write_text("mine")
    checks_by_name = {check["name"]: check for check in document("check")["checks"]}
    assert checks_by_name["content"]["ok"] is False
    assert (
        checks_by_name["content"]["message"]
        == "version 1: its files are NOT those that were pushed: saved_model.pb changed"
    )
    # No version before it could serve: its run pushes the model again.
    again = f"python -m oncall resume {FIRST} --run-root {runs.root.path}"
    assert checks_by_name["content"]["todo"].startswith(again)
    (finding,) = [finding for finding in document("doctor")["findings"] if finding["kind"] == "registry"]
    assert "saved_model.pb changed" in finding["message"]
    assert again in finding["todo"]
    shutil.rmtree(runs.registry.find_folder(1))
    gone = {check["name"]: check for check in document("check")["checks"]}["champion"]
    assert (gone["ok"], gone["todo"].startswith(again)) == (False, True)


def test_where_a_version_before_is_whole_it_is_the_way_back(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    runs.run(SECOND, auc=0.95)
    (runs.registry.find_folder(2) / "more.txt").write_text("mine")
    content = {check["name"]: check for check in document("check")["checks"]}["content"]
    assert content["message"].endswith("NOT those that were pushed: more.txt is new")
    assert content["todo"].startswith("python -m oncall rollback")
    (runs.registry.find_folder(1) / "saved_model.pb").unlink()
    content = {check["name"]: check for check in document("check")["checks"]}["content"]
    assert content["todo"].startswith(f"python -m oncall resume {SECOND}")


def test_a_champion_of_a_run_without_a_record_is_not_ok(runs: Runs, document: Document) -> None:
    runs.run(FIRST, on_record=False)
    runs.run(SECOND, fails=("Gate", "no", 3))
    assert checks(document("check"))["pushed by"] is False


@pytest.mark.integration
@pytest.mark.parametrize(
    ("answer", "status", "ok", "message"),
    [
        (b'{"ready": true, "versions": [1], "default": 1}', 200, True, "serves version 1; version 1 is the champion"),
        (b'{"ready": true, "versions": [7], "default": 7}', 200, False, "serves version 7; version 1 is the champion"),
        (b'{"ready": false, "versions": [], "default": null}', 503, False, "is not ready; versions []"),
        (b"<html>", 200, False, "does not respond as a model server"),
        (b"[]", 200, False, "does not respond as a model server"),
    ],
    ids=["the champion", "another version", "not ready", "a page", "another document"],
)
def test_the_model_server_must_serve_the_champion(
    answer: bytes, status: int, ok: bool, message: str, runs: Runs, document: Document
) -> None:
    runs.run(FIRST)
    with server(answer, status) as url:
        health = document("check", "--url", f"{url}/")
    assert checks(health)["model server"] is ok
    assert message in health["checks"][-1]["message"]


@pytest.mark.integration
def test_a_server_that_is_down_is_not_ok_and_a_wrong_url_is_refused(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    with server(b"") as url:
        pass
    assert (oncall("check", "--url", url).exit_code, oncall("check", "--url", "localhost:80").exit_code) == (1, 2)
    assert oncall("check", "--url", "file:///etc/passwd").exit_code == 2


def kinds(diagnosis: dict[str, Any]) -> list[str]:
    return [finding["kind"] for finding in diagnosis["findings"]]


def test_nothing_is_wrong_with_a_sound_run_root(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    result = oncall("doctor")
    assert (result.exit_code, result.output) == (0, "lock       free; no run is active\nok         nothing is wrong\n")


def test_crashes_are_told_until_a_later_run_succeeds(runs: Runs, document: Document) -> None:
    runs.run(FIRST, crashes_in="Trainer")
    diagnosis = document("doctor")
    assert kinds(diagnosis) == ["run", "partial"]
    assert diagnosis["findings"][0]["todo"] == f"python -m oncall resume {FIRST} --run-root {runs.root.path}"
    assert "left by execution 8, which is RUNNING" in diagnosis["findings"][1]["message"]
    runs.run(SECOND)
    assert kinds(document("doctor")) == ["partial"]


def test_the_run_that_holds_the_lock_is_named_and_its_output_is_its_own(runs: Runs, document: Document) -> None:
    with runs.root.lock():
        runs.run(FIRST, crashes_in="Trainer")
        diagnosis = document("doctor")
    assert diagnosis["lock"].startswith(f"held by run {FIRST}, process ")
    assert diagnosis["findings"] == []


def test_artifacts_without_files_and_files_without_artifacts_are_found(runs: Runs, document: Document) -> None:
    made = runs.run(FIRST)
    shutil.rmtree(made["Transform"]["transform_graph"].uri)
    # Of an execution that made no model.
    orphan = runs.root.artifacts / "Trainer" / "model" / "2"
    orphan.mkdir()
    (orphan / "file").write_text("x")
    (orphan.parent / "3").mkdir()
    (runs.root.artifacts / "Trainer" / ".system" / "executor_execution" / "8").mkdir(parents=True)
    diagnosis = document("doctor")
    assert kinds(diagnosis) == ["missing", "orphan"]
    assert diagnosis["findings"][0]["message"].startswith("TransformGraph ")
    quarantine = f"python -m oncall quarantine --run-root {runs.root.path}    # moves it aside; add --yes to do it"
    assert diagnosis["findings"][1]["todo"] == quarantine


def test_what_was_cut_off_in_the_registry_is_found(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    (runs.registry.folder / ".unfinished-2").mkdir()
    shutil.copytree(runs.registry.find_folder(1), runs.registry.find_folder(3))
    release = runs.registry.read_release(3)
    assert release is not None
    ledger = runs.registry.read_ledger().begin(Intent(3, "run-3", release.content_hash))
    (runs.registry.folder / "registry.json").write_text(ledger.to_json())
    diagnosis = document("doctor")
    assert kinds(diagnosis) == ["registry", "registry"]
    assert "its push was cut off after the copy" in diagnosis["findings"][0]["message"]
    assert ".unfinished-2: a push or a gc was cut off" in diagnosis["findings"][1]["message"]


def test_a_damaged_registry_is_found(runs: Runs, document: Document, oncall: Oncall) -> None:
    runs.run(FIRST)
    (runs.registry.folder / "registry.json").write_text("{")
    assert kinds(document("doctor")) == ["registry"]
    assert checks(document("check"))["champion"] is False
    assert oncall("serving").exit_code == 5
    (runs.registry.folder / "registry.json").unlink()
    (runs.registry.find_folder(1) / "saved_model.pb").write_text("mine")
    assert kinds(document("doctor")) == ["registry", "registry"]


def test_a_full_disk_is_found(runs: Runs, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.run(FIRST)
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 1e18)
    (finding,) = document("doctor")["findings"]
    assert finding["kind"] == "disk"
    assert re.search(r"The run root has .*metadata.sqlite [\d.,]+ kB", finding["message"])
    # Other files of this machine have more than its artifacts.
    assert finding["todo"].startswith("du -xh --max-depth=2 ")


def test_a_database_that_no_run_can_use_is_not_ok(runs: Runs, document: Document) -> None:
    runs.run("20260101T000000.000000")
    assert "database" not in {check["name"] for check in document("check")["checks"]}
    runs.root.metadata.write_bytes(runs.root.metadata.read_bytes()[:5000])
    database = {check["name"]: check for check in document("check")["checks"]}["database"]
    assert (database["ok"], "is truncated" in database["message"]) == (False, True)


def test_a_damaged_database_is_set_aside_as_the_doctor_says_and_what_serves_stays(
    runs: Runs, oncall: Oncall, document: Document
) -> None:
    with runs.root.lock():
        pass
    runs.run(FIRST)
    runs.run(SECOND)
    runs.root.metadata.write_bytes(runs.root.metadata.read_bytes()[:5000])
    before = content(runs.registry.folder)
    (finding,) = document("doctor")["findings"]
    restore, _, again = finding["todo"].partition(". Or begin again: ")
    assert restore == f"restore {runs.root.metadata} from a backup; the serving version is unchanged"
    subprocess.run(again, shell=True, check=True)
    (finding,) = document("doctor")["findings"]
    assert finding["todo"].endswith(". Or begin again: the next run does")
    with runs.root.lock():
        pass
    assert (document("doctor")["ok"], content(runs.registry.folder)) == (True, before)
    assert all(checks(document("check")).values())
    # What the old database had is kept, and told from the new one's.
    (aside,) = runs.root.path.glob("damaged-*")
    assert {path.name for path in aside.iterdir()} == {"metadata.sqlite", "artifacts"}
    result = oncall("lineage", "v2")
    assert (result.exit_code, f"v2 is of run {SECOND}, which is not in the database" in result.output) == (2, True)
