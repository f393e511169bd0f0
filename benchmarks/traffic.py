"""False alarms about live traffic, and the rows until a planted shift is noticed: `python -m benchmarks.traffic`.

A window is a sample of rows of `test`, each of them once. It is written as a request log and judged beside the
statistics of `train`, as `python -m oncall traffic` judges it. The built-in configs here are those whose test rows are
a random sample. Those of flights.yaml are of another season, and alarms would be right.
"""

import datetime
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table as PrintedTable
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.table_statistics import TableStatistics
from pipeline.config import pipeline_config
from pipeline.config.monitoring import Monitoring
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.traffic.judgement import FeatureTraffic, judge_window, list_findings
from pipeline.traffic.window import TrafficColumns, read_window
from schemas.curated.schema_file import load_schema
from schemas.data import TRAIN_SPLIT, FileSplit
from schemas.features import ColumnType
from schemas.tables.typed_columns import Table
from serving.request_log.shards import (
    ERROR,
    ID,
    KEY,
    LOG_FIELDS,
    ROW,
    TIME,
    VERSION,
    ShardDescription,
    list_shards,
    write_shard,
)

CONFIGS = ("census", "income_kdd")
WINDOW_ROWS, WINDOWS = 5_000, 200
# Numbers of rows after which a window is judged.
STEPS = (200, 300, 500, 700, 1_000)
_VERSION = 1
_NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Traffic:
    """The training data of a config, and rows that clients might send.

    Attributes:
      config: Config of the pipeline.
      columns: Input columns.
      train: Statistics of the training data.
      schema: Schema with the thresholds of the gate.
      rows: Rows of the test split.
    """

    config: PipelineConfig
    columns: TrafficColumns
    train: statistics_pb2.DatasetFeatureStatistics
    schema: schema_pb2.Schema
    rows: pa.Table


def read_traffic(name: str) -> Traffic:
    """Return the training data and the test rows of a built-in config."""
    config = pipeline_config.load(_ROOT / "configs" / f"{name}.yaml")
    features = config.feature_set
    types: dict[str, ColumnType] = {column: feature.column_type for column, feature in features.raw_features.items()}
    columns = TrafficColumns(
        types, features.list_delimiters, config.gate_policy.drift.excluded, config.sensitive_columns
    )
    train = TableStatistics(types, delimiters=features.list_delimiters, uncounted=columns.uncounted)
    for batch in _read_split(config, TRAIN_SPLIT):
        train.add(batch)
    schema = schema_pb2.Schema()
    if config.data.schema_file is not None:
        schema = load_schema(config.data.schema_file)
    rows = pa.Table.from_batches(_read_split(config, config.evaluation.split)).select([*types])
    return Traffic(config, columns, train.build(), schema, rows)


def _read_split(config: PipelineConfig, split: str) -> Iterator[pa.RecordBatch]:
    files = config.data.splits[split]
    assert isinstance(files, FileSplit)
    path = str(Path(config.data.base) / files.pattern)
    for batch in Table.from_config(path, config.data, config.feature_set, max_bad_rows=0).read_batches():
        yield batch.values


def judge_rows(traffic: Traffic, rows: pa.Table, folder: Path) -> list[FeatureTraffic]:
    """Return the judgement of rows, written as a request log and read as `oncall traffic` reads it."""
    count = rows.num_rows
    log = {
        TIME: [_NOW - datetime.timedelta(minutes=5)] * count,
        ID: [str(number) for number in range(count)],
        ROW: [0] * count,
        KEY: [None] * count,
        VERSION: [_VERSION] * count,
        ERROR: [None] * count,
    }
    table = pa.table(log, schema=pa.schema(LOG_FIELDS))
    for name in rows.column_names:
        table = table.append_column(name, rows.column(name))
    write_shard(
        folder / "requests-1.parquet", table, ShardDescription(model=traffic.config.push.model_name, sample=1.0)
    )
    shards = list_shards(folder)
    since = _NOW - datetime.timedelta(hours=1)
    window = read_window(shards, traffic.columns, _VERSION, since=since, until=_NOW)
    return judge_window(
        traffic.train,
        window.inputs,
        schema=traffic.schema,
        drift=traffic.config.gate_policy.drift,
        monitoring=Monitoring(),
    )


def sample_rows(traffic: Traffic, count: int, random: np.random.Generator) -> pa.Table:
    """Return rows of the test split, none of them twice."""
    return traffic.rows.take(pa.array(random.choice(traffic.rows.num_rows, size=count, replace=False)))


