"""Statistics of Arrow tables, as StatisticsGen writes them, in memory that does not grow with the rows.

StatisticsGen reads tf.Example, with TensorFlow and TFDV, whose imports take ten seconds. Live traffic is in Arrow
columns and is looked at every few minutes. Here those parts are counted that the gate and the pages read: rows, missing
values, and the true counts of numbers and strings, by the code that StatisticsGen uses. A test compares the two.

Imports no TensorFlow.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import path_pb2, statistics_pb2

from cli.errors import DataError
from components.column_names import name_column
from components.histograms import COUNTED_VALUES, WRITTEN_BINS, add_buckets, build_custom_stats
from components.sensitive_statistics import mark_sensitive
from components.value_counts import ValueCounts, count_values, create_empty, merge
from schemas.features import ColumnType

# The defaults of `tfdv.StatsOptions`.
_HISTOGRAM_BUCKETS, _RANKED_VALUES = 10, 1000
_ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "float": pa.float32(),
    "int": pa.int64(),
    "string": pa.string(),
}
_TYPES: Mapping[ColumnType, int] = {
    "float": statistics_pb2.FeatureNameStatistics.FLOAT,
    "int": statistics_pb2.FeatureNameStatistics.INT,
    "string": statistics_pb2.FeatureNameStatistics.STRING,
}


class TableStatistics:
    """Counts the rows of tables."""

    def __init__(
        self,
        types: Mapping[str, ColumnType],
        *,
        delimiters: Mapping[str, str] = MappingProxyType({}),
        uncounted: Collection[str] = (),
        sensitive: Collection[str] = (),
    ) -> None:
        """Keep the columns.

        Args:
          types: Columns, and the type of each in the statistics.
          delimiters: String between two values of a row, of each column of lists; each value counts.
          uncounted: Columns of which only missing values are counted.
          sensitive: Columns that are marked, so that no page shows their values.
        """
        self._rows = 0
        self._sensitive = sensitive
        self._columns: dict[str, _Column] = {
            name: (_Strings if type_ == "string" else _Numbers)(
                type_, delimiters.get(name), is_counted=name not in uncounted
            )
            for name, type_ in types.items()
        }

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [*self._columns]

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows.

        Args:
          batch: All columns, by their names.

        Raises:
          DataError: A column has values of another type.
        """
        self._rows += batch.num_rows
        for name, column in self._columns.items():
            values = batch.column(name)
            try:
                column.add(values)
            except pa.ArrowException as error:
                raise DataError(
                    f"column '{name}': expected the type {column.type} of the training data, found {values.type}"
                ) from error

    def build(self) -> statistics_pb2.DatasetFeatureStatistics:
        """Return the statistics of all rows so far."""
        statistics = statistics_pb2.DatasetFeatureStatistics(num_examples=self._rows)
        for name, column in self._columns.items():
            feature = statistics.features.add(path=path_pb2.Path(step=[name]), type=_TYPES[column.type])
            column.write(feature)
            if name in self._sensitive:
                mark_sensitive(feature)
        return statistics


class _Column(ABC):
    """The counts of one column."""

    def __init__(self, type_: ColumnType, delimiter: str | None, *, is_counted: bool) -> None:
        self.type = type_
        self._delimiter = delimiter
        self._is_counted = is_counted
        self._present = self._missing = self._values = 0

    def add(self, column: pa.Array) -> None:
        """Add the values of some rows, null where one is missing."""
        if self.type == "float" and self._is_counted:
            column = column.cast(_ARROW_TYPES["float"], safe=False)
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float32()), column)
        lists = _split(column, self._delimiter) if self._delimiter is not None else None
        present = column.is_valid() if lists is None else pc.greater(pc.fill_null(pc.list_value_length(lists), 0), 0)
        self._present += (count := int(pc.sum(present).as_py() or 0))
        self._missing += len(column) - count
        if not self._is_counted:
            return
        values = (column.drop_null() if lists is None else lists.flatten()).cast(_ARROW_TYPES[self.type])
        self._values += len(values)
        if len(values):
            self._count(values)

    @abstractmethod
    def _count(self, values: pa.Array) -> None:
        """Count values, none of which is missing."""

    @abstractmethod
    def write(self, feature: statistics_pb2.FeatureNameStatistics) -> None:
        """Write the statistics of the column."""

    def _write_common(self, common: statistics_pb2.CommonStatistics) -> None:
        common.num_non_missing, common.num_missing = self._present, self._missing
        common.tot_num_values = self._values
        common.min_num_values = common.max_num_values = 1


