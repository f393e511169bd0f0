"""Reads a file of labels by the rule of the model's label, and keeps it in the folder of the outcomes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from schemas.data import CsvOptions, Format, ReadOptions
from schemas.declaration import suggest_name
from schemas.features import FeatureSet
from schemas.sensitive import find_sensitive
from schemas.tables import locations
from schemas.tables.data_files import guess_format
from schemas.tables.file_kinds import detect_table_format
from schemas.tables.locations import describe_cause
from schemas.tables.readers import Terms, open_table
from schemas.tables.time_format import TimeFormat, check_format
from schemas.tables.typed_columns import Batch, Columns, Table, build_bad_rows_error, summarize_bad_rows
from schemas.tables.values import Rule, as_missing, build_label_rule, build_weight_rule
from serving.outcomes.store import LabelFile, MatchBy, describe_labels, read_label_files
from serving.request_log.shards import RequestLogError

_TERMS = Terms(
    format="--format",
    encoding="the encoding UTF-8",
    numbers="data.csv of the model's config",
    no_quotes="data.csv.quote: none in the model's config",
    unreadable="labels, keys and times are numbers or strings",
    missing_values="label.missing_values of the model's config",
    max_bad_rows="--max-bad-rows",
    declares="--label, --time, --row or --weight names",
    copies="--key names",
    for_missing="correct the row",
    for_times="correct the row, or name the format with --time-format",
)
_HASHED_BYTES = 1 << 20
# Columns of the kept file: the key, the label as its string or number, and its place in the source.
SCHEMA_FIELDS = (("key", pa.string()), ("time", pa.int64()), ("weight", pa.float64()), ("row", pa.int64()))


@dataclass(frozen=True)
class LabelColumns:
    """The columns of a file of labels.

    Attributes:
      key: Column of the key, or of the ID of the request.
      by: Column of the log that it belongs to.
      row: Column of the row's number in its request; None if each request has one row.
      label: Column of the label; None for its name in the table of the model.
      time: Column of the time at which the label was known; None if there is none.
      time_format: Format of the times, as a timestamp feature has it.
      weight: Column of the weights; None for the model's, if the file has it.
    """

    key: str
    by: MatchBy = "key"
    row: str | None = None
    label: str | None = None
    time: str | None = None
    time_format: str = "iso8601"
    weight: str | None = None


@dataclass(frozen=True)
class LabelReading:
    """How labels are read.

    Attributes:
      features: Declaration of the model.
      options: How the model's training table was read.
      format: Format of the file; None for that of its name or content.
      delimiter: Delimiter of CSV; None for the model's, or a tab for .tsv.
      max_bad_rows: Number of rows that may be left out because a value cannot be converted.
    """

    features: FeatureSet
    options: ReadOptions
    format: Format | None = None
    delimiter: str | None = None
    max_bad_rows: int = 0


def keep_labels(
    source: str, columns: LabelColumns, reading: LabelReading, folder: Path, report: Callable[[int], None]
) -> tuple[str, LabelFile, bool]:
    """Read a file of labels, and keep it if its content is new.

    Args:
      source: Path or URI.
      columns: Its columns.
      reading: How it is read.
      folder: Folder of the outcomes, which exists.
      report: Function that is called with the number of rows that were read, again and again.

    Returns:
      Name of the kept file, its description, and whether it is new.

    Raises:
      ConfigError: A flag does not fit.
      DataError: The file cannot be read, or more rows than allowed cannot be converted.
      RequestLogError: The labels cannot be kept.
    """
    table = _open(source, columns, reading)
    table.check_names()
    digest, modified = _identify(source, columns)
    name = f"labels-{digest}.parquet"
    temporary = folder / f".unfinished-{os.getpid()}-{name}"
    label = reading.features.label
    is_number = label.column_type == "float"
    schema = pa.schema([*SCHEMA_FIELDS, ("label", pa.float64() if is_number else pa.string())])
    described = LabelFile(
        source=source,
        modified=modified,
        by=columns.by,
        label=label.column,
        kind=label.kind,
        classes=tuple(label.classes),
        weight=table.columns.weight or "",
        model_weight=reading.features.weight or "",
        has_times=columns.time is not None,
        rows=0,
    )
    if (folder / name).is_file():
        return name, read_label_files(folder)[name], False
    try:
        rows, without_key = 0, 0
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in table.read_batches():
                kept = _build_rows(batch, columns, table.columns, schema)
                has_key = pc.is_valid(kept.column("key"))
                without_key += len(kept) - int(pc.sum(has_key).as_py() or 0)
                kept = kept.filter(has_key)
                rows += len(kept)
                writer.write_batch(kept)
                report(int(batch.rows[-1]))
            if len(table.bad_rows) > reading.max_bad_rows:
                raise build_bad_rows_error(summarize_bad_rows(table), reading.max_bad_rows, _TERMS)
            if not rows and without_key:
                raise DataError(
                    f"{source}: none of its {format_count(without_key, 'row')} has a value in column '{columns.key}'; "
                    "expected the keys of the predictions; name their column with --key"
                )
            counts = {"rows": rows, "without_key": without_key, "without_label": table.unlabelled}
            described = described.model_copy(update={**counts, "bad_rows": len(table.bad_rows)})
            writer.add_key_value_metadata(describe_labels(described))
        temporary.replace(folder / name)
    except OSError as error:
        raise RequestLogError(f"{folder}: the labels cannot be kept: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return name, described, True


def _open(source: str, columns: LabelColumns, reading: LabelReading) -> Table:
    """Return the table of the labels; its columns are checked later."""
    features = reading.features
    file_format = reading.format or guess_format(source) or detect_table_format(source)
    delimiter = reading.delimiter or ("\t" if ".tsv" in source.lower() else reading.options.csv.delimiter)
    # A header names the columns: the file is not the training table.
    csv = CsvOptions.model_validate(
        {**reading.options.csv.model_dump(), "column_names": (), "encoding": "utf-8", "delimiter": delimiter}
    )
    options = reading.options.model_copy(update={"format": file_format, "csv": csv})
    name = columns.label or features.label.column
    # A missing label is not an error: it may come later.
    rules = {name: replace(build_label_rule(features, options), column=name, required=False)}
    if columns.time is not None:
        try:
            check_format(columns.time_format)
        except ValueError as error:
            raise ConfigError(f"--time-format: {error}") from error
        rules[columns.time] = Rule(columns.time, "int", times=TimeFormat(columns.time_format))
    if columns.row is not None:
        rules[columns.row] = Rule(columns.row, "int", required=True)
    is_sensitive = features.label.column in find_sensitive(features, options)
    sensitive = (name,) if is_sensitive else ()
    reader = open_table(source, file_format, csv, terms=_TERMS, is_masked=bool(sensitive))
    names = reader.read_names()
    weight = columns.weight or (features.weight if features.weight in names else None)
    if weight is not None:
        rules[weight] = build_weight_rule(weight, options)
    if columns.key in rules:
        raise ConfigError(f"--key {columns.key}: is the column of the label, a time or a weight, too; expected the key")
    if features.label.expression is not None and columns.label is None and name not in names:
        raise ConfigError(
            f"{source}: there is no column '{name}': the model's label is computed by an expression; expected its "
            f"values; name their column with --label; {suggest_name(name, names)}"
        )
    reader.only = {*rules, columns.key}
    expected = Columns(
        rules=rules,
        label=name,
        ignored=None,
        copied=(columns.key,),
        weight=weight,
        sensitive=sensitive,
    )
    return Table(reader, expected, reading.max_bad_rows)


def _build_rows(batch: Batch, columns: LabelColumns, expected: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of a batch as they are kept; the key is null where it is missing."""
    count = len(batch.rows)
    key = as_missing(batch.copied[columns.key], ("",))
    if columns.by == "id":
        row = batch.texts.column(columns.row) if columns.row is not None else pa.repeat(pa.scalar("0"), count)
        key = pc.binary_join_element_wise(key, row, "/")
    label = expected.label
    assert label is not None
    is_number = pa.types.is_floating(schema.field("label").type)
    arrays = {
        "key": key,
        "time": batch.values.column(columns.time) if columns.time is not None else pa.nulls(count, pa.int64()),
        "weight": _as_doubles(batch, expected.weight) if expected.weight else pa.nulls(count, pa.float64()),
        "row": pa.array(batch.rows),
        "label": _as_doubles(batch, label) if is_number else batch.texts.column(label),
    }
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _as_doubles(batch: Batch, name: str) -> pa.Array:
    return batch.values.column(name).cast(pa.float64())


def _identify(source: str, columns: LabelColumns) -> tuple[str, float]:
    """Return a hash of the content and of the columns that are read, and the time of the last change."""
    digest = hashlib.sha256(repr(columns).encode())
    try:
        filesystem, path = locations.open_filesystem(source)
        for block in _read_blocks(filesystem.open_input_stream(path, compression=None)):
            digest.update(block)
        modified = filesystem.get_file_info(path).mtime
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source}: cannot be read: {describe_cause(error)}") from error
    return digest.hexdigest()[:16], modified.timestamp() if modified is not None else 0.0


def _read_blocks(stream: pa.NativeFile) -> Iterator[bytes]:
    with stream:
        while block := stream.read(_HASHED_BYTES):
            yield block
