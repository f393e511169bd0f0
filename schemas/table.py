"""Turns the text of files into typed columns, and finds every row that does not fit.

The conversion is by whole columns; only a column that does not convert is searched for the rows at fault.
Imports no TensorFlow.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.data import ColumnSplit, CsvOptions, Data, Format
from schemas.declaration import did_you_mean
from schemas.errors import DataError
from schemas.features import ColumnType, FeatureSet
from schemas.pieces import Piece
from schemas.readers import CONFIG_TERMS, Reader, Terms, Texts, open_table
from schemas.row_hash import Hashes, row_hashes, value_hashes

MAX_VALUE_BYTES = 1 << 20
_ARROW_TYPES = {"float": pa.float32(), "int": pa.int64(), "string": pa.binary()}
_EXPECTED = {"float": "a finite number", "int": "an integer"}
_SHOWN_CHARACTERS = 120
# Kinds of bad rows that an error names, a line for each.
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Columns:
    """What is expected of a file's columns.

    Attributes:
      types: the columns to read, and the type of each.
      required: those in which a missing value is refused.
      label: the column of the label; None where rows have none.
      labels: the only values it may have; none for numbers.
      drop_unlabelled: whether rows without a label are left out and are no bad rows.
      ignored: columns that may be there and are not read; None where any other may.
      split_by: columns that decide which split a row belongs to.
      group: column whose value decides which share a row falls into; None where the features do.
      copied: columns that are handed on as they stand in the file.
    """

    types: dict[str, ColumnType]
    required: Sequence[str]
    label: str | None = None
    labels: Sequence[str] = ()
    drop_unlabelled: bool = False
    ignored: Sequence[str] | None = ()
    split_by: Sequence[str] = ()
    group: str | None = None
    copied: Sequence[str] = ()

    @classmethod
    def declared(cls, data: Data, features: FeatureSet) -> "Columns":
        """What a config expects."""
        label = features.label
        return cls(
            types=features.column_types,
            required=[
                *(n for n, f in features.features.items() if f.missing is None),
                *([] if label.drop_missing else [label.column]),
            ],
            label=label.column,
            labels=list(label.classes),
            drop_unlabelled=label.drop_missing,
            ignored=list(data.ignored_columns),
            split_by=sorted({s.column for s in data.splits.values() if isinstance(s, ColumnSplit)}),
            group=data.group_column,
        )

    def as_json(self) -> dict[str, Any]:
        """The arguments that make it again, all of JSON's types."""
        return asdict(self)

    @property
    def features(self) -> list[str]:
        """The columns in which two rows must be equal to be equal rows: all that are read but the label."""
        return [name for name in self.types if name != self.label]

    @property
    def needed(self) -> list[str]:
        """The columns that have to be there."""
        return [*self.types, *self.split_by, *([self.group] if self.group else []), *self.copied]

    def undeclared(self, names: Sequence[str]) -> list[str]:
        """Those of a file's columns that may not be there."""
        return [] if self.ignored is None else [n for n in names if n not in {*self.needed, *self.ignored}]


@dataclass(frozen=True)
class BadRow:
    """A row that does not fit: where, which column, why, and its text."""

    row: int
    column: str | None
    reason: str
    text: str


@dataclass(frozen=True)
class Batch:
    """Good rows of a file.

    Attributes:
      values: the declared columns in their types, null where a value is missing.
      texts: the same as they stand in the file.
      rows: the number of each row in the file, from 1; int64, [n].
      features: names of the columns that make two rows equal.
      groups: the text of each row's group; None where rows have none.
      split_by: the texts of the columns that decide on splits.
      labels: the text of each row's label; None where rows have none.
      copied: the texts of the columns that are handed on, missing values too.
    """

    values: pa.RecordBatch
    texts: pa.RecordBatch
    rows: NDArray[np.int64]
    features: Sequence[str]
    groups: pa.Array | None
    split_by: dict[str, pa.Array]
    labels: pa.Array | None
    copied: dict[str, pa.Array]

    @cached_property
    def hashes(self) -> Hashes:
        """The hash of each row's features, [n]."""
        return row_hashes(self.values, self.features)

    @cached_property
    def group_hashes(self) -> Hashes:
        """The hash of each row's group, [n]; of no row where rows have no groups."""
        return value_hashes(pa.nulls(0, pa.string()) if self.groups is None else self.groups)


