"""Parts that all tests share: the repository's root and a small real census data set."""

import csv
import gzip
import importlib
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest
import yaml

from pipeline.run.fast_imports import pause_garbage_collection

pytest_plugins = ["tests.vertex_fixtures", "tests.database_servers", "tests.bigquery_fixtures"]

ROOT = Path(__file__).parent.parent
CENSUS_CONFIG = ROOT / "configs" / "census.yaml"


# Fixtures that start servers and other processes.
_INTEGRATION_FIXTURES = {"server", "bench", "warehouse", "site", "open_log", "process"}
_PROOF_FIXTURES = {"mariadb", "postgresql", "database_server"}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what the test files import out of garbage collection, and speed up Beam, as a run does."""
    with pause_garbage_collection():
        session = yield
        if "apache_beam" in sys.modules:
            importlib.import_module("pipeline.run.dag_runner")
    return session


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they start, and run files with whole pipeline runs first.

    At the end, one such file would keep one process busy alone.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & _INTEGRATION_FIXTURES:
            item.add_marker(pytest.mark.integration)
        if fixtures & _PROOF_FIXTURES:
            item.add_marker(pytest.mark.proof)
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


def census_rows(name: str, count: int) -> list[list[str]]:
    """Return the header and the first rows of a census file."""
    with gzip.open(ROOT / "data" / "census" / f"{name}.csv.gz", "rt") as file:
        return [row for row, _ in zip(csv.reader(file), range(count + 1), strict=False)]


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_small_census(
    folder: Path, edit: Callable[[list[list[str]]], list[list[str]]] = lambda rows: rows, rows: int = 3000
) -> Path:
    """Make a folder with a few thousand census rows and a config for them, and return the config's path."""
    folder.mkdir()
    write_rows(folder / "train.csv", edit(census_rows("train", rows)))
    write_rows(folder / "test.csv", census_rows("test", 1500))
    config = yaml.safe_load(CENSUS_CONFIG.read_text())
    config["data"]["base"] = str(folder)
    config["data"]["splits"]["train"]["files"] = "train.csv"
    config["data"]["splits"]["test"]["files"] = "test.csv"
    config["data"]["schema_file"] = str(ROOT / "schemas" / "census.pbtxt")
    config["training"]["epochs"] = 3
    # A limit that a busy machine meets, too.
    config["infra_validation"] = {"max_latency_ms": 10_000}
    config["evaluation"]["thresholds"] = [{"metric": "auc", "lower_bound": 0.8}]
    config["evaluation"]["change_thresholds"] = [{"metric": "auc", "max_regression": 0.05}]
    # After three epochs on so few rows, the network is worse than a linear model.
    config["evaluation"]["challengers"] = {"linear": False, "trees": False}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "config.yaml"


def shorten_census(folder: Path) -> None:
    """Keep the first rows of a copy of the data, and train on them for fewer epochs.

    Args:
      folder: Folder with copies of `configs` and `data/census`.
    """
    for name, count in (("train", 6000), ("test", 3000)):
        file = folder / "data" / "census" / f"{name}.csv.gz"
        lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
        file.write_bytes(gzip.compress(b"".join(lines[: count + 1])))
    file = folder / "configs" / "census.yaml"
    config = yaml.safe_load(file.read_text())
    config["training"]["epochs"] = 3
    config["evaluation"]["thresholds"] = [{"metric": "auc", "lower_bound": 0.8}]
    config["evaluation"]["challengers"] = {"linear": False, "trees": False}
    config["evaluation"]["change_thresholds"] = [{"metric": "auc", "max_regression": 0.05}]
    # A limit that a busy machine meets, too.
    config["infra_validation"] = {"max_latency_ms": 10_000}
    file.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture
def small_census(tmp_path: Path) -> Callable[..., Path]:
    """Return `write_small_census` for a folder of the test."""
    return partial(write_small_census, tmp_path / "small")
