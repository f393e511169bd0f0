"""A canary in each sensitive column: after every fault, no output, log, page, alert or reject file has it."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markupsafe import escape

from schemas.sensitive import MASK
from tests import forked
from tests.oncall.web.conftest import serve
from tests.pipeline.alerts.webhooks import receiver
from tests.run_commands import get_states, read_summary
from tests.serving.running import RunningServer

# A string and a number as they are written, and as they may be formatted; a metric of 0.987654 is neither.
_CANARY = re.compile(rb"CANARY-7f3a|(?<![\d.])987,?65\d|9\.87[67]\d*e\+?0?5")
# What holds the data itself: records, statistics, the inferred schema, learned categories.
_DATA_FILES = re.compile(r"\.gz$|/FeatureStats\.pb$|/schema\.pbtxt$|/assets/place$")
_NOTES = {"description": "Where the shop is.", "owner": "shops@example.org", "expires": "2020-01-31"}
_HEADER = ("customer", "place", "amount", "x", "y")
Row = tuple[str, ...]


def good_rows(count: int, seed: int, *, place: str = "CANARY-7f3a", amount: int = 987_654) -> list[Row]:
    """Return rows in which `x` decides on the label, and the other columns are sensitive."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=count)
    labels = np.where(numbers + random.normal(scale=0.5, size=count) > 0, "yes", "no")
    return [
        (
            f"CANARY-7f3a-c{seed}-{n}",
            f"{place}-{n % 5}",
            f"{amount + n % 4 / 4:.3f}",
            f"{numbers[n]:.4f}",
            str(labels[n]),
        )
        for n in range(count)
    ]


BAD_ROWS: list[Row] = [
    ("CANARY-7f3a-b1", "CANARY-7f3a", "CANARY-7f3a", "1", "yes"),
    ("CANARY-7f3a-b2", "CANARY-7f3a", "987,654.321", "1", "yes"),
    ("CANARY-7f3a-b3", "CANARY-7f3a", "", "1", "yes"),
    ("CANARY-7f3a-b4", "CANARY-7f3a", "987654.321", "1", "CANARY-7f3a"),
    ("CANARY-7f3a-b5", "CANARY-7f3a", "987654.321", "1", "yes", "987654.321"),
]


