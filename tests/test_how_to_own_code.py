"""The pages of docs/how-to/ about code of the user's own: their files and configs, run as they stand."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfx.components
import yaml
from tensorflow.strings import to_hash_bucket_fast
from tfx.examples import chicago_taxi_pipeline

from pipeline.config import pipeline_config
from pipeline.config.user_code import check_code
from pipeline.create_pipeline import create_pipeline
from tests import forked
from tests.conftest import CENSUS_CONFIG, ROOT, write_small_census
from tests.run_commands import get_states, run_json
from tests.serving.models import example
from tests.serving.running import RunningServer

PAGES = ROOT / "docs" / "how-to"
_DATAFLOW = {"runner": "dataflow"}
_FILES = re.compile(r"Save this as `([\w./]+)`[^\n]*\n\n```python\n(.*?)```", re.DOTALL)


def write_page(page: str, folder: Path) -> list[dict[str, Any]]:
    """Write the files of a page into a folder, and return its configs."""
    text = (PAGES / page).read_text()
    for name, content in _FILES.findall(text):
        file = folder / name.removeprefix("configs/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)]


def merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a config with the sections of a page."""
    return config | {
        key: {**config.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    """Return a folder whose packages can be imported."""
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "page",
    ["preprocessing-fn.md", "own-model.md", "own-component.md", "own-metric.md", "own-push-target.md"],
)
def test_the_configs_of_a_page_make_a_pipeline(page: str, importable: Path) -> None:
    base = yaml.safe_load(CENSUS_CONFIG.read_text())
    base["data"]["base"], base["data"]["schema_file"] = str(ROOT / "data/census"), str(ROOT / "schemas/census.pbtxt")
    for number, changes in enumerate(write_page(page, importable)):
        if "model_spec" in changes.get("evaluation", {}):
            base = {**base, "evaluation": {"split": "test"}}
        file = importable / f"{number}.yaml"
        file.write_text(yaml.safe_dump(merge(base, changes)))
        config = pipeline_config.load(file)
        check_code(config)
        registry = config.build_registry_settings(importable)
        pipeline = create_pipeline(config, pipeline_root="root", registry=registry, run_id="1")
        assert {node.id for node in pipeline.components} == {*config.node_names}


@pytest.mark.proof
def test_a_run_with_the_code_of_all_pages_pushes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_small_census(tmp_path / "small")
    config = yaml.safe_load(file.read_text())
    pages = ("preprocessing-fn.md", "own-component.md", "own-push-target.md")
    changes = [write_page(page, file.parent)[-1] for page in pages]
    changes += [write_page("own-model.md", file.parent)[0], write_page("own-metric.md", file.parent)[-1]]
    for change in changes:
        config = merge(config, change)
    # The small network of the page learns little from few rows.
    config["training"] |= {"epochs": 30, "early_stopping": None}
    config["evaluation"]["thresholds"] = [{"metric": "highest_prediction", "lower_bound": 0.5}]
    config["push"]["config"] = {"folder": str(tmp_path / "models")}
    file.write_text(yaml.safe_dump(config))
    monkeypatch.syspath_prepend(file.parent)
    summary = run_json(file, tmp_path / "run")
    assert summary["error"] is None
    assert get_states(summary)["ModelCard"] == "complete"
    assert (tmp_path / "models" / "pushes.txt").read_text() == "census-income 1\n"
    assert summary["facts"]["Evaluator"]["metrics"]["overall"]["highest_prediction"] > 0.5
    (card,) = (tmp_path / "run" / "artifacts" / "ModelCard" / "card").glob("*/*")
    assert card.read_text() == "Census income"
    again = run_json(file, tmp_path / "run")
    assert {name for name, state in get_states(again).items() if state == "complete"} <= {
        *("History", "Gate", "Baseline", "Pusher")
    }
    features = file.parent / "features.py"
    features.write_text(features.read_text().replace('outputs["age"] *', '2 * outputs["age"] *'))
    changed = run_json(file, tmp_path / "run", "--until", "Transform")
    assert get_states(changed)["Transform"] == "complete"


@pytest.mark.proof
def test_a_rehearsal_with_own_code_on_dataflow_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of Transform, of the extra component and of the metric are read back, as Dataflow's workers do."""
    # An emulator of other tests, which is gone: the rehearsal would push there.
    monkeypatch.delenv("VERTEX_API_ENDPOINT", raising=False)
    file = write_small_census(tmp_path / "small")
    config = yaml.safe_load(file.read_text())
    changes = [write_page("preprocessing-fn.md", file.parent)[-1], write_page("own-model.md", file.parent)[0]]
    changes.append(write_page("own-metric.md", file.parent)[-1])
    for change in changes:
        config = merge(config, change)
    extra = {"component": "tfx.components.StatisticsGen", "name": "More", "before": "Trainer"}
    config["extra_components"] = [{**extra, "inputs": {"examples": "Transform.transformed_examples"}}]
    config["training"] |= {"epochs": 30, "early_stopping": None}
    image = "europe-docker.pkg.dev/my-project/images/workers:1"
    config["beam"] = {
        "components": {name: _DATAFLOW | {"sdk_image": image} for name in ("Transform", "Evaluator", "More")}
    }
    file.write_text(yaml.safe_dump(config))
    for module in ("features.py", "model.py", "metrics.py"):
        assert (file.parent / module).exists()
    done = forked.run(
        "vertex_runner.py", "rehearse", "--folder", str(tmp_path / "run"), "--config", str(file), "--json", timeout=900
    )
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["state"]) == (0, "SUCCEEDED"), (summary, done.stderr)
    assert "transform.module: the file features.py travels in the job, as text" in done.stderr
    states = {task["task"]: task["state"] for task in summary["tasks"]}
    assert states["More"] == states["Evaluator"] == "SUCCEEDED"
    log = next((tmp_path / "run" / "logs").glob("*/Evaluator.log")).read_text()
    assert "Dataflow's job graph: " in log


