"""The decisions of a model on logged requests, beside those of the version that answered them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cli.counts import format_count
from schemas.tables.log_columns import PREDICTION_PREFIX
from serving.model.output_comparison import DEFAULT_TOLERANCE, OutputsDifferError, compare_outputs
from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.shards import (
    ERROR,
    TIME,
    VERSION,
    AbsentColumnError,
    DeletedShardError,
    RequestLogError,
    Shard,
    list_shards,
)

_BATCH_ROWS = 1024
_PURPOSE = "a replay"
_MAX_REASON_CHARS = 200

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ReplayOptions:
    """Choice of the rows of a replay, and of their slices.

    Attributes:
      rows: Maximum number of rows; the latest are taken.
      min_rows: Least number of rows that is judged.
      tolerance: Largest relative difference of a number that leaves the decision as it is.
      slice_by: Columns, or combinations of columns, whose values are slices.
      min_slice_rows: Least number of rows of a slice that is judged.
    """

    rows: int = 100_000
    min_rows: int = 100
    tolerance: float = DEFAULT_TOLERANCE
    slice_by: Sequence[Sequence[str]] = ()
    min_slice_rows: int = 100


@dataclass(frozen=True)
class SliceDecisions:
    """Decisions on the rows of a slice.

    Attributes:
      name: Name of the slice, such as `sex=Male`.
      rows: Number of its rows.
      changed: Number of those with another decision.
    """

    name: str
    rows: int
    changed: int

    @property
    def share(self) -> float:
        """Share of the rows with another decision."""
        return self.changed / self.rows


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay.

    Attributes:
      version: Version that answered the requests.
      rows: Number of rows.
      changed: Number of rows with another decision, those that were rejected among them.
      rejected: Number of rows that the model rejects.
      rejection: Reason of the first of them.
      mean_difference: Mean over the other rows of the largest difference of a score.
      largest_difference: Largest of them.
      since, until: Times of the first and the last row, as ISO 8601.
      slices: Slices with enough rows, the most changed first.
      small_slices: Number of slices with too few rows.
      tolerance: Largest relative difference that is no other decision; None if no decision is a number.
      reason: Reason why nothing is judged; empty if the rows are enough.
    """

    version: int | None
    rows: int = 0
    changed: int = 0
    rejected: int = 0
    rejection: str = ""
    mean_difference: float = 0.0
    largest_difference: float = 0.0
    since: str = ""
    until: str = ""
    slices: Sequence[SliceDecisions] = field(default_factory=tuple)
    small_slices: int = 0
    tolerance: float | None = None
    reason: str = ""

    @property
    def share(self) -> float:
        """Share of the rows with another decision."""
        return self.changed / self.rows if self.rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {**asdict(self), "changed_share": round(self.share, 6)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "ReplayResult":
        """Return the result that `to_dict` wrote."""
        values = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        return cls(**{**values, "slices": tuple(SliceDecisions(**part) for part in values.get("slices", ()))})

    @property
    def headline(self) -> str:
        """The result in a few words."""
        if self.reason:
            return f"replay not judged: {self.reason}"
        return f"replay: {self.share:.2%} of {self.rows:,} decisions of version {self.version} changed{self._bound}"

    @property
    def _bound(self) -> str:
        return "" if self.tolerance is None else f" by more than the tolerance of {self.tolerance:.4g}"

    def find_excess(self, max_changed: float) -> str:
        """Return why a bound is exceeded, overall or in a slice; empty if it is kept, or nothing is judged.

        Args:
          max_changed: Largest share of changed decisions.
        """
        if self.reason:
            return ""
        for part in (SliceDecisions("", self.rows, self.changed), *self.slices):
            if part.share > max_changed:
                where = f" of {part.name}" if part.name else ""
                rejected = (
                    f"; {format_count(self.rejected, 'row', 'are')} rejected, the first: {self.rejection}"
                    if self.rejected
                    else ""
                )
                return (
                    f"{part.changed:,} of {part.rows:,} decisions{where} differ from those of version {self.version}"
                    f"{self._bound} ({part.share:.2%}); at most {max_changed:.2%} may{rejected}"
                )
        return ""


def replay(
    folder: Path,
    model_name: str,
    version: int | None,
    predictor: Predictor | TensorPredictor,
    options: ReplayOptions,
) -> ReplayResult:
    """Let a model predict the logged rows that a version answered, and compare the decisions.

    Args:
      folder: Folder of the log.
      model_name: Name of the model.
      version: Version whose logged answers are compared; None if no version serves.
      predictor: Model that predicts.
      options: Choice of the rows and of their slices.

    Raises:
      RequestLogError: The log cannot be read, is of another model, or lacks a column; or the models decide by other
        outputs.
    """
    if version is None:
        return ReplayResult(None, reason="no version serves, whose answers could be compared")
    columns = _list_columns(predictor)
    slice_columns = {column for names in options.slice_by for column in names}
    rows = _read_rows(folder, model_name, version, [*dict.fromkeys([*columns, *sorted(slice_columns)])], options)
    count = rows.num_rows
    if count < options.min_rows:
        return ReplayResult(
            version, count, reason=f"{count:,} logged rows of version {version}; at least {options.min_rows:,} needed"
        )
    changed, differences = np.ones(count, bool), np.full(count, np.nan)
    rejection, is_numeric = "", False
    for start in range(0, count, _BATCH_ROWS):
        batch = rows.slice(start, _BATCH_ROWS)
        indices, outputs, reason = _predict(predictor, {name: batch.column(name).to_pylist() for name in columns})
        rejection = rejection or reason
        if not len(indices):
            continue
        logged = _read_outputs(batch.take(pa.array(indices)))
        try:
            comparison = compare_outputs(logged, outputs, options.tolerance)
        except OutputsDifferError as error:
            raise RequestLogError(f"{folder}: {error}; the log is of a model with another label") from error
        is_numeric = is_numeric or comparison.is_numeric
        changed[start + indices], differences[start + indices] = comparison.changed, comparison.differences
    slices = list(_count_slices(rows, changed, options))
    judged = [part for part in slices if part.rows >= options.min_slice_rows]
    rejected = int(np.isnan(differences).sum())
    times = pc.min_max(rows.column(TIME)).as_py()
    return ReplayResult(
        version,
        count,
        int(changed.sum()),
        rejected,
        rejection[:_MAX_REASON_CHARS],
        round(float(np.nanmean(differences)), 6) if rejected < count else 0.0,
        round(float(np.nanmax(differences)), 6) if rejected < count else 0.0,
        times["min"].isoformat(timespec="seconds"),
        times["max"].isoformat(timespec="seconds"),
        tuple(sorted(judged, key=lambda part: (-part.share, part.name))),
        len(slices) - len(judged),
        options.tolerance if is_numeric else None,
    )


def _list_columns(predictor: Predictor | TensorPredictor) -> list[str]:
    """Return the columns of a log that a model needs."""
    if isinstance(predictor, TensorPredictor):
        return list(predictor.specs)
    return [field.column for field in predictor.inputs.values()]


def _read_rows(folder: Path, model_name: str, version: int, columns: Sequence[str], options: ReplayOptions) -> pa.Table:
    """Return the latest rows that a version answered, in the order of the log."""
    shards = list_shards(folder, model_name)
    tables: list[pa.Table] = []
    rows = 0
    for shard in reversed(shards):
        if rows >= options.rows:
            break
        try:
            if not any(_select(batch, version).num_rows for batch in shard.read_batches([VERSION, ERROR])):
                continue
            table = _read_shard(shard, version, columns)
        except DeletedShardError:
            continue
        except AbsentColumnError as error:
            if rows >= options.min_rows:
                # It is from before the column was logged.
                break
            raise RequestLogError(
                f"{error}; wait for {format_count(options.min_rows, 'row')} with it, or push once without "
                "infra_validation.replay"
            ) from error
        rows += table.num_rows
        tables.insert(0, table)
    if not tables:
        return pa.table({})
    try:
        together = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise RequestLogError(f"{folder}: its shards of version {version} have other columns: {error}") from error
    return together.slice(max(0, together.num_rows - options.rows))


def _read_shard(shard: Shard, version: int, columns: Sequence[str]) -> pa.Table:
    shard.check_columns(columns, _PURPOSE)
    names = [TIME, VERSION, ERROR, *columns, *(f"{PREDICTION_PREFIX}{name}" for name in shard.outputs)]
    batches = [_select(batch, version) for batch in shard.read_batches(names)]
    return pa.Table.from_batches(batches).replace_schema_metadata(None)


def _select(batch: pa.RecordBatch, version: int) -> pa.RecordBatch:
    """Return the rows that a version answered."""
    answered = pc.and_(pc.equal(batch.column(VERSION), version), pc.is_null(batch.column(ERROR)))
    return batch.filter(pc.fill_null(answered, False))


def _read_outputs(rows: pa.Table) -> Outputs:
    """Return the logged outputs as a model returns them."""
    return {
        name.removeprefix(PREDICTION_PREFIX): _to_array(rows.column(name))
        for name in rows.column_names
        if name.startswith(PREDICTION_PREFIX)
    }


def _to_array(column: pa.ChunkedArray) -> NDArray[Any]:
    type_, depth = column.type, 0
    while pa.types.is_list(type_):
        type_, depth = type_.value_type, depth + 1
    values = column.to_pylist()
    if not (pa.types.is_string(type_) or pa.types.is_binary(type_)):
        return np.array(values, type_.to_pandas_dtype())
    array = np.array(_encode(values), object)
    return array.reshape(len(values), *array.shape[1 : depth + 1])


def _encode(value: Any) -> Any:
    """Return strings as TensorFlow returns them."""
    if isinstance(value, list):
        return [_encode(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def _predict(
    predictor: Predictor | TensorPredictor, columns: Mapping[str, list[Any]]
) -> tuple[NDArray[np.int64], Outputs, str]:
    """Return the indices of the rows that the model takes, its outputs for these, and why it rejects the first other.

    Args:
      predictor: Model.
      columns: Values by column, [rows] each.
    """
    rows = len(next(iter(columns.values())))
    try:
        return np.arange(rows), _predict_finite(predictor, columns), ""
    except ValueError as error:
        if rows == 1:
            return np.arange(0), {}, str(error)
    # A half at a time: few rows are rejected, and a batch of them costs as many calls as it has rows.
    half = rows // 2
    first, second = (
        _predict(predictor, {name: values[part] for name, values in columns.items()})
        for part in (slice(None, half), slice(half, None))
    )
    parts = [part[1] for part in (first, second) if len(part[0])]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}
    return np.concatenate([first[0], half + second[0]]), outputs, first[2] or second[2]


def _predict_finite(predictor: Predictor | TensorPredictor, columns: Mapping[str, list[Any]]) -> Outputs:
    """Return the outputs as the model server does.

    Raises:
      ValueError: A row does not fit the model, or its prediction is not finite.
    """
    converted = predictor.convert_columns(columns)
    outputs = predictor.predict_columns(converted)
    predictor.check_finite(outputs, converted)
    return outputs


def _count_slices(rows: pa.Table, changed: NDArray[np.bool_], options: ReplayOptions) -> Iterator[SliceDecisions]:
    for columns in options.slice_by:
        keys = zip(*(rows.column(column).to_pylist() for column in columns), strict=True)
        counts: dict[str, list[int]] = {}
        for key, is_changed in zip(keys, changed.tolist(), strict=True):
            name = " x ".join(f"{column}={value}" for column, value in zip(columns, key, strict=True))
            count = counts.setdefault(name, [0, 0])
            count[0] += 1
            count[1] += is_changed
        yield from (SliceDecisions(name, *count) for name, count in counts.items())
