"""Models of other kinds than the built-in config's, from files to the pushed version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.run_commands import run_json

pytestmark = [pytest.mark.slow, pytest.mark.proof]
Rows = list[list[str]]


@pytest.mark.parametrize("format", ["parquet", "tfrecord"])
def test_other_formats_give_the_model_that_csv_gives(
    format: str, small_census: Callable[..., Path], tmp_path: Path
) -> None:
    """The rows of two files in another format, one of them bad, through the whole pipeline."""
    import pyarrow.csv
    import pyarrow.parquet
    import tensorflow as tf

    config = small_census()
    numbers = ("age", "education_num", "hours_per_week", "capital_gain", "capital_loss", "fnlwgt")
    for name in ("train", "test"):
        table = pyarrow.csv.read_csv(config.parent / f"{name}.csv")
        for part, rows in enumerate((table.slice(0, 1000), table.slice(1000))):
            path = str(config.parent / f"{name}-{part}.{format}")
            if format == "parquet":
                pyarrow.parquet.write_table(rows, path)
                continue
            with tf.io.TFRecordWriter(path, "GZIP") as writer:
                for row in rows.to_pylist():
                    features = {
                        key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                        if key in numbers
                        else tf.train.Feature(bytes_list=tf.train.BytesList(value=[str(value).encode()]))
                        for key, value in row.items()
                    }
                    writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    edited = yaml.safe_load(config.read_text())
    edited["data"]["format"] = format
    edited["data"]["splits"]["train"]["files"] = f"train-*.{format}"
    edited["data"]["splits"]["test"]["files"] = f"test-*.{format}"
    config.write_text(yaml.safe_dump(edited, sort_keys=False))
    summary = run_json(config, tmp_path / "run", "--until", "Evaluator")
    assert (summary["exit_code"], summary["error"]) == (0, None)
    assert sum(summary["facts"]["ExampleGen"]["rows"].values()) == 4500
    assert summary["facts"]["Evaluator"]["metrics"]["overall"]["auc"] > 0.85


def _change_label(config: Path, label: dict[str, Any], metric: str, bound: dict[str, float]) -> None:
    """Make another column of census the label, and `income` a feature."""
    edited = yaml.safe_load(config.read_text())
    del edited["features"][label["column"]], edited["data"]["schema_file"]
    edited["features"]["income"] = {"kind": "vocabulary_list", "values": ["<=50K", ">50K"], "embedding": 2}
    edited["crosses"] = [cross for cross in edited["crosses"] if label["column"] not in cross["features"]]
    edited["label"] = label
    edited["training"]["early_stopping"] = {"patience": 2}
    edited["evaluation"]["thresholds"] = [{"metric": metric, **bound}]
    edited["evaluation"]["change_thresholds"] = [{"metric": metric, "max_regression": 0.5}]
    config.write_text(yaml.safe_dump(edited, sort_keys=False))


def _predict(summary: dict[str, Any], root: Path) -> tuple[dict[str, Any], Any]:
    """Return the predictions of the pushed model for the test split, and the encoded labels."""
    import tensorflow as tf

    from serving.model.signatures import SERVING_EXAMPLES, TRUE_LABEL

    model = tf.saved_model.load(summary["facts"]["Pusher"]["path"])
    (examples,) = (root / "artifacts" / "ExampleGen" / "examples").glob("*/Split-test/*")
    records = next(iter(tf.data.TFRecordDataset(str(examples), "GZIP").batch(2000)))
    answers = {name: value.numpy() for name, value in model.signatures[SERVING_EXAMPLES](records).items()}
    return answers, model.signatures[TRUE_LABEL](records)["label"].numpy()


def test_a_multiclass_label_from_file_to_served_model(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config, root = small_census(), tmp_path / "run"
    classes = ["Husband", "Not-in-family", "Other-relative", "Own-child", "Unmarried", "Wife"]
    label = {"kind": "multiclass", "column": "relationship", "classes": classes}
    _change_label(config, label, "accuracy", {"lower_bound": 0.6})
    summary = run_json(config, root)
    assert (summary["exit_code"], summary["error"]) == (0, None)
    overall = summary["facts"]["Evaluator"]["metrics"]["overall"]
    assert set(overall) == {"accuracy", "macro_f1", "log_loss", "example_count"}
    answers, labels = _predict(summary, root)
    assert answers["probabilities"].shape == (1500, 6)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert [name.decode() for name in answers["classes"][0]] == classes
    likeliest = [classes[index].encode() for index in answers["probabilities"].argmax(axis=1)]
    assert answers["predicted_label"].tolist() == likeliest
    assert np.mean(answers["probabilities"].argmax(axis=1) == labels) == pytest.approx(overall["accuracy"])


def test_a_regression_from_file_to_served_model(small_census: Callable[..., Path], tmp_path: Path) -> None:
    def without_some_labels(rows: Rows) -> Rows:
        return [["", *row[1:]] if 0 < number <= 5 else row for number, row in enumerate(rows)]

    config, root = small_census(without_some_labels), tmp_path / "run"
    _change_label(
        config,
        {"kind": "regression", "column": "age", "drop_missing": True},
        "rmse",
        {"lower_bound": 1, "upper_bound": 12},
    )
    summary = run_json(config, root)
    assert (summary["exit_code"], summary["error"]) == (0, None)
    assert sum(summary["facts"]["ExampleGen"]["rows"].values()) == 4495
    assert summary["facts"]["ExampleGen"]["unlabelled"] == 5
    overall = summary["facts"]["Evaluator"]["metrics"]["overall"]
    assert set(overall) == {"rmse", "mae", "r2", "mean_error", "example_count"}
    assert overall["r2"] > 0.25
    answers, labels = _predict(summary, root)
    assert set(answers) == {"prediction", "model_version", "schema_hash"}
    errors = answers["prediction"] - labels
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(overall["rmse"], rel=1e-4)
    assert np.mean(errors) == pytest.approx(overall["mean_error"], abs=1e-3)
    missed = run_json(config, root, "--set", "evaluation.thresholds=[{metric: rmse, upper_bound: 1}]")
    assert missed["exit_code"] == 4
    assert missed["facts"]["Evaluator"]["failures"][0].startswith("rmse ")


def test_a_search_feeds_the_trainer_and_a_warm_start_follows(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config, root = small_census(), tmp_path / "run"
    search = "training.search={max_trials: 2, parameters: {model.hidden_units: {choices: [[8], [12]]}}}"
    searched = run_json(config, root, "--set", search)
    assert searched["exit_code"] == 0
    search_result = searched["facts"]["Tuner"]
    assert search_result["trials"] == 2
    # What Trainer fitted is the best trial, weight for weight but for the order of sums.
    assert searched["facts"]["Trainer"]["metrics"]["log_loss"] == pytest.approx(search_result["score"], rel=1e-3)
    units = f"model.hidden_units={search_result['values']['model.hidden_units']}"

    warm = ("--set", "training.warm_start=true", "--set", units)
    started = run_json(config, root, *warm)
    assert (started["exit_code"], started["error"]) == (0, None)
    log = Path(started["log"]).read_text()
    assert "starts from the weights of" in log
    assert started["facts"]["Trainer"]["metrics"]["log_loss"] < search_result["score"] + 0.01

    for change, reason in [
        ("model.hidden_units=[9]", "the network has another shape"),
        ("features.age.buckets.count=8", "age changed since"),
    ]:
        refused = run_json(config, root, *warm, "--set", change)
        assert refused["exit_code"] == 1
        assert f"warm start: {reason}" in refused["error"]
        assert refused["error"].endswith("start from random weights: --set training.warm_start=false")