@dataclass
class Table:
    """One file, or a piece of it, with the columns that a config declares.

    Attributes:
      max_bad_rows: reading ends soon after more were found.
      may_be_empty: whether a file with columns and no rows is taken.
      bad_rows: what was found so far.
      unlabelled: how many rows were left out so far for want of a label.
    """

    reader: Reader
    columns: Columns
    max_bad_rows: int = 0
    may_be_empty: bool = False
    bad_rows: list[BadRow] = field(default_factory=list)
    unlabelled: int = 0

    @classmethod
    def of(cls, path: str, data: Data, features: FeatureSet, *, max_bad_rows: int) -> "Table":
        """The table of one of a config's files."""
        reader = open_table(path, data.format, data.csv, data.missing_values)
        return cls(reader, Columns.declared(data, features), max_bad_rows)

    @classmethod
    def from_json(cls, path: str, settings: dict[str, Any], piece: Piece | None = None) -> "Table":
        """From what `settings` made of a config, on whatever machine: a file, or a piece of it."""
        options = CsvOptions.model_validate(settings["csv"])
        reader = open_table(path, settings["format"], options, settings["missing_values"], piece=piece)
        return cls(reader, Columns(**settings["columns"]), settings["max_bad_rows"])

    @staticmethod
    def settings(data: Data, features: FeatureSet) -> dict[str, Any]:
        """What `from_json` takes: all of JSON's types."""
        format: Format = data.format
        return {
            "format": format,
            "csv": data.csv.model_dump(mode="json"),
            "missing_values": list(data.missing_values),
            "columns": Columns.declared(data, features).as_json(),
            "max_bad_rows": data.max_bad_rows,
        }

    @property
    def path(self) -> str:
        return self.reader.path

    def check_names(self) -> None:
        """Refuses a file whose columns are not the declared ones.

        Raises:
          DataError: the file is empty or not readable, or names the first column that is missing or undeclared.
        """
        self._check_names(self.reader.names())

    def batches(self) -> Iterator[Batch]:
        """Streams the good rows in file order; bad ones are kept in `bad_rows`.

        Raises:
          DataError: the file cannot be read, has other columns, or holds no rows.
        """
        self.check_names()
        rows = 0
        for texts in self.reader.batches():
            rows += len(texts.rows)
            self._take_ragged()
            texts = self._labelled(self._complete(texts))
            good = self._good(texts)
            batch = self._converted(texts if good.all() else _taken(texts, np.flatnonzero(good)))
            if len(batch.rows):
                yield batch
            if len(self.bad_rows) > self.max_bad_rows:
                return
        self._take_ragged()
        if not rows and not self.bad_rows and not self.may_be_empty:
            expected = ", ".join(self.columns.types)
            raise DataError(f"{self.path}: holds no rows; expected rows with {expected}")

    def described(self, rows: Sequence[BadRow]) -> list[str]:
        """`place: column: reason` for each of these bad rows."""
        places = self.reader.places([row.row for row in rows])
        return [
            f"{places.get(bad.row, self.path)}: {f'{bad.column}: ' if bad.column else ''}{bad.reason}" for bad in rows
        ]

    def _take_ragged(self) -> None:
        taken = sum(1 for bad in self.bad_rows if bad.column is None)
        for ragged in self.reader.ragged[taken:]:
            reason = f"{ragged.reason}: {_shown(ragged.text)}; a field that holds the delimiter needs quotes"
            self.bad_rows.append(BadRow(ragged.row, None, reason, ragged.text))

    def _check_names(self, names: list[str]) -> None:
        refused = self.columns.ignored is not None
        needed = self.columns.needed
        repeated = sorted({name for name in names if names.count(name) > 1 and (refused or name in needed)})
        if repeated:
            raise DataError(f"{self.path}: the header names {', '.join(repeated)} twice")
        extra = self.columns.undeclared(names)
        if self.reader.leaves_out_missing:
            optional = {name for name in self.columns.types if name not in self.columns.required}
            needed = [name for name in needed if name not in optional]
        for name in needed:
            if name not in names:
                hint = did_you_mean(name, extra or names)
                only_copied = name in self.columns.copied and name not in self.columns.types
                why = self.reader.terms.copies if only_copied else self.reader.terms.declares
                raise DataError(f"{self.path}: there is no column '{name}', which {why}; {hint}")
        if extra:
            raise DataError(
                f"{self.path}: column {', '.join(map(repr, extra))} is not declared; declare it under features, "
                "or name it in data.ignored_columns"
            )

    def _complete(self, texts: Texts) -> Texts:
        """With a column of nulls for what no record of a batch of tf.Example has."""
        columns = texts.columns
        for name in self.columns.types:
            if name not in columns.schema.names:
                columns = columns.append_column(name, pa.nulls(columns.num_rows, pa.string()))
        return replace(texts, columns=columns)

    def _labelled(self, texts: Texts) -> Texts:
        """Without the rows that have no label, where those are to be dropped."""
        if not self.columns.drop_unlabelled:
            return texts
        labels = texts.columns.column(self.columns.label)
        if not labels.null_count:
            return texts
        self.unlabelled += labels.null_count
        return _taken(texts, np.flatnonzero(labels.is_valid()))

    def _good(self, texts: Texts) -> NDArray[np.bool_]:
        """Which rows fit; the others go to `bad_rows`, each with its first fault."""
        faults: dict[int, tuple[str, str]] = {}
        for name, kind in self.columns.types.items():
            column = texts.columns.column(name)
            for index, reason in self._faults(column, name, kind):
                faults.setdefault(index, (name, reason))
        for index in sorted(faults):
            name, reason = faults[index]
            values = [column[index].as_py() or "" for column in texts.columns.columns]
            self.bad_rows.append(BadRow(int(texts.rows[index]), name, reason, ",".join(values)[:MAX_VALUE_BYTES]))
        good = np.ones(texts.columns.num_rows, dtype=bool)
        good[list(faults)] = False
        return good

    def _faults(self, texts: pa.Array, name: str, kind: ColumnType) -> Iterator[tuple[int, str]]:
        if name in self.columns.required and texts.null_count:
            reason = (
                "the label is missing; correct or remove the row, or set label.drop_missing: true"
                if name == self.columns.label
                else f"the value is missing; {self.reader.terms.for_missing.format(name=name)}"
            )
            yield from ((index, reason) for index in np.flatnonzero(texts.is_null()).tolist())
        sizes = pc.binary_length(texts)
        if (pc.max(sizes).as_py() or 0) > MAX_VALUE_BYTES:
            for index in np.flatnonzero(pc.fill_null(pc.greater(sizes, MAX_VALUE_BYTES), False)).tolist():
                yield index, f"the value has {sizes[index].as_py():,} bytes; at most {MAX_VALUE_BYTES:,} are taken"
        if name == self.columns.label and self.columns.labels:
            known = pc.or_(pc.is_in(texts, pa.array(self.columns.labels)), texts.is_null())
            expected = " or ".join(repr(value) for value in self.columns.labels[:SHOWN_PROBLEMS])
            for index in np.flatnonzero(pc.invert(known)).tolist():
                yield index, f"expected {expected}, found {_shown(texts[index].as_py())}"
        if kind != "string":
            for index in _misfits(texts, kind):
                text = _shown(texts[index].as_py())
                yield (
                    index,
                    f"expected {_EXPECTED[kind]}, found {text}; correct the row, or name the text in "
                    f"{self.reader.terms.missing_values} if it stands for a missing value",
                )

    def _converted(self, texts: Texts) -> Batch:
        columns = texts.columns
        values = {name: _convert(columns.column(name), kind) for name, kind in self.columns.types.items()}
        return Batch(
            values=pa.RecordBatch.from_pydict(values),
            texts=columns.select(list(self.columns.types)),
            rows=texts.rows,
            features=self.columns.features,
            groups=columns.column(self.columns.group) if self.columns.group else None,
            split_by={name: columns.column(name) for name in self.columns.split_by},
            labels=columns.column(self.columns.label) if self.columns.label else None,
            copied={name: self._copied(texts, name) for name in self.columns.copied},
        )

    @staticmethod
    def _copied(texts: Texts, name: str) -> pa.Array:
        """A column as it stands; of nulls where no record of a batch of tf.Example has it."""
        return texts.verbatim.get(name, pa.nulls(texts.columns.num_rows, pa.string()))


