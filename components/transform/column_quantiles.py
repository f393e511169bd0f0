"""Quantiles of many columns in one analysis of TFT's."""

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_transform import analyzer_nodes, analyzers
from tfx_bsl import sketches

# As TFT has it: the bound on the error holds for so many rows.
_MAX_ROWS = 1 << 32


def compute_column_quantiles(columns: tf.Tensor, counts: Sequence[int], epsilon: float) -> tf.Tensor:
    """Return the boundaries between the buckets of each column, as `tft.quantiles` does for one column.

    Args:
      columns: float32 of shape [batch, columns]; NaN is not a value.
      counts: number of buckets of each column.
      epsilon: largest error of a boundary, as a share of the rows.

    Returns:
      float32 of shape [columns, largest count - 1], infinite after a column's own boundaries.
    """
    (boundaries,) = analyzers._apply_cacheable_combiner(_ColumnQuantiles(tuple(counts), epsilon), columns)
    result: tf.Tensor = boundaries
    return result


class _Accumulator:
    """A sketch of several columns, and which of them have had a value: without one, a sketch has no quantiles."""

    def __init__(self, sketch: Any, has_value: NDArray[np.bool_]) -> None:
        self.sketch = sketch
        self.has_value = has_value


class _ColumnQuantiles(analyzer_nodes.Combiner):
    def __init__(self, counts: tuple[int, ...], epsilon: float) -> None:
        self._counts = counts
        self._epsilon = epsilon

    def create_accumulator(self) -> _Accumulator:
        columns = len(self._counts)
        sketch = sketches.QuantilesSketch(self._epsilon, _MAX_ROWS, columns)
        return _Accumulator(sketch, np.zeros(columns, bool))

    def add_input(self, accumulator: _Accumulator, batch_values: Sequence[NDArray[np.float32]]) -> _Accumulator:
        (values,) = batch_values
        accumulator.sketch.AddValues(pa.array(np.ravel(values)))
        accumulator.has_value |= ~np.isnan(values).all(axis=0)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[_Accumulator]) -> _Accumulator:
        first, *others = accumulators
        for other in others:
            first.sketch.Merge(other.sketch)
            first.has_value |= other.has_value
        return first

    def compact(self, accumulator: _Accumulator) -> _Accumulator:
        accumulator.sketch.Compact()
        return accumulator

    def extract_output(self, accumulator: _Accumulator) -> list[NDArray[np.float32]]:
        # A copy, since a sketch takes no values once it was asked.
        sketch = pickle.loads(pickle.dumps(accumulator.sketch))
        # As TFT has it, the boundaries of no values are 0.
        sketch.AddValues(pa.array(np.where(accumulator.has_value, np.nan, 0).astype(np.float32)))
        counts = np.array(self._counts)
        boundaries = np.full((len(counts), counts.max() - 1), np.inf, np.float32)
        for count in {*self._counts}:
            quantiles = np.array(sketch.GetQuantiles(count).to_pylist(), np.float32)
            # The first and the last are the extremes.
            boundaries[counts == count, : count - 1] = quantiles[counts == count, 1:-1]
        return [boundaries]

    def output_tensor_infos(self) -> list[Any]:
        return [analyzer_nodes.TensorInfo(tf.float32, [len(self._counts), max(self._counts) - 1], None)]

    @property
    def accumulator_coder(self) -> Any:
        return analyzers._QuantilesSketchCacheCoder()
