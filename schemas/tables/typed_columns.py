"""Reads the files of a table as typed columns, and finds every row that does not fit. Imports no TensorFlow."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cli.errors import DataError
from schemas.data import CsvOptions, Data
from schemas.declaration import find_close_match, suggest_name
from schemas.expressions import Expression, Type, choose_time_type
from schemas.features import ColumnType, FeatureSet
from schemas.sensitive import MASK, find_sensitive
from schemas.tables.expression_values import evaluate as evaluate_rows
from schemas.tables.log_columns import is_log_column
from schemas.tables.pieces import Piece
from schemas.tables.readers import CONFIG_TERMS, Reader, Terms, Texts, open_table
from schemas.tables.row_hash import Hashes, hash_rows, hash_values
from schemas.tables.values import (
    FOUND,
    MAX_VALUE_BYTES,
    Converted,
    Fault,
    Rule,
    as_missing,
    as_strings,
    build_feature_rules,
    build_input_rules,
    build_label_rule,
    build_weight_rule,
    convert,
    quote,
)

# Kinds of bad rows that an error names, a line for each.
SHOWN_PROBLEMS = 10
# Rows that are convert together at least, unless they have so many bytes.
_ROWS_TOGETHER, _BYTES_TOGETHER = 2048, 32 << 20


@dataclass(frozen=True)
class Columns:
    """Expected columns of a file.

    Attributes:
      rules: rules of conversion by the name of the column.
      missing_values: strings that stand for a missing value in columns without a rule.
      label: the column of the label; None where rows have none.
      weight: the column of the rows' weights; None where all rows weigh alike.
      ignored: columns that may be there and are not read; None where any other may.
      split_by: columns that decide which split a row belongs to.
      group: column whose value decides which share a row falls into; None where the features do.
      copied: columns that are handed on as they stand in the file.
      label_expression: expression that the label is computed by; None where the label is a column.
      label_inputs: columns that only the expression uses.
      derived: expressions of the features that are computed from columns, by their names.
      sensitive: columns whose values no message shows.
    """

    rules: Mapping[str, Rule]
    missing_values: Sequence[str] = ("",)
    label: str | None = None
    ignored: Sequence[str] | None = ()
    split_by: Sequence[str] = ()
    group: str | None = None
    copied: Sequence[str] = ()
    label_expression: str | None = None
    label_inputs: Sequence[str] = ()
    derived: Mapping[str, str] = field(default_factory=dict)
    weight: str | None = None
    sensitive: Sequence[str] = ()

    @classmethod
    def from_config(cls, data: Data, features: FeatureSet) -> "Columns":
        """Return what a config expects."""
        options = data.build_read_options(features.label.column, *features.label.inputs)
        label = build_label_rule(features, options)
        weight = {} if features.weight is None else {features.weight: build_weight_rule(features.weight, options)}
        return cls(
            rules={
                **build_feature_rules(features, options),
                **build_input_rules(features, options),
                label.column: label,
                **weight,
            },
            missing_values=data.missing_values,
            label=label.column,
            ignored=list(data.ignored_columns),
            split_by=data.split_columns,
            group=data.group_column,
            label_expression=features.label.expression,
            label_inputs=list(features.label.inputs),
            derived={n: feature.expression for n, feature in features.features.items() if feature.expression},
            weight=features.weight,
            sensitive=find_sensitive(features, options),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the arguments that `from_json` takes, all of JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Columns":
        """Return the columns from the JSON of `as_json`."""
        return cls(**{**values, "rules": {name: Rule.from_json(rule) for name, rule in values["rules"].items()}})

    @property
    def types(self) -> dict[str, ColumnType]:
        """The type of each column that is written, by its name."""
        return {name: rule.kind for name, rule in self.rules.items() if name not in self.label_inputs}

    @cached_property
    def derived_label(self) -> Expression | None:
        """The expression that the label is computed by; None where the label is a column."""
        if self.label_expression is None:
            return None
        return Expression.parse(self.label_expression, self._expression_types)

    @cached_property
    def derived_features(self) -> dict[str, Expression]:
        """The expressions of the features that are computed from columns, by their names."""
        return {name: Expression.parse(text, self._expression_types) for name, text in self.derived.items()}

    @property
    def _expression_types(self) -> dict[str, Type]:
        return {name: _find_type(rule) for name, rule in self.rules.items() if name != self.label}

    @property
    def drops_unlabelled(self) -> bool:
        """Whether rows without a label are left out and are no bad rows."""
        return self.label is not None and not self.rules[self.label].required

    @property
    def labels(self) -> Sequence[str]:
        """The only values that the label may have; none for numbers."""
        return self.rules[self.label].classes if self.label is not None else ()

    @property
    def features(self) -> list[str]:
        """The columns in which two rows must be equal to be equal rows: all that are read but label and weight."""
        return [name for name in self.types if name not in (self.label, self.weight)]

    @property
    def needed(self) -> list[str]:
        """The columns that have to be there."""
        read = [name for name in self.rules if name != self.label or self.label_expression is None]
        return [*read, *self.split_by, *([self.group] if self.group else []), *self.copied]

    def find_undeclared(self, names: Sequence[str]) -> list[str]:
        """Return the columns of a file that neither the config nor `ignored` names; a request log has its own."""
        if self.ignored is None:
            return []
        declared = {*self.needed, *self.ignored}
        return [name for name in names if name not in declared and not is_log_column(name)]


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
      texts: the same as strings, null where a value is missing.
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
        return hash_rows(self.values, self.features)

    @cached_property
    def group_hashes(self) -> Hashes:
        """The hash of each row's group, [n]; of no row where rows have no groups."""
        return hash_values(pa.nulls(0, pa.string()) if self.groups is None else self.groups)