def too_many_bad_rows(problems: Sequence[str], allowed: int, terms: Terms = CONFIG_TERMS) -> DataError:
    """The error for rows that do not fit, from the `summary` of all files."""
    shown = list(problems[:SHOWN_PROBLEMS])
    if allowed:
        shown[0] = f"more bad rows than {terms.max_bad_rows}: {allowed:,}; {shown[0]}"
    return DataError("\n".join(shown))


def summary(table: Table) -> list[str]:
    """The bad rows of a file in a few lines: the first of each column and reason, and how many more there are."""
    kinds: dict[tuple[str | None, str], BadRow] = {}
    counts: Counter[tuple[str | None, str]] = Counter()
    for bad in table.bad_rows:
        kind = (bad.column, bad.reason.split(", found")[0])
        kinds.setdefault(kind, bad)
        counts[kind] += 1
    firsts = list(kinds.values())[:SHOWN_PROBLEMS]
    lines = table.described(firsts)
    return [
        f"{line} (and {counts[kind] - 1:,} more like it)" if counts[kind] > 1 else line
        for kind, line in zip(list(kinds)[:SHOWN_PROBLEMS], lines, strict=True)
    ]


def _taken(texts: Texts, indices: NDArray[Any]) -> Texts:
    """Some of the rows."""
    taken = pa.array(indices)
    verbatim = {name: column.take(taken) for name, column in texts.verbatim.items()}
    return Texts(texts.columns.take(taken), texts.rows[indices], verbatim)


def _convert(texts: pa.Array, kind: ColumnType) -> pa.Array:
    """The typed values; raises ArrowInvalid where one does not fit."""
    if kind == "string":
        return texts.cast(pa.binary())
    trimmed = pc.utf8_trim_whitespace(texts)
    if kind == "float":
        values = trimmed.cast(pa.float32())
        if pc.all(pc.is_finite(values)).as_py() is False:
            raise pa.ArrowInvalid("not finite")
        return values
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        # Integers among which some are missing often come as 5.0.
        return trimmed.cast(pa.float64()).cast(pa.int64())


def _misfits(texts: pa.Array, kind: ColumnType, start: int = 0) -> list[int]:
    """The indices of the values that do not convert, found by halving."""
    try:
        _convert(texts, kind)
    except pa.ArrowInvalid:
        half = len(texts) // 2
        if not half:
            return [start]
        return _misfits(texts[:half], kind, start) + _misfits(texts[half:], kind, start + half)
    return []


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}..."
