"""The first rows of a slice of the evaluated split, without the values of sensitive columns."""

import gzip
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from cli.errors import ConfigError, DataError
from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from oncall.runs import get_record
from oncall.web.run_inputs import find_inputs
from oncall.web.thresholds import parse_slice
from pipeline.config.pipeline_config import PipelineConfig
from schemas.sensitive import MASK
from schemas.slices import OVERALL

MAX_ROWS = 50
_BATCH_ROWS = 1024
# Length and checksum before a record, checksum after it: https://www.tensorflow.org/tutorials/load_data/tfrecord
_HEAD, _TAIL_BYTES = struct.Struct("<QI"), 4
_MAX_RECORD_BYTES = 1 << 28


@dataclass(frozen=True)
class SliceRows:
    """Rows of a slice.

    Attributes:
      run: run.
      slice: name of the slice.
      split: split that was evaluated.
      columns: columns, the label first.
      rows: texts by row and column.
      masked: columns whose values are masked.
      is_all: whether these are all rows of the slice.
    """

    run: Run
    slice: str
    split: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    masked: Sequence[str]
    is_all: bool


def read_slice_rows(store: LocalRunStore, run_name: str, slice_name: str) -> SliceRows:
    """Return the first rows of a slice.

    Raises:
      ConfigError: there is no such run or slice.
      DataError: the rows cannot be read, or it is not known which columns are sensitive.
    """
    run = store.find_run(run_name)
    config = _read_config(get_record(store, run).config, run.run_id)
    evaluation = config.evaluation
    values = parse_slice(slice_name, evaluation.slice_by)
    if values is None:
        slices = [" x ".join(f"{column}=..." for column in columns) for columns in evaluation.slice_by]
        names = ", ".join([OVERALL, *slices])
        raise ConfigError(f"slice '{slice_name}': is none of run {run.run_id}; expected one of {names}")
    examples = find_inputs(store.metadata, run.run_id, "Evaluator").get("examples")
    if examples is None:
        raise DataError(f"run {run.run_id}: Evaluator has read no rows")
    files = sorted((examples.folder / f"Split-{evaluation.split}").glob("data_tfrecord-*"))
    if not files:
        raise DataError(f"{examples.folder}: has no rows of {evaluation.split}; were they deleted?")
    hidden = {*config.sensitive_columns}
    rows: list[Mapping[str, str]] = []
    for row in _select_rows(files, values):
        rows.append({name: MASK if name in hidden else value for name, value in row.items()})
        if len(rows) > MAX_ROWS:
            break
    label = config.label.column
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=lambda name: name != label)
    texts = [[row.get(name, "") for name in columns] for row in rows[:MAX_ROWS]]
    masked = [name for name in columns if name in hidden]
    return SliceRows(run, slice_name, evaluation.split, columns, texts, masked, len(rows) <= MAX_ROWS)


def _read_config(values: Mapping[str, Any], run_id: str) -> PipelineConfig:
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise DataError(
            f"run {run_id}: its config does not fit this checkout ({problem}), so its sensitive columns are not known; "
            "no row is shown"
        ) from error


def _select_rows(files: Sequence[Path], values: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the rows whose columns have these values first, as texts by column."""
    # A library in C++, which no other page needs.
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    decoder = ExamplesToRecordBatchDecoder()
    for file in files:
        for batch in _batch_records(file):
            columns = decoder.DecodeBatch(batch).to_pydict()
            for place in range(len(batch)):
                row = {name: cells[place] or [] for name, cells in columns.items()}
                if all(_to_text(row.get(name, [])[:1]) == value for name, value in values.items()):
                    yield {name: _to_text(cell) for name, cell in row.items()}


def _to_text(values: Sequence[Any]) -> str:
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else f"{value:g}" for value in values]
    return ", ".join(texts)


def _batch_records(file: Path) -> Iterator[list[bytes]]:
    opened = gzip.open if file.suffix == ".gz" else open
    batch: list[bytes] = []
    try:
        with opened(file, "rb") as stream:
            for record in _read_records(stream):  # type: ignore[arg-type]
                batch.append(record)
                if len(batch) == _BATCH_ROWS:
                    yield batch
                    batch = []
    except (OSError, EOFError, struct.error) as error:
        raise DataError(f"{file}: cannot be read as TFRecords: {error}") from error
    if batch:
        yield batch


def _read_records(stream: BinaryIO) -> Iterator[bytes]:
    while head := stream.read(_HEAD.size):
        length, _ = _HEAD.unpack(head)
        if length > _MAX_RECORD_BYTES:
            raise OSError(f"a record of {length:,} bytes")
        record = stream.read(length)
        if len(record) < length or len(stream.read(_TAIL_BYTES)) < _TAIL_BYTES:
            raise EOFError("the last record is cut off")
        yield record
