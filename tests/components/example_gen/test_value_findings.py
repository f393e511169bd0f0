"""Findings in the values of rows, by the message that a user reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.example_gen.value_findings import find_unfit_values
from components.policy import Anomaly
from schemas.data import Data
from schemas.features import FeatureSet
from schemas.tables.precision import DistinctSample, TableCounts
from schemas.tables.typed_columns import Columns, Table

NUMBER: dict[str, Any] = {"x": {"kind": "numeric", "missing": "mean"}}
IDENTITY: dict[str, Any] = {"x": {"kind": "identity", "num_ids": 4, "missing": 0}}


def count_values(path: Path, values: list[str], features: dict[str, Any], **label: Any) -> TableCounts:
    """Count the values of a file with a column `x` and a label, as ExampleGen does for a piece."""
    path.write_text("x,y\n" + "".join(f"{value},{n % 2}\n" for n, value in enumerate(values)))
    feature_set = FeatureSet.model_validate(
        {"features": features, "label": label or {"column": "y", "positive": "1", "negative": "0"}}
    )
    data = Data.model_validate(
        {"base": ".", "splits": {"train": {"files": "*"}, "eval": {"source": "train", "fraction": 0.5}}}
    )
    table = Table.of(str(path), data, feature_set, max_bad_rows=0)
    counts = TableCounts(Columns.from_config(data, feature_set))
    for batch in table.batches():
        in_eval = batch.rows % 4 == 0
        counts.add(batch, {"train": ~in_eval, "eval": in_eval})
    counts.locate(table.reader)
    return TableCounts.from_json(counts.columns, json.loads(json.dumps(counts.as_json())))


def find_anomalies(path: Path, values: list[str], features: dict[str, Any] = NUMBER, **label: Any) -> list[Anomaly]:
    return find_unfit_values(count_values(path, values, features, **label))


@pytest.mark.parametrize("fill", ["9.969209968386869e+36", "1e20", "-1e30", "-999999", "1e6"])
def test_a_fill_value_of_many_decades_is_named_with_its_rows(tmp_path: Path, fill: str) -> None:
    path = tmp_path / "a.csv"
    values = [f"{value:.4f}" for value in np.random.default_rng(1).random(300)]
    values[14] = values[200] = fill
    (anomaly,) = find_anomalies(path, values)
    assert (anomaly.where, anomaly.feature, anomaly.kind) == ("data", "x", "EXTREME_VALUES")
    assert anomaly.text == (
        "2 of 300 values are many decades from the others, which are below 1 in magnitude: "
        f"{fill} ({path}:16), {fill} ({path}:202); if they stand for missing values, name their text in "
        "features.x.missing_values, otherwise correct the rows"
    )


@pytest.mark.parametrize("seed", range(5))
def test_honest_columns_have_no_extreme_values(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = {
        "incomes": random.lognormal(10, 1, 3000),
        "wide log-normal": random.lognormal(0, 3, 3000),
        "populations": random.pareto(1, 3000) * 1000,
        "capital_gain": np.where(random.random(3000) < 0.92, 0, random.choice([99999, 15024, 594, 114], 3000)),
        "uniform": random.random(3000),
        "rounding errors": np.where(random.random(3000) < 0.7, 1e-17, random.random(3000)),
        "codes of missing ages": np.where(random.random(3000) < 0.01, 999, random.integers(18, 90, 3000)),
        "microfarads": random.lognormal(-16, 1, 3000),
    }
    for name, values in columns.items():
        kinds = [anomaly.kind for anomaly in find_anomalies(tmp_path / "a.csv", [repr(float(v)) for v in values])]
        assert "EXTREME_VALUES" not in kinds, name


def test_a_label_of_numbers_is_looked_at_too(tmp_path: Path) -> None:
    counts = count_values(
        tmp_path / "a.csv", ["1"] * 50, {"x": {"kind": "hash", "num_ids": 9}}, kind="regression", column="y"
    )
    assert find_unfit_values(counts) == []
    labels = tmp_path / "a.csv"
    labels.write_text("x,y\n" + "a,1.5\n" * 50 + "a,1e30\n")
    features = FeatureSet.model_validate(
        {"features": {"x": {"kind": "hash", "num_ids": 9}}, "label": {"kind": "regression", "column": "y"}}
    )
    data = Data.model_validate(
        {"base": ".", "splits": {"train": {"files": "*"}, "eval": {"source": "train", "fraction": 0.5}}}
    )
    again = TableCounts(counts.columns)
    table = Table.of(str(labels), data, features, max_bad_rows=0)
    for batch in table.batches():
        again.add(batch, {"train": np.ones(len(batch.rows), dtype=bool)})
    again.locate(table.reader)
    (anomaly,) = find_unfit_values(again)
    assert (
        anomaly.kind == "EXTREME_VALUES"
        and anomaly.feature == "y"
        and "name their text in label.missing_values" in anomaly.text
    )
    assert f"1e30 ({labels}:52)" in anomaly.text


def test_whole_numbers_that_float32_takes_for_one_are_counted(tmp_path: Path) -> None:
    # 216 codes of eleven digits, 100 apart; float32 has steps of 4,096 there.
    codes = [str(36_061_000_100 + 100 * n) for n in range(216)]
    (anomaly,) = find_anomalies(tmp_path / "a.csv", codes * 3)
    distinct = len({np.float32(int(code)) for code in codes})
    assert anomaly.kind == "PRECISION_LOSS"
    assert anomaly.text == (
        f"216 different whole numbers above 16,777,216 become {distinct} in float32, such as 36061000100 and "
        "36061000200; if they are codes, declare a vocabulary or a hash, otherwise subtract a base from them"
    )


@pytest.mark.parametrize(
    ("values", "collapse"),
    [
        (["16777216", "16777217"], True),
        (["16777217.0", "16777216.00"], True),
        (["-16777216", "-16777217"], True),
        (["+16777216", " +16777217.0 "], True),
        (["3.60610001e+10", "3.60610002E10"], True),
        (["1.6777216e7", "1.67772175e7", "1e20", "1e30"], False),
        (["1e20", "100000000000000000000", "99999999999999999999999"], False),
        (["16777216", "16777218", "16777215", "-16777216"], False),
        (["123456789.25"] * 2, False),
        (["9007199254740993", "9007199254740992"], True),
        (["1234567890123456789", "1234567890123456788"], True),
        (["20240101", "20240102", "20240103"], False),
        (["20240102", "20240103", "20240104"], True),
    ],
)
def test_digits_are_compared_as_they_are_written(tmp_path: Path, values: list[str], collapse: bool) -> None:
    kinds = [anomaly.kind for anomaly in find_anomalies(tmp_path / "a.csv", values)]
    assert ("PRECISION_LOSS" in kinds) is collapse


def test_a_column_without_a_value_in_train_is_named(tmp_path: Path) -> None:
    # Row n of the file is in eval if n is divisible by 4: the third value is in row 4.
    values = ["1" if n % 4 == 2 else "" for n in range(40)]
    (anomaly,) = find_anomalies(tmp_path / "a.csv", values)
    assert (anomaly.where, anomaly.kind) == ("train", "NO_VALUES_IN_TRAIN")
    assert anomaly.text.startswith("x has no value in train, ")
    assert find_anomalies(tmp_path / "a.csv", [*values, "2"]) == []
    words = {"x": {"kind": "vocabulary", "max_size": 3, "missing": "none"}}
    assert [anomaly.kind for anomaly in find_anomalies(tmp_path / "a.csv", values, words)] == ["NO_VALUES_IN_TRAIN"]


def test_ids_out_of_range_are_counted_by_split(tmp_path: Path) -> None:
    values = ["0", "3", "4", "-1", "", "2", "9223372036854775807", "1"]
    train, eval_ = find_anomalies(tmp_path / "a.csv", values, IDENTITY)
    assert (train.where, train.kind, eval_.where) == ("train", "ID_OUT_OF_RANGE", "eval")
    assert train.text.startswith("1 of 5 ids are outside of [0, 4), such as -1, and would be clipped into it; ")
    assert eval_.text.startswith("2 of 2 ids are outside of [0, 4), such as 4, ")


def test_texts_that_are_cut_are_counted_by_split(tmp_path: Path) -> None:
    text = {"x": {"kind": "text", "max_tokens": 3, "word_ngrams": 2}}
    train, eval_ = find_anomalies(tmp_path / "a.csv", ["a b", "a b c", "a b c d", "", "a", "b c d", "b", "c"], text)
    assert (train.where, train.kind, eval_.where) == ("train", "TEXT_CUT", "eval")
    assert train.text.startswith("2 of 5 texts have more than 3 tokens; the model reads the first; raise ")
    assert eval_.text.startswith("1 of 2 texts ")


def test_derived_features_without_a_value_are_named(tmp_path: Path) -> None:
    values = ["1", "0", "2", "3", "0", "4", "0", "0"]
    derived = {"kind": "numeric", "missing": "mean"}
    features = {
        **NUMBER,
        "never": {**derived, "expression": "x / (x - x)"},
        "often": {**derived, "expression": "1 / x"},
    }
    (never,) = find_anomalies(tmp_path / "a.csv", values, features)
    assert (never.where, never.feature, never.kind) == ("train", "never", "NO_VALUES_IN_TRAIN")
    assert never.text.startswith("never = x / (x - x) is defined in 0 of 6 rows of train; ")
    _, rarely = find_anomalies(tmp_path / "a.csv", ["0", "0", *values[2:]], features)
    assert (rarely.feature, rarely.kind) == ("often", "MOSTLY_UNDEFINED")
    assert rarely.text.startswith("often = 1 / x is defined in 2 of 6 rows of train; ")


def test_pieces_add_up_to_what_one_file_has(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = ["16777216", *(str(16_777_218 + 2 * int(n)) for n in random.integers(0, 10**6, 4000))]
    values += ["", "1e30", "16777217"]
    whole = count_values(tmp_path / "a.csv", values, NUMBER)
    parts = TableCounts(whole.columns)
    for start in range(0, len(values), 1000):
        parts.merge(count_values(tmp_path / f"{start}.csv", values[start : start + 1000], NUMBER))
    assert parts.rows == {"train": whole.rows["train"], "eval": whole.rows["eval"]}
    assert parts.present == whole.present
    assert parts.numbers["x"].exponents.tolist() == whole.numbers["x"].exponents.tolist()
    assert parts.numbers["x"].whole.values.tolist() == whole.numbers["x"].whole.values.tolist()
    texts = [[anomaly.text for anomaly in find_unfit_values(counts)] for counts in (whole, parts)]
    assert [len(lines) for lines in texts] == [2, 2]
    assert texts[1][1].split(", such")[0] == texts[0][1].split(", such")[0]


def test_a_file_of_fill_values_alone_is_named_beside_the_others(tmp_path: Path) -> None:
    counts = count_values(tmp_path / "a.csv", [str(n) for n in range(1, 100)], NUMBER)
    counts.merge(count_values(tmp_path / "b.csv", ["1e20", "1e20"], NUMBER))
    (anomaly,) = find_unfit_values(counts)
    assert (
        f"2 of 101 values are many decades from the others, which are below 128 in magnitude: 1e20 ({tmp_path}/b.csv), "
        in anomaly.text
    )


def test_the_number_of_different_values_is_estimated_in_bounded_memory() -> None:
    sample = DistinctSample()
    for start in range(0, 200_000, 10_000):
        sample.merge(DistinctSample(0, np.arange(start, start + 20_000)))
    assert len(sample.values) <= 4096
    assert sample.size == pytest.approx(210_000, rel=0.06)