@dataclass
class Table:
    """One file, or a piece of it, with the columns that a config declares.

    Attributes:
      max_bad_rows: reading ends soon after more were found.
      may_be_empty: whether a file with columns and no rows is taken.
      bad_rows: bad rows so far.
      unlabelled: number of rows so far that were dropped because they have no label.
    """

    reader: Reader
    columns: Columns
    max_bad_rows: int = 0
    may_be_empty: bool = False
    bad_rows: list[BadRow] = field(default_factory=list)
    unlabelled: int = 0

    @classmethod
    def from_config(cls, path: str, data: Data, features: FeatureSet, *, max_bad_rows: int) -> "Table":
        """Return the table of one of a config's files."""
        columns = Columns.from_config(data, features)
        is_masked = bool(columns.sensitive)
        reader = open_table(path, data.format, data.csv, only=columns.needed, is_masked=is_masked)
        return cls(reader, columns, max_bad_rows)

    @classmethod
    def from_json(cls, path: str, settings: dict[str, Any], piece: Piece | None = None) -> "Table":
        """Return the table of a file, or of a piece of it, from the JSON of `build_settings`."""
        options = CsvOptions.model_validate(settings["csv"])
        columns = Columns.from_json(settings["columns"])
        is_masked = bool(columns.sensitive)
        reader = open_table(path, settings["format"], options, piece=piece, only=columns.needed, is_masked=is_masked)
        # A stream of BigQuery may have no rows; a file has.
        return cls(reader, columns, settings["max_bad_rows"], may_be_empty=settings["format"] == "bigquery")

    @staticmethod
    def build_settings(data: Data, features: FeatureSet) -> dict[str, Any]:
        """Return what `from_json` takes: all of JSON's types."""
        return {
            "format": data.format,
            "csv": data.csv.model_dump(mode="json"),
            "columns": Columns.from_config(data, features).as_json(),
            "max_bad_rows": data.max_bad_rows,
        }

    @property
    def path(self) -> str:
        return self.reader.path

    def check_names(self) -> None:
        """Reject a file whose columns are not the declared ones.

        Raises:
          DataError: the file is empty or not readable, or names the first column that is missing or undeclared.
        """
        self._check_names(self.reader.read_names())

    def read_batches(self) -> Iterator[Batch]:
        """Stream the good rows in file order; bad ones are kept in `bad_rows`.

        Raises:
          DataError: the file cannot be read, has other columns, or holds no rows.
        """
        self.check_names()
        rows = 0
        for texts in _join_small(self._complete(texts) for texts in self.reader.read_batches()):
            rows += len(texts.rows)
            self._take_ragged()
            batch = self._build_batch(texts)
            if len(batch.rows):
                yield batch
            if len(self.bad_rows) > self.max_bad_rows:
                return
        self._take_ragged()
        if not rows and not self.bad_rows and not self.may_be_empty:
            expected = ", ".join(self.columns.rules)
            raise DataError(f"{self.path}: holds no rows; expected rows with {expected}")

    def describe(self, rows: Sequence[BadRow]) -> list[str]:
        """Return `place: column: reason` for each of these bad rows."""
        places = self.reader.find_places([row.row for row in rows])
        return [
            f"{places.get(bad.row, self.path)}: {f'{bad.column}: ' if bad.column else ''}{bad.reason}" for bad in rows
        ]

    def _take_ragged(self) -> None:
        taken = sum(1 for bad in self.bad_rows if bad.column is None)
        for ragged in self.reader.ragged[taken:]:
            # Any of the fields may be a sensitive column's.
            text = MASK if self.columns.sensitive else ragged.text
            quoted = MASK if self.columns.sensitive else quote(text)
            reason = f"{ragged.reason}: {quoted}; a field that holds the delimiter needs quotes"
            self.bad_rows.append(BadRow(ragged.row, None, reason, text))

    def _check_names(self, names: list[str]) -> None:
        ignored, needed = self.columns.ignored, self.columns.needed
        counts = Counter(names)
        self._check_header(names)
        may_repeat = {*names} if ignored is None else {*ignored}
        repeated = sorted(name for name in counts if counts[name] > 1 and (name not in may_repeat or name in needed))
        if repeated:
            raise DataError(f"{self.path}: the header names {', '.join(map(repr, repeated))} twice")
        extra = self.columns.find_undeclared(names)
        if self.reader.leaves_out_missing:
            optional = {name for name, rule in self.columns.rules.items() if not rule.required}
            needed = [name for name in needed if name not in optional]
        for name in needed:
            if name not in counts:
                hint = suggest_name(name, extra or names)
                only_copied = name in self.columns.copied and name not in self.columns.rules
                why = self.reader.terms.copies if only_copied else self.reader.terms.declares
                raise DataError(f"{self.path}: there is no column '{name}', which {why}; {hint}")
        self._check_declared(names)
        for name in self.reader.find_booleans():
            if name in self.columns.rules and not self.columns.rules[name].reads_booleans:
                raise DataError(
                    f"{self.path}: column '{name}' holds booleans; the training data had strings in another format, so "
                    "write those strings"
                )

    def _check_header(self, names: Collection[str]) -> None:
        """Reject a file without a sensitive column; its names may be the values of a first row, and are not shown."""
        if self.reader.leaves_out_missing:
            return
        for name in self.columns.needed:
            if name in self.columns.sensitive and name not in names:
                raise DataError(
                    f"{self.path}: there is no column '{name}', which {self.reader.terms.declares}; the {len(names)} "
                    f"names of the file are not shown: '{name}' is sensitive, and without a header they are values"
                )

    def _check_declared(self, names: Sequence[str]) -> None:
        extra = self.columns.find_undeclared(names)
        if extra:
            close = find_close_match(extra[0], list(self.columns.rules))
            hint = f"did you mean '{close}'? Or " if close else ""
            raise DataError(
                f"{self.path}: column {_list_names(extra)} is not declared; {hint}{self.reader.terms.undeclared}"
            )

    def _complete(self, texts: Texts) -> Texts:
        """Add a column of nulls for each that no record of a batch of tf.Example has.

        Raises:
          DataError: a record has a feature that is not declared, which the first records had not.
        """
        columns = texts.columns
        self._check_declared(texts.names)
        for name in sorted({*self.columns.needed} - {*columns.schema.names}):
            columns = columns.append_column(name, pa.nulls(columns.num_rows, pa.string()))
        return replace(texts, columns=columns)

    def _build_batch(self, texts: Texts) -> Batch:
        """Return the rows that fit; the others go to `bad_rows`, each with its first fault."""
        rules, expression, label = self.columns.rules, self.columns.derived_label, self.columns.label
        read = {name: rule for name, rule in rules.items() if expression is None or name != label}
        columns = {name: convert(texts.columns.column(name), rule) for name, rule in read.items()}
        if expression is not None:
            assert label is not None
            operands = {name: _convert_operand(columns[name], rules[name]) for name in expression.columns}
            columns[label] = convert(
                as_strings(evaluate_rows(expression, operands), rules[label].numbers.decimal), rules[label]
            )
        good = np.ones(len(texts.rows), dtype=bool)
        if self.columns.drops_unlabelled:
            assert self.columns.label is not None
            good &= ~columns[self.columns.label].missing
            self.unlabelled += int((~good).sum())
        for index, (name, fault) in sorted(_find_first_faults(columns).items()):
            if good[index]:
                good[index] = False
                text = self._format_row(texts.columns, index)
                self.bad_rows.append(BadRow(int(texts.rows[index]), name, self._advise(fault, name), text))
        return self._select_good(texts, columns, None if good.all() else pa.array(good))

    def _format_row(self, columns: pa.RecordBatch, index: int) -> str:
        """Return the values of a row, those of sensitive columns masked."""
        values = [
            MASK if name in self.columns.sensitive else column[index].as_py() or ""
            for name, column in zip(columns.schema.names, columns.columns, strict=True)
        ]
        return ",".join(values)[:MAX_VALUE_BYTES]

    def _advise(self, fault: Fault, name: str) -> str:
        """Return a fault with its remedy, in the words of whoever reads the table."""
        terms = self.reader.terms
        if name == self.columns.weight and fault.kind != "format":
            return f"{fault.reason}; the row counts by its weight: correct or remove the row"
        match fault.kind:
            case "missing" if name == self.columns.label:
                return "the label is missing; correct or remove the row, or set label.drop_missing: true"
            case "missing":
                return f"{fault.reason}; {terms.for_missing.format(name=name)}"
            case "format":
                return f"{fault.reason}; correct the row, or declare how numbers are written: {terms.numbers}"
            case "type" | "date":
                where = "label.missing_values" if name == self.columns.label else terms.missing_values
                return (
                    f"{fault.reason}; correct the row, or name the string in {where} if it stands for a missing value"
                )
            case "time":
                return f"{fault.reason}; {terms.for_times.format(name=name)}"
            case "other":
                # Some reasons have their own remedy.
                return fault.reason if "; " in fault.reason else f"{fault.reason}; correct or remove the row"

    def _select_good(self, texts: Texts, columns: Mapping[str, Converted], good: pa.Array | None) -> Batch:
        def keep_good(column: pa.Array) -> pa.Array:
            return column if good is None else column.filter(good)

        def get_plain(name: str) -> pa.Array:
            return keep_good(as_missing(texts.columns.column(name), self.columns.missing_values))

        group = self.columns.group
        strings = {name: keep_good(columns[name].strings) for name in self.columns.types}
        return Batch(
            values=pa.RecordBatch.from_pydict({name: keep_good(columns[name].values) for name in self.columns.types}),
            texts=pa.RecordBatch.from_pydict(strings),
            rows=texts.rows if good is None else texts.rows[np.asarray(good)],
            features=self.columns.features,
            groups=get_plain(group) if group else None,
            split_by={name: get_plain(name) for name in self.columns.split_by},
            labels=strings[self.columns.label] if self.columns.label else None,
            copied={name: keep_good(texts.columns.column(name)) for name in self.columns.copied},
        )


