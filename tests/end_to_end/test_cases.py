"""`python -m pipeline init` and an unchanged run on small inputs that once failed: tests/data/cases.

Each is one sample of a kind of table. The dry runs of all of them take seconds; the whole runs are those whose outcome
a dry run does not show.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config import pipeline_config
from tests import forked
from tests.run_commands import run_written

CASES = Path(__file__).parent.parent / "data" / "cases"


@dataclass(frozen=True)
class Case:
    """The expected output of `init`.

    Attributes:
      arguments: Arguments of `init`: the data, below the folder of cases, and flags.
      label: Name of the column to predict.
      kind: Kind of label.
      features: Kind of each feature; "category" for any kind that takes strings.
      ignored: Names of columns that are left out.
      notes: Strings that the output of `init` has to hold.
    """

    arguments: tuple[str, ...]
    label: str
    kind: str
    features: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_SHOP = {"city": "category", "plan": "category", "spend": "numeric", "visits": "number"}
_CASES = {
    "lines": Case(("lines.csv",), "churn", "binary", {**_SHOP, "note": "category"}),
    "quoted": Case(("quoted.csv",), "churn", "binary", {**_SHOP, "note": "category"}),
    "fill": Case(("fill.csv",), "churn", "binary", _SHOP),
    "records": Case(("ints.tfrecord",), "churn", "binary", _SHOP),
    "one-class": Case(("oneclass_train.csv", "--test", "oneclass_test.csv"), "churn", "binary", _SHOP),
    "labels": Case(("lab_*.csv",), "churn", "binary", _SHOP, notes=("churn",)),
    "index": Case(("pandas90.csv",), "churn", "binary", _SHOP, ignored=("",)),
    "utf-16": Case(("utf16.csv",), "churn", "binary", _SHOP),
    "repeated": Case(("repeated_rows.csv",), "survived", "binary", dict.fromkeys(("class", "age", "sex"), "category")),
    "penguins": Case(("penguins.csv",), "species", "multiclass", {"bill_length_mm": "numeric", "sex": "category"}),
    "money": Case(("money_percent_date.csv",), "y", "binary", {"price": "numeric", "rate": "numeric"}),
    "classes": Case(("label_na.csv",), "continent", "multiclass", {"beer_servings": "number"}),
    "diamonds": Case(("diamonds_head.csv",), "price", "regression", dict.fromkeys(("carat", "x", "y", "z"), "numeric")),
    "lists": Case(("one_tags.parquet",), "bought", "binary", {"x": "numeric", "tags": "list"}),
    "times": Case(("one_at.parquet",), "bought", "binary", {"x": "numeric", "at": "timestamp"}),
}
_KINDS = {
    "numeric": ("numeric",),
    "number": ("numeric", "identity"),
    "category": ("vocabulary", "vocabulary_list", "hash"),
    "list": ("list",),
    "timestamp": ("timestamp",),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", _CASES)
def test_init_describes_a_table_and_its_config_passes_every_check_before_a_run(name: str, tmp_path: Path) -> None:
    case = _CASES[name]
    output = _init(case.arguments, case.label, tmp_path)
    config = pipeline_config.load(tmp_path / "configs" / "mine.yaml")
    kinds = {feature: declared.kind for feature, declared in config.features.items()}
    assert config.label.kind == case.kind
    assert {feature: kind for feature, kind in case.features.items() if kinds.get(feature) not in _KINDS[kind]} == {}
    assert set(case.ignored) <= set(config.data.ignored_columns)
    assert [note for note in case.notes if note not in output] == []
    _dry_run(tmp_path)


@pytest.mark.integration
def test_letters_of_two_bytes_are_letters_wherever_a_block_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cities = rng.choice(["Москва", "Казань", "Пермь"], 30_000)
    rows = [f"{city},{age},{'yes' if age > 40 else 'no'}" for city, age in zip(cities, range(30_000), strict=True)]
    # The first letter begins at an odd byte, so that each even byte is the middle of one.
    (tmp_path / "cities.csv").write_text("a,age,bought\n" + "\n".join(rows), encoding="utf-8")
    _init((str(tmp_path / "cities.csv"),), "bought", tmp_path)
    assert "Москва" in (tmp_path / "schemas" / "mine.pbtxt").read_text(encoding="utf-8")
    assert pipeline_config.load(tmp_path / "configs" / "mine.yaml").data.csv.encoding == "utf-8"


@pytest.mark.integration
def test_a_class_named_na_is_a_class(tmp_path: Path) -> None:
    _init(("label_na.csv",), "continent", tmp_path)
    config = yaml.safe_load((tmp_path / "configs" / "mine.yaml").read_text())
    assert "NA" in config["label"]["classes"]
    assert "drop_missing" not in config["label"]


@pytest.mark.integration
def test_a_column_without_a_value_in_train_is_left_out_or_named(tmp_path: Path) -> None:
    output = _init(("empty_train.csv", "--test", "empty_test.csv"), "churn", tmp_path)
    config = pipeline_config.load(tmp_path / "configs" / "mine.yaml")
    assert "score" in config.data.ignored_columns
    assert "score" in output


@pytest.mark.slow
@pytest.mark.proof
# Not "records": its 80 rows of test are too few to tell its weak model from a constant, which the run reports. Nor
# "labels": on its 120 rows a linear model is significantly better (log loss by 0.054 [0.011, 0.097]).
@pytest.mark.parametrize("name", ["lines", "fill", "repeated", "penguins", "money", "lists"])
def test_an_unchanged_run_pushes(name: str, tmp_path: Path) -> None:
    _init(_CASES[name].arguments, _CASES[name].label, tmp_path)
    summary = run_written(tmp_path)
    assert (summary["exit_code"], summary["error"]) == (0, None)
    assert summary["pushed"].startswith("version 1 to ")


@pytest.mark.slow
def test_a_dozen_rows_are_never_pushed(tmp_path: Path) -> None:
    _init(("tiny12.csv",), "churn", tmp_path)
    summary = run_written(tmp_path)
    assert summary["exit_code"] != 0
    assert summary["pushed"] == "nothing"
    assert "rows" in summary["error"]


@pytest.mark.slow
def test_a_test_file_of_one_class_is_named(tmp_path: Path) -> None:
    _init(_CASES["one-class"].arguments, "churn", tmp_path)
    summary = run_written(tmp_path)
    assert summary["pushed"] == "nothing"
    assert "test" in summary["error"]
    assert "yes" in summary["error"]


def _init(arguments: tuple[str, ...], label: str, folder: Path) -> str:
    """Run `init` in a folder on copies of the cases and return what it prints."""
    for path in CASES.iterdir():
        shutil.copy(path, folder)
    done = forked.run("pipeline", "init", *arguments, "--label", label, "--name", "mine", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _dry_run(folder: Path) -> None:
    config, root = str(folder / "configs" / "mine.yaml"), str(folder / "run")
    done = forked.run("local_runner.py", "--config", config, "--run-root", root, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