def count_false_alarms(traffic: Traffic, windows: int, rows: int, seed: int) -> Iterator[list[str]]:
    """Yield the findings of each window of unchanged rows."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(windows):
            features = judge_rows(traffic, sample_rows(traffic, rows, random), Path(folder))
            yield [str(finding) for finding in list_findings(features)]


def _move_number(column: pa.Array, random: np.random.Generator) -> pa.Array:
    """Move all values by a quarter of their standard deviation."""
    moved = pc.add(column.cast(pa.float64()), 0.25 * pc.stddev(column).as_py())
    return (
        moved.cast(column.type, safe=False) if pa.types.is_floating(column.type) else pc.round(moved).cast(column.type)
    )


def _change_unit(column: pa.Array, random: np.random.Generator) -> pa.Array:
    """Multiply all values by 12, as with months in place of years."""
    return pc.multiply(column, pa.scalar(12, column.type))


def _change_some_units(column: pa.Array, random: np.random.Generator) -> pa.Array:
    """Multiply the values of 2 % of the rows by 12, as with one client of many."""
    return pc.if_else(pa.array(random.random(len(column)) < 0.02), _change_unit(column, random), column)


def _add_category(column: pa.Array, random: np.random.Generator) -> pa.Array:
    """Replace the value of 2 % of the rows by one that the training data lacks."""
    return pc.if_else(pa.array(random.random(len(column)) < 0.02), pa.scalar("planted"), column)


def _rename_category(column: pa.Array, random: np.random.Generator) -> pa.Array:
    """Write the most frequent value in capital letters."""
    counts = pc.value_counts(column.drop_null()).to_pylist()
    most = max(counts, key=lambda count: count["counts"])["values"]
    return pc.if_else(pc.fill_null(pc.equal(column, most), False), pa.scalar(f"{most.upper()}!"), column)


def _remove_values(column: pa.Array, random: np.random.Generator) -> pa.Array:
    """Remove the values of 5 % of the rows."""
    return pc.if_else(pa.array(random.random(len(column)) < 0.05), pa.scalar(None, column.type), column)


Change = Callable[[pa.Array, np.random.Generator], pa.Array]
# By config: the shift, its column, and the change.
SHIFTS: Mapping[str, Mapping[str, tuple[str, Change]]] = {
    "census": {
        "number moved by 0.25 standard deviations": ("age", _move_number),
        "another unit (12 times)": ("hours_per_week", _change_unit),
        "another unit in 2 % of the rows": ("hours_per_week", _change_some_units),
        "new category in 2 % of the rows": ("education", _add_category),
        "most frequent category renamed": ("workclass", _rename_category),
        "5 % missing": ("age", _remove_values),
        "5 % more missing": ("occupation", _remove_values),
    },
    "income_kdd": {
        "number moved by 0.25 standard deviations": ("age", _move_number),
        "another unit (12 times)": ("age", _change_unit),
        "another unit in 2 % of the rows": ("age", _change_some_units),
        "new category in 2 % of the rows": ("birth_country_self", _add_category),
        "most frequent category renamed": ("education", _rename_category),
        "5 % missing": ("age", _remove_values),
        "5 % of a category missing": ("marital_status", _remove_values),
    },
}


def find_rows_needed(traffic: Traffic, column: str, change: Change, seed: int) -> int | None:
    """Return after how many rows a shift is a finding of its column; None if it is not after the last step."""
    random = np.random.default_rng(seed)
    rows = sample_rows(traffic, STEPS[-1], random)
    values = change(rows.column(column).combine_chunks(), random)
    rows = rows.set_column(rows.column_names.index(column), column, values)
    with tempfile.TemporaryDirectory() as folder:
        for count in STEPS:
            findings = list_findings(judge_rows(traffic, rows.slice(0, count), Path(folder)))
            if any(finding.feature == column for finding in findings):
                return count
    return None


@click.command()
@click.option("--windows", type=click.IntRange(1), default=WINDOWS, show_default=True, help="Unchanged windows.")
@click.option("--rows", type=click.IntRange(1), default=WINDOW_ROWS, show_default=True, help="Rows of each of them.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="Samples of each planted shift.")
@click.option("--config", "names", multiple=True, type=click.Choice(CONFIGS), default=CONFIGS, show_default=True)
def main(windows: int, rows: int, seeds: int, names: tuple[str, ...]) -> None:
    """Print the false alarms and the rows until each planted shift is a finding.

    income_kdd needs `make data`.
    """
    console = Console(width=120)
    for name in names:
        traffic = read_traffic(name)
        alarms = [*filter(None, count_false_alarms(traffic, windows, rows, seed=0))]
        console.print(f"{name}: {len(alarms)} false alarms in {windows} windows of {rows:,} rows of test")
        for findings in alarms:
            console.print(f"  {'; '.join(findings)}")
        table = PrintedTable("shift", "column", "noticed", "rows, median", "rows, most")
        for shift, (column, change) in SHIFTS[name].items():
            counts = [find_rows_needed(traffic, column, change, seed) for seed in range(seeds)]
            noticed = sorted(count for count in counts if count is not None)
            numbers = (f"{noticed[len(noticed) // 2]:,}", f"{noticed[-1]:,}") if noticed else ("", "")
            table.add_row(shift, column, f"{len(noticed)} of {seeds}", *numbers)
        console.print(table)


if __name__ == "__main__":
    main()
