"""Rows of each split, counted before the run as ExampleGen will divide them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cli.errors import DataError
from components.example_gen.parts import collect_rules
from components.example_gen.split_rows import SplitRows
from pipeline.config import pipeline_config
from schemas.tables.typed_columns import Table


def count_rows(folder: Path, rows: list[dict[str, Any]], splits: dict[str, Any], **data: Any) -> dict[str, int]:
    lines = [",".join(map(str, row.values())) for row in [dict.fromkeys(rows[0]), *rows]]
    lines[0] = ",".join(rows[0])
    (folder / "a.csv").write_text("\n".join(lines) + "\n")
    document = {
        "name": "a",
        "data": {"base": ".", "splits": {"train": {"files": "a.csv"}, **splits}, **data},
        "features": {"x": {"kind": "numeric"}},
        "label": {"column": "y", "positive": "1", "negative": "0"},
        "training": {"epochs": 1, "batch_size": 64},
        "evaluation": {"split": "eval", "metrics": ["auc"], "thresholds": [{"metric": "auc", "lower_bound": 0.5}]},
        "push": {"model_name": "a"},
    }
    (folder / "a.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    loaded = pipeline_config.load(folder / "a.yaml")
    counts = SplitRows(collect_rules(loaded.data))
    table = Table.of(str(folder / "a.csv"), loaded.data, loaded.feature_set, max_bad_rows=0)
    for batch in table.batches():
        counts.add("train", table, batch)
    return counts.count_rows(list(loaded.data.splits))


SHARES = {"eval": {"source": "train", "fraction": 0.1}, "test": {"source": "train", "fraction": 0.2}}


def test_spread_copies_are_counted_exactly(tmp_path: Path) -> None:
    rows = [{"x": number % 12, "y": number % 2} for number in range(600)]
    assert count_rows(tmp_path, rows, SHARES) == {"train": 420, "eval": 60, "test": 120}


def test_rows_are_counted_by_their_hash(tmp_path: Path) -> None:
    rows = [{"x": number, "y": number % 2} for number in range(3_000)]
    counts = count_rows(tmp_path, rows, SHARES)
    assert sum(counts.values()) == 3_000
    assert counts["test"] == pytest.approx(600, abs=4 * np.sqrt(3_000 * 0.2 * 0.8))
    # The order of the rows plays no part.
    assert count_rows(tmp_path, rows[::-1], SHARES) == counts


def test_parts_are_taken_before_shares(tmp_path: Path) -> None:
    rows = [{"x": number % 5, "year": 2000 + number // 100, "y": number % 2} for number in range(1_000)]
    splits = {"eval": SHARES["eval"], "test": {"source": "train", "column": "year", "at_least": 2008}}
    assert count_rows(tmp_path, rows, splits) == {"train": 720, "eval": 80, "test": 200}


def test_a_split_without_rows_is_rejected(tmp_path: Path) -> None:
    rows = [{"x": number % 5, "year": 2000, "y": number % 2} for number in range(100)]
    splits = {"eval": SHARES["eval"], "test": {"source": "train", "column": "year", "at_least": 2008}}
    with pytest.raises(DataError, match="split 'test' would have no rows; found train 90, eval 10, test 0"):
        count_rows(tmp_path, rows, splits)


def test_groups_are_counted_as_a_whole(tmp_path: Path) -> None:
    rows = [{"x": number, "who": number // 3_000, "y": number % 2} for number in range(3_000)]
    with pytest.raises(DataError, match="would have no rows"):
        count_rows(tmp_path, rows, SHARES, group_column="who")
