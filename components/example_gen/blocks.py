"""Turns the rows of a table into blocks of records, by split: one thread reads, others convert and compress.

What comes of it does not depend on the number of threads.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.example_gen.equal_rows import make_records
from components.example_gen.labels import LabelCounts, count_labels
from components.example_gen.parts import Rules, assign_parts
from components.example_gen.shares import Shares, assign_shares
from components.example_records import deflate, frame_records, serialize_columns
from schemas.tables.precision import TableCounts
from schemas.tables.row_hash import column_hashes, points
from schemas.tables.typed_columns import Batch, Columns, Table

# Turn batches into records; how many batches are with them or wait to be written.
_THREADS = min(4, os.cpu_count() or 1)
BATCHES_AHEAD = _THREADS + 1
# Rows whose records are made at once: some 4 MB of them.
_ROWS_TOGETHER = 8192


@dataclass(frozen=True)
class Block:
    """Rows of one split, ready to be written.

    Attributes:
      rows: number of rows.
      content: their records.
      compressed: the same, deflated.
      groups: the hashes of their groups; empty where rows have none.
      labels: counts of their labels; empty where rows have none.
      weights: the same by weight; empty where rows have no weights.
      compared: their records of `equal_rows`.
      columns: hashes of each column, and of the rows without it, [columns, 2].
      names: names of the columns.
    """

    rows: int
    content: pa.Buffer
    compressed: bytes
    groups: NDArray[np.uint64]
    labels: LabelCounts
    weights: LabelCounts
    compared: NDArray[Any]
    columns: NDArray[np.uint64]
    names: list[str]


@dataclass(frozen=True)
class Division:
    """How the rows of a shard are divided among splits.

    Attributes:
      split: split whose files they are from.
      rules: parts and shares of that split by name, in the order of the config.
      shares: division of its rows among shares.
      shard: name of the shard.
      numbers: numbers of all splits by name.
      one_in: number of rows of which one is recorded to be compared with others.
    """

    split: str
    rules: Rules
    shares: Shares
    shard: str
    numbers: Mapping[str, int]
    one_in: int = 1


def convert(table: Table, division: Division, counts: TableCounts) -> Iterator[tuple[str, Block]]:
    """Yield the good rows of a table as records, by split, in the order of the file; their values are added to
    `counts`.

    This thread reads; others convert. No more than `BATCHES_AHEAD` batches are there at a time, besides the one read.
    """
    waiting: deque[Future[tuple[list[tuple[str, Block]], TableCounts]]] = deque()
    occurrences = division.shares.build_occurrences(division.shard)

    def take() -> list[tuple[str, Block]]:
        blocks, piece_counts = waiting.popleft().result()
        counts.merge(piece_counts)
        return blocks

    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in table.batches():
            numbers = None
            if occurrences is not None:
                # They count on from batch to batch, and so this thread counts them.
                numbers = occurrences.assign_numbers(batch.hashes, assign_parts(table, batch, division.rules)[1])
            waiting.append(pool.submit(_build_blocks, table, batch, division, numbers, counts.columns))
            if len(waiting) >= BATCHES_AHEAD:
                yield from take()
        while waiting:
            yield from take()


def _build_blocks(
    table: Table, batch: Batch, division: Division, occurrences: NDArray[np.int64] | None, columns: Columns
) -> tuple[list[tuple[str, Block]], TableCounts]:
    grouped = batch.groups is not None
    row_points = points(batch.group_hashes if grouped else batch.hashes, occurrences)
    is_in_split, left = assign_parts(table, batch, division.rules)
    is_in_split |= assign_shares(row_points, left, division.split, division.shares.bounds)
    counts = TableCounts(columns)
    counts.add(batch, is_in_split)
    blocks = []
    for name, mine in is_in_split.items():
        values = batch.values if mine.all() else batch.values.filter(pa.array(mine))
        hashes = batch.hashes[mine]
        groups = np.unique(batch.group_hashes[mine]) if grouped else hashes[:0]
        for start in range(0, values.num_rows, _ROWS_TOGETHER):
            together = values.slice(start, _ROWS_TOGETHER)
            content = frame_records(serialize_columns(together))
            labels = together.column(table.columns.label) if table.columns.label else None
            compared = make_records(
                hashes[start:][:_ROWS_TOGETHER],
                labels,
                table.columns.labels,
                division.numbers[name],
                division.one_in,
            )
            of_labels = {} if labels is None else count_labels(labels)
            weights = together.column(table.columns.weight) if table.columns.weight else None
            by_weight = {} if labels is None or weights is None else count_labels(labels, weights)
            blocks.append(
                (
                    name,
                    Block(
                        rows=together.num_rows,
                        content=content,
                        compressed=deflate(content),
                        groups=groups,
                        labels=of_labels,
                        weights=by_weight,
                        compared=compared,
                        columns=column_hashes(together),
                        names=together.schema.names,
                    ),
                )
            )
            groups = groups[:0]
    return blocks, counts
