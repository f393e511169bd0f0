"""Small request logs, models that only declare their label, and the command that joins labels."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from click.testing import CliRunner, Result

from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.outcomes.__main__ import main
from serving.registry import DECLARATION_FILE, READ_OPTIONS_FILE
from serving.request_log.shards import (
    ERROR,
    ID,
    KEY,
    LOG_FIELDS,
    ROW,
    TIME,
    VERSION,
    ShardDescription,
    write_shard,
)

START = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)  # A Monday.
FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "age": {"kind": "numeric", "scale": "z_score"},
            "job": {"kind": "vocabulary", "max_size": 9, "missing": "?"},
        },
        "label": {"column": "income", "positive": ">50K", "negative": "<=50K"},
    }
)
DESCRIPTION = ShardDescription(model="census-income", sample=1.0, key="person")


def write_model(folder: Path, features: FeatureSet = FEATURES) -> Path:
    """Write what a command reads that only needs the declarations of version 1 of the model census-income."""
    version = folder / "registry" / "census-income" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    (version / DECLARATION_FILE).parent.mkdir()
    (version / DECLARATION_FILE).write_text(features.model_dump_json())
    (version / READ_OPTIONS_FILE).write_text(ReadOptions().model_dump_json())
    return version


def build_rows(
    keys: Sequence[str | None],
    *,
    start: datetime.datetime = START,
    version: int = 1,
    columns: Mapping[str, Any] | None = None,
    log: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Return a row an hour: the log's columns, two features and a probability, replaced by `log` and `columns`."""
    count = len(keys)
    values: dict[str, Any] = {
        TIME: [start + datetime.timedelta(hours=number) for number in range(count)],
        ID: [f"{version}-{start:%d}-{number}" for number in range(count)],
        ROW: [0] * count,
        KEY: keys,
        VERSION: [version] * count,
        ERROR: [None] * count,
        **(log or {}),
    }
    arrays = [pa.array(values[field.name], field.type) for field in LOG_FIELDS]
    inputs = {
        "age": pa.array(range(20, 20 + count), pa.float64()),
        "job": pa.array(["clerk" if number % 2 else None for number in range(count)]),
        "_prediction_probability": pa.array([number / count for number in range(count)], pa.float32()),
        **(columns or {}),
    }
    fields = [*LOG_FIELDS, *(pa.field(name, array.type) for name, array in inputs.items())]
    return pa.table([*arrays, *inputs.values()], schema=pa.schema(fields))


def write_log(folder: Path, name: str, rows: pa.Table, description: ShardDescription = DESCRIPTION) -> Path:
    """Write a shard; return the folder of the log."""
    log = folder / "log"
    log.mkdir(exist_ok=True)
    write_shard(log / f"requests-{name}.parquet", rows, description)
    return log


def write_labels(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def join(folder: Path, *arguments: object) -> Result:
    """Call the command on the log of a folder."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--log", str(folder / "log")])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def join_labels(folder: Path, source: Path, *arguments: object) -> Any:
    """Join a file by the column `person`; return the document."""
    model = folder / "registry" / "census-income" / "1"
    key = () if "--key" in arguments else ("--key", "person")
    result = join(folder, source, *key, "--model", model, "--json", *arguments)
    return json.loads(result.stdout)
