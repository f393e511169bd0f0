"""Whether a group of rows has fallen into two splits: each shard leaves the hashes of its groups, all are compared."""

import itertools
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cli.counts import format_count
from cli.errors import DataError
from components.artifact_files import list_files

Hashes = NDArray[np.uint64]


def write_groups(uri: str, split: str, shard: str, hashes: Sequence[Hashes]) -> None:
    """Write the hashes of a shard's groups to the folder of the examples."""
    with tf.io.gfile.GFile(os.path.join(uri, f"groups-{split}-{shard}.npy"), "wb") as file:
        file.write(np.unique(np.concatenate(hashes)).tobytes())


def check_groups(uri: str, splits: Sequence[str], group: str) -> None:
    """Compare the hashes of the groups of every two splits, and remove them.

    Raises:
      DataError: a group has rows in two splits.
    """
    hashes = {}
    for split in splits:
        files = list_files(uri, prefix=f"groups-{split}-", suffix=".npy")
        hashes[split] = np.unique(np.concatenate([_load(file) for file in files]))
        for file in files:
            tf.io.gfile.remove(file)
    for split, other in itertools.combinations(splits, 2):
        shared = np.intersect1d(hashes[split], hashes[other])
        if shared.size:
            raise DataError(
                f"data.group_column: {shared.size:,} of {format_count(hashes[split].size, 'value')} of '{group}' in "
                f"split '{split}' "
                f"are in '{other}' too; divide the files by '{group}', or take '{other}' as a fraction of '{split}'"
            )


def _load(path: str) -> Hashes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return np.frombuffer(file.read(), np.uint64)
