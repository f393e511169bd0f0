"""The output, the start and the end of a process of local_runner.py, which these tests start as a user does."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.registry import LocalRegistry
from tests.conftest import write_small_census
from tests.faults.processes import Place
from tests.run_commands import get_states, run_json, start_local_runner

pytestmark = pytest.mark.proof


def test_a_ragged_row_stops_the_run_in_one_line(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(lambda rows: [*rows[:100], rows[100][:5], *rows[101:]])
    done = start_local_runner(config, tmp_path / "run", "--quiet")
    assert (done.returncode, done.stdout) == (3, "")
    what, why, *_ = done.stderr.splitlines()
    assert what.startswith("census-income: no run was started; exit code 3, on ")
    file = config.parent / "train.csv"
    assert why.startswith(f"why      {file}:101: expected 15 fields, found 5: ")
    assert LocalRegistry(tmp_path / "run" / "registry", "census-income").list_numbers() == []


AWKWARD_NAMES = {"age": "1st.age (années)", "sex": "class", "native_country": "国/country", "income": "income?"}


def _use_awkward_names(value: Any) -> Any:
    """Return a config, or a part of one, with awkward column names."""
    if isinstance(value, dict):
        return {_use_awkward_names(key): _use_awkward_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_use_awkward_names(item) for item in value]
    return AWKWARD_NAMES.get(value, value)


@dataclass(frozen=True)
class AwkwardRun:
    """A run whose columns have awkward names, with an inferred schema, started as a user does."""

    config: Path
    root: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def awkward_run(tmp_path_factory: pytest.TempPathFactory) -> AwkwardRun:
    folder = tmp_path_factory.mktemp("awkward")
    config, root = write_small_census(folder / "small"), folder / "run"
    for name in ("train.csv", "test.csv"):
        header, newline, rows = (config.parent / name).read_text().partition("\n")
        (config.parent / name).write_text(",".join(map(_use_awkward_names, header.strip().split(","))) + newline + rows)
    edited = _use_awkward_names(yaml.safe_load(config.read_text()))
    del edited["data"]["schema_file"]
    config.write_text(yaml.safe_dump(edited, sort_keys=False, allow_unicode=True))
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "tmp"))
        return AwkwardRun(config, root, start_local_runner(config, root, "--quiet", "--set", "push.version=7"))


def test_a_quiet_run_with_awkward_column_names_and_an_inferred_schema_prints_nothing(awkward_run: AwkwardRun) -> None:
    done = awkward_run.done
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert LocalRegistry(awkward_run.root / "registry", "census-income").list_numbers() == [7]
    (log, *_) = sorted((awkward_run.root / "logs").iterdir())
    assert "epoch 1 of 3" in log.read_text()
    # Components, TFX and TensorFlow leave nothing in the machine's folder for temporary files, nor in the run's own.
    assert list((awkward_run.root.parent / "tmp").iterdir()) == []
    assert not (awkward_run.root / "temp").exists()


def test_a_removed_feature_makes_the_last_blessed_model_incomparable(awkward_run: AwkwardRun) -> None:
    config, root = awkward_run.config.with_name("removed.yaml"), awkward_run.root
    edited = yaml.safe_load(awkward_run.config.read_text())
    del edited["features"]["race"]
    edited["data"]["ignored_columns"].append("race")
    edited["evaluation"]["slice_by"] = [[AWKWARD_NAMES["sex"]]]
    config.write_text(yaml.safe_dump(edited, sort_keys=False, allow_unicode=True))
    refused = run_json(config, root)
    assert refused["exit_code"] == 1
    assert "cannot be compared: it reads 'race', which is not a feature any more; to continue" in refused["error"]
    alone = run_json(config, root, "--set", "evaluation.change_thresholds=[]", "--until", "Evaluator")
    assert (alone["exit_code"], alone["facts"]["Evaluator"]["blessed"]) == (0, True)
    assert get_states(alone)["Trainer"] == "cached"


def test_ctrl_c_leaves_nothing_running_and_the_next_run_succeeds(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    running = Place(config, root).start()
    # The executor's.
    running.wait_for((root / "artifacts" / "Transform").exists)
    assert running.process.pid is not None
    os.kill(running.process.pid, signal.SIGINT)
    assert running.wait() == 130
    assert "interrupted; the same command continues from the cache" in running.read_output()
    with sqlite3.connect(root / "metadata.sqlite") as database:
        running = database.execute("select count(*) from Execution where last_known_state in (1, 2)").fetchone()
    assert running == (0,)
    rerun = run_json(config, root, "--until", "Transform")
    assert (rerun["exit_code"], get_states(rerun)["ExampleGen"], get_states(rerun)["Transform"]) == (
        0,
        "cached",
        "complete",
    )
