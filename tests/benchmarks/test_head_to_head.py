"""The comparison with CatBoost: what it is given, and who is better."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from benchmarks import boosted_trees, head_to_head
from benchmarks.head_to_head import Match


@pytest.mark.parametrize(
    ("losses", "values", "is_better", "is_as_good"),
    [
        ([0.30, 0.35], [0.90, 0.90], True, True),
        ([0.39, 0.43], [0.88, 0.90], False, True),
        ([0.40, 0.40], [0.88, 0.88], False, False),
        ([], [], False, False),
    ],
)
def test_the_mean_of_the_seeds_decides(
    losses: list[float], values: list[float], is_better: bool, is_as_good: bool
) -> None:
    match = Match("a", "binary", losses=losses, values=values, catboost=(0.40, 0.90), trees=(0.41, 0.8999))
    assert (match.is_better, match.is_as_good_as_trees) == (is_better, is_as_good)


def test_a_column_is_a_number_for_catboost_if_all_its_values_are() -> None:
    assert boosted_trees._has_numbers(pa.chunked_array([["1", "-2.5e3", None]]))
    assert not boosted_trees._has_numbers(pa.chunked_array([["1", "two"]]))


def test_a_missing_number_is_nan_and_a_missing_category_an_empty_string() -> None:
    table = pa.table({"age": ["39", None], "job": ["clerk", None]})
    np.testing.assert_array_equal(boosted_trees._catboost_column(table, "age", False).to_numpy(), [39, np.nan])
    assert boosted_trees._catboost_column(table, "job", True).to_pylist() == ["clerk", ""]
    assert boosted_trees._catboost_column(table, "absent", True).to_pylist() == ["", ""]
    assert np.isnan(boosted_trees._catboost_column(table, "absent", False).to_numpy()).all()


def test_kept_results_are_resumed(tmp_path: Path) -> None:
    match = Match("hmda", "binary", 2_000, 400, 13, [0.2, 0.4], [0.8, 0.9], (0.35, 0.8), (0.36, 0.8), (60.0, 3.0))
    (tmp_path / "hmda.json").write_text(json.dumps(asdict(match)))
    done = CliRunner().invoke(head_to_head.main, ["--only", "hmda", "--keep", str(tmp_path), "--resume"])
    assert done.exit_code == 0, done.output
    assert "better than CatBoost on 1 of 1" in done.output
    assert "0.857" in done.output


def test_an_unknown_table_is_named() -> None:
    done = CliRunner().invoke(head_to_head.main, ["--only", "nothing"])
    assert (done.exit_code, "found nothing" in done.output) == (2, True)
