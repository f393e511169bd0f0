"""`python -m pipeline init`: what it chooses, refuses and writes; tests/end_to_end/test_init.py runs the results."""

import csv
import gzip
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.init.source import derive_name
from schemas.curated.schema_file import check_schema, load_schema
from schemas.features import BinaryLabel, MulticlassLabel, RegressionLabel
from schemas.tables.typed_columns import Table
from tests import forked
from tests.commands import parse_command
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

ROWS = 600


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run("pipeline", "init", *arguments, folder=folder)


def load_and_check(folder: Path, name: str) -> PipelineConfig:
    """Return the config that was written, held against the schema that was written."""
    loaded = pipeline_config.load(folder / "configs" / f"{name}.yaml")
    assert loaded.data.schema_file is not None
    check_schema(loaded.data.schema_file, load_schema(loaded.data.schema_file), loaded.feature_set)
    return loaded


def orders(seed: int = 1) -> list[dict[str, Any]]:
    """Return a made-up shop: every kind of column that init tells apart, with awkward names."""
    source = random.Random(seed)
    rows = []
    for number in range(ROWS):
        price = source.lognormvariate(3, 1)
        city = f"city {source.randrange(30)}"
        returned = source.random() < (0.8 if price > 40 else 0.1)
        rows.append(
            {
                "order id": f"O-{number:06d}",
                "class": source.choice(["gold", "silver", "bronze"]),
                "größe": source.choice(["S", "M", "L", ""]),
                "unit.price": f"{price:.2f}",
                "items": source.randrange(1, 9),
                "discount": source.choice([0, 0, 0, 5.5, 10]),
                "day": f"2024-{source.randrange(1, 13):02d}-{source.randrange(1, 29):02d}",
                "shop": "main",
                "refund": "yes" if returned else "no",
                "ship to city": city,
                "ship-to-city": city,
                "weight": source.choice(["NA", f"{source.uniform(1, 9):.3f}"]),
                "True": source.choice(["y", "n"]),
                "returned?": "returned" if returned else "kept",
            }
        )
    return rows


def write(path: Path, rows: Sequence[dict[str, Any]], delimiter: str = ",", *, header: bool = True) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        if header:
            writer.writeheader()
        writer.writerows(rows)


def test_every_kind_of_column_is_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv", orders())
    done = init(tmp_path, "orders.csv", "--label", "returned?")
    assert (done.returncode, done.stderr) == (0, "")
    assert "note: 'refund' explains" in done.stdout
    loaded = load_and_check(tmp_path, "orders")
    kinds = {name: feature.kind for name, feature in loaded.features.items()}
    assert kinds == {
        "class": "vocabulary",
        "day": "timestamp",
        "größe": "vocabulary",
        "unit.price": "numeric",
        "items": "numeric",
        "discount": "numeric",
        "ship to city": "vocabulary",
        "weight": "numeric",
        "True": "vocabulary_list",
    }
    assert set(loaded.data.ignored_columns) == {"order id", "shop", "refund", "ship-to-city"}
    assert loaded.features["größe"].missing == "unknown"
    assert loaded.features["weight"].missing == "mean"
    assert loaded.data.missing_values == ("", "NA")
    assert loaded.label == BinaryLabel(column="returned?", positive="returned", negative="kept")
    lines = (tmp_path / "configs" / "orders.yaml").read_text().splitlines()
    for name, why in [
        ("order id", "id: 600 different values"),
        ("shop", "constant: always 'main'"),
        ("refund", "LEAK? explains"),
        ("ship-to-city", "would have the name of 'ship to city'"),
    ]:
        (line,) = [line for line in lines if line.strip().startswith((f"- {name} #", f"- '{name}' #"))]
        assert why in line
    # Every feature has its reason beside it.
    assert all("# " in line for line in lines if "kind: " in line and not line.startswith("#"))


