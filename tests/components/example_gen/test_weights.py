"""Weights of rows in ExampleGen: in the examples, and in the counts of labels."""

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from cli.errors import DataError
from components.example_gen.component import LABELS_PROPERTY, WEIGHTS_PROPERTY
from components.example_gen.split_findings import describe_labels
from schemas.features import FeatureSet
from tests.components.example_gen.test_component import FEATURES, run_example_gen

pytestmark = pytest.mark.integration

SPLITS = {"train": {"files": "a.csv"}, "eval": {"files": "b.csv"}}
REGRESSION = FeatureSet.model_validate({**FEATURES.model_dump(), "label": {"column": "y", "kind": "regression"}})


def run(folder: Path, train: list[str], evaluation: list[str], features: FeatureSet = FEATURES) -> Any:
    for name, rows in (("a", train), ("b", evaluation)):
        (folder / f"{name}.csv").write_text("\n".join(["x,y,w", *rows]) + "\n")
    weighted = features.model_copy(update={"weight": "w"})
    return run_example_gen(folder, SPLITS, features=weighted, weight_column="w")


def test_examples_have_the_weights_and_labels_are_counted_by_them(tmp_path: Path) -> None:
    examples, out = run(tmp_path, ["1,0,2.5", "2,1,0.5", "3,0,0", "4,1,7"], ["5,0,1", "6,1,3"])
    (file,) = (out / "Split-train").glob("*.gz")
    records = [tf.train.Example.FromString(r) for r in tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator()]
    assert [record.features.feature["w"].float_list.value[0] for record in records] == [2.5, 0.5, 0, 7]
    assert json.loads(examples.get_string_custom_property(LABELS_PROPERTY))["train"] == {"0": 2, "1": 2}
    weights = json.loads(examples.get_string_custom_property(WEIGHTS_PROPERTY))
    assert weights == {"train": {"0": 2.5, "1": 7.5}, "eval": {"0": 1, "1": 3}}
    assert describe_labels(weights) == ["1: train 75.0%, eval 75.0%"]
    # Weights whose sum is 1 over the whole table.
    small = {split: {label: weight / 14 for label, weight in counts.items()} for split, counts in weights.items()}
    assert describe_labels(small) == describe_labels(weights)
    assert describe_labels({"train": {"0": 0, "1": 0}}) == ["1: train 0.0%"]


def test_the_labels_of_a_regression_have_a_weighted_mean(tmp_path: Path) -> None:
    examples, _ = run(tmp_path, ["1,10,1", "2,20,3"], ["5,1,1"], REGRESSION)
    weights = json.loads(examples.get_string_custom_property(WEIGHTS_PROPERTY))
    assert weights["train"] == {"rows": 4.0, "mean": 17.5, "std": pytest.approx(75**0.5 / 2)}


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        (
            ["1,0,1", "2,1,1"],
            ["5,0,0", "6,1,0"],
            "split 'eval': all weights are 0 (column 'w'), so that no row counts; at least one must be above 0: correct "
            "the weights, or remove data.weight_column",
        ),
        (
            ["1,0,1", "2,1,0"],
            ["5,0,1", "6,1,0"],
            "split 'train': all weights of rows with the label '1' are 0 (column 'w'); every class needs a weight above "
            "0: correct the weights, or give the split more rows",
        ),
    ],
)
def test_weights_that_are_all_0_are_rejected(
    train: list[str], evaluation: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as rejected:
        run(tmp_path, train, evaluation)
    assert str(rejected.value) == message