def _find_type(rule: Rule) -> Type:
    """Return the type of a column's values in expressions."""
    if rule.times is not None:
        return choose_time_type(rule.times.format)
    return "string" if rule.kind == "string" else "number"


def _convert_operand(column: Converted, rule: Rule) -> pa.Array:
    """Return the values of a column as an expression takes them: numbers in float64, as the file has them."""
    if rule.times is not None:
        return column.values
    strings = pc.if_else(column.values.is_valid(), column.strings, pa.scalar(None, pa.string()))
    if rule.kind == "string":
        return strings
    return pc.utf8_trim_whitespace(strings).cast(pa.float64())


def _join_small(batches: Iterable[Texts]) -> Iterator[Texts]:
    """Join batches of few rows: a column costs the same in any batch, and a wide table has thousands."""
    waiting: list[Texts] = []
    for texts in batches:
        if waiting and texts.columns.schema != waiting[0].columns.schema:
            yield _join(waiting)
            waiting = []
        waiting.append(texts)
        if (
            sum(len(batch.rows) for batch in waiting) >= _ROWS_TOGETHER
            or sum(batch.columns.nbytes for batch in waiting) >= _BYTES_TOGETHER
        ):
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _join(batches: list[Texts]) -> Texts:
    if len(batches) == 1:
        return batches[0]
    (columns,) = pa.Table.from_batches([texts.columns for texts in batches]).combine_chunks().to_batches()
    return replace(batches[-1], columns=columns, rows=np.concatenate([texts.rows for texts in batches]))