def write_table(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([_HEADER, *rows])
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a config whose columns are sensitive, but for a number; its test files do not fit."""
    folder = tmp_path_factory.mktemp("sensitive")
    write_table(folder / "train.csv", [*good_rows(600, 1), *BAD_ROWS])
    write_table(folder / "test.csv", good_rows(300, 2))
    write_table(folder / "other.csv", good_rows(300, 3, place="CANARY-7f3a-other", amount=987_659))
    distance = {"measure": "jensen_shannon", "threshold": 0.2}
    document: dict[str, Any] = {
        "name": "canary",
        "data": {
            "base": ".",
            "splits": {
                "train": {"files": "train.csv"},
                "eval": {"source": "train", "fraction": 0.2},
                "test": {"files": "test.csv"},
            },
            "group_column": "customer",
            "sensitive_columns": ["customer"],
            "max_bad_rows": 5,
        },
        "features": {
            "place": {"kind": "vocabulary", "max_size": 20, "embedding": 2, "sensitive": True, **_NOTES},
            "amount": {"kind": "numeric", "sensitive": True},
            "x": {"kind": "numeric"},
        },
        "label": {"column": "y", "positive": "yes", "negative": "no", "sensitive": True},
        "validation": {"skew": {"default": distance}, "drift": {"default": distance}},
        "model": {"hidden_units": [4]},
        "training": {"epochs": 8, "batch_size": 32},
        "evaluation": {
            "split": "test",
            "thresholds": [{"metric": "auc", "lower_bound": 0.5}],
            "challengers": {"worse_than_linear": "warn"},
        },
        "infra_validation": {"max_latency_ms": 10_000},
        "push": {"model_name": "canary"},
        "alerts": {"webhook_file": "webhook"},
    }
    (folder / "canary.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    (folder / "webhook").write_text("http://127.0.0.1:9/none")
    return folder / "canary.yaml"


@pytest.fixture(scope="module")
def outputs(config: Path) -> Iterator[dict[str, str]]:
    """Run every program on the canaries; yield what each printed, answered or posted, by name."""
    folder = config.parent
    run_flags = ("--config", str(config), "--run-root", str(folder / "run"))
    texts: dict[str, str] = {}

    def run(name: str, program: str, *arguments: str, code: int = 0) -> str:
        done = forked.run(program, *arguments)
        assert done.returncode == code, (name, done)
        texts[name] = done.stdout + done.stderr
        return done.stdout

    with receiver() as webhook:
        (folder / "webhook").write_text(webhook.url)
        marks = [part for name in ("customer", "place", "amount", "y") for part in ("--sensitive", name)]
        files = ("--output", str(folder / "init.yaml"), "--schema", str(folder / "init.pbtxt"))
        run("init", "pipeline", "init", str(folder / "train.csv"), "--label", "y", *marks, *files, "--verbose")
        run("check", "local_runner.py", *run_flags, "--dry-run")
        run("bad rows", "local_runner.py", *run_flags, "--set", "data.max_bad_rows=0", code=3)
        run("stopped", "local_runner.py", *run_flags, "--set", "data.splits.test.files=other.csv", code=3)
        done = forked.run("local_runner.py", *run_flags, "--json")
        texts["passed"] = done.stdout + done.stderr
        summary = read_summary(done)
        assert get_states(summary)["Pusher"] == "complete", summary
    texts["webhook"] = json.dumps(webhook.documents)
    root_flags = ("--run-root", str(folder / "run"))
    run("stats", "pipeline", "stats", *run_flags, "--output", str(folder / "stats.html"))
    runs = json.loads(run("runs", "oncall", "runs", *root_flags, "--json"))["runs"]
    for number, entry in enumerate(runs):
        for command in ("show", "why", "anomalies", "log"):
            run(f"{command} {number}", "oncall", command, entry["run"], *root_flags)
        report = str(folder / f"report-{number}.html")
        run(f"report {number}", "oncall", "report", entry["run"], *root_flags, "--output", report)
    run("diff", "oncall", "diff", runs[0]["run"], runs[1]["run"], *root_flags)
    newest, other = runs[0]["run"], runs[1]["run"]
    with serve(folder / "run") as site:
        rows = f"/rows?run={newest}&slice=overall"
        for path in (
            "/",
            f"/runs/{newest}",
            rows,
            f"/compare?a={other}&b={newest}",
            "/trends",
            "/drift",
            "/traffic",
            "/versions",
        ):
            page = site.get(path)
            assert page.code == 200, (path, page.text)
            texts[f"page {path.partition('?')[0]}"] = page.html
    model = folder / "run" / "registry" / "canary"
    with RunningServer("--model-dir", str(model), "--port", "0") as server:
        row: dict[str, Any] = {"place": "CANARY-7f3a", "amount": 987654.321, "x": 1}
        path = "/v1/models/canary:predict"
        wrong = ("CANARY-7f3a", "987,654.321", ["987654.321"] * 2, True, None, 3.5e38)
        bodies = [{"instances": [{**row, "amount": value}]} for value in wrong]
        bodies += [{"instances": [{**row, "place": value}]} for value in (None, True, ["CANARY-7f3a"] * 2)]
        answers = [server.post(path, body) for body in bodies]
        assert {status for status, _ in answers} == {400}, answers
        pages = [server.get(page) for page in ("/", "/openapi.json", "/metrics")]
        assert {status for status, _ in pages} == {200}, pages
        texts["server"] = json.dumps([answers, pages])
        assert server.post(path, {"instances": [row]})[0] == 200
    texts["server's log"] = "\n".join(server.errors)
    new = str(write_table(folder / "new.csv", [*good_rows(10, 4), *BAD_ROWS]))
    batch = ("serving.batch", new, str(folder / "predictions"), "--model", str(model))
    run("batch that stops", *batch, code=3)
    run("batch", *batch, "--max-bad-rows", "5")
    yield texts


def find_canaries(folder: Path) -> list[str]:
    """Return the files of a folder that hold a canary, but for those of the data itself."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return [str(file) for file in files if not _DATA_FILES.search(str(file)) and _CANARY.search(file.read_bytes())]


@pytest.mark.proof
def test_no_output_has_a_value_of_a_sensitive_column(outputs: dict[str, str]) -> None:
    canaries = {name: _CANARY.findall(text.encode()) for name, text in outputs.items()}
    assert {name: values for name, values in canaries.items() if values} == {}
    assert all(MASK in outputs[name] for name in ("bad rows", "stopped", "webhook", "server", "batch that stops"))
    assert "The first 50 rows of test" in outputs["page /rows"]
    assert escape(MASK) in outputs["page /rows"]


@pytest.mark.proof
def test_only_files_of_the_data_have_a_value_of_a_sensitive_column(outputs: dict[str, str], config: Path) -> None:
    folder = config.parent
    assert find_canaries(folder / "run") == []
    assert find_canaries(folder / "predictions") == []
    others = [*folder.glob("*.html"), *folder.glob("init.*")]
    assert len(others) > 4 and [file for file in others if _CANARY.search(file.read_bytes())] == []
    # The data has them: the search would find them.
    assert _CANARY.search((folder / "train.csv").read_bytes())


@pytest.mark.proof
def test_rejects_keep_place_column_and_kind_of_fault(outputs: dict[str, str], config: Path) -> None:
    file = next((config.parent / "run").rglob("rejects.jsonl"))
    ragged, *rejects = [json.loads(line) for line in file.read_text().splitlines()]
    assert (ragged["column"], ragged["text"]) == (None, MASK)
    assert ragged["reason"].startswith(f"expected 5 fields, found 6: {MASK};")
    assert [reject["column"] for reject in rejects] == ["amount", "amount", "amount", "y"]
    assert rejects[0]["place"].endswith("train.csv:602")
    assert rejects[0]["reason"].startswith(f"expected a finite number, found {MASK}; correct the row, or name")
    assert {reject["text"] for reject in rejects} == {f"{MASK},{MASK},{MASK},1,{MASK}"}


@pytest.mark.proof
def test_pages_show_descriptions_owners_and_expiry(outputs: dict[str, str], config: Path) -> None:
    pages = [page.read_text() for page in config.parent.glob("*.html")]
    assert any("shops@example.org" in page and "2020-01-31" in page for page in pages)
    assert "Where the shop is." in outputs["server"] and "shops@example.org" not in outputs["server"]
    line = "config: place: expired on 2020-01-31 (owner: shops@example.org); remove the feature"
    assert all(line in outputs[name] for name in ("check", "passed"))