def test_ids_and_codes_by_their_names_and_texts_among_numbers(tmp_path: Path) -> None:
    rows = orders()
    for number, row in enumerate(rows):
        row |= {"customerId": number // 4, "zip": 10000 + number % 40, "paid": f"{number % 97}.5", "size": number % 50}
    for row in rows[:3]:
        row["size"] = "big"
    for row in rows[100:120]:
        row["size"] = "NA"
    write(tmp_path / "orders.csv", rows)
    done = init(tmp_path, "orders.csv", "--label", "returned?")
    assert "note: 3 rows with a string among numbers will be left out" in done.stdout
    loaded = load_and_check(tmp_path, "orders")
    assert loaded.features["customerId"].kind == "vocabulary"
    assert loaded.features["zip"].kind == "vocabulary"
    assert loaded.features["paid"].kind == "numeric"
    assert loaded.features["size"].kind == "numeric"
    assert (loaded.data.max_bad_rows, loaded.data.missing_values) == (3, ("", "NA"))


def test_numbers_that_float32_collapses_are_codes_only_where_they_repeat(tmp_path: Path) -> None:
    rows = orders()
    for number, row in enumerate(rows):
        row["tract"] = 36_061_000_100 + 100 * (number % 216)
        row["account"] = 36_061_000_100 + number
        # Rounded to thousands: each is a number of its own in float32.
        row["turnover"] = 350_000_000 + 1000 * (number % 90)
    write(tmp_path / "orders.csv", rows)
    init(tmp_path, "orders.csv", "--label", "refund")
    features = load_and_check(tmp_path, "orders").features
    assert features["tract"].kind == "vocabulary" and features["tract"].embedding == 16
    assert features["turnover"].kind == "numeric"
    # An ID of its own in each row teaches nothing.
    assert "account" not in features
    text = (tmp_path / "configs" / "orders.yaml").read_text()
    assert "216 codes (as numbers, float32 would take 36061000100 for 36061000200)" in text


def test_the_label_decides_on_the_kind_of_model(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv", orders())
    for label, kind, metric in [("unit.price", RegressionLabel, "r2"), ("class", MulticlassLabel, "accuracy")]:
        assert init(tmp_path, "orders.csv", "--label", label, "--name", "a", "--force").returncode == 0
        loaded = load_and_check(tmp_path, "a")
        assert isinstance(loaded.label, kind)
        assert [bound.metric for bound in loaded.evaluation.change_thresholds] == [metric]
        # The constant predictor is a bound of every run; what more is enough, the user knows.
        assert loaded.evaluation.thresholds == ()


def test_rows_without_a_label_and_of_rare_classes_are_left_out_and_said(tmp_path: Path) -> None:
    rows = orders()
    for row in rows[:7]:
        row["class"] = "platinum"
    for row in rows[7:17]:
        row["class"] = ""
    write(tmp_path / "orders.csv", rows)
    done = init(tmp_path, "orders.csv", "--label", "class")
    assert "note: 7 rows of rare classes will be left out" in done.stdout
    loaded = load_and_check(tmp_path, "orders")
    assert isinstance(loaded.label, MulticlassLabel)
    assert set(loaded.label.classes) == {"gold", "silver", "bronze"}
    assert loaded.label.drop_missing
    assert loaded.data.max_bad_rows == 7


def test_files_without_a_header_and_with_other_delimiters(tmp_path: Path) -> None:
    write(tmp_path / "orders.txt", orders(), ";", header=False)
    done = init(tmp_path, "orders.txt", "--label", "column_14")
    assert done.returncode == 3
    assert "if the first row is not a header, add --no-header or --column-names" in done.stderr
    done = init(tmp_path, "orders.txt", "--label", "column_14", "--no-header")
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load_and_check(tmp_path, "orders")
    assert loaded.data.csv.delimiter == ";"
    assert loaded.data.csv.column_names == tuple(f"column_{number}" for number in range(1, 15))


def test_spaces_after_commas_and_latin_1_and_gzip(tmp_path: Path) -> None:
    write(tmp_path / "plain.csv", orders())
    text = (tmp_path / "plain.csv").read_text(encoding="utf-8").replace(",", ", ")
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress(text.encode("latin-1")))
    done = init(tmp_path, "orders.csv.gz", "--label", "returned?")
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load_and_check(tmp_path, "orders")
    assert (loaded.data.csv.encoding, loaded.data.csv.strip_spaces) == ("latin-1", True)
    assert "größe" in loaded.features


def test_parquet_and_a_test_file_of_its_own(tmp_path: Path) -> None:
    for name, seed in (("train", 1), ("test", 2)):
        pyarrow.parquet.write_table(pa.Table.from_pylist(orders(seed)), tmp_path / f"{name}.parquet")
    done = init(tmp_path, "train.parquet", "--test", "test.parquet", "--label", "returned?", "--name", "orders")
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load_and_check(tmp_path, "orders")
    assert loaded.data.format == "parquet"
    assert set(loaded.data.splits) == {"train", "eval", "test"}


def test_distinct_rows_are_counted_by_the_features(tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        # The number of a row is an id, no feature; 1 and 1.0 are one number.
        size = f"{number % 4}.0" if number % 8 > 3 else number % 4
        return {"id": f"r{number}", "size": size, "city": "ab"[number % 3 == 0], "paid": "yn"[number % 5 == 0]}

    write(tmp_path / "a.csv", [row(number) for number in range(1200)])
    done = init(tmp_path, "a.csv", "--label", "paid")
    spread = "; fewer than 1,000, so equal rows are spread over the shares"
    assert f"rows: 1,200, of which 8 are distinct{spread}\n" in done.stdout
    write(tmp_path / "b.csv", [{**row(number), "size": number / 8} for number in range(1200)])
    assert "rows: 1,200, of which 1,200 are distinct\n" in init(tmp_path, "b.csv", "--label", "paid").stdout


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    lines = [",".join(map(str, row.values())) for row in orders()]
    names = ["", "class", "", *list(orders()[0])[3:]]
    (tmp_path / "orders.csv").write_text("\n".join([",".join(names), *lines]) + "\n", encoding="utf-8")
    done = init(tmp_path, "orders.csv", "--label", "returned?")
    assert (done.returncode, done.stderr) == (0, "")
    assert "note: '' holds 2 columns without a name: left out" in done.stdout
    data = load_and_check(tmp_path, "orders").data
    assert "" in data.ignored_columns
    # The run reads the file, too.
    loaded = load_and_check(tmp_path, "orders")
    rows = sum(
        len(b.rows) for b in Table.of(str(tmp_path / "orders.csv"), data, loaded.feature_set, max_bad_rows=0).batches()
    )
    assert rows == ROWS


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv", orders())
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "orders.yaml").write_text("mine")
    done = init(tmp_path, "orders.csv", "--label", "returned?")
    assert done.returncode == 2
    assert done.stderr.startswith("error: configs/orders.yaml: exists; add --force to overwrite it")
    assert (tmp_path / "configs" / "orders.yaml").read_text() == "mine"
    assert not (tmp_path / "schemas").exists()


@pytest.mark.parametrize(
    ("content", "label", "code", "message"),
    [
        ("a,b\n1,2\n", "c", 2, "--label c: the data has no such column; expected one of: a, b"),
        ("a,b\n1,2\n3,2\n", "b", 3, "--label b: all values are '2'; there is nothing to learn"),
        ("", "a", 3, "orders.csv: holds no rows"),
        ("a,a\n1,2\n", "a", 3, "the header names 'a' twice"),
        (
            "a,b\n" + "".join(f"{i},text {i}\n" for i in range(200)),
            "b",
            3,
            "holds different strings, 200 in 200 rows; expected two values",
        ),
        ("a,b\n1,x\n1,y\n", "b", 3, "no column can be a feature: a: constant: always '1'"),
    ],
)
def test_data_that_cannot_be_described(content: str, label: str, code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(content)
    done = init(tmp_path, "orders.csv", "--label", label)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "configs").exists()


def test_a_name_that_no_pipeline_can_have(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv", orders())
    done = init(tmp_path, "orders.csv", "--label", "returned?", "--name", "My Orders")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--name My Orders: expected lower-case letters, digits and hyphens, as in my-orders" in done.stderr
    assert not (tmp_path / "configs").exists()


def test_a_missing_file(tmp_path: Path) -> None:
    done = init(tmp_path, "nowhere/orders.csv", "--label", "a")
    assert done.returncode == 3
    assert "nowhere/orders.csv: no such file" in done.stderr


def test_names_of_pipelines() -> None:
    assert derive_name("data/My Orders 2024.csv.gz") == "my-orders-2024"
    assert derive_name("data/orders/*.parquet") == "orders"
    assert derive_name("/x/größe.csv") == "gr-e"


def test_a_file_of_the_literal_name_goes_before_the_pattern_and_the_next_command_is_quoted(tmp_path: Path) -> None:
    odd = "a [b] c#d%20é?*"
    folder = tmp_path / odd
    (folder / f"data {odd}").mkdir(parents=True)
    # What the name matches as a pattern is other data.
    write(folder / f"data {odd}" / "a b c#d%20éx1.csv", [{"x": 1, "refund": 0}] * 40)
    write(folder / f"data {odd}" / f"{odd}.csv", orders())
    done = init(folder, f"data {odd}/{odd}.csv", "--label", "returned?", "--output", f"{odd}.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    loaded = pipeline_config.load(folder / f"{odd}.yaml")
    assert (loaded.name, loaded.data.base) == ("a-b-c-d-20", str(folder / f"data {odd}"))
    assert "unit.price" in loaded.features
    command = parse_command(done.stdout.splitlines()[-1].removeprefix("next: "))
    assert (command["program"], command["config_file"]) == (str(ROOT / "local_runner.py"), f"{odd}.yaml")
    for pattern in (f"data {odd}/a b*.csv", f"data {odd}/a b c#d%20éx1.csv"):
        done = init(folder, pattern, "--label", "refund", "--name", "other", "--force")
        # The other data is of one class: it was read.
        assert "label refund: all values are '0'" in done.stderr


def test_names_and_categories_of_any_characters(tmp_path: Path) -> None:
    source = random.Random(3)
    names = ["a\nb", "c # d", "x: y", "{z}", " - w", "y\nz"]
    choices = [
        ["p\nq", "r"],
        ["# k", "- m"],
        ["1 kg", "2\t kg"],
        ["{", "}", "[a"],
        ["\r", "'", '"'],
        ["no\nway", "yes: #"],
    ]
    rows = [{n: source.choice(some) for n, some in zip(names, choices, strict=True)} for _ in range(300)]
    write(tmp_path / "orders.csv", rows)
    done = init(tmp_path, "orders.csv", "--label", "y\nz")
    assert (done.returncode, done.stderr) == (0, "")
    assert "label: y\\nz, binary: " in done.stdout
    loaded = load_and_check(tmp_path, "orders")
    assert [*loaded.features] == names[:-1]
    assert loaded.label == BinaryLabel(column="y\nz", positive="yes: #", negative="no\nway")