def _find_first_faults(columns: Mapping[str, Converted]) -> dict[int, tuple[str, Fault]]:
    """Return the first fault of each row that has one: its column, and what it is."""
    first_faults: dict[int, tuple[str, Fault]] = {}
    for name, column in columns.items():
        for index, fault in column.faults.items():
            first_faults.setdefault(index, (name, fault))
    return first_faults


def build_bad_rows_error(problems: Sequence[str], allowed: int, terms: Terms = CONFIG_TERMS) -> DataError:
    """Return the error for rows that do not fit, from `summarize_bad_rows` of all files."""
    examples = list(problems[:SHOWN_PROBLEMS])
    if allowed:
        examples[0] = f"more bad rows than {terms.max_bad_rows}: {allowed:,}; {examples[0]}"
    return DataError("\n".join(examples))


def summarize_bad_rows(table: Table) -> list[str]:
    """Return the bad rows of a file in a few lines: the first of each column and reason, and how many more there
    are.
    """
    kinds: dict[tuple[str | None, str], BadRow] = {}
    counts: Counter[tuple[str | None, str]] = Counter()
    for bad in table.bad_rows:
        kind = (bad.column, bad.reason.partition(FOUND)[0])
        kinds.setdefault(kind, bad)
        counts[kind] += 1
    firsts = list(kinds.values())[:SHOWN_PROBLEMS]
    lines = table.describe(firsts)
    return [
        f"{line} (and {counts[kind] - 1:,} more like it)" if counts[kind] > 1 else line
        for kind, line in zip(list(kinds)[:SHOWN_PROBLEMS], lines, strict=True)
    ]


def _list_names(names: Sequence[str]) -> str:
    more = f" (and {len(names) - SHOWN_PROBLEMS} more)" if len(names) > SHOWN_PROBLEMS else ""
    return ", ".join(map(repr, names[:SHOWN_PROBLEMS])) + more
