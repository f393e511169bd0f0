"""Writes a config and a curated schema for a table nobody has described yet: `python -m pipeline init`.

Every choice is a line of the config with its reason beside it. Imports no TensorFlow.
"""

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from components.profile import Column, crossed, target
from schemas import locations
from schemas.data import CsvOptions, Data, FileSplit, Format, HashSplit
from schemas.data_files import guessed_format, inputs, literal_start
from schemas.declaration import did_you_mean
from schemas.errors import ConfigError, DataError
from schemas.features import safe_name
from schemas.readers import open_table
from schemas.row_hash import row_hashes
from schemas.values import as_missing

ROWS_READ = 1_000_000
# What often stands for a missing value: among numbers, and anywhere.
_MISSING_NUMBERS = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none", "?", "-", ".", "\\N", "#N/A")
_NAN_SPELLINGS = ("NaN", "nan")
_MISSING_ANYWHERE = ("?", "NA", "N/A", "NULL", "null", "NaN", "nan", "\\N", "#N/A")
_DELIMITERS = (",", "\t", ";", "|")
_POSITIVE = ("1", "1.0", "true", "t", "yes", "y", "positive", "pos", "late", "churned", ">50k")
_MAX_CLASSES = 100
_MAX_IDENTITY = 64
_MAX_VOCABULARY = 5_000
_MAX_DOMAIN = 100
_BUCKETS = 32
_LEAK, _SUSPECT = 0.75, 0.5
# A column with more numbers than this is one of numbers; the rows with other texts are bad rows.
_MOSTLY_NUMBERS = 0.99
_ID_NAME = re.compile(r"(?i:(^|[\W_])(id|uuid|guid)$)|[a-z]I[dD]$")
_CODE_NAME = re.compile(r"(^|[\W_])(code|zip|zipcode|postcode|postal)$", re.IGNORECASE)
# Of fewer rows a tenth is too few to tell a model with R squared 0.5 from a constant (docs/quality.md).
_SMALL_TABLE_ROWS = 1_000
# A class with fewer rows might not be in every split.
_RARE_CLASS = 20
_CROSSED_FEATURES, _CROSSES = 8, 3


@dataclass(frozen=True)
class Source:
    """What is read, and how.

    Attributes:
      base: the folder of the files.
      train: their path or glob pattern below it.
      test: the pattern of a test split of its own, or None.
      format: of the files.
      csv: how CSV files are written.
    """

    base: Path
    train: str
    test: str | None
    format: Format
    csv: CsvOptions


@dataclass
class Starter:
    """The two files, and what the user is told about them.

    Attributes:
      config: text of the config.
      schema: text of the schema.
      rows: number of rows that were read.
      distinct_rows: number of those that differ in a feature.
      notes: what the user should look at.
    """

    config: str
    schema: str
    rows: int
    distinct_rows: int
    notes: list[str] = field(default_factory=list)


@dataclass
class _Feature:
    """A column that becomes a feature: its declaration, and why it is that."""

    column: Column
    declared: dict[str, Any]
    reason: str
    explained: float


