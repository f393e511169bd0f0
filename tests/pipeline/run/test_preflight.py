"""Findings of preflight in the values of the files, before anything runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from cli.errors import DataError
from pipeline.config import pipeline_config
from pipeline.run import preflight
from pipeline.run.run_root import RunRoot
from schemas.tables import bigquery
from tests.bigquery_fixtures import PROJECT, Warehouse

FEATURES: dict[str, Any] = {
    "spend": {"kind": "numeric"},
    "score": {"kind": "numeric", "missing": "mean"},
    "tract": {"kind": "numeric"},
    "rank": {"kind": "identity", "num_ids": 4},
}


def check(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], **sections: Any) -> list[str]:
    """Return the warnings of preflight."""
    for name, rows in (("train", train), ("test", test)):
        lines = [",".join(train[0]), *(",".join(map(str, row.values())) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    document = {
        "name": "values",
        "data": {
            "base": ".",
            "splits": {
                "train": {"files": "train.csv"},
                "eval": {"source": "train", "fraction": 0.1},
                "test": {"files": "test.csv"},
            },
        },
        "features": FEATURES,
        "label": {"column": "y", "positive": "1", "negative": "0"},
        "training": {"epochs": 1, "batch_size": 64},
        "evaluation": {"split": "test", "metrics": ["auc"], "thresholds": [{"metric": "auc", "lower_bound": 0.5}]},
        "push": {"model_name": "values"},
        **sections,
    }
    (folder / "a.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return preflight.check(pipeline_config.load(folder / "a.yaml"), RunRoot(folder / "run")).warnings


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


def test_weights_that_let_nothing_count_stop_before_the_run(tmp_path: Path) -> None:
    splits = {
        "train": {"files": "train.csv"},
        "eval": {"source": "train", "fraction": 0.1},
        "test": {"files": "test.csv"},
    }
    data = {"base": ".", "splits": splits, "weight_column": "w"}
    train, test = ([{"w": 1, **row} for row in rows(count, count)] for count in (100, 30))
    assert check(tmp_path, train, test, data=data) == []
    with pytest.raises(DataError, match="split 'test': all weights are 0"):
        check(tmp_path, train, [{**row, "w": 0} for row in test], data=data)
    with pytest.raises(DataError, match="split 'train': all weights of rows with the label '1' are 0"):
        check(tmp_path, [{**row, "w": 1 - row["y"]} for row in train], test, data=data)


def many_rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    """Return rows with other columns before the label."""
    return [
        {**row, "rank": 0, **{name: values[n] for name, values in columns.items()}, "y": row["y"]}
        for n, row in enumerate(rows(count, 1))
    ]


def test_a_label_of_one_value_is_named_and_no_leak(tmp_path: Path) -> None:
    train, test = rows(300, 1), rows(30, 2)
    for row in [*train, *test]:
        row["y"] = 1
    with pytest.raises(DataError, match="label 'y': no row has the value '0'; there is only '1'"):
        check(tmp_path, train, test)


def test_a_sum_that_gives_the_label_away_stops(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    casual, registered = random.poisson(30, 300), random.poisson(90, 300)
    train = many_rows(300, casual=casual, registered=registered)
    train = [{**row, "y": row["casual"] + row["registered"]} for row in train]
    numbers = {name: {"kind": "numeric"} for name in ("casual", "registered")}
    sections: dict[str, Any] = {
        "features": {**FEATURES, **numbers},
        "label": {"kind": "regression", "column": "y"},
        "evaluation": {"split": "test", "thresholds": [{"metric": "rmse", "upper_bound": 1}]},
    }
    with pytest.raises(DataError) as error:
        check(tmp_path, train, train[:30], **sections)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["registered", "casual"]
    assert all(
        "is part of 'registered' + 'casual', which explains 100.0% of the label 'y': are all known when a prediction "
        "is asked for? If not, name one of them, or all, in data.ignored_columns [LABEL_LEAK]" in line
        for line in lines
    )
    severities = {"severities": [{"anomaly": "LABEL_LEAK", "features": [*numbers], "severity": "ignore"}]}
    assert check(tmp_path, train, train[:30], validation=severities, **sections) == []


def test_a_feature_that_tells_the_label_stops(tmp_path: Path) -> None:
    train = many_rows(300, copy=["yes" if n % 2 else "no" for n in range(300)])
    features = {**FEATURES, "copy": {"kind": "vocabulary", "max_size": 10}}
    with pytest.raises(DataError, match=r"data: copy: explains 9\d\.\d% of the label 'y' by itself: .* \[LABEL_LEAK\]"):
        check(tmp_path, train, train[:30], features=features)
    # Of fewer rows it is not evidence.
    check(tmp_path, train[:150], train[:30], features=features)


@pytest.mark.parametrize(
    ("values", "kind", "is_stopped", "text"),
    [
        ([f"{n % 28 + 1}-Mar-2023" for n in range(300)], "hash", True, "is a date ('1-Mar-2023'); as a category"),
        ([f"{2000 + n // 12}-{n % 12 + 1:02}" for n in range(300)], "hash", True, "is a month of a year ('2000-01')"),
        ([f"2013-01-{n % 28 + 1:02} 05:00:00.000Z" for n in range(300)], "hash", True, "is a date and time ("),
        ([1_380_000_000 + 86_400 * n for n in range(300)], "hash", True, "is a time in seconds since 1970 ("),
        ([1_380_000_000 + 86_400 * n for n in range(300)], "numeric", False, "is a time in seconds since 1970 ("),
        (
            [20_130_101 + n // 2 % 28 for n in range(300)],
            "numeric",
            False,
            "is a date ('20130101'); as a number it is above",
        ),
        ([f"{n % 24}:{n % 60:02}" for n in range(300)], "hash", False, ""),
        ([n // 30 + 2000 for n in range(300)], "numeric", False, ""),
    ],
)
def test_dates_among_the_features(values: Any, kind: str, is_stopped: bool, text: str, tmp_path: Path) -> None:
    train = many_rows(300, when=values)
    features = {**FEATURES, "when": {"kind": kind, **({"num_ids": 50} if kind == "hash" else {})}}
    if is_stopped:
        with pytest.raises(DataError) as error:
            check(tmp_path, train, train[:30], features=features)
        assert f"data: when: {text}" in str(error.value) and "[DATE_AS_CATEGORY]" in str(error.value)
        return
    warnings = [
        warning
        for warning in check(tmp_path, train, train[:30], features=features)
        if "since" in warning or "date" in warning
    ]
    assert [text in warning and "[DATE_AS_NUMBER]" in warning for warning in warnings] == ([True] if text else [])


def test_rows_of_bigquery_are_checked_and_a_dry_run_reports_that_it_cannot_reach_it(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = [{**row, "y": n // 4 % 2} for n, row in enumerate(rows(200, 0))]
    for name in ("train", "test"):
        warehouse.write(name, pa.Table.from_pylist(train))
    data = {
        "format": "bigquery",
        "bigquery": {"project": PROJECT},
        "splits": {
            "train": {"table": "shop.train"},
            "eval": {"source": "train", "fraction": 0.1},
            "test": {"query": "SELECT * FROM shop.test WHERE rank < 2"},
        },
    }
    assert check(tmp_path, train, train, data=data) == []
    warehouse.write("test", pa.Table.from_pylist([{**row, "y": 2} for row in train]))
    with pytest.raises(
        DataError, match=r"_results\..* \(data\.splits\.test\.query\): y: expected '0' or '1', found '2'"
    ):
        check(tmp_path, train, train, data=data)
    monkeypatch.setenv(bigquery.REST_EMULATOR, "http://127.0.0.1:1")
    monkeypatch.setattr(bigquery, "_RETRY_SECONDS", 0.1)
    with pytest.raises(DataError, match="data.splits.train.table: BigQuery cannot be reached: "):
        check(tmp_path, train, train, data=data)
    config = pipeline_config.load(tmp_path / "a.yaml")
    findings = preflight.check(config, RunRoot(tmp_path / "run"), needs_rows=False)
    ((label, text),) = findings.format_lines()
    assert label == "unchecked"
    assert text.startswith("the rows: data.splits.train.table: BigQuery cannot be reached: ")


def mark_features(**names: Any) -> dict[str, Any]:
    """Return the features, those of these names with more keys."""
    return {name: {**feature, **names.get(name, {})} for name, feature in FEATURES.items()}


def test_findings_in_sensitive_columns_have_counts_and_places_and_no_values(tmp_path: Path) -> None:
    train, test = rows(100, 1), rows(30, 2)
    train[7]["spend"] = "9.96921e+36"
    for n, row in enumerate(train):
        row["tract"] = 36_061_000_100 + 100 * (n % 8)
    test[3]["rank"] = -777
    sensitive = mark_features(**{name: {"sensitive": True} for name in FEATURES})
    extreme, collapsed, outside = check(tmp_path, train, test, features=sensitive)
    assert extreme.startswith(
        "data: spend: 1 of 130 values are many decades from the others, which are below <masked> "
    )
    assert f": <masked> ({tmp_path}/train.csv:9); if they" in extreme
    assert collapsed.startswith(
        "data: tract: 8 different whole numbers above 16,777,216 become 1 in float32, such as <"
    )
    assert outside.startswith("test: rank: 1 of 30 ids are outside of [0, 4), such as <masked>, and would be clipped")
    assert not any(value in line for line in (extreme, collapsed, outside) for value in ("9.96", "36061", "-777"))


def test_a_sensitive_date_and_a_sensitive_label_are_not_shown(tmp_path: Path) -> None:
    train, test = ([{**row, "tract": 1_700_000_000 + 86_400 * n} for n, row in enumerate(rows(60, 1))] for _ in "ab")
    sensitive = mark_features(tract={"sensitive": True})
    (date, *_) = check(tmp_path, train, test, features=sensitive)
    assert date.startswith("data: tract: is a ") and "(<masked>); as a number" in date
    label = {"kind": "regression", "column": "y", "sensitive": True}
    regression = {"split": "test", "metrics": ["rmse"], "thresholds": [{"metric": "rmse", "upper_bound": 5}]}
    for values, text in (((654, 987), "<masked>"), ((987, 987), "found <masked>")):
        both = [[{**row, "y": values[n % 2]} for n, row in enumerate(rows(60, seed))] for seed in (1, 2)]
        try:
            check(tmp_path, *both, label=label, evaluation=regression)
            lines = preflight.check(pipeline_config.load(tmp_path / "a.yaml"), RunRoot(tmp_path / "run")).format_lines()
            printed = str(dict(lines)["label"])
        except DataError as error:
            printed = str(error)
        assert text in printed and "987" not in printed


def test_a_feature_past_its_date_is_a_warning_unless_the_policy_says_otherwise(tmp_path: Path) -> None:
    features = mark_features(
        spend={"expires": "2020-01-31", "owner": "a@b.org"},
        score={"expires": "2020-02-01"},
        rank={"expires": "9999-12-31"},
    )
    train, test = rows(100, 1), rows(30, 2)
    spend, score = check(tmp_path, train, test, features=features)
    assert spend == (
        "config: spend: expired on 2020-01-31 (owner: a@b.org); remove the feature and name the column in "
        "data.ignored_columns, or set a later date under features.spend.expires [FEATURE_EXPIRED]"
    )
    assert "score: expired on 2020-02-01 (owner: none);" in score
    ignored = {"severities": [{"anomaly": "FEATURE_EXPIRED", "features": ["score"], "severity": "ignore"}]}
    assert check(tmp_path, train, test, features=features, validation=ignored) == [spend]
    stopped = {"severities": [{"anomaly": "FEATURE_EXPIRED", "severity": "stop"}]}
    with pytest.raises(DataError, match="spend: expired on 2020-01-31"):
        check(tmp_path, train, test, features=features, validation=stopped)
