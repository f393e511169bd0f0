"""Seconds and peak memory of joining late labels to logged predictions.

    python -m benchmarks.outcomes                       # 10,000,000 by 10,000,000; two minutes with making them
    python -m benchmarks.outcomes --rows 100000

The log has as many shards as a server writes: a key of 36 characters, six features, a probability. The labels are in
another order, with a time. The command runs in a process of its own, as a user starts it.
"""

import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.measuring import ROOT
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.registry import DECLARATION_FILE, READ_OPTIONS_FILE
from serving.request_log.shards import ERROR, ID, KEY, LOG_FIELDS, ROW, TIME, VERSION, ShardDescription, write_shard

_ROWS_PER_SHARD = 1_000_000
_FIRST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_LIMIT_SECONDS = 60
_FEATURES = FeatureSet.model_validate(
    {
        "features": {"age": {"kind": "numeric", "scale": "z_score"}},
        "label": {"column": "income", "positive": ">50K", "negative": "<=50K"},
    }
)


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, type=click.IntRange(1), help="Predictions, and labels.")
@click.option("--format", "file_format", default="parquet", show_default=True, type=click.Choice(["parquet", "csv"]))
@click.option("--memory", default="1GB", show_default=True, help="As `python -m serving.outcomes` takes it.")
def main(rows: int, file_format: str, memory: str) -> None:
    """Join as many labels as predictions; print the seconds and the peak memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_model(folder / "registry" / "bench" / "1")
        _write_log(folder / "log", rows)
        labels = _write_labels(folder / f"labels.{file_format}", rows)
        started = time.monotonic()
        arguments = ["--log", folder / "log", "--model", folder / "registry" / "bench", "--memory", memory, "--json"]
        command = [sys.executable, "-m", "serving.outcomes", labels, "--key", "key", "--time", "known", *arguments]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
        seconds = time.monotonic() - started
        if done.returncode:
            raise click.ClickException(done.stdout or done.stderr)
        counts = json.loads(done.stdout)["counts"]
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak, cpu_seconds = usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime
        kept = sum(path.stat().st_size for path in (folder / "log" / "outcomes").iterdir()) / 2**20
    click.echo(
        f"{counts['predictions']:,} predictions, {counts['labels']:,} labels in {file_format}, {counts['joined']:,} "
        f"joined in {seconds:.1f} s (limit {_LIMIT_SECONDS} s at 10,000,000), {cpu_seconds:.1f} s of CPU time, "
        f"peak memory {peak:,.0f} MiB with --memory {memory}, {kept:,.0f} MiB kept, {os.cpu_count()} cores"
    )


def _write_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (folder / DECLARATION_FILE).parent.mkdir()
    (folder / DECLARATION_FILE).write_text(_FEATURES.model_dump_json())
    (folder / READ_OPTIONS_FILE).write_text(ReadOptions().model_dump_json())


def _name_keys(numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> pa.Array:
    """Return keys of 36 characters, as UUIDs have."""
    texts = pa.array(numbers).cast(pa.string())
    return pa.compute.utf8_lpad(texts, 36, "0123456789abcdef"[7])


def _write_log(folder: Path, rows: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    description = ShardDescription(model="bench", sample=1.0, key="key")
    for number, first in enumerate(range(0, rows, _ROWS_PER_SHARD)):
        count = min(_ROWS_PER_SHARD, rows - first)
        numbers = np.arange(first, first + count)
        start = int(_FIRST.timestamp() * 1e6)
        log = {
            TIME: pa.array(start + numbers * 1000, pa.int64()).cast(pa.timestamp("us", "UTC")),
            ID: pa.array(numbers).cast(pa.string()),
            ROW: pa.array(np.zeros(count, np.int32)),
            KEY: _name_keys(numbers),
            VERSION: pa.array(np.full(count, 1 + number // 5)),
            ERROR: pa.nulls(count, pa.string()),
        }
        columns = {f"number_{index}": pa.array(generator.normal(size=count)) for index in range(4)}
        columns |= {f"class_{index}": pa.array(generator.integers(50, size=count).astype(str)) for index in range(2)}
        columns["_prediction_probability"] = pa.array(generator.random(count, dtype=np.float32))
        fields = [*LOG_FIELDS, *(pa.field(name, column.type) for name, column in columns.items())]
        table = pa.table([*log.values(), *columns.values()], schema=pa.schema(fields))
        write_shard(folder / f"requests-{number:05}.parquet", table, description)


def _write_labels(path: Path, rows: int) -> Path:
    generator = np.random.default_rng(1)
    order = generator.permutation(rows)
    labels = pa.array(["<=50K", ">50K"]).take(pa.array(generator.integers(2, size=rows)))
    times = pa.repeat(pa.scalar("2026-02-01T00:00:00Z"), rows)
    table = pa.table({"key": _name_keys(order), "income": labels, "known": times})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


if __name__ == "__main__":
    main()