def find_source(
    data: str, *, test: str | None, delimiter: str | None, column_names: Sequence[str], header: bool
) -> Source:
    """Finds out the format of files from their names and first lines.

    Args:
      data: a path, a glob pattern, or a folder with files of one format.
      test: the same for a test split, in the same folder or below it.
      delimiter: None to find it out.
      column_names: of files without a header.
      header: whether the first row of CSV names the columns; without one and without names, they are column_1 and on.

    Raises:
      DataError: there is no such file, or it cannot be read.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        endings = {file.name.split(".", 1)[-1] for file in path.iterdir() if file.is_file() and "." in file.name}
        if len(endings) != 1:
            raise DataError(f"{data}: holds files of {len(endings)} kinds; name one, as in '{path / '*.csv'}'")
        path = path / f"*.{endings.pop()}"
    folder, pattern = (str(path.parent), path.name) if path.is_file() else literal_start(str(path))
    base = Path(folder)
    test_pattern = None
    if test is not None:
        test_path = Path(os.path.abspath(Path(test).expanduser()))
        if not test_path.is_relative_to(base.absolute()):
            raise DataError(f"--test {test}: must be in the folder of the data, {base}, or below it")
        test_pattern = str(test_path.relative_to(base.absolute()))
    first = _files(base, pattern)[0]
    format = guessed_format(first) or "csv"
    options = _csv_options(first, delimiter, column_names, header=header) if format == "csv" else CsvOptions()
    return Source(base, pattern, test_pattern, format, options)


def slug(data: str) -> str:
    """A name for a pipeline, from the path of its data.

    >>> slug("data/My Orders 2024.csv.gz")
    'my-orders-2024'
    """
    path = Path(data)
    stem = path.name.split(".")[0]
    if (re.search(r"[*?\[{]", stem) and not path.expanduser().exists()) or not stem:
        stem = path.parent.name
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:60] or "pipeline"


def _files(base: Path, pattern: str) -> list[str]:
    data = Data(
        base=str(base), splits={"train": FileSplit(files=pattern), "eval": HashSplit(share_of="train", share=0.1)}
    )
    return [path for one in inputs(data) for path in one.files]


def _csv_options(path: str, delimiter: str | None, names: Sequence[str], *, header: bool) -> CsvOptions:
    """Looks at the first lines."""
    filesystem, location = locations.filesystem(path)
    try:
        with filesystem.open_input_stream(location) as file:
            start = file.read(1 << 18)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    encoding = "utf-8"
    try:
        # The last character may have been cut in two.
        text = start.decode(encoding) if len(start) < 1 << 18 else start[:-4].decode(encoding, errors="strict")
    except UnicodeDecodeError:
        encoding = "latin-1"
        text = start.decode(encoding)
    lines = [line for line in text.splitlines() if line][:200]
    if not lines:
        raise DataError(f"{path}: holds no rows")
    if delimiter is None:
        # The separator that cuts every line into the same number of fields, the more the better.
        fields = {
            mark: [len(row) for row in csv.reader(lines[:-1] or lines, delimiter=mark)]
            for mark in (",", "\t", ";", "|")
        }
        delimiter = max(fields, key=lambda mark: (min(fields[mark]) > 1, min(fields[mark]), mark == ","))
    rows = list(csv.reader(lines[:-1] or lines, delimiter=delimiter))
    inner = [value for row in rows[1:] for value in row[1:] if value]
    strip = bool(inner) and sum(value.startswith(" ") for value in inner) > 0.9 * len(inner)
    if not header and not names:
        names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
    return CsvOptions(delimiter=delimiter, column_names=tuple(names), encoding=encoding, strip_spaces=strip)


class _Table:
    """All columns of the files, as texts; what stands for a missing value is found out."""

    def __init__(self, source: Source, label: str) -> None:
        files = [*_files(source.base, source.train), *(_files(source.base, source.test) if source.test else [])]
        batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.ragged = 0
        for path in files:
            reader = open_table(path, source.format, source.csv)
            for texts in reader.batches():
                batches.append(_with_nulls(texts.columns))
                self.rows += texts.columns.num_rows
                if self.rows >= ROWS_READ:
                    break
            self.ragged += len(reader.ragged)
        if not self.rows:
            raise DataError(f"{source.base / source.train}: holds no rows")
        self.complete = self.rows < ROWS_READ
        names = list(dict.fromkeys(name for batch in batches for name in batch.schema.names))
        repeated = [name for name in names if batches[0].schema.names.count(name) > 1]
        if repeated:
            raise DataError(
                f"{files[0]}: the header names {', '.join(map(repr, repeated[:3]))} twice{_no_header_hint(source)}"
            )
        self.columns = {name: Column(name, _texts(batches, name)) for name in names}
        self.missing_values, self.nan_rows, self.label_missing_values = self._find_missing(label)
        self.columns = {
            name: Column(name, as_missing(column.texts, self._missing_in(name, label)))
            for name, column in self.columns.items()
        }
        self.mixed = self._drop_mixed()

    def _drop_mixed(self) -> dict[str, tuple[int, str]]:
        """Drops the rows with a text in a column of numbers; returns by column how many there are, and a text."""
        found: dict[str, tuple[int, str]] = {}
        bad = np.zeros(self.rows, dtype=bool)
        for name, column in self.columns.items():
            if _MOSTLY_NUMBERS <= column.number_share < 1:
                others = column.not_numbers
                rows = pc.fill_null(pc.is_in(column.texts, pa.array(others)), False).to_numpy(zero_copy_only=False)
                found[name] = (int(rows.sum()), others[0])
                bad |= rows.astype(bool)
        if found:
            self.columns = {name: Column(name, c.texts.filter(pa.array(~bad))) for name, c in self.columns.items()}
        self.bad_rows = int(bad.sum())
        return found

    def _missing_in(self, name: str, label: str) -> list[str]:
        if name == label:
            return self.label_missing_values
        return [*self.missing_values, *(_NAN_SPELLINGS if name in self.nan_rows else ())]

    def _find_missing(self, label: str) -> tuple[list[str], dict[str, int], list[str]]:
        """Return what stands for a missing value in the features, the rows with NaN by column, and the label's."""
        found, of_label = [""], [""]
        nan_rows: dict[str, int] = {}
        for column in self.columns.values():
            marks = self._marks(column)
            if column.name == label:
                # A class may be called NA; among numbers it is none.
                of_label += marks if column.not_numbers else []
                continue
            if column.not_numbers:
                rows = sum(count for value, count in column.values if value in _NAN_SPELLINGS and value in marks)
                nan_rows |= {column.name: rows} if rows else {}
                marks = [mark for mark in marks if mark not in _NAN_SPELLINGS]
            found += marks
        return list(dict.fromkeys(found)), nan_rows, list(dict.fromkeys(of_label))

    def _marks(self, column: Column) -> list[str]:
        """Return the values of a column that stand for a missing one, beside the empty string."""
        counts = dict(column.values) if column.not_numbers else {}
        marks = [value for value in column.not_numbers if value in _MISSING_NUMBERS]
        rest = sum(counts[value] for value in column.not_numbers if value not in marks)
        if marks and rest <= (1 - _MOSTLY_NUMBERS) * (column.present - sum(counts[mark] for mark in marks)):
            return marks
        if not column.is_number and column.distinct < _MAX_VOCABULARY:
            return [value for value, _ in column.values if value in _MISSING_ANYWHERE]
        return []


