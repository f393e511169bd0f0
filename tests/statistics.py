"""The statistics that StatisticsGen takes of columns of values, without its files."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.statistics_gen.component import build_generators


def statistics_of(
    columns: Mapping[str, Sequence[Any]], *, shards: int = 1, weight: str | None = None
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Return statistics of columns of strings, whole numbers or float32, or of lists of them; None is a missing value.

    Args:
      columns: values by name, as many of each.
      shards: number of parts that are counted apart, as shards are.
      weight: name of the column of weights.
    """
    batch = pa.RecordBatch.from_arrays([_lists(values) for values in columns.values()], names=list(columns))
    cuts = np.linspace(0, len(batch), shards + 1).astype(int)
    kinds = build_generators(weight)
    merged = []
    for kind in kinds:
        parts = [
            kind.compact(kind.add_input(kind.create_accumulator(), batch.slice(start, end - start)))
            for start, end in pairwise(cuts)
        ]
        merged.append(kind.merge_accumulators(parts))
    return stats_impl.extract_statistics_output(merged, kinds)


def _lists(values: Sequence[Any]) -> pa.Array:
    rows = [None if value is None else value if isinstance(value, list) else [value] for value in values]
    present = [value.item() if isinstance(value, np.generic) else value for row in rows for value in row or ()]
    if not present:
        return pa.nulls(len(values))
    if isinstance(present[0], str):
        items = pa.array([value.encode() for value in present], pa.large_binary())
    else:
        items = pa.array(present, pa.int64() if isinstance(present[0], int) else pa.float32())
    missing = np.array([row is None for row in rows])
    starts = np.concatenate([[0], np.cumsum([len(row or ()) for row in rows])])
    return pa.LargeListArray.from_arrays(pa.array(starts, mask=np.append(missing, False)), items)
