"""What the statistics page shows; a whole page of a real run is made in tests/end_to_end."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from pipeline.stats_page import BINS, TOP_VALUES, FeatureView, features


def views(train: dict[str, Any], test: dict[str, Any], compared: Any = ()) -> dict[str, FeatureView]:
    splits = {
        name: tfdv.generate_statistics_from_dataframe(pd.DataFrame(values)).datasets[0]
        for name, values in (("train", train), ("test", test))
    }
    return {view.name: view for view in features(splits, compared)}


@pytest.fixture(scope="module")
def found() -> dict[str, FeatureView]:
    rows = 200
    return views(
        {
            "age": [float(20 + i % 50) for i in range(rows)],
            "gain": [0.0] * 150 + [100.0] * 50,
            "same": [7] * rows,
            "city": [f"city {i % 30}" for i in range(rows)],
            "sex": ["f"] * 195 + ["m"] * 5,
        },
        {
            "age": [float(40 + i % 50) for i in range(rows)],
            "gain": [0.0] * rows,
            "same": [7] * rows,
            "city": [None if i % 2 else "city 1" for i in range(rows)],
            "sex": ["f", "m"] * 100,
        },
    )


def test_numbers(found: dict[str, FeatureView]) -> None:
    train, test = found["age"].sides
    assert (train.split, train.count, train.missing) == ("train", 200, 0)
    assert (train.numbers["min"], train.numbers["max"], train.numbers["zeros"]) == ("20", "69", "0%")
    assert test.numbers["min"] == "40"
    assert len(train.bars) == len(found["age"].labels) == BINS
    # Bins are the same for both splits, and hold all of each.
    for shares in found["age"].shares:
        assert sum(shares) == pytest.approx(1)
    assert found["age"].shares[1][0] == 0


def test_texts(found: dict[str, FeatureView]) -> None:
    train, test = found["city"].sides
    assert train.numbers["different"] == "30"
    assert (test.numbers["most frequent"], test.numbers["its share"]) == ("city 1", "100.0%")
    assert test.missing == 0.5
    assert len(found["city"].labels) == TOP_VALUES
    assert found["city"].labels[0] == "city 1"


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("age", set()),
        ("gain", {"mostly zero"}),
        ("same", {"constant"}),
        ("city", {"missing", "missing differs", "imbalanced"}),
        ("sex", {"imbalanced"}),
    ],
)
def test_flags(name: str, flags: set[str], found: dict[str, FeatureView]) -> None:
    assert {word for word, _ in found[name].flags} == flags


def test_a_distance_above_its_threshold_is_marked() -> None:
    def one(kind: str, value: float) -> Any:
        shift = SimpleNamespace(feature="age", value=value, threshold=0.1, exceeded=value > 0.1)
        return SimpleNamespace(where="here", kind=kind, shift=shift)

    values = {"age": [1.0, 2.0, 3.0]}
    view = views(values, values, [one("DRIFT", 0.3), one("SKEW", 0.05)])["age"]
    assert [word for word, _ in view.flags] == ["drift"]
    assert view.distance == pytest.approx(3)
