"""Whole runs of local_runner.py on a few thousand real census rows: pushed, cached, retrained, not blessed, drifted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.registry import LocalRegistry, compute_content_hash
from tests import forked
from tests.conftest import census_rows, write_rows
from tests.run_commands import get_states, read_summary, run_json, run_pipeline_command

pytestmark = pytest.mark.slow


def test_a_model_is_pushed_answered_from_the_cache_and_retrained_when_a_feature_changes(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    registry = LocalRegistry(root / "registry", "census-income")

    first = run_json(config, root)
    assert (first["exit_code"], first["error"]) == (0, None)
    assert set(get_states(first).values()) == {"complete"}
    assert sum(first["facts"]["ExampleGen"]["rows"].values()) == 4500
    assert first["facts"]["Evaluator"]["metrics"]["overall"]["example_count"] == 1500
    assert first["facts"]["InfraValidator"]["golden_requests"] == 16
    assert first["facts"]["Pusher"]["version"] == 1
    assert first["facts"]["Gate"]["history"] is False
    assert registry.list_numbers() == [1]
    assert first["facts"]["Pusher"]["content_hash"] == compute_content_hash(registry.folder / "1")
    _check_parity(first, root)

    second = run_json(config, root)
    assert second["exit_code"] == 0
    # The resolver is asked again each time; the gate and the pusher are never reused from the cache.
    expected = ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Trainer", "Evaluator")
    assert get_states(second) == {
        **dict.fromkeys((*expected, "InfraValidator"), "cached"),
        "History": "complete",
        "Gate": "complete",
        "Baseline": "complete",
        "Pusher": "complete",
    }
    assert second["pushed"] == "nothing: version 1 holds this very model already"
    assert registry.list_numbers() == [1]

    third = run_json(config, root, "--set", "features.age.buckets.count=8")
    assert third["exit_code"] == 0
    assert get_states(third)["ExampleGen"] == "cached"
    assert [get_states(third)[node] for node in ("Transform", "Trainer", "Evaluator")] == ["complete"] * 3
    assert third["facts"]["Baseline"]["model_id"] is not None
    # The baseline is measured on the same rows, which are those that it was blessed on.
    summaries = sorted(root.glob("artifacts/Evaluator/evaluation/*/summary.json"), key=lambda f: int(f.parent.name))
    blessed, compared = (json.loads(summary.read_text()) for summary in summaries)
    assert blessed["baseline"] == {}
    assert compared["baseline"] == blessed["metrics"] != compared["metrics"]
    assert registry.list_numbers() == [1, 2]

    registry.roll_back()
    rerun = run_json(config, root, "--set", "features.age.buckets.count=8")
    assert rerun["pushed"] == "nothing: version 2 holds this very model already"
    assert rerun["serving"] == f"version 1 of census-income, pushed by run {first['run_id']}"
    assert registry.read_labels() == {"champion": 1, "previous": 2}

    # Files of the serving version are changed: no version before it is whole, and its run pushes the model again.
    for version in (1, 2):
        (registry.folder / str(version) / "saved_model.pb").write_bytes(b"changed")
    assert registry.find_run_id(1) == first["run_id"]
    again = read_summary(forked.run("oncall", "resume", first["run_id"], "--run-root", str(root), "--json"))
    assert (again["exit_code"], again["facts"]["Pusher"]["version"], registry.read_champion()) == (0, 3, 3)
    assert get_states(again)["Trainer"] == "cached"
    assert compute_content_hash(registry.folder / "3") == first["facts"]["Pusher"]["content_hash"]

    before = compute_content_hash(registry.folder / "2")
    unblessed = run_json(
        config, root, "--set", "evaluation.thresholds=[{metric: auc, lower_bound: 0.999, slice_by: [sex]}]"
    )
    assert unblessed["exit_code"] == 4
    assert unblessed["facts"]["Evaluator"]["blessed"] is False
    failures = unblessed["facts"]["Evaluator"]["failures"]
    assert [failure.partition(" 0.")[0] for failure in failures] == ["auc on sex=Female", "auc on sex=Male"]
    named = f"Evaluator: the model is not blessed: {failures[0]} (and 1 more); it is not pushed"
    assert unblessed["error"] == named
    assert all(failure.endswith("at least 0.999 expected") for failure in failures)
    assert registry.list_numbers() == [1, 2, 3]
    assert compute_content_hash(registry.folder / "2") == before

    older = [row for i, row in enumerate(census_rows("train", 9000)) if i == 0 or int(row[0]) > 45]
    write_rows(config.parent / "train.csv", older)
    drifted = run_json(config, root, "--set", "validation.drift.default.threshold=0.1")
    assert drifted["exit_code"] == 3
    (line,) = [
        line for line in drifted["error"].splitlines() if "the pushed model: age: Jensen-Shannon distance" in line
    ]
    assert ", at most 0.1; moved most: " in line
    assert get_states(drifted)["Gate"] == "failed"
    _check_page(config, root, drifted["run_id"])


def _check_page(config: Path, root: Path, run_id: str) -> None:
    """Check that the page of statistics marks the drift that stopped the run, and loads nothing."""
    path = Path(run_pipeline_command("stats", run_id, "--config", str(config), "--run-root", str(root)).strip())
    assert path == root / "reports" / f"stats-{run_id}.html"
    page = path.read_text(encoding="utf-8")
    age = page[page.index('data-name="age"') : page.index('data-name="capital_gain"')]
    assert 'class="flag drift"' in age
    assert "train against that of the pushed model: Jensen-Shannon" in age
    assert page.count("<section") == 14
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def _check_parity(summary: dict[str, Any], root: Path) -> None:
    """Training-time, evaluated and served predictions are one: same rows, same probabilities."""
    import tensorflow as tf

    from serving.model.output_names import PROBABILITY

    served = tf.saved_model.load(summary["facts"]["Pusher"]["path"])
    (examples,) = (root / "artifacts" / "ExampleGen" / "examples").glob("*/Split-test/*")
    records = next(iter(tf.data.TFRecordDataset(str(examples), "GZIP").batch(2000)))
    by_example = served.signatures["serving_examples"](records)[PROBABILITY].numpy()
    labels = next(iter(served.signatures["true_label"](records).values())).numpy()

    named = {spec.name: spec for spec in served.signatures["serving_default"].structured_input_signature[1].values()}
    parsed = [tf.train.Example.FromString(r).features.feature for r in records.numpy()]
    fill = {tf.string: b"", tf.float32: float("nan"), tf.int64: -1}
    kinds = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}

    def value(features: Any, name: str, dtype: tf.DType) -> Any:
        values = getattr(features[name], kinds[dtype]).value if name in features else ()
        return values[0] if values else fill[dtype]

    columns = {n: tf.constant([value(f, n, s.dtype) for f in parsed], s.dtype) for n, s in named.items()}
    answer = served.signatures["serving_default"](**columns)
    by_name = answer[PROBABILITY].numpy()
    assert set(answer["model_version"].numpy()) == {b"1"}
    np.testing.assert_allclose(by_name, by_example, atol=1e-6)

    # What Evaluator measured is what the served model predicts.
    likely = np.where(labels == 1, by_example, 1 - by_example)
    measured = summary["facts"]["Evaluator"]["metrics"]["overall"]
    assert measured["log_loss"] == pytest.approx(-np.log(likely).mean(), abs=1e-5)
    assert measured["accuracy"] == pytest.approx(((by_example > 0.5) == labels).mean(), abs=1e-9)

    # What Trainer saw on eval is what the served model predicts there: raw rows in, no skew.
    (eval_examples,) = (root / "artifacts" / "ExampleGen" / "examples").glob("*/Split-eval/*")
    eval_records = next(iter(tf.data.TFRecordDataset(str(eval_examples), "GZIP").batch(2000)))
    eval_probability = served.signatures["serving_examples"](eval_records)[PROBABILITY].numpy()
    eval_labels = next(iter(served.signatures["true_label"](eval_records).values())).numpy()
    eval_likely = np.where(eval_labels == 1, eval_probability, 1 - eval_probability)
    assert summary["facts"]["Trainer"]["metrics"]["log_loss"] == pytest.approx(-np.log(eval_likely).mean(), abs=1e-5)
