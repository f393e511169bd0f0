"""The comparison with gradient-boosted trees: what they are given, and how both are judged."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import public_tables, tables
from benchmarks.tables import TableComparison
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("metric", "product", "outcome", "verdict"),
    [
        ("auc", 0.891, "pushed", "as good"),
        ("auc", 0.889, "pushed", "behind"),
        ("accuracy", 0.889, "pushed", "as good"),
        ("r2", 0.879, "pushed", "behind"),
        ("auc", 0.95, "Evaluator: the model is not blessed", "not pushed"),
        ("auc", None, "the file holds no rows", "not pushed"),
    ],
)
def test_the_bound_depends_on_the_metric(metric: str, product: float | None, outcome: str, verdict: str) -> None:
    comparison = TableComparison("orders", "csv", metric=metric, product=product, trees=0.9, outcome=outcome)
    assert comparison.verdict == verdict


def test_every_data_set_has_its_origin() -> None:
    origins = (ROOT / "data" / "README.md").read_text()
    lists = (public_tables.TABLES, public_tables.HEAD_TO_HEAD, public_tables.DEVELOPMENT)
    files = [f"`{name}.{table.ending}`" for tables_of_list in lists for name, table in tables_of_list.items()]
    assert {file for file in files if file not in origins} == set()
    assert len(set(files)) == len(files) == 18 + 12 + 13


def test_a_running_number_is_the_first_column_where_a_file_has_one() -> None:
    frame = pd.DataFrame({"rownames": [1, 2], "x": [0.5, 1.5]})
    assert list(public_tables._add_index(frame, "none").columns) == ["x"]
    assert list(public_tables._add_index(frame, "rownames").columns) == ["rownames", "x"]
    assert list(public_tables._add_index(frame, "unnamed").columns) == ["", "x"]


def test_an_unknown_data_set_is_named() -> None:
    done = CliRunner().invoke(tables.main, ["--only", "nothing"])
    assert done.exit_code == 2
    assert "'nothing' is not one of 'penguins'" in done.output


@pytest.mark.slow
@pytest.mark.proof
def test_a_table_of_scikit_learn_beside_the_trees(tmp_path: Path) -> None:
    done = CliRunner().invoke(tables.main, ["--only", "breast_cancer", "--json", "--keep", str(tmp_path)])
    assert done.exit_code == 0, done.output
    compared = json.loads(done.stdout)
    assert (compared["outcome"], compared["verdict"], compared["used"]) == ("pushed", "as good", 30)
    assert compared["rows"] == 569
    assert min(compared["product"], compared["trees"]) > 0.97
