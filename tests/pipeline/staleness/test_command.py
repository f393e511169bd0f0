"""A whole staleness test: a training, and a later span that has other labels."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.staleness.command import staleness
from tests import forked
from tests.pipeline.staleness.test_configs import DAYS


@pytest.mark.slow
@pytest.mark.proof
def test_a_planted_decay_is_printed_with_its_interval(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(rows=3000)
    header, *rows = (config.parent / "train.csv").read_text().splitlines(keepends=True)
    (config.parent / "day-1.csv").write_text("".join([header, *rows[:2000]]))
    # The concept drifts: half of the high incomes are low ones.
    drifted = [row.replace(">50K", "<=50K") if number % 2 else row for number, row in enumerate(rows[2000:])]
    (config.parent / "day-2.csv").write_text("".join([header, *drifted]))
    root = tmp_path / "staleness"
    flags = ["--config", str(config), "--set", DAYS, "--set", "evaluation.split=eval", "--run-root", str(root)]
    flags += ["--set", "data.schema_file=null", "--set", "training.epochs=2"]
    process = forked.run("pipeline", "staleness", *flags, "--json")
    assert process.returncode == 0, process.stderr
    document = json.loads(process.stdout)
    assert [(span["name"], span["ahead"]) for span in document["spans"]] == [("1", 0), ("2", 1)]
    assert document["spans"][1]["rows"] == 1000
    change = document["spans"][1]["changes"]["log_loss"]
    assert change["interval"][0] <= change["value"] <= change["interval"][1]
    assert not (root / "registry").exists()
    assert "trains on span 1, tests on 2; runs and logs are in" in process.stderr
    assert "2 of 2: tests on span 2" in process.stderr
    again = forked.run("pipeline", "staleness", *flags, "--metric", "auc")
    assert again.returncode == 0, again.stderr
    assert "AUC" in again.stdout
    assert "significantly worse on" in again.stdout or "significantly worse from" in again.stdout
    # The training is reused.
    assert "epoch 1 of 2" in process.stderr
    assert "epoch 1 of 2" not in again.stderr


def test_wrong_flags_are_rejected_before_anything_is_trained(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(rows=20)
    for day in (1, 2):
        (config.parent / f"day-{day}.csv").write_text((config.parent / "train.csv").read_text())
    flags = ["--config", str(config), "--set", DAYS, "--set", "evaluation.split=eval", "--run-root", str(tmp_path)]
    unknown = CliRunner().invoke(staleness, [*flags, "--metric", "acu"])
    assert (unknown.exit_code, unknown.stderr) == (2, "error: --metric: 'acu' is not measured; did you mean 'auc'?\n")
    (tmp_path / "registry").mkdir()
    own = CliRunner().invoke(staleness, flags)
    assert (own.exit_code, own.stderr) == (
        2,
        f"error: --run-root: {tmp_path} has a registry, so it is a pipeline's own; give a folder for the test\n",
    )
