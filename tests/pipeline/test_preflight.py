"""What preflight finds in the values of the files, before anything runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import config, preflight
from pipeline.run_root import RunRoot
from schemas.errors import DataError

FEATURES: dict[str, Any] = {
    "spend": {"kind": "numeric"},
    "score": {"kind": "numeric", "missing": "mean"},
    "tract": {"kind": "numeric"},
    "rank": {"kind": "identity", "num_ids": 4},
}


def check(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], **sections: Any) -> list[str]:
    """The warnings of preflight."""
    for name, rows in (("train", train), ("test", test)):
        lines = [",".join([*FEATURES, "y"]), *(",".join(map(str, row.values())) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    document = {
        "name": "values",
        "data": {
            "base": ".",
            "splits": {
                "train": {"files": "train.csv"},
                "eval": {"share_of": "train", "share": 0.1},
                "test": {"files": "test.csv"},
            },
        },
        "features": FEATURES,
        "label": {"column": "y", "positive": "1", "negative": "0"},
        "training": {"epochs": 1, "batch_size": 64},
        "evaluation": {"split": "test", "metrics": ["auc"], "thresholds": [{"metric": "auc", "at_least": 0.5}]},
        "push": {"model_name": "values"},
        **sections,
    }
    (folder / "a.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return preflight.check(config.load(folder / "a.yaml"), RunRoot(folder / "run")).warnings


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "spend": f"{random.random():.3f}",
            "score": f"{random.random():.3f}",
            "tract": n % 7,
            "rank": n % 4,
            "y": n % 2,
        }
        for n in range(count)
    ]


def test_honest_values_have_no_warning(tmp_path: Path) -> None:
    assert check(tmp_path, rows(100, 1), rows(30, 2)) == []


def test_each_value_that_the_graph_cannot_represent_is_a_warning(tmp_path: Path) -> None:
    train, test = rows(100, 1), rows(30, 2)
    train[7]["spend"] = "9.96921e+36"
    for n, row in enumerate(train):
        row["tract"] = 36_061_000_100 + 100 * (n % 8)
    test[3]["rank"] = -1
    extreme, collapsed, outside = check(tmp_path, train, test)
    assert extreme.startswith("data: spend: 1 of 130 values are many decades from the others, which are below 1 in ")
    assert f"9.96921e+36 ({tmp_path}/train.csv:9)" in extreme and extreme.endswith("[EXTREME_VALUES]")
    assert collapsed.startswith("data: tract: 8 different whole numbers above 16,777,216 become 1 in float32, such as ")
    assert outside.startswith(
        "test: rank: 1 of 30 ids are outside of [0, 4), such as -1, and would be clipped into it; "
    )


def test_a_column_without_a_value_in_train_stops_and_is_named(tmp_path: Path) -> None:
    train = [{**row, "score": ""} for row in rows(100, 1)]
    with pytest.raises(DataError, match=r"train: score: score has no value in train, .* \[NO_VALUES_IN_TRAIN\]"):
        check(tmp_path, train, rows(30, 2))
    severities = {"severities": [{"anomaly": "NO_VALUES_IN_TRAIN", "features": ["score"], "severity": "ignore"}]}
    assert check(tmp_path, train, rows(30, 2), validation=severities) == []