def _with_nulls(strings: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with null in place of the empty string."""
    columns = [as_missing(column, ("",)) for column in strings.columns]
    return pa.RecordBatch.from_arrays(columns, names=strings.schema.names)


def _texts(batches: Sequence[pa.RecordBatch], name: str) -> pa.Array:
    parts = [
        batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string()) for batch in batches
    ]
    return pa.chunked_array(parts, pa.string()).combine_chunks()


def write_starter(source: Source, *, label: str, name: str, config_folder: Path, schema_path: Path) -> Starter:
    """Profiles the data and writes the texts of a config and a schema.

    Args:
      source: from `find_source`.
      label: the column to predict.
      name: of the pipeline.
      config_folder: where the config will be; its paths are relative to it.
      schema_path: where the schema will be.

    Raises:
      DataError: the files cannot be read, or the label cannot be learned.
      ConfigError: there is no column of that name.
    """
    table = _Table(source, label)
    if label not in table.columns:
        hint = did_you_mean(label, list(table.columns))
        raise ConfigError(f"--label {label}: the data has no such column; {hint}{_no_header_hint(source)}")
    return _Writer(source, table, label, name, config_folder, schema_path).starter()


def _no_header_hint(source: Source) -> str:
    if source.format != "csv" or source.csv.column_names:
        return ""
    return "; if the first row is no header, say --no-header or --column-names"


class _Writer:
    def __init__(
        self, source: Source, table: _Table, label: str, name: str, config_folder: Path, schema_path: Path
    ) -> None:
        self._source, self._table, self._name = source, table, name
        self._folder, self._schema_path = config_folder, schema_path
        self._notes: list[str] = []
        column = table.columns[label]
        if not column.present:
            raise DataError(f"--label {label}: the column has no values")
        self._unlabelled = column.rows - column.present
        self._label, self._label_reason, self._classes, self._rare = self._choose_label(column)
        labelled = column.texts.is_valid()
        if self._rare:
            labelled = pc.and_(labelled, pc.fill_null(pc.is_in(column.texts, pa.array(self._classes)), False))
        kept = {n: Column(n, c.texts.filter(labelled)) for n, c in table.columns.items()}
        self._target = target(kept[label], self._classes)
        self._label_column = kept[label]
        self._rows = self._label_column.rows
        self._features: list[_Feature] = []
        self._ignored: list[tuple[str, str]] = []
        for other in kept.values():
            if other.name != label:
                self._choose(other)
        if not self._features:
            raise DataError(f"no column can be a feature: {'; '.join(f'{n}: {why}' for n, why in self._ignored)}")

    def starter(self) -> Starter:
        config, schema = ("\n".join(lines) + "\n" for lines in (self._config(), self._schema()))
        return Starter(config, schema, self._rows, self._distinct_rows(), self._notes)

    def _distinct_rows(self) -> int:
        columns = {
            feature.column.name: pa.array(feature.column.numbers.astype(np.float32))
            if feature.declared["kind"] in ("numeric", "identity")
            else feature.column.texts.cast(pa.binary())
            for feature in self._features
        }
        return len(np.unique(row_hashes(pa.RecordBatch.from_pydict(columns), list(columns))))

    # The label.

    def _choose_label(self, column: Column) -> tuple[dict[str, Any], str, list[str], int]:
        """Its declaration, the reason, its classes, and how many rows are of classes too rare to learn."""
        base: dict[str, Any] = {"column": column.name}
        if self._table.label_missing_values != [""]:
            base["missing_values"] = self._table.label_missing_values
        if self._unlabelled:
            base["drop_missing"] = True
        counts = dict(column.values)
        if len(counts) < 2:
            raise DataError(f"--label {column.name}: all values are {next(iter(counts))!r}; there is nothing to learn")
        if len(counts) == 2:
            known = [value for value in counts if value.strip().lower() in _POSITIVE]
            positive = known[0] if len(known) == 1 else list(counts)[1]
            (negative,) = (value for value in counts if value != positive)
            share = counts[positive] / column.present
            reason = f"two values, the positive one in {share:.1%} of the rows"
            return {**base, "positive": positive, "negative": negative}, reason, [negative, positive], 0
        if column.is_number and (len(counts) > 20 or not column.is_integer):
            low, high = column.quantile(0), column.quantile(1)
            return {"kind": "regression", **base}, f"numbers from {low:g} to {high:g}", [], 0
        if len(counts) > _MAX_CLASSES:
            raise DataError(
                f"--label {column.name}: {len(counts):,} different texts; expected two values, up to {_MAX_CLASSES} "
                "classes, or numbers"
            )
        classes = [value for value, count in counts.items() if count >= _RARE_CLASS]
        rare = column.present - sum(counts[value] for value in classes)
        if len(classes) < 3:
            raise DataError(
                f"--label {column.name}: {len(classes)} of {len(counts)} classes have {_RARE_CLASS} rows or more; "
                "expected three or more; put the rare ones together, or add rows"
            )
        most = counts[classes[0]] / column.present
        reason = f"{len(classes)} classes, the most frequent {most:.1%} of the rows"
        return {"kind": "multiclass", **base, "classes": classes}, reason, classes, rare

    # The features.

    def _choose(self, column: Column) -> None:
        ignored = self._why_not(column)
        if ignored:
            self._ignored.append((column.name, ignored))
            return
        explained = self._target.explained(column.ids)
        if explained > _LEAK:
            self._ignored.append(
                (column.name, f"LEAK? explains {explained:.0%} of the label by itself; is it known beforehand?")
            )
            self._notes.append(f"'{column.name}' explains {explained:.0%} of the label: left out as a likely leak")
            return
        declared, reason = _declared(column)
        if column.name in self._table.nan_rows:
            rows = self._table.nan_rows[column.name]
            declared["missing_values"] = [*self._table.missing_values, "NaN"]
            reason += f"; NaN in {rows:,} rows counts as missing"
            self._notes.append(f"'{column.name}' holds NaN in {rows:,} rows: declared as missing (missing_values)")
        if column.name in self._table.mixed:
            count, text = self._table.mixed[column.name]
            reason += f"; {count:,} rows have a text such as {text!r}, see max_bad_rows"
        reason += f"; explains {explained:.1%} of the label"
        if explained > _SUSPECT:
            reason += ": SUSPICIOUS, is it known beforehand?"
            self._notes.append(f"'{column.name}' explains {explained:.0%} of the label: make sure it is no leak")
        self._features.append(_Feature(column, declared, reason, explained))

    def _why_not(self, column: Column) -> str:
        """Why a column is no feature; empty if it is one."""
        names = {safe_name(feature.column.name): feature.column.name for feature in self._features}
        if not column.present:
            return "empty"
        if column.distinct == 1:
            missing = f" or missing ({column.missing_share:.1%})" if column.missing_share else ""
            return f"constant: always {column.values[0][0]!r}{missing}"
        if column.missing_share > 0.99:
            return f"missing in {column.missing_share:.1%} of the rows"
        if column.is_date:
            return f"date, such as {column.values[0][0]!r}; derive a weekday, a month or an age from it"
        unique = column.distinct / column.present
        if unique > 0.95 and column.rows > 100 and (column.is_integer or not column.is_number):
            return f"id: {column.distinct:,} different values in {column.present:,} rows"
        if column.distinct > 100 and _ID_NAME.search(column.name):
            return (
                f"id by its name, {column.distinct:,} different values; to keep the rows of one in one split, make it "
                "data.group_column"
            )
        if safe_name(column.name) in (*names, safe_name(self._label["column"])):
            same = names.get(safe_name(column.name), self._label["column"])
            return f"would have the name of '{same}' in the served model ('{safe_name(column.name)}'); rename it"
        return ""

    def _crosses(self) -> list[tuple[list[str], int, str]]:
        """The pairs that explain most beyond what the better of the two explains."""
        usable = [f for f in self._features if f.declared.get("buckets") or f.declared["kind"] != "numeric"]
        usable = sorted(usable, key=lambda f: -f.explained)[:_CROSSED_FEATURES]
        found = []
        for one, other in combinations(usable, 2):
            ids = crossed(one.column.ids, other.column.ids)
            pairs = int(ids.max()) + 1
            both = self._target.explained(ids)
            gain = both - max(one.explained, other.explained)
            # Two features that say the same explain together what each explains.
            if gain > 0.005 and pairs > max(one.column.distinct, other.column.distinct):
                reason = f"together {both:.1%} of the label; alone {one.explained:.1%} and {other.explained:.1%}"
                if both > _SUSPECT:
                    who = f"'{one.column.name}' and '{other.column.name}'"
                    reason += ": SUSPICIOUS, are both known beforehand?"
                    self._notes.append(f"{who} explain {both:.0%} of the label together: make sure it is no leak")
                found.append((gain, [one.column.name, other.column.name], pairs, reason))
        found.sort(key=lambda item: -item[0])
        chosen: list[tuple[list[str], int, str]] = []
        for _, names, pairs, reason in found:
            # Each feature once: columns that are nearly the same would take all the places.
            if len(chosen) < _CROSSES and not {*names} & {name for pair, _, _ in chosen for name in pair}:
                chosen.append((names, _round_up(2 * pairs, 20_000), reason))
        return chosen

    # The config.

    def _config(self) -> Iterator[str]:
        source, table = self._source, self._table
        path = source.base / source.train
        yield f"# {self._name}: predicts {self._label['column']!r}. Written by `python -m pipeline init`; it runs."
        yield f"# It looked at {'all' if table.complete else 'the first'} {table.rows:,} rows of {path.name}."
        yield "# Every key is explained in docs/config.md. Paths are relative to this file's folder."
        yield f"name: {self._name}"
        yield "seed: 1 # initial weights and the order of rows start from it"
        yield ""
        yield from self._data()
        yield ""
        yield "# `explains` is what a column by itself says about the label, measured on rows it was not learned from:"
        yield f"# the share of the label's {'entropy' if self._classes else 'variance'}."
        yield "features:"
        for feature in self._features:
            yield f"  {_flow(feature.column.name)}: {_flow(feature.declared)} # {feature.reason}"
        yield ""
        yield from self._cross_lines()
        yield f"label: {_flow(self._label)} # {self._label_reason}"
        yield ""
        yield from self._validation()
        yield from self._model()
        yield from self._evaluation()
        yield "push:"
        yield f"  model_name: {self._name}"

    def _data(self) -> Iterator[str]:
        source, table = self._source, self._table
        yield "data:"
        yield f"  format: {source.format}"
        options = source.csv.model_dump(exclude_defaults=True)
        if options:
            yield f"  csv: {_flow({k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})}"
        yield f"  base: {_flow(_relative(source.base, self._folder))}"
        yield "  # A row falls into a share by a hash of its features. To split by time instead, on a column:"
        yield '  #   test: {part_of: train, column: day, at_least: "2013-11-01"}'
        yield "  splits:"
        yield f"    train: {{files: {_flow(source.train)}}}"
        yield "    eval: {share_of: train, share: 0.1} # watched by early stopping"
        if source.test is None:
            yield f"    test: {{share_of: train, share: {self._test_share}}} # only the Evaluator reads it"
        else:
            yield f"    test: {{files: {_flow(source.test)}}} # only the Evaluator reads it"
        yield f"  missing_values: {_flow(table.missing_values)}"
        if self._ignored:
            yield "  ignored_columns:"
            for name, reason in self._ignored:
                yield f"    - {_flow(name)} # {reason}"
        left_out = self._rare + table.ragged + table.bad_rows
        if left_out:
            what = [f"{self._rare:,} rows of rare classes"] if self._rare else []
            what += [f"{table.bad_rows:,} with a text among numbers"] if table.bad_rows else []
            what += [f"{table.ragged:,} with a wrong number of fields"] if table.ragged else []
            yield f"  max_bad_rows: {left_out} # {' and '.join(what)} are left out, counted, and kept in rejects.jsonl"
            self._notes.append(f"{' and '.join(what)} will be left out")
        yield f"  schema_file: {_flow(_relative(self._schema_path, self._folder))}"

    @property
    def _test_share(self) -> float:
        """The share that is judged; of a small table it is larger, or a good model cannot be told from a constant."""
        return 0.2 if self._rows < _SMALL_TABLE_ROWS else 0.1

    def _cross_lines(self) -> Iterator[str]:
        crosses = self._crosses()
        if crosses:
            yield "# Combinations that say more together than the better of the two alone; the wide part learns them."
            yield "crosses:"
            for names, num_ids, reason in crosses:
                yield f"  - {{of: {_flow(names)}, num_ids: {num_ids}}} # {reason}"
            yield ""

    def _validation(self) -> Iterator[str]:
        yield "# Every anomaly stops the run. Drift is looked at once a model was pushed."
        yield "validation:"
        yield "  drift:"
        yield "    default: {measure: jensen_shannon, at_most: 0.1} # of `train`, against that of the last pushed model"
        yield ""

    def _model(self) -> Iterator[str]:
        rows = self._rows
        small = rows < 5_000
        batch = 64 if small else 256 if rows < 100_000 else 1024
        yield "model:"
        yield f"  hidden_units: {[32, 16] if small else [128, 64]}"
        yield "  dropout: 0.2"
        yield ""
        yield "training:"
        yield f"  epochs: {20 if small else 10 if rows < 100_000 else 5} # at most: early stopping keeps the best"
        yield f"  batch_size: {batch}"
        yield "  wide_optimizer: {name: ftrl, learning_rate: 0.05}"
        yield "  deep_optimizer: {name: adam, learning_rate: 0.002, schedule: cosine}"
        yield f"  early_stopping: {{patience: {3 if small else 2}}}"
        if self._classes and min(self._class_shares()) < 0.1 / len(self._classes):
            yield "  imbalance: none # the classes are uneven; class_weights lifts recall and spoils the calibration"
        yield ""

    def _class_shares(self) -> list[float]:
        return [float(count) / self._rows for count in np.bincount(self._target.labels, minlength=len(self._classes))]

    def _evaluation(self) -> Iterator[str]:
        yield "# A model is pushed if it keeps these bounds. They ask for no more than to be better than always"
        yield f"# predicting the {'shares of the classes' if self._classes else 'mean'}; tighten them after the first."
        yield "evaluation:"
        yield "  split: test"
        sliced = self._sliced()
        if sliced:
            yield f"  slice_by: {_flow([[name] for name in sliced])}"
        yield f"  min_examples: {max(20, min(100, self._rows // 100))}"
        yield "  thresholds:"
        if self._classes:
            entropy = -sum(share * math.log(share) for share in self._class_shares() if share)
            yield f"    - {{metric: log_loss, at_most: {entropy:.4f}}} # the entropy of the label"
        else:
            deviation = float(np.std(self._target.labels))
            yield f"    - {{metric: rmse, at_most: {deviation:.6g}}} # the standard deviation of the label"
        yield "  compared_with_last_blessed:"
        if self._classes:
            metric = "auc" if len(self._classes) == 2 else "accuracy"
            yield f"    - {{metric: {metric}, may_worsen_by: 0.02}}"
        else:
            yield f"    - {{metric: rmse, may_worsen_by: {0.05 * deviation:.3g}}}"
        yield ""

    def _sliced(self) -> list[str]:
        """Up to two columns of a handful of categories."""
        few = [f for f in self._features if f.declared["kind"].startswith("vocabulary") and f.column.distinct <= 10]
        return [feature.column.name for feature in sorted(few, key=lambda f: -f.explained)[:2]]

    # The schema.

    def _schema(self) -> Iterator[str]:
        yield f"# The schema of {self._name}: what the pipeline accepts. Written by `python -m pipeline init`."
        yield "# min_fraction: the least share of rows with a value; min_domain_mass: that of values in the domain."
        domains = []
        for feature in self._features:
            column, kind = feature.column, feature.declared["kind"]
            type_ = {"numeric": "FLOAT", "identity": "INT"}.get(kind, "BYTES")
            limit = _text(column.name)
            yield "feature {"
            yield f"  name: {limit}"
            yield f"  type: {type_}"
            if column.missing_share:
                least = max(0.0, math.floor((1 - 1.5 * column.missing_share - 0.02) * 100) / 100)
                yield f"  presence {{ min_fraction: {least:g} min_count: 1 }} # {column.missing_share:.2%} missing now"
            else:
                yield "  value_count { min: 1 max: 1 }"
                yield "  presence { min_fraction: 1.0 min_count: 1 }"
            if kind == "identity":
                yield f"  int_domain {{ min: 0 max: {int(column.quantile(1))} }}"
            elif kind == "numeric" and column.quantile(0) >= 0:
                highest = f"# up to {column.quantile(1):g} now"
                yield f"  float_domain {{ min: 0 disallow_nan: true disallow_inf: true }} {highest}"
            elif kind == "numeric":
                yield "  float_domain { disallow_nan: true disallow_inf: true }"
            elif column.distinct <= _MAX_DOMAIN:
                domains.append(column)
                yield f"  domain: {limit}"
                yield "  distribution_constraints { min_domain_mass: 0.99 }"
            yield "}"
        yield from self._label_schema()
        for column in domains:
            yield from _domain(column.name, sorted(value for value, _ in column.values))

    def _label_schema(self) -> Iterator[str]:
        name = _text(self._label["column"])
        yield "feature {"
        yield f"  name: {name}"
        yield f"  type: {'BYTES' if self._classes else 'FLOAT'}"
        yield "  value_count { min: 1 max: 1 }"
        yield "  presence { min_fraction: 1.0 min_count: 1 }"
        if self._classes:
            yield f"  domain: {name}"
        yield "}"
        if self._classes:
            yield from _domain(self._label["column"], sorted(self._classes))


def _declared(column: Column) -> tuple[dict[str, Any], str]:
    """The declaration of a feature, and why it is that."""
    named = bool(_CODE_NAME.search(column.name))
    # Numbers that are measured hardly repeat at this size; an ID does.
    is_code = named or (bool(column.collapsed) and column.present >= 2 * column.distinct)
    if not column.is_number or is_code:
        missing = {"missing": "unknown"} if column.missing_share else {}
        counted = f"{column.distinct:,} {'codes' if is_code else 'texts'}{', by the name' if named else ''}"
        if is_code and not named:
            counted += f" (as numbers, float32 would take {column.collapsed[0]} for {column.collapsed[1]})"
        if column.missing_share:
            counted += f", {column.missing_share:.1%} missing"
        if column.distinct > _MAX_VOCABULARY:
            size = _round_up(2 * column.distinct, 100_000)
            return {"kind": "hash", "num_ids": size, **missing, "embedding": 16}, f"{counted}: too many to list"
        if column.distinct <= 2 and not column.missing_share:
            values = sorted(value for value, _ in column.values)
            return {"kind": "vocabulary_list", "values": values, **missing, "embedding": 4}, counted
        room = _round_up(max(10, int(1.2 * column.distinct)), 10_000)
        declared: dict[str, Any] = {"kind": "vocabulary", "max_size": room}
        if column.distinct > 1_000:
            declared["min_count"] = 3
        return {**declared, **missing, "embedding": _dimension(column.distinct)}, counted
    low, high = column.quantile(0), column.quantile(1)
    shown = f"{'integers' if column.is_integer else 'numbers'} from {low:g} to {high:g}"
    if column.missing_share:
        shown += f", {column.missing_share:.1%} missing"
    if column.is_integer and low >= 0 and high < _MAX_IDENTITY:
        size = int(high) + 1
        declared = {"kind": "identity", "num_ids": size}
        if column.missing_share:
            declared = {"kind": "identity", "num_ids": size + 1, "missing": size}
        return {**declared, "embedding": _dimension(size)}, f"{shown}: few enough to be ids"
    if column.collapsed:
        shown += f"; float32 takes {column.collapsed[0]} for {column.collapsed[1]}"
    return _declared_number(column, shown)


def _declared_number(column: Column, shown: str) -> tuple[dict[str, Any], str]:
    missing = {"missing": "mean"} if column.missing_share else {}
    median, tail = abs(column.quantile(0.5)), max(abs(column.quantile(0.99)), abs(column.quantile(0.01)))
    mostly_zero = column.zero_share > 0.5
    long_tail = mostly_zero or tail > 10 * median > 0
    scale = "log_z_score" if long_tail else "z_score"
    if mostly_zero:
        shown += f", {column.zero_share:.0%} zero"
    elif long_tail:
        shown += ", a long tail"
    declared: dict[str, Any] = {"kind": "numeric", "scale": scale}
    if column.distinct > 3:
        kind = "nonzero_quantiles" if mostly_zero else "quantiles"
        declared["buckets"] = {"kind": kind, "count": min(_BUCKETS, column.distinct - 1)}
        declared |= {"embedding": 8}
    return {**declared, **missing}, shown


def _dimension(values: int) -> int:
    """Of an embedding; a few sizes only, since columns of one size share a table."""
    return 4 if values <= 8 else 8 if values <= 200 else 16


def _round_up(number: int, most: int) -> int:
    """To two digits."""
    digits = int(10 ** max(0, len(str(number)) - 2))
    return min(most, -(-number // digits) * digits)


def _flow(value: Any) -> str:
    """YAML on one line, quoted so that it may stand between braces."""
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return str(text.strip()[1:-1])


def _text(value: str) -> str:
    """A string in the text format of protocol buffers."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _domain(name: str, values: Sequence[str]) -> Iterator[str]:
    yield "string_domain {"
    yield f"  name: {_text(name)}"
    for value in values:
        yield f"  value: {_text(value)}"
    yield "}"


def _relative(path: Path, folder: Path) -> str:
    """Relative to the config's folder if both are in the working directory; absolute otherwise."""
    target_path, here = Path(os.path.abspath(path)), Path.cwd()
    if target_path.is_relative_to(here) and Path(os.path.abspath(folder)).is_relative_to(here):
        return os.path.relpath(target_path, os.path.abspath(folder))
    return str(target_path)
