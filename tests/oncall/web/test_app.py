"""The pages over HTTP: what they say, that they only read, that nobody else reads along, that nothing is kept."""

import base64
import hashlib
import re
import shutil

import pytest

from oncall.failures import explain_run
from oncall.local.run_store import LocalRunStore
from serving.registry import LocalRegistry
from tests.oncall.big_database import make
from tests.oncall.run_roots import NAME, Runs
from tests.oncall.test_cli import FIRST, SECOND, content
from tests.oncall.web.conftest import Site, Text, serve

THIRD = "20260103T000000.000000"
PAGES = ("/", "/versions", "/runs/latest", f"/runs/{FIRST}", "/artifacts/1", "/artifacts/v1")


def test_the_first_page_says_what_serves_since_when_and_why(runs: Runs, text: Text) -> None:
    runs.run(FIRST, auc=0.91)
    runs.run(SECOND, auc=0.93)
    assert "ok: all 5 checks" in text("/")
    LocalRegistry(runs.root.path / "registry", NAME).roll_back(reason="bad at <noon>")
    page = text("/")
    assert "Version 1 of census-income serves since" in page
    assert ": bad at <noon>." in page
    assert "rollback of version 1 version 2" in page
    assert f"version 2 previous {page.split('version 2 previous ')[1][:19]} {SECOND} auc 0.9300" in page
    for run_id in (FIRST, SECOND):
        assert f"{run_id} SUCCEEDED" in page


