"""Logged predictions with labels are the next span of the training data, with the features as they were served."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.__main__ import main
from pipeline.config import pipeline_config
from schemas.tables.data_files import resolve_inputs
from schemas.tables.typed_columns import Table
from serving.request_log.shards import ShardDescription
from tests.serving.outcomes.logs import FEATURES, build_rows, join_labels, write_labels, write_log, write_model

CONFIG: dict[str, Any] = {
    "name": "census",
    "data": {
        "format": "parquet",
        "base": "data",
        "splits": {"train": {"files": "span-{SPAN:3}/*.parquet"}, "eval": {"source": "train", "fraction": 0.2}},
        "missing_values": ["", "unknown"],
    },
    "features": FEATURES.model_dump(mode="json", exclude_defaults=True)["features"],
    "label": {"column": "income", "positive": ">50K", "negative": "<=50K"},
    "training": {"epochs": 1},
    "evaluation": {"split": "eval"},
    "push": {"model_name": "census-income"},
}


def write_config(folder: Path, **data: Any) -> Path:
    config = {**CONFIG, "data": {**CONFIG["data"], **data}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def write_span(folder: Path, *arguments: object) -> Result:
    line = ["span", "--config", folder / "config.yaml", "--log", folder / "log", *arguments]
    return CliRunner().invoke(main, [str(argument) for argument in line])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path)
    write_config(tmp_path)
    write_log(tmp_path, "1", build_rows(["a", "b", "c"], columns={"city": pa.array(["Rome", None, "Oslo"])}))
    join_labels(tmp_path, write_labels(tmp_path / "one.csv", "person,income", "a,>50K", "b,<=50K"))
    return tmp_path


def test_example_gen_reads_the_features_as_they_were_served(folder: Path) -> None:
    (folder / "data" / "span-007").mkdir(parents=True)
    (folder / "data" / "span-007" / "old.parquet").touch()
    result = write_span(folder)
    assert result.exit_code == 0, result.stderr
    path = folder / "data" / "span-008" / "outcomes.parquet"
    assert result.stdout == f"{path}: 2 rows, predicted 2026-11-02 to 2026-11-02\n"
    config = pipeline_config.load(folder / "config.yaml")
    (split,) = resolve_inputs(config.data)
    assert (split.files, split.span) == ((str(path),), 8)
    table = Table.from_config(str(path), config.data, config.feature_set, max_bad_rows=0)
    rows = pa.Table.from_batches([batch.values for batch in table.read_batches()]).sort_by("age").to_pylist()
    assert rows == [
        {"age": 20.0, "job": None, "income": b">50K"},
        {"age": 21.0, "job": b"clerk", "income": b"<=50K"},
    ]


def test_a_prediction_is_in_one_span(folder: Path) -> None:
    assert write_span(folder).exit_code == 0
    result = write_span(folder)
    assert result.exit_code == 3
    assert "has no new predictions with a label in this time; earlier spans have 2" in result.stderr
    join_labels(folder, write_labels(folder / "two.csv", "person,income", "c,>50K", "a,<=50K"))
    document = json.loads(write_span(folder, "--json").stdout)
    assert (document["rows"], document["written_before"]) == (1, 2)
    assert document["path"] == str(folder / "data" / "span-002" / "outcomes.parquet")
    assert pq.read_table(document["path"]).to_pydict() == {"age": [22.0], "job": [None], "income": [">50K"]}


def test_a_window_of_time_and_a_name_may_be_given(folder: Path) -> None:
    target = folder / "mine.parquet"
    result = write_span(folder, "--since", "2026-11-02T01:00", "--until", "2026-11-03", "--output", target)
    assert result.exit_code == 0, result.stderr
    assert pq.read_table(target).column("age").to_pylist() == [21.0]
    result = write_span(folder, "--output", target)
    message = "exists already; it is never overwritten. Name another file with --output"
    assert (result.exit_code, message in result.stderr) == (2, True)
    result = write_span(folder, "--since", "soon")
    assert (result.exit_code, "--since soon: is not a date or time" in result.stderr) == (2, True)


def test_the_key_may_be_the_group(folder: Path) -> None:
    write_config(folder, group_column="person")
    assert write_span(folder).exit_code == 0
    table = pq.read_table(folder / "data" / "span-001" / "outcomes.parquet").sort_by("age")
    assert table.column("person").to_pylist() == ["a", "b"]


def test_a_masked_column_and_one_that_is_not_logged_are_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    write_config(tmp_path)
    rows = build_rows(["a"]).drop_columns(["job"])
    write_log(tmp_path, "1", rows, ShardDescription(model="census-income", sample=1.0, masked=("job",)))
    join_labels(tmp_path, write_labels(tmp_path / "one.csv", "person,income", "a,>50K"))
    result = write_span(tmp_path)
    assert result.exit_code == 3
    assert result.stderr.endswith(
        "requests-1.parquet: column 'job' is sensitive and was not logged; the next span of the training data needs "
        "it; log it with --log-sensitive; name the time from which it was logged with --since\n"
    )
    assert not (tmp_path / "data").exists()
    write_log(tmp_path, "1", rows)
    join_labels(tmp_path, write_labels(tmp_path / "two.csv", "person,income", "a,<=50K"))
    result = write_span(tmp_path)
    assert (result.exit_code, "has no column 'job'; the next span of" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("data", "arguments", "code", "message"),
    [
        ({"format": "csv"}, (), 2, "data.format: csv: the rows of a request log are written as Parquet"),
        ({"weight_column": "pay"}, (), 2, "data.weight_column: the joined labels have no weights"),
        ({}, ("--split", "evil"), 2, "--split evil: is not a split that is read"),
        (
            {"splits": {**CONFIG["data"]["splits"], "train": {"files": "*/*.parquet"}}},
            (),
            3,
            "leaves the name of a new",
        ),
    ],
)
def test_a_config_that_no_span_can_be_for_is_named(
    folder: Path, data: dict[str, Any], arguments: tuple[str, ...], code: int, message: str
) -> None:
    write_config(folder, **data)
    result = write_span(folder, *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert not (folder / "data").exists()


def test_a_log_without_labels_is_named(tmp_path: Path) -> None:
    write_config(tmp_path)
    result = write_span(tmp_path)
    assert (result.exit_code, "there is no such folder" in result.stderr) == (3, True)
    write_log(tmp_path, "1", build_rows(["a"]))
    result = write_span(tmp_path)
    assert (result.exit_code, "no labels were joined yet" in result.stderr) == (3, True)


def test_the_log_is_that_of_the_config(folder: Path) -> None:
    command = ["span", "--config", str(folder / "config.yaml")]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, "--log: is missing" in result.stderr) == (2, True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "monitoring": {"request_log": "log"}}))
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, "2 rows" in result.stdout) == (0, True), result.stderr
