"""A derived feature whose columns stand still and which moves: the gate stops, pages and schema have it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_transform as tft
import yaml

from tests.run_commands import get_states, run_json, run_pipeline_command

pytestmark = pytest.mark.proof
_SCHEMA = """# The rides of one day.
feature { name: "fare" type: FLOAT presence { min_fraction: 1.0 } }
feature { name: "miles" type: FLOAT presence { min_fraction: 1.0 } }
feature { name: "tipped" type: BYTES presence { min_fraction: 1.0 } }
# Dollars a mile.
feature { name: "rate" type: FLOAT float_domain { min: 1 max: 2.25 } }
"""
# In the test split, the ratio is anything.
_WARN = "validation.severities=[{anomaly: SKEW, severity: warn}]"


def _write_rides(path: Path, seed: int, *, moves: bool) -> None:
    random = np.random.default_rng(seed)
    fares = random.uniform(4, 40, 1500)
    miles = fares / random.uniform(1.8, 2.2, len(fares))
    if moves:
        random.shuffle(miles)
    tipped = np.where(fares + random.normal(scale=8, size=len(fares)) > 20, "yes", "no")
    with path.open("w", newline="") as file:
        rows = zip(fares.round(2), miles.round(2), tipped, strict=True)
        csv.writer(file).writerows([("fare", "miles", "tipped"), *rows])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a config with a derived feature, whose train and test splits differ in that feature alone."""
    folder = tmp_path_factory.mktemp("rides")
    _write_rides(folder / "train.csv", 1, moves=False)
    _write_rides(folder / "test.csv", 2, moves=True)
    (folder / "rides.pbtxt").write_text(_SCHEMA)
    document: dict[str, Any] = {
        "name": "rides",
        "data": {
            "base": ".",
            "splits": {
                "train": {"files": "train.csv"},
                "eval": {"source": "train", "fraction": 0.2},
                "test": {"files": "test.csv"},
            },
        },
        "features": {
            "fare": {"kind": "numeric"},
            "miles": {"kind": "input", "type": "number"},
            "rate": {"kind": "numeric", "expression": "fare / miles", "missing": "mean"},
            "tens": {"kind": "identity", "num_ids": 3, "expression": "fare // 10", "missing": 0},
        },
        "label": {"column": "tipped", "positive": "yes", "negative": "no"},
        "validation": {"skew": {"default": {"threshold": 0.1}}},
        "training": {"epochs": 2, "batch_size": 64},
        "evaluation": {"insignificant_gain": "warn"},
        "infra_validation": {"max_latency_ms": 10_000},
        "push": {"model_name": "rides"},
    }
    path = folder / "rides.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def root(config: Path) -> Path:
    """Return the run root of all runs: examples and statistics are the same in each."""
    return config.with_name("run")


def test_the_gate_stops_on_the_derived_feature_alone(config: Path, root: Path) -> None:
    stopped = run_json(config, root)
    assert stopped["exit_code"] == 3 and get_states(stopped)["Gate"] == "failed"
    problems = [line.strip() for line in stopped["error"].splitlines() if "[SKEW]" in line]
    assert [line.partition(": Jensen-Shannon distance ")[0] for line in problems] == ["test against train: rate"]
    # Without them, nobody would know that fares from 30 on are taken for those from 20 on.
    warnings = [line for line in stopped["error"].splitlines() if "tens = fare // 10" in line]
    assert len(warnings) == 3 and all("outside of [0, 3)" in line and "ID_OUT_OF_RANGE" in line for line in warnings)


def test_it_is_on_the_page_and_no_example_has_it(config: Path, root: Path, tmp_path: Path) -> None:
    passed = run_json(config, root, "--set", _WARN, "--until", "Transform")
    assert (passed["exit_code"], passed["error"]) == (0, None), passed["error"]
    page = tmp_path / "page.html"
    run_pipeline_command("stats", "--config", str(config), "--run-root", str(root), "--output", str(page))
    _, card = page.read_text().split('<section class="card" data-name="rate"')
    card = card.partition("</section>")[0]
    assert "derived: <code>fare / miles</code>" in card and ">skew</span>" in card
    schemas = [file.read_text() for file in (root / "artifacts" / "SchemaGen" / "schema").glob("*/schema.pbtxt")]
    assert schemas and all("lifecycle_stage: VALIDATION_DERIVED" in schema for schema in schemas)
    (graph,) = (root / "artifacts" / "Transform" / "transform_graph").glob("*")
    output = tft.TFTransformOutput(str(graph))
    assert set(output.raw_feature_spec()) == {"fare", "miles", "tipped"}
    assert "rate" in output.transformed_feature_spec()


def test_a_curated_schema_bounds_it_and_takes_over_new_bounds(config: Path, root: Path, tmp_path: Path) -> None:
    flags = ("--config", str(config), "--run-root", str(root))
    schema = tmp_path / "rides.pbtxt"
    schema.write_text(_SCHEMA)
    settings = ("--set", f"data.schema_file={schema}", "--set", _WARN)
    stopped = run_json(config, root, *settings)
    assert stopped["exit_code"] == 3 and "train: rate: Unexpectedly" not in stopped["error"]
    assert "test: rate: Unexpectedly high value" in stopped["error"]
    difference = run_pipeline_command("schema", "diff", *flags, *settings)
    assert "feature rate" in difference and "fare" not in difference and "VALIDATION_DERIVED" not in difference
    run_pipeline_command("schema", "accept", *flags, *settings)
    accepted = schema.read_text()
    assert accepted.startswith(_SCHEMA.partition("# Dollars")[0])
    assert "max: 2.25" not in accepted and "VALIDATION_DERIVED" not in accepted and "expression" not in accepted
    assert run_json(config, root, *settings, "--until", "Gate")["exit_code"] == 0
