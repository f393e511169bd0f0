"""Counts the values of a table that a graph of float32 numbers and ids cannot represent. Imports no TensorFlow.

The counts of batches, pieces and files merge into those of a whole data set. Their size depends on the columns alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.tables.expression_values import evaluate
from schemas.tables.readers import Reader
from schemas.tables.row_hash import mix
from schemas.tables.typed_columns import Batch, Columns
from schemas.tables.values import Rule, find_out_of_range

# From here on float32 does not have every whole number: IEEE 754 gives it 24 bits of precision.
FIRST_COLLAPSE = 2**24
# Values are extreme if no value is within this many powers of two below them: a factor of 65,536 at least, nearly
# five decades. Tails of honest columns have no such gap. Of a Pareto distribution the greatest value is more than r
# times the second with probability r ** -alpha (0.00002 at the alpha = 1 of incomes); a log-normal's tail is thinner.
_GAP = 17
# In float32's own exponents, which are 127 above the power of two. Numbers below 1/64 count alike: the rounding error
# of a difference that should be zero is not the bulk of a column.
_BIAS, _LOWEST = 127, 127 - 6
_EXPONENTS = 256
# Values that are remembered of each power of two, and so are named at most of a column.
_EXAMPLES = 3
# Different whole numbers that are remembered of a column; their number is estimated where there are more.
_SAMPLE = 4096
# Digits that int64 holds whatever they are; others are read as doubles.
_WHOLE = r"^-?(\d{1,18}|[1-8]\d{18})$"


@dataclass
class DistinctSample:
    """Distinct integers, all or a share of them that is chosen by a hash.

    P. Gibbons (2001), "Distinct sampling for highly-accurate answers to distinct values queries".

    Attributes:
      level: a share of 2 ** -level is kept.
      values: the integers that are kept, in ascending order.
    """

    level: int = 0
    values: NDArray[np.int64] = field(default_factory=lambda: np.array([], np.int64))

    def merge(self, other: "DistinctSample") -> None:
        """Add the values of another sample."""
        self.level = max(self.level, other.level)
        self.values = np.union1d(self.values, other.values)
        self._filter()
        while len(self.values) > _SAMPLE:
            self.level += 1
            self._filter()

    def _filter(self) -> None:
        if self.level:
            bits = mix(self.values.astype(np.uint64))
            self.values = self.values[bits >> np.uint64(64 - self.level) == 0]

    @property
    def size(self) -> int:
        """The number of distinct integers, estimated if `level` is not 0."""
        return len(self.values) << self.level


@dataclass
class NumberCounts:
    """Counts of one column of numbers.

    Attributes:
      exponents: number of values with each exponent of float32; 0 is that of zero.
      examples: (row or place, text) of the first values of each exponent.
      whole: the whole numbers from `FIRST_COLLAPSE` on.
      collapsed: the same as float32, by their bits.
      pair: two of them that are one number in float32; empty if none were found.
    """

    exponents: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_EXPONENTS, np.int64))
    examples: dict[int, list[tuple[Any, str]]] = field(default_factory=dict)
    whole: DistinctSample = field(default_factory=DistinctSample)
    collapsed: DistinctSample = field(default_factory=DistinctSample)
    pair: tuple[int, ...] = ()

    def add(self, values: pa.Array, texts: pa.Array, rows: NDArray[np.int64]) -> None:
        """Count a batch.

        Args:
          values: float32, null where one is missing.
          texts: the same as written.
          rows: numbers of the rows in the file.
        """
        numbers = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False)
        exponents = numbers.view(np.uint32) >> 23 & 0xFF
        exponents[exponents > 0] = np.maximum(exponents[exponents > 0], _LOWEST)
        self.exponents += np.bincount(exponents, minlength=_EXPONENTS)
        self.exponents[0] -= values.null_count
        for exponent in np.flatnonzero(self.exponents[1:]) + 1:
            if int(exponent) not in self.examples:
                indices = np.flatnonzero(exponents == exponent)[:_EXAMPLES]
                self.examples[int(exponent)] = [(int(rows[i]), texts[int(i)].as_py()) for i in indices]
        if self.exponents[_BIAS + 24 :].any():
            self._add_whole(texts.filter(pa.array(np.abs(numbers) >= FIRST_COLLAPSE)))

    def _add_whole(self, texts: pa.Array) -> None:
        whole = select_whole_numbers(texts)
        self.pair = self.pair or find_equal_in_float32(whole)
        self.whole.merge(DistinctSample(0, whole))
        bits = np.unique(whole.astype(np.float32).view(np.int32)).astype(np.int64)
        self.collapsed.merge(DistinctSample(0, bits))

    def merge(self, other: "NumberCounts") -> None:
        """Add the counts of other rows."""
        self.exponents = self.exponents + other.exponents
        for exponent, examples in other.examples.items():
            self.examples[exponent] = [*self.examples.get(exponent, ()), *examples][:_EXAMPLES]
        self.whole.merge(other.whole)
        self.collapsed.merge(other.collapsed)
        self.pair = self.pair or other.pair or find_equal_in_float32(self.whole.values)

    @property
    def first_extreme(self) -> int | None:
        """The least exponent of extreme values: above a gap, and of fewer than half of the values that are not zero."""
        present = np.flatnonzero(self.exponents[1:]) + 1
        for below, above in pairwise(present):
            if above - below >= _GAP and 2 * self.exponents[above:].sum() < self.exponents[1:].sum():
                return int(above)
        return None

    def compute_bound(self, exponent: int) -> float:
        """Return a power of two that is above all values of smaller exponents."""
        return float(2.0 ** (int(np.flatnonzero(self.exponents[:exponent])[-1]) - _BIAS + 1))

    def locate(self, reader: Reader) -> None:
        """Turn the rows of extreme values into places, and forget the others.

        Without extreme values the greatest is kept: beside those of other files it may be extreme.
        """
        first = self.first_extreme
        least = max(self.examples, default=0) if first is None else first
        examples = {exponent: pairs for exponent, pairs in self.examples.items() if exponent >= least}
        places = {} if first is None else reader.find_places([row for pairs in examples.values() for row, _ in pairs])
        self.examples = {
            exponent: [(places.get(row, reader.path), text) for row, text in pairs]
            for exponent, pairs in examples.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "exponents": [[int(n), int(self.exponents[n])] for n in np.flatnonzero(self.exponents)],
            "examples": [[exponent, pairs] for exponent, pairs in self.examples.items()],
            "whole": [self.whole.level, self.whole.values.tolist()],
            "collapsed": [self.collapsed.level, self.collapsed.values.tolist()],
            "pair": list(self.pair),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NumberCounts":
        """Return the counts that `as_json` wrote."""
        exponents = np.zeros(_EXPONENTS, np.int64)
        for exponent, count in value["exponents"]:
            exponents[exponent] = count
        return cls(
            exponents=exponents,
            examples={exponent: [(place, text) for place, text in pairs] for exponent, pairs in value["examples"]},
            whole=DistinctSample(value["whole"][0], np.array(value["whole"][1], np.int64)),
            collapsed=DistinctSample(value["collapsed"][0], np.array(value["collapsed"][1], np.int64)),
            pair=tuple(value["pair"]),
        )


def select_whole_numbers(texts: pa.Array) -> NDArray[np.int64]:
    """Return the different whole numbers among the texts of numbers, in ascending order."""
    plain = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"^\+|\.0*$", "")
    is_whole = pc.match_substring_regex(plain, _WHOLE)
    digits = plain.filter(is_whole).cast(pa.int64()).to_numpy(zero_copy_only=False)
    # A Parquet file of doubles has 3.6061e+10.
    doubles = plain.filter(pc.invert(is_whole)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    doubles = doubles[(doubles == np.floor(doubles)) & (np.abs(doubles) < 2.0**63)]
    return np.unique(np.concatenate([digits, doubles.astype(np.int64)]))


def find_equal_in_float32(whole: NDArray[np.int64]) -> tuple[int, ...]:
    """Return the first two of integers in ascending order that are one number in float32, or nothing."""
    equal = np.flatnonzero(np.diff(whole.astype(np.float32)) == 0)
    return (int(whole[equal[0]]), int(whole[equal[0] + 1])) if len(equal) else ()


@dataclass
class TableCounts:
    """Counts of all columns that become numbers or IDs.

    Attributes:
      columns: columns of the table.
      rows: rows of each split.
      present: number of rows of each split with a value, by column or derived feature; one that always has is absent.
      numbers: by column.
      outside: number of values of each split that are out of their range, and the text of the first, by column.
    """

    columns: Columns
    rows: dict[str, int] = field(default_factory=dict)
    present: dict[str, dict[str, int]] = field(default_factory=dict)
    numbers: dict[str, NumberCounts] = field(default_factory=dict)
    outside: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)

    def add(self, batch: Batch, splits: Mapping[str, NDArray[np.bool_]]) -> None:
        """Count the rows of a batch.

        Args:
          batch: rows of a file.
          splits: whether each row is in a split, by its name.
        """
        part = TableCounts(self.columns, {split: int(rows.sum()) for split, rows in splits.items()})
        for name in self.columns.types:
            rule = self.columns.rules[name]
            if name == self.columns.label and rule.kind != "float":
                continue
            values, texts = batch.values.column(name), batch.texts.column(name)
            part._count_present(name, values, splits)
            if rule.kind == "float":
                part.numbers[name] = NumberCounts()
                part.numbers[name].add(values, texts, batch.rows)
            if rule.is_bounded:
                part.outside[name] = _count_outside(values, texts, rule, splits)
        for name, expression in self.columns.derived_features.items():
            used = {column: batch.values.column(column) for column in expression.columns}
            part._count_present(name, evaluate(expression, used), splits)
        self.merge(part)

    def _count_present(self, name: str, values: pa.Array, splits: Mapping[str, NDArray[np.bool_]]) -> None:
        if values.null_count:
            valid = values.is_valid().to_numpy(zero_copy_only=False)
            self.present[name] = {split: int((rows & valid).sum()) for split, rows in splits.items()}

    def merge(self, other: "TableCounts") -> None:
        """Add the counts of other rows."""
        for name in {*self.present, *other.present}:
            # A column that is left out has a value in every row.
            mine, theirs = self.present.get(name, self.rows), other.present.get(name, other.rows)
            self.present[name] = {split: mine.get(split, 0) + theirs.get(split, 0) for split in {*mine, *theirs}}
        self.rows = {n: self.rows.get(n, 0) + other.rows.get(n, 0) for n in dict.fromkeys([*self.rows, *other.rows])}
        for name, counts in other.numbers.items():
            self.numbers.setdefault(name, NumberCounts()).merge(counts)
        for name, outside in other.outside.items():
            mine_outside = self.outside.setdefault(name, {})
            for split, (count, text) in outside.items():
                before, first = mine_outside.get(split, (0, text))
                mine_outside[split] = (before + count, first)

    def locate(self, reader: Reader) -> None:
        """Turn the rows of the values that are going to be named into places of a file that was counted whole."""
        for counts in self.numbers.values():
            counts.locate(reader)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        numbers = {name: counts.as_json() for name, counts in self.numbers.items()}
        return {"rows": self.rows, "present": self.present, "numbers": numbers, "outside": self.outside}

    @classmethod
    def from_json(cls, columns: Columns, value: Mapping[str, Any]) -> "TableCounts":
        """Return the counts that `as_json` wrote."""
        return cls(
            columns,
            value["rows"],
            value["present"],
            {name: NumberCounts.from_json(counts) for name, counts in value["numbers"].items()},
            {n: {split: (count, text) for split, (count, text) in by.items()} for n, by in value["outside"].items()},
        )


def _count_outside(
    values: pa.Array, texts: pa.Array, rule: Rule, splits: Mapping[str, NDArray[np.bool_]]
) -> dict[str, tuple[int, str]]:
    outside = find_out_of_range(values, rule)
    counts = {split: np.flatnonzero(rows & outside) for split, rows in splits.items()} if outside.any() else {}
    return {split: (len(row_ids), texts[int(row_ids[0])].as_py()) for split, row_ids in counts.items() if len(row_ids)}