def post_example(root: Path, model: str, values: dict[str, Any]) -> dict[str, Any]:
    """Serve the last version of a run root, and return its answer to one serialized tf.Example."""
    body = {"instances": [{"b64": base64.b64encode(example(values)).decode()}]}
    with RunningServer("--model-dir", str(root / "registry" / model)) as server:
        status, answer = server.post(f"/v1/models/{model}:predict", body)
    assert status == 200
    return dict(answer)


@pytest.mark.proof
def test_the_penguin_example_of_tfx_runs_unchanged_up_to_an_answer(tmp_path: Path) -> None:
    data = Path(tfx.components.__file__).parent / "testdata" / "penguin" / "data"
    columns = ("culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g")
    config = {
        "name": "penguin",
        "data": {
            "format": "tfrecord",
            "base": str(data),
            "splits": {
                "train": {"files": "Split-train/*.gz"},
                "eval": {"source": "train", "fraction": 0.2},
                "test": {"files": "Split-eval/*.gz"},
            },
        },
        "features": {name: {"kind": "numeric"} for name in columns},
        "label": {"column": "species", "kind": "regression"},
        "push": {"model_name": "penguin"},
        "infra_validation": {"max_latency_ms": 10_000},
    }
    file, root = tmp_path / "penguin.yaml", tmp_path / "run"
    page = write_page("own-model.md", tmp_path)[1]
    file.write_text(yaml.safe_dump({**config, **page, "evaluation": {**page["evaluation"], "split": "test"}}))
    for version in ("1", "2"):
        # The second run compares with the model of the first.
        summary = run_json(file, root, "--set", f"seed={version}")
        assert summary["error"] is None
        assert summary["facts"]["Evaluator"]["blessed"]
        assert summary["facts"]["Evaluator"]["metrics"]["overall"]["sparse_categorical_accuracy"] > 0.6
        comparison = summary["facts"]["Evaluator"]["constant_predictor"]
        assert comparison["loss"] == "log loss" and comparison["candidate"] < comparison["constant"]
        challengers = summary["facts"]["Evaluator"]["challengers"]
        assert {name: entry["problem"] for name, entry in challengers.items()} == {"linear": "", "trees": ""}
        assert all(challengers[name]["rows"] == 187 for name in ("linear", "trees"))
        assert (root / "registry" / "penguin" / version / "saved_model.pb").exists()
    (scores,) = post_example(root, "penguin", dict.fromkeys(columns, 0.25))["predictions"]
    assert len(scores) == 3


