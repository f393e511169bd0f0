"""Turns the rows of a table into blocks of records, by split: one thread reads, others convert and compress.

What comes of it does not depend on the number of threads.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.example_records import deflated, framed, serialized
from schemas.errors import DataError
from schemas.numbers import ValueCounts
from schemas.table import Batch, Columns, Table

# Turn batches into records; how many batches are with them or wait to be written.
_THREADS = min(4, os.cpu_count() or 1)
BATCHES_AHEAD = _THREADS + 1
# Rows whose records are made at once: some 4 MB of them.
_ROWS_TOGETHER = 8192


@dataclass(frozen=True)
class Block:
    """Rows of one split, ready to be written.

    Attributes:
      rows: how many.
      content: their records.
      compressed: the same, deflated.
      groups: the hashes of their groups; empty where rows have none.
    """

    rows: int
    content: pa.Buffer
    compressed: bytes
    groups: NDArray[np.uint64]


def converted(
    table: Table, split: str, rules: Mapping[str, dict[str, Any]], counts: ValueCounts
) -> Iterator[tuple[str, Block]]:
    """The good rows of a table as records, by split, in the order of the file; their values are added to `counts`.

    This thread reads; others convert. No more than `BATCHES_AHEAD` batches are there at a time, besides the one read.
    """
    waiting: deque[Future[tuple[list[tuple[str, Block]], ValueCounts]]] = deque()

    def take() -> list[tuple[str, Block]]:
        blocks, counted = waiting.popleft().result()
        counts.merge(counted)
        return blocks

    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in table.batches():
            grouped = table.columns.group is not None
            waiting.append(pool.submit(_blocks, batch, split, rules, counts.columns, grouped=grouped))
            if len(waiting) >= BATCHES_AHEAD:
                yield from take()
        while waiting:
            yield from take()


def _blocks(
    batch: Batch, split: str, rules: Mapping[str, dict[str, Any]], columns: Columns, *, grouped: bool
) -> tuple[list[tuple[str, Block]], ValueCounts]:
    shared = any("share_of" in rule for rule in rules.values())
    hashes = _hashed(batch.keys) if shared or grouped else np.array([], np.uint64)
    blocks = []
    splits = rows_by_split(batch, hashes, split, rules)
    counts = ValueCounts(columns)
    counts.add(batch, splits)
    for name, mine in splits.items():
        values = batch.values if mine.all() else batch.values.filter(pa.array(mine))
        groups = np.unique(hashes[mine]) if grouped else hashes[:0]
        for start in range(0, values.num_rows, _ROWS_TOGETHER):
            together = values.slice(start, _ROWS_TOGETHER)
            content = framed(serialized(together))
            blocks.append((name, Block(together.num_rows, content, deflated(content), groups)))
            groups = groups[:0]
    return blocks, counts


def rows_by_split(
    batch: Batch, hashes: NDArray[np.uint64], split: str, rules: Mapping[str, dict[str, Any]]
) -> dict[str, NDArray[np.bool_]]:
    """Where each row of a batch goes: the first part whose values it has, else a share by its hash, else `split`.

    Args:
      batch: rows read for `split`.
      hashes: of the rows' keys, [n]; not looked at where there are no shares.
      split: the split whose files they are from.
      rules: the parts and shares of `split` by name, in the order of the config.

    Returns:
      for each split, whether a row goes there, [n].
    """
    found = {}
    left = np.ones(len(batch.rows), dtype=bool)
    for name, rule in rules.items():
        if "part_of" in rule:
            found[name] = left & np.asarray(_in_part(batch, rule), dtype=bool)
            left = left & ~found[name]
    # A point in [0, 1) for each row falls into one of the shares, or none.
    points = hashes / 2.0**64
    for name, rule in rules.items():
        if "share_of" in rule:
            inside = points < rule["share"]
            # Who fell into a share falls into no other, and who is in a part into none.
            found[name] = left & inside
            left = left & ~inside
            points = points - rule["share"]
    return {**found, split: left}


def _in_part(batch: Batch, rule: dict[str, Any]) -> Any:
    """Whether each row belongs to a part, [n]; a missing value does not."""
    texts = batch.split_by[rule["column"]]
    if rule["values"]:
        return pc.fill_null(pc.is_in(texts, pa.array(rule["values"])), False)
    values = texts
    if not isinstance(rule["below"] if rule["at_least"] is None else rule["at_least"], str):
        try:
            values = pc.utf8_trim_whitespace(texts).cast(pa.float64())
        except pa.ArrowInvalid as error:
            raise DataError(
                f"data.splits: column '{rule['column']}' is compared with a number, and holds other text: {error}; "
                "give the bound as text (in quotes), or name the text in data.missing_values"
            ) from error
    inside = pa.array(np.ones(len(values), dtype=bool))
    if rule["at_least"] is not None:
        inside = pc.and_(inside, pc.greater_equal(values, rule["at_least"]))
    if rule["below"] is not None:
        inside = pc.and_(inside, pc.less(values, rule["below"]))
    return pc.fill_null(inside, False)


def _hashed(keys: list[bytes]) -> NDArray[np.uint64]:
    digests = b"".join([blake2b(key, digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, ">u8").astype(np.uint64)