class _Numbers(_Column):
    def __init__(self, type_: ColumnType, delimiter: str | None, *, is_counted: bool) -> None:
        super().__init__(type_, delimiter, is_counted=is_counted)
        self._counts: ValueCounts = create_empty()
        self._sum = self._square_sum = 0.0

    def _count(self, values: pa.Array) -> None:
        numbers = values.to_numpy(zero_copy_only=False)
        self._counts = merge([self._counts, count_values(numbers)], COUNTED_VALUES)
        finite = numbers[np.isfinite(numbers)].astype(np.float64)
        self._sum += float(finite.sum())
        self._square_sum += float(np.square(finite).sum())

    def write(self, feature: statistics_pb2.FeatureNameStatistics) -> None:
        stats, counts = feature.num_stats, self._counts
        self._write_common(stats.common_stats)
        if not self._is_counted:
            return
        feature.custom_stats.extend(build_custom_stats(counts, WRITTEN_BINS))
        finite = counts.finite
        if not len(finite.count):
            return
        low, high = float(finite.low[0]), float(finite.high[-1])
        stats.min, stats.max, stats.median = low, high, finite.find_quantile(0.5)
        stats.mean = self._sum / finite.total
        stats.std_dev = max(self._square_sum / finite.total - stats.mean**2, 0.0) ** 0.5
        stats.num_zeros = int(counts.count[(counts.low == 0) & (counts.high == 0)].sum())
        edges = np.linspace(low, high, _HISTOGRAM_BUCKETS + 1) if low < high else np.array([low, high])
        if np.isfinite(edges).all():
            # The smallest value is in the first bucket.
            at = np.concatenate([[0.0], finite.count_up_to(edges)[1:]])
            histogram = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
            add_buckets(histogram, edges[:-1], edges[1:], np.diff(at))


class _Strings(_Column):
    def __init__(self, type_: ColumnType, delimiter: str | None, *, is_counted: bool) -> None:
        super().__init__(type_, delimiter, is_counted=is_counted)
        self._counts: Counter[str] = Counter()
        self._forgotten = 0
        self._length = 0

    def _count(self, values: pa.Array) -> None:
        counted = pc.value_counts(values)
        self._counts.update(
            dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
        )
        self._length += int(pc.sum(pc.binary_length(values)).as_py())
        if len(self._counts) > 2 * COUNTED_VALUES:
            kept = dict(self._counts.most_common(COUNTED_VALUES))
            self._forgotten += len(self._counts) - len(kept)
            self._counts = Counter(kept)

    def write(self, feature: statistics_pb2.FeatureNameStatistics) -> None:
        stats = feature.string_stats
        self._write_common(stats.common_stats)
        stats.unique = len(self._counts) + self._forgotten
        stats.avg_length = self._length / self._values if self._values else 0.0
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:_RANKED_VALUES]
        for rank, (value, count) in enumerate(ranked):
            stats.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=value, sample_count=count)
            if rank < 2:
                stats.top_values.add(value=value, frequency=count)


def _split(column: pa.Array, delimiter: str) -> pa.Array:
    """Return the values of each row, null where it has none: without spaces around them and without empty ones."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return column
    parts = pc.split_pattern(column.cast(pa.string()), delimiter)
    owners = pc.list_parent_indices(parts)
    values = pc.utf8_trim_whitespace(parts.flatten())
    is_kept = pc.not_equal(values, "")
    lengths = np.bincount(owners.filter(is_kept).to_numpy(), minlength=len(column))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values.filter(is_kept))


def list_columns(statistics: statistics_pb2.DatasetFeatureStatistics) -> dict[str, ColumnType]:
    """Return the columns of statistics that have values, and the type of each; TFDV has no type for the others."""
    names: Mapping[int, ColumnType] = {number: name for name, number in _TYPES.items()}
    return {name_column(f): names[f.type] for f in statistics.features if f.WhichOneof("stats") and f.type in names}


def select_columns(
    statistics: statistics_pb2.DatasetFeatureStatistics, names: Iterable[str]
) -> statistics_pb2.DatasetFeatureStatistics:
    """Return the statistics of some columns alone."""
    kept = {*names}
    selected = statistics_pb2.DatasetFeatureStatistics(name=statistics.name, num_examples=statistics.num_examples)
    selected.features.extend(feature for feature in statistics.features if name_column(feature) in kept)
    return selected