@pytest.mark.proof
def test_the_taxi_example_of_tfx_runs_unchanged_up_to_an_answer(tmp_path: Path) -> None:
    areas = [f"{way}_{place}" for way in ("pickup", "dropoff") for place in ("community_area", "census_tract")]
    numbers = ["trip_seconds", *(f"{way}_{place}itude" for way in ("pickup", "dropoff") for place in ("lat", "long"))]
    times = {"trip_start_hour": 24, "trip_start_day": 31, "trip_start_month": 13}
    config = {
        "name": "taxi",
        "data": {
            "format": "csv",
            "base": str(Path(chicago_taxi_pipeline.__file__).parent / "data" / "simple"),
            "splits": {
                "train": {"files": "data.csv"},
                "eval": {"source": "train", "fraction": 0.2},
                "test": {"source": "train", "fraction": 0.2},
            },
            "ignored_columns": ["trip_start_timestamp"],
        },
        "features": {
            **{name: {"kind": "identity", "num_ids": count} for name, count in times.items()},
            **{name: {"kind": "identity", "num_ids": 100, "missing": 0} for name in areas},
            "payment_type": {"kind": "vocabulary", "max_size": 1000},
            "company": {"kind": "vocabulary", "max_size": 1000, "missing": "unknown"},
            "trip_miles": {"kind": "numeric"},
            "fare": {"kind": "numeric"},
            **{name: {"kind": "numeric", "missing": 0} for name in numbers},
        },
        "label": {"column": "tips", "kind": "regression"},
        "validation": {
            "severities": [
                {"anomaly": "FEATURE_TYPE_NOT_PRESENT", "features": ["pickup_census_tract"], "severity": "warn"},
                {"anomaly": "ID_OUT_OF_RANGE", "severity": "ignore"},
            ]
        },
        "transform": {"module": "tfx.examples.chicago_taxi_pipeline.taxi_utils_native_keras"},
        "model": {"module": "tfx.examples.chicago_taxi_pipeline.taxi_utils_native_keras"},
        "training": {"epochs": 1, "train_steps": 200, "eval_steps": 20},
        "evaluation": {
            "split": "test",
            "model_spec": {"label_key": "tips_xf", "preprocessing_function_names": ["transform_features"]},
            "metrics": ["BinaryAccuracy"],
            "slice_by": [["trip_start_hour"]],
            "thresholds": [{"metric": "binary_accuracy", "lower_bound": 0.6}],
            # The example's network has a log loss of 0.48 after its 200 steps, and the linear model one of 0.21.
            "challengers": {"worse_than_linear": "warn"},
        },
        "push": {"model_name": "taxi"},
        "infra_validation": {"max_latency_ms": 10_000},
    }
    file, root = tmp_path / "taxi.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(config))
    summary = run_json(file, root)
    assert summary["error"] is None
    overall, *slices = summary["facts"]["Evaluator"]["metrics"].items()
    assert overall[1]["binary_accuracy"] > 0.6
    assert slices and all(name.startswith("trip_start_hour=") for name, _ in slices)
    challengers = summary["facts"]["Evaluator"]["challengers"]
    assert {*challengers["linear"]["gains"]} == {"overall", *(name for name, _ in slices)}
    assert any(text.startswith("linear model: ") for text in summary["facts"]["Evaluator"]["warnings"])
    row = {
        **dict.fromkeys(times, 5),
        **dict.fromkeys(areas, 8),
        "payment_type": "Credit Card",
        "company": "Taxi Affiliation Services",
        **dict.fromkeys(["trip_miles", "fare", *numbers], 1.5),
    }
    (answer,) = post_example(root, "taxi", row)["predictions"]
    assert 0 < np.ravel(answer)[0] < 1


def test_the_page_of_extensions_has_the_changes_of_the_pages() -> None:
    added = re.findall(r"^\+(.*)$", (PAGES / "extend.md").read_text(), flags=re.MULTILINE)
    assert len(added) > 10
    component = (PAGES / "own-component.md").read_text()
    for line in added[added.index("extra_components:") :][:5]:
        assert line in component


_ENCODE = """
import tensorflow as tf
from components.transform.preprocessing import preprocessing_fn
from schemas.features import FeatureSet

label = {"column": "y", "positive": "1", "negative": "0"}
features = FeatureSet.model_validate({"features": {"product": {"kind": "code"}}, "label": label})
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = {"product": tf.sparse.from_dense([["a"], ["b"]]), "y": tf.sparse.from_dense([["1"], ["0"]])}
    print(session.run(preprocessing_fn(inputs, {"feature_set": features.to_model_json()})["product"]).tolist())
"""


@pytest.mark.integration
def test_the_kind_of_feature_on_the_page_is_declared_and_encoded(tmp_path: Path) -> None:
    text = (PAGES / "extend.md").read_text()
    (patch,) = re.findall(r"```diff\n(--- a/.*?)```", text, flags=re.DOTALL)
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    write_page("extend.md", tmp_path)
    subprocess.run(["patch", "-p1"], input=patch, cwd=tmp_path, text=True, check=True)
    done = subprocess.run(
        [sys.executable, "-c", _ENCODE],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [to_hash_bucket_fast(value, 1000).numpy() for value in ("a", "b")]
