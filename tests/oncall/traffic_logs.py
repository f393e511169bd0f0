"""A run root whose champion was trained on census, and request logs of its traffic."""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import statistics_pb2

from benchmarks.traffic import Traffic, read_traffic, sample_rows
from serving.request_log.shards import ERROR, ID, KEY, LOG_FIELDS, ROW, TIME, VERSION, ShardDescription, write_shard
from tests.oncall.run_roots import NAME, Artifacts, Runs

HOUR = datetime.timedelta(hours=1)


@functools.cache
def census() -> Traffic:
    """Return the training data and the test rows of configs/census.yaml."""
    return read_traffic("census")


def rows_of_test(count: int, seed: int = 0) -> pa.Table:
    """Return rows of census' test split."""
    return sample_rows(census(), count, np.random.default_rng(seed))


def replace(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """Return rows with other values of a column."""
    return rows.set_column(rows.column_names.index(name), name, values)


def train(made: Artifacts) -> None:
    """Give a run the statistics of census' training data."""
    statistics = statistics_pb2.DatasetFeatureStatisticsList(datasets=[census().train])
    folder = Path(made["StatisticsGen"]["statistics"].uri) / "Split-train"
    (folder / "FeatureStats.pb").write_bytes(statistics.SerializeToString())


def set_log(runs: Runs, run_id: str, log: Path, **section: Any) -> None:
    """Give a run's config a section `monitoring`."""
    file = runs.root.locate_record(run_id)
    values = json.loads(file.read_text())
    values["config"]["monitoring"] = {"request_log": str(log), **section}
    file.write_text(json.dumps(values))


def write_log(
    folder: Path,
    rows: pa.Table,
    *,
    name: str = "1",
    ago: datetime.timedelta = HOUR,
    version: int = 1,
    errors: Sequence[str] = (),
    would_answer: int | None = None,
    outputs: Mapping[str, Any] | None = None,
    **description: Any,
) -> Path:
    """Write a shard of predicted rows, and of rejected requests, and return its folder."""
    folder.mkdir(exist_ok=True)
    count, rejected = rows.num_rows, len(errors)
    start = datetime.datetime.now(datetime.UTC) - ago
    log = {
        TIME: [start + datetime.timedelta(milliseconds=number) for number in range(count + rejected)],
        ID: [f"id-{number}" for number in range(count + rejected)],
        ROW: [0] * (count + rejected),
        KEY: [None] * (count + rejected),
        VERSION: [*[version] * count, *[would_answer] * rejected],
        ERROR: [*[None] * count, *errors],
    }
    table = pa.table(log, schema=pa.schema(LOG_FIELDS))
    values = {name: rows.column(name).combine_chunks() for name in rows.column_names}
    values |= {f"_prediction_{name}": pa.array(column) for name, column in (outputs or {}).items()}
    for column, array in values.items():
        table = table.append_column(column, pa.concat_arrays([array, pa.nulls(rejected, array.type)]))
    shard = ShardDescription(**{"model": NAME, "sample": 0.1, **description})
    write_shard(folder / f"requests-{name}.parquet", table, shard)
    return folder
