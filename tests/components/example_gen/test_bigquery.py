"""ExampleGen of BigQuery: the same rows, splits and findings as of a Parquet file with the same table."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from cli.errors import DataError
from components.example_gen.component import (
    EQUAL_ROWS_PROPERTY,
    FINDINGS_PROPERTY,
    LABELS_PROPERTY,
    ROWS_PROPERTY,
    TableExecutor,
    build_example_gen,
)
from pipeline.config.beam_args import build_beam_args
from pipeline.config.pipeline_config import load
from schemas.data import Data
from schemas.features import FeatureSet
from schemas.tables import bigquery
from tests.bigquery_fixtures import PROJECT, Warehouse
from tests.conftest import CENSUS_CONFIG, census_rows

FEATURES = load(CENSUS_CONFIG).feature_set
TAKEN_SPLITS: dict[str, Any] = {
    "young": {"source": "train", "column": "age", "below": 25},
    "eval": {"source": "train", "fraction": 0.2},
}
SETTINGS = {"missing_values": ["", "?"], "ignored_columns": ["fnlwgt"]}


def census_table(rows: int) -> pa.Table:
    """Return census rows with the types that BigQuery finds in them."""
    header, *values = census_rows("train", rows)
    columns = dict(zip(header, map(list, zip(*values, strict=True)), strict=True))
    return pa.table({name: _to_typed(column) for name, column in columns.items()})


def _to_typed(column: list[str]) -> pa.Array:
    strings = pa.array(column)
    try:
        return strings.cast(pa.int64())
    except pa.ArrowInvalid:
        return strings


def run(folder: Path, data: dict[str, Any], features: FeatureSet = FEATURES, workers: int = 1) -> Any:
    """Run the executor; return its artifact."""
    component = build_example_gen(
        data=Data.model_validate({**SETTINGS, **data}), features=features, code_fingerprint="", files_are_here=False
    )
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    config = load(CENSUS_CONFIG, ["beam.running_mode=multi_threading", f"beam.workers={workers}"])
    TableExecutor(TableExecutor.Context(beam_pipeline_args=build_beam_args(config))).Do(
        {}, {"examples": [examples]}, component.exec_properties
    )
    return examples


def run_bigquery(folder: Path, splits: dict[str, Any], **arguments: Any) -> Any:
    return run(folder, {"format": "bigquery", "bigquery": {"project": PROJECT}, "splits": splits}, **arguments)


def read_records(examples: Any) -> dict[str, list[bytes]]:
    """Return the records of each split, shard by shard."""
    records = {}
    for split in sorted(Path(examples.uri).glob("Split-*")):
        files = sorted(map(str, split.glob("*.gz")))
        records[split.name] = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    return records


def get_properties(examples: Any) -> list[str]:
    """Return what ExampleGen writes on its artifact, but names of contents, which depend on the order of rows."""
    names = (ROWS_PROPERTY, LABELS_PROPERTY, FINDINGS_PROPERTY, EQUAL_ROWS_PROPERTY)
    return [examples.get_string_custom_property(name) for name in names]


@pytest.mark.parametrize(
    ("source", "rows"), [({"table": "shop.census"}, 300), ({"query": "SELECT * FROM shop.census"}, 4000)]
)
def test_a_table_of_bigquery_gives_the_rows_and_splits_of_the_same_file(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, str], rows: int
) -> None:
    path = warehouse.write("census", census_table(rows))
    data = {"format": "parquet", "base": str(path.parent), "splits": {"train": {"files": path.name}, **TAKEN_SPLITS}}
    of_file = run(tmp_path / "file", data)
    # In several streams.
    monkeypatch.setattr(bigquery, "PIECE_BYTES", path.stat().st_size // 3)
    splits = {"train": source, **TAKEN_SPLITS}
    of_table, by_workers = (run_bigquery(tmp_path / str(workers), splits, workers=workers) for workers in (1, 3))
    assert len([*(tmp_path / "1" / "Split-train").iterdir()]) > 2
    records = read_records(of_table)
    assert records == read_records(by_workers)
    assert {name: sorted(split) for name, split in records.items()} == {
        name: sorted(split) for name, split in read_records(of_file).items()
    }
    assert get_properties(of_table) == get_properties(of_file)
    counts = json.loads(of_table.get_string_custom_property(ROWS_PROPERTY))
    assert (sum(counts.values()), min(counts.values()) > 20) == (rows, True)


def test_the_typed_checks_are_those_of_files(warehouse: Warehouse, tmp_path: Path) -> None:
    table = pa.table({"x": ["1", "old", "3"], "y": ["0", "1", None], "z": [[1], [2], [3]], "n": [1, 2, 3]})
    warehouse.write("rows", table)
    splits = {"train": {"table": "shop.rows"}, "eval": {"source": "train", "fraction": 0.3}}
    features = FeatureSet.model_validate(
        {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
    )

    def fail(ignored: list[str], **data: Any) -> str:
        defaults = {
            "format": "bigquery",
            "bigquery": {"project": PROJECT},
            "splits": splits,
            "ignored_columns": ignored,
        }
        with pytest.raises(DataError) as error:
            run(tmp_path / "out", {**defaults, **data}, features=features)
        return str(error.value)

    assert fail(["z"]).startswith("my-project.shop.rows: column 'n' is not declared; declare it under features, or ")
    by_z = {"z": {"source": "train", "column": "z", "values": ["1"]}}
    assert fail(["n"], splits={**splits, **by_z}).startswith(
        "my-project.shop.rows: column 'z' has type ARRAY<INTEGER>; "
    )
    lines = fail(["z", "n"]).splitlines()
    assert [line.partition(", found")[0] for line in lines] == [
        "my-project.shop.rows: x: expected a finite number",
        "my-project.shop.rows: y: the label is missing; correct or remove the row, or set label.drop_missing: true",
    ]
    warehouse.write("rows", table.slice(0, 0))
    assert fail(["z", "n"]) == "my-project.shop.rows: holds no rows"


class _States:
    def __init__(self) -> None:
        self.states: list[str] = []

    def on_node_start(self, node_id: str) -> None:
        pass

    def on_node_end(self, result: Any) -> None:
        self.states.append(result.state)


def test_an_unchanged_table_is_reused_and_a_changed_one_is_read(warehouse: Warehouse, tmp_path: Path) -> None:
    from pipeline.database.sqlite import SQLiteFile
    from pipeline.run import dag_runner

    warehouse.write("census", census_table(300))
    data = {
        "format": "bigquery",
        "bigquery": {"project": PROJECT},
        "splits": {"train": {"table": "shop.census"}, **TAKEN_SPLITS},
    }
    (tmp_path / "artifacts").mkdir()
    states = _States()

    def run_node(number: int) -> None:
        pipeline = Pipeline(
            pipeline_name="p",
            pipeline_root=str(tmp_path / "artifacts"),
            components=[
                build_example_gen(
                    data=Data.model_validate({**SETTINGS, **data}), features=FEATURES, code_fingerprint=""
                )
            ],
            enable_cache=True,
            beam_pipeline_args=build_beam_args(load(CENSUS_CONFIG)),
        )
        dag_runner.run(pipeline, SQLiteFile(tmp_path / "metadata.sqlite"), run_id=str(number), observer=states)

    run_node(1)
    run_node(2)
    warehouse.write("census", census_table(299))
    run_node(3)
    assert states.states == [dag_runner.COMPLETE, dag_runner.CACHED, dag_runner.COMPLETE]
