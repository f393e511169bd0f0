"""Tables of predictions for blocks of rows, and their serialization."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from cli.errors import ConfigError, DataError, PushError
from schemas.features import MISSING, FeatureSet, escape_name
from schemas.tables.typed_columns import Batch
from serving.batch.job import OutputFormat
from serving.batch.model_loader import predict_columns

if TYPE_CHECKING:
    from serving.model.predictor import Predictor

# The columns of a row's place in the input.
PLACE = ("file", "row")
MODEL_VERSION = "model_version"
# Rows in one call of the model.
_BATCH_ROWS = 8_192
_FEATURE_PREFIX, _KEY_PREFIX = "feature:", "key:"


def split_into_blocks(batches: Iterator[Batch], rows: int) -> Iterator[pa.Table]:
    """Yield the good rows of a file in blocks of equal size, but for the last one."""
    waiting: list[pa.Table] = []
    for batch in batches:
        waiting.append(_build_block(batch))
        while sum(table.num_rows for table in waiting) >= rows:
            together = pa.concat_tables(waiting)
            yield together.slice(0, rows)
            waiting = [together.slice(rows)]
    rest = pa.concat_tables(waiting) if waiting else None
    if rest is not None and rest.num_rows:
        yield rest


def _build_block(batch: Batch) -> pa.Table:
    """Return a batch's values, row numbers and copied strings under distinct names."""
    values = {f"{_FEATURE_PREFIX}{name}": batch.values.column(name) for name in batch.values.schema.names}
    copied = {f"{_KEY_PREFIX}{name}": column for name, column in batch.copied.items()}
    return pa.table({**values, **copied, "row": pa.array(batch.rows)})


def predict_block(
    block: pa.Table, path: str, keys: Sequence[str], predictor: "Predictor", features: FeatureSet
) -> pa.Table:
    """Return a block's places, keys and predictions.

    Args:
      block: block of `split_into_blocks`.
      path: path of the file of the rows.
      keys: the copied columns.
      predictor: the model.
      features: declaration of the model.

    Returns:
      `file`, `row`, the keys, each output of the model, and `model_version` unless that is an output.

    Raises:
      ConfigError: a key and an output have the same name.
      PushError: the model fails, or returns another number of rows.
      DataError: a prediction is not finite; names the row.
    """
    starts = range(0, block.num_rows, _BATCH_ROWS)
    batches = [predict_columns(predictor, _build_inputs(block.slice(start, _BATCH_ROWS), features)) for start in starts]
    # Sorted, since TensorFlow's order differs between processes.
    outputs = {name: np.concatenate([outputs[name] for outputs in batches]) for name in sorted(batches[0])}
    columns = {"file": _repeat(path, block.num_rows), "row": block.column("row")}
    columns |= {name: block.column(f"{_KEY_PREFIX}{name}") for name in keys}
    for name, values in outputs.items():
        if name in columns:
            raise ConfigError(f"--key {name}: the model has an output of this name; rename the column of the input")
        if values.shape[:1] != (block.num_rows,):
            shape = list(values.shape)
            raise PushError(
                f"the model's output '{name}' has shape {shape} for {block.num_rows} rows; expected a row each"
            )
        _check_finite(name, values, block, path)
        columns[name] = _convert_output(values)
    if MODEL_VERSION not in columns:
        columns[MODEL_VERSION] = _repeat(predictor.version, block.num_rows)
    return pa.table(columns)


def _check_finite(name: str, values: NDArray[Any], block: pa.Table, path: str) -> None:
    if values.dtype.kind != "f":
        return
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        row = block.column("row")[int(np.argmin(finite))].as_py()
        raise DataError(
            f"{path}: row {row}: the model's {name} is not a finite number, nor is it in {int((~finite).sum()) - 1:,} "
            "more rows of this part; correct the numbers of these rows, or remove them"
        )


def _build_inputs(block: pa.Table, features: FeatureSet) -> dict[str, NDArray[Any]]:
    """Return raw values by the model's input names, [batch] each; `MISSING` has the missing ones."""
    kinds = features.column_types
    return {
        escape_name(name): pc.fill_null(block.column(f"{_FEATURE_PREFIX}{name}"), MISSING[kinds[name]]).to_numpy()
        for name in features.raw_features
    }


def _repeat(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), rows)


def _convert_output(values: NDArray[Any]) -> pa.Array:
    """Return an output of shape [batch] as it is, of more dimensions as a list for each row."""
    flat = pa.array(values.reshape(-1))
    if pa.types.is_binary(flat.type):
        flat = flat.cast(pa.string())
    if values.ndim == 1:
        return flat
    width = int(np.prod(values.shape[1:]))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32) * width), flat)


def serialize(table: pa.Table, output_format: OutputFormat) -> bytes:
    """Return a whole file of a format."""
    file = io.BytesIO()
    match output_format:
        case "parquet":
            pyarrow.parquet.write_table(table, file)
        case "csv":
            pyarrow.csv.write_csv(_flatten_lists(table), file)
        case "jsonl":
            _write_json_lines(table, file)
        case _:
            assert_never(output_format)
    return file.getvalue()


def _flatten_lists(table: pa.Table) -> pa.Table:
    """Return a table with lists as JSON strings, since CSV has no lists."""
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [json.dumps(values) for values in _to_json_values(table.column(index))]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def _write_json_lines(table: pa.Table, file: io.BytesIO) -> None:
    columns = [_to_json_values(column) for column in table.columns]
    for row in zip(*columns, strict=True):
        line = dict(zip(table.schema.names, row, strict=True))
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _to_json_values(column: pa.ChunkedArray) -> list[Any]:
    """Return values for JSON; a float32 has no more digits than it needs."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(array.type):
        ends: Mapping[int, Any] = array.offsets.to_pylist()
        flat = _to_json_values(array.values)
        return [flat[ends[row] : ends[row + 1]] for row in range(len(array))]
    if pa.types.is_floating(array.type):
        return list(array.cast(pa.string()).cast(pa.float64()).to_pylist())
    return list(array.to_pylist())
