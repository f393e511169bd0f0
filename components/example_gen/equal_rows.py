"""Rows that are equal in all features: across splits, and with different labels.

Each shard leaves a record of every row beside the examples: its hash, its label, its split. All are compared by one
sort. A data set so large that this would not fit is sampled by hash, so that equal rows are sampled together.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from numpy.typing import NDArray

from components.artifact_files import list_files
from schemas.data import TRAIN_SPLIT
from schemas.tables.row_hash import Hashes

_RECORD = np.dtype([("row", "<u8"), ("label", "<u4"), ("split", "<u2")])
# So many records are compared at once; they and their sort take some 2 GB.
_MAX_RECORDS = 1 << 25
# Of larger inputs, shards leave records of a part of the rows only: those of 4 GB take about half a GB.
_INPUT_BYTES = 4 << 30
# Files are small and may be remote.
_THREADS = 16

Records = NDArray[Any]


def choose_sampling(input_bytes: int) -> int:
    """Return the number of rows of which one is recorded, a power of two; 1 unless the input is huge."""
    return _round_to_power(input_bytes / _INPUT_BYTES)


def make_records(hashes: Hashes, labels: pa.Array | None, classes: Sequence[str], split: int, one_in: int) -> Records:
    """Return what is left of some rows.

    Args:
      hashes: hashes of their features, [n].
      labels: classes (binary) or numbers, [n]; None where rows have none.
      classes: all classes; empty for numbers.
      split: number of their split.
      one_in: number of rows of which one is recorded.
    """
    row_records = np.zeros(len(hashes), _RECORD)
    row_records["row"], row_records["split"] = hashes, split
    if labels is not None and classes:
        row_records["label"] = pc.index_in(labels, pa.array(classes).cast(pa.binary())).to_numpy()
    elif labels is not None:
        row_records["label"] = (labels.to_numpy().astype("<f4") + np.float32(0)).view("<u4")
    return row_records[_is_sampled(hashes, one_in)]


def open_records(uri: str, shard: str) -> Any:
    """Open the file of a shard's records for writing."""
    return tf.io.gfile.GFile(os.path.join(uri, f"rows-{shard}.bin"), "wb")


def compare_rows(uri: str, splits: Sequence[str], sources: Mapping[str, Sequence[str]], one_in: int) -> dict[str, Any]:
    """Compare the rows of all shards, and remove their records.

    Args:
      uri: folder of the examples.
      splits: names of the splits, by number.
      sources: by split whose rows are shared out, that split and its shares.
      one_in: number of rows of which one was recorded.

    Returns:
      `one_in`, the number of rows of which one was compared, and `distinct_rows` by source. Then `in_train` by split,
      its `rows` and those with an equal row in train (of train: with another). Then `contradictory` in train and in
      all, the `rows` and those with an equal row that has another label.
    """
    files = list_files(uri, prefix="rows-", suffix=".bin")
    with ThreadPoolExecutor(_THREADS) as pool:
        total = sum(pool.map(lambda path: tf.io.gfile.stat(path).length, files)) // _RECORD.itemsize
        together = max(one_in, one_in * _round_to_power(total / _MAX_RECORDS))
        row_records = np.concatenate([np.zeros(0, _RECORD), *pool.map(lambda path: _load(path, together), files)])
        list(pool.map(tf.io.gfile.remove, files))
    return {"one_in": together, **_compare(row_records, splits, sources)}


def _compare(row_records: Records, splits: Sequence[str], sources: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    row_records = row_records[np.argsort(row_records["row"], kind="stable")]
    starts = np.flatnonzero(np.diff(row_records["row"], prepend=~row_records["row"][:1]))
    counts = {name: _add_up(row_records["split"] == number, starts) for number, name in enumerate(splits)}
    train = counts[TRAIN_SPLIT]
    in_train = {
        name: {"rows": int(of.sum()), "in_train": int(of[train > (name == TRAIN_SPLIT)].sum())}
        for name, of in counts.items()
    }
    every = np.ones(len(row_records), dtype=bool)
    return {
        "distinct_rows": {
            source: int(np.any([counts[name] for name in names], axis=0).sum()) for source, names in sources.items()
        },
        "in_train": in_train,
        "contradictory": {
            "train": _count_contradictory(
                row_records["label"], row_records["split"] == list(splits).index(TRAIN_SPLIT), starts
            ),
            "all": _count_contradictory(row_records["label"], every, starts),
        },
    }


def _count_contradictory(
    labels: NDArray[np.uint32], among: NDArray[np.bool_], starts: NDArray[np.int64]
) -> dict[str, int]:
    """Return the rows with an equal row that has another label, both `among` some of the rows."""
    counts = _add_up(among, starts)
    if not len(starts):
        return {"rows": 0, "contradictory": 0}
    highest = np.maximum.reduceat(np.where(among, labels, 0), starts)
    lowest = np.minimum.reduceat(np.where(among, labels, np.iinfo(np.uint32).max), starts)
    return {"rows": int(counts.sum()), "contradictory": int(counts[highest > lowest].sum())}


def _add_up(rows: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of rows of each kind; a kind begins at each of `starts`."""
    ends = np.append(starts, len(rows))
    sums: NDArray[np.int64] = np.diff(np.concatenate([[0], np.cumsum(rows)])[ends])
    return sums


def _load(path: str, one_in: int) -> Records:
    with tf.io.gfile.GFile(path, "rb") as file:
        row_records = np.frombuffer(file.read(), _RECORD)
    return row_records[_is_sampled(row_records["row"], one_in)]


def _is_sampled(hashes: Hashes, one_in: int) -> NDArray[np.bool_]:
    return np.asarray(hashes & np.uint64(one_in - 1) == 0)


def _round_to_power(least: float) -> int:
    """Return the smallest that is not less."""
    return 1 << max(0, int(np.ceil(np.log2(max(least, 1)))))