def test_what_is_wrong_comes_first_with_what_to_do(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    runs.run(SECOND, crashes_in="Trainer")
    page = text("/")
    assert "NOT ok: 1 of 5 checks" in page
    assert f"newest run NOT ok {SECOND} CRASHED: its process" in page
    assert f"What to try python -m oncall why {SECOND}" in page


def test_the_first_page_is_called_after_the_pipeline_and_links_each_run_that_it_names(runs: Runs, site: Site) -> None:
    assert "<h1>census-income</h1>" in site.get("/").html
    runs.run(FIRST, overrides={"pipeline": "who-earns-more"})
    runs.run(SECOND, overrides={"pipeline": "who-earns-more"}, crashes_in="Trainer")
    page = site.get("/").html
    assert "<h1>who-earns-more</h1>" in page
    assert "<title>Versions: who-earns-more</title>" in site.get("/versions").html
    assert f'<a href="/runs/{SECOND}">{SECOND}</a> CRASHED: its process' in page
    assert f'pushed by run <a href="/runs/{FIRST}">{FIRST}</a></td>' in page


def test_a_runs_page_says_what_why_says(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    log = 'Traceback (most recent call last):\n  File "/work/x.py", line 3, in f\n    boom()\nValueError: <no> such "thing"\n'
    runs.run(SECOND, fails=("Trainer", 'ValueError: <no> such "thing"', 1), log=log)
    answer = explain_run(LocalRunStore(runs.root.path), SECOND).document
    page = text(f"/runs/{SECOND}")
    assert "FAILED in Trainer, exit code 1" in page
    assert answer["cause"] in page
    assert " ".join(" ".join(answer["lines"]).split()) in page
    for command in answer["try"]:
        assert command.split("    # ")[0] in page
    assert f"older: {FIRST}" in page


def test_a_runs_page_says_what_evaluator_says(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    page = text(f"/runs/{FIRST}")
    assert "missed: auc 0.9000; at least 0.95 expected" in page
    assert "warning: brier on sex=Male: undefined" in page
    assert "Against the constant predictor: log loss 0.3 of the model against 0.6 of the class shares of train." in page
    assert "Against the challenger linear : log loss 0.29; the model is better by 0.016 [0.013, 0.019]." in page
    assert "Decision: threshold 0.17 (false positive 1, false negative 5; chosen on 900 rows of eval)." in page
    assert "All metrics are weighted by fnlwgt." in page
    assert "overall 0.9200 0.9160 to 0.9240 undefined" in page


def test_latest_and_first_characters_name_a_run(runs: Runs, text: Text, site: Site) -> None:
    runs.run(FIRST)
    runs.run(SECOND)
    assert f"Run {SECOND}" in text("/runs/latest")
    assert f"Run {FIRST}" in text("/runs/20260101")
    assert "is ambiguous: it matches" in site.get("/runs/2026").text


def test_what_is_not_there_is_said_in_one_line(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    for path, message in {
        "/runs/1999": "has no run '1999'; the newest are: " + FIRST,
        "/artifacts/9999": "has no artifact 9999",
        "/artifacts/x": "'x': is neither an artifact's number nor a version such as v2",
        "/artifacts/v7": "has no version 7 of a run; it has v1",
        "/nothing": "this page does not exist",
    }.items():
        got = site.get(path)
        assert (got.code, message in got.text) == (404, True), (path, got.text)
        assert "<h1>Not Found</h1>" in got.html


def test_an_exception_is_a_page_headed_by_its_status(runs: Runs, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.run(FIRST)

    def fail(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr("oncall.web.app.read_run_page", fail)
    response = site.get("/runs/latest")
    assert (response.code, "<h1>Internal Server Error</h1>" in response.html) == (500, True)
    assert "a mistake of this tool: ValueError('planted')" in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


def test_pages_of_runs(runs: Runs) -> None:
    made = make(runs.root.path, 60)
    with serve(made.root.path) as site:
        first, second, last = (site.get(f"/?page={n}").text for n in ("1", "2", "3"))
        assert "page 1 of 3, 60 runs" in first
        assert "20280101T000000.000000 CRASHED" in first
        ids = [f"20270101T{number:06d}.000000" for number in range(57)] + [FIRST, SECOND]
        assert [sum(f"{i} SUCCEEDED" in page for page in (first, second, last)) for i in ids] == [1] * 59
        # Of a page that is not there, the last; of what is not a number, the first.
        assert "page 3 of 3" in site.get("/?page=99").text
        for odd in ("0", "-1", "x", "1e9", "9" * 5000):
            assert "page 1 of 3" in site.get(f"/?page={odd}").text, odd


def test_each_request_reads_anew(runs: Runs, text: Text) -> None:
    made = runs.run(FIRST)
    model = made["Trainer"]["model"]
    row = f"Model {model.id} Trainer Evaluator, InfraValidator, Pusher"
    assert "state exists" in text(f"/artifacts/{model.id}")
    assert f"{row} exist" in text(f"/runs/{FIRST}")
    shutil.rmtree(model.uri)
    assert "state its files are gone" in text(f"/artifacts/{model.id}")
    assert f"{row} its files are gone" in text(f"/runs/{FIRST}")
    runs.run(SECOND)
    assert f"newer: {SECOND}" in text(f"/runs/{FIRST}")


def test_nothing_is_written(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    before = content(runs.root.path)
    for path in PAGES:
        assert site.get(path).code == 200, path
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            refused = site.get(path, method)
            assert (refused.code, "<h1>Method Not Allowed</h1>" in refused.html) == (405, True), (path, method)
        head = site.get(path, "HEAD")
        assert (head.code, head.html) == (200, "")
    assert content(runs.root.path) == before


def test_every_answer_forbids_other_scripts_frames_and_copies(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    answers = [site.get(path) for path in (*PAGES, "/nothing", "/runs/no")]
    answers += [site.get("/", "POST"), site.get("/", host="evil.example")]
    assert {answer.code for answer in answers} == {200, 404, 405, 400}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        (script,) = re.findall(r"<script>(.*?)</script>", answer.html, re.DOTALL) or [""]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert not script or f"script-src 'sha256-{digest}'; connect-src 'self'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "169.254.169.254"]
)
def test_a_request_by_another_name_is_refused(host: str, runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    got = site.get("/", host=host)
    assert got.code == 400
    assert FIRST not in got.html


def test_a_tunnel_from_another_port_is_let_in(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    assert site.get("/", host="localhost:9999").code == 200


def test_a_run_that_only_ml_metadata_knows(runs: Runs, text: Text) -> None:
    runs.run(FIRST, on_record=False)
    page = text(f"/runs/{FIRST}")
    assert "UNKNOWN" in page
    assert "no record; executions: 12 COMPLETE; last change" in page
    assert "ExampleGen complete in" in page
    assert "Config The config is not on record." in page
