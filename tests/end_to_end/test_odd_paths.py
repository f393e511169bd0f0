"""Config, data, run root and registry below folders whose names URIs, patterns and shells treat specially."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from serving.registry import LocalRegistry
from tests import forked
from tests.commands import parse_command
from tests.conftest import CENSUS_CONFIG, ROOT, census_rows, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.proof]
ODD = "a [b] c#d%20é?*"


def call(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program of this repository with relative paths, from a folder."""
    program, *rest = map(str, arguments)
    done = forked.run(program, *rest, folder=folder)
    assert done.returncode == code, (arguments, done.stdout[-2000:], done.stderr[-2000:])
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a config and its data, and return the folder of the config."""
    folder = tmp_path / ODD
    data = folder / f"data {ODD}"
    data.mkdir(parents=True)
    write_rows(data / f"train {ODD}.csv", census_rows("train", 3000))
    write_rows(data / "test?#%.csv", census_rows("test", 1500))
    # What the names would match as patterns: other rows, which would be too many.
    write_rows(data / "test1#%.csv", census_rows("test", 100))
    config: dict[str, Any] = yaml.safe_load(CENSUS_CONFIG.read_text())
    config["data"] |= {"base": data.name, "schema_file": "schema [s]#.pbtxt"}
    config["data"]["splits"]["train"]["files"] = f"train {ODD}.csv"
    config["data"]["splits"]["test"]["files"] = "test?#%.csv"
    config["features"]["sex"] = {"kind": "vocabulary_file", "file": "sex [x]?#.txt"}
    config["training"]["epochs"] = 3
    config["push"]["registry"] = f"registry {ODD}"
    config["evaluation"]["thresholds"] = [{"metric": "auc", "lower_bound": 0.8}]
    config["evaluation"]["change_thresholds"] = []
    config["evaluation"]["challengers"] = {"linear": False, "trees": False}
    (folder / "schema [s]#.pbtxt").write_text((ROOT / "schemas" / "census.pbtxt").read_text())
    (folder / "sex [x]?#.txt").write_text("Female\nMale\n")
    (folder / f"{ODD}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


def test_everything_works_there(folder: Path, tmp_path: Path) -> None:
    config, root = f"{ODD}.yaml", f"run {ODD}"
    here = ("--config", config, "--run-root", root)
    dry = json.loads(call(folder, "local_runner.py", *here, "--dry-run", "--json").stdout)
    assert dry["rows"] == {"train": 3000, "test": 1500}
    call(folder, "local_runner.py", *here, "--quiet", "--until", "Transform")
    resumed = json.loads(call(folder, "oncall", "resume", "latest", "--run-root", root, "--json").stdout)
    assert resumed["exit_code"] == 0
    assert resumed["facts"]["Pusher"]["version"] == 1
    assert resumed["facts"]["Evaluator"]["metrics"]["overall"]["example_count"] == 1500
    registry = LocalRegistry(folder / f"registry {ODD}", "census-income")
    assert (registry.read_champion(), registry.is_intact(1)) == (1, True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(folder)]
    again = json.loads(call(folder, "local_runner.py", *here, "--json").stdout)
    assert [node["state"] for node in again["nodes"] if node["id"] == "ExampleGen"] == ["cached"]
    for line in again["next"]:
        if "python" in line:
            assert Path(str(parse_command(line).get("model_dir"))) == registry.folder
    _ask(folder, config, root, registry)


def _ask(folder: Path, config: str, root: str, registry: LocalRegistry) -> None:
    """Check the commands on the runs, and predictions with the pushed models."""
    for command in (("runs",), ("why", "latest"), ("show", "latest"), ("check",), ("doctor",), ("serving",)):
        call(folder, "oncall", *command, "--run-root", root)
    for command in (("lineage", "v1"), ("log", "latest"), ("anomalies", "latest"), ("gc", "--keep-last", "1")):
        call(folder, "oncall", *command, "--run-root", root)
    call(folder, "oncall", "report", "latest", "--run-root", root, "--output", f"report {ODD}.html")
    (page,) = call(folder, "pipeline", "stats", "--config", config, "--run-root", root).stdout.splitlines()
    assert "workclass" in Path(page).read_text()
    call(folder, "pipeline", "schema", "diff", "--config", config, "--run-root", root)
    versions = json.loads(
        call(folder, "serving.registry", "list", "--registry", registry.folder.parent, "--json").stdout
    )
    assert versions["serving"] == 1
    source = f"data {ODD}/test?#%.csv"
    call(folder, "serving.batch", source, f"predictions {ODD}", "--model", registry.folder, "--quiet")
    predictions = pq.read_table(sorted((folder / f"predictions {ODD}").glob("part-*.parquet"))[0])
    assert (predictions.num_rows, predictions.column("file").to_pylist()[0]) == (1500, source)
