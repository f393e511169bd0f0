"""Everything that can be refused before Beam starts, in seconds; the files are read for it. Imports no TensorFlow."""

import datetime
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.errors import DataError
from components.config import DATE, DATE_NUMBER, LEAK
from components.example_gen.parts import split_rules
from components.example_gen.split_rows import SplitRows
from components.example_gen.value_findings import value_findings
from components.policy import Anomaly, judge
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.profile.columns import Column
from pipeline.profile.leaks import MIN_ROWS, find_leaks
from pipeline.profile.targets import target
from pipeline.run.registry import open_registry, plan_push
from pipeline.run.run_root import RunRoot
from schemas.curated.schema_file import check_schema, load_schema
from schemas.features import FeatureSet, column_type
from schemas.tables import data_files
from schemas.tables.precision import TableCounts
from schemas.tables.typed_columns import Batch, Columns, Table, summary, too_many_bad_rows

# Of each file so many rows are read here; ExampleGen checks them all.
ROWS_READ = 2_000_000
# Leaks and dates are looked for in so many rows, of wide tables in fewer.
_ROWS_PROFILED, _VALUES_PROFILED = 100_000, 20_000_000


@dataclass(frozen=True)
class Findings:
    """What was read.

    Attributes:
      rows: rows of each split that is read from files.
      split_rows: rows of each split, after parts and shares are taken; empty if not all rows were read.
      labels: how often each class is there, over all files; empty for a regression.
      label_range: least and greatest label of a regression.
      bad_rows: that do not fit, at most `data.max_bad_rows`.
      unlabelled: rows without a label, which are left out.
      warnings: anomalies that the policy only warns of.
    """

    rows: dict[str, int]
    split_rows: dict[str, int]
    labels: dict[str, int]
    label_range: tuple[float, float] | None
    bad_rows: int
    unlabelled: int
    warnings: list[str]

    def lines(self) -> list[tuple[str, str]]:
        """For people: (what, text)."""
        total = sum(self.labels.values())
        shares = [f"{value} {count / total:.1%}" for value, count in list(self.labels.items())[:10]]
        if self.label_range is not None:
            shares = [f"{self.label_range[0]:g} to {self.label_range[1]:g}"]
        lines = [
            ("data", ", ".join(f"{split} {rows:,}" for split, rows in self.rows.items()) + " rows in the files"),
            ("label", ", ".join(shares)),
        ]
        if self.split_rows:
            split_rows = ", ".join(f"{split} {rows:,}" for split, rows in self.split_rows.items())
            lines.insert(1, ("splits", f"{split_rows} rows"))
        if self.bad_rows:
            lines.append(("rejects", f"{self.bad_rows:,} rows do not fit and would be left out"))
        if self.unlabelled:
            lines.append(("no label", f"{self.unlabelled:,} rows would be left out"))
        return [*lines, *(("warning", text) for text in self.warnings)]


def check(config: PipelineConfig, run_root: RunRoot) -> Findings:
    """Hold the config against the schema, the files and the registry.

    Raises:
      ConfigError: the schema is not readable or does not describe the declared columns.
      DataError: a file is missing, cannot be read, has other columns or more bad rows than allowed, a label is not
        there at all, a value cannot be compared with the bounds of a split, or a feature gives the label away or
        is a date.
      PushError: the push could not succeed.
    """
    if config.data.schema_file is not None:
        check_schema(config.data.schema_file, load_schema(config.data.schema_file), config.feature_set)
    plan_push(config, open_registry(config, run_root))
    findings = _read(config)
    _check_labels(config.feature_set, findings)
    return findings


def _read(config: PipelineConfig) -> Findings:
    rows: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    numbers: list[float] = []
    problems: list[str] = []
    profiled: list[Batch] = []
    rows_profiled = min(_ROWS_PROFILED, _VALUES_PROFILED // len(config.feature_set.column_types))
    bad = unlabelled = 0
    is_complete = True
    counts = TableCounts(Columns.declared(config.data, config.feature_set))
    found = data_files.inputs(config.data)
    divided = SplitRows(split_rules(config.data))
    for one in found:
        for path in one.files:
            Table.of(path, config.data, config.feature_set, max_bad_rows=0).check_names()
    for one in found:
        for path in one.files:
            table = Table.of(path, config.data, config.feature_set, max_bad_rows=config.data.max_bad_rows)
            read = 0
            counted = TableCounts(counts.columns)
            for batch in table.batches():
                read += len(batch.rows)
                divided.add(one.split, table, batch)
                counted.add(batch, {one.split: np.ones(len(batch.rows), dtype=bool)})
                if sum(len(kept.rows) for kept in profiled) < rows_profiled:
                    profiled.append(batch)
                if config.label.classes:
                    _count(labels, pc.value_counts(batch.labels))
                else:
                    numbers += pc.min_max(batch.values.column(config.label.column)).as_py().values()
                if read >= ROWS_READ:
                    is_complete = False
                    break
            counted.locate(table.reader)
            counts.merge(counted)
            rows[one.split] += read
            bad += len(table.bad_rows)
            unlabelled += table.unlabelled
            problems += summary(table)
    if bad > config.data.max_bad_rows:
        raise too_many_bad_rows(problems, config.data.max_bad_rows)
    by_split = divided.rows(list(config.data.splits)) if is_complete else {}
    anomalies = [*_anomalies(config.feature_set, profiled), *value_findings(counts)]
    verdict = judge(anomalies, config.validation, today=datetime.date.today())
    if verdict.stops:
        raise DataError("\n".join(verdict.stops))
    label_range = (min(numbers), max(numbers)) if numbers else None
    return Findings(dict(rows), by_split, dict(labels.most_common()), label_range, bad, unlabelled, verdict.warnings)


def _anomalies(features: FeatureSet, batches: list[Batch]) -> list[Anomaly]:
    """Leaks of the label and dates among the features, in the first rows."""
    if not batches:
        return []
    columns = {name: _column(name, batches) for name in features.column_types}
    found = []
    for name, feature in features.features.items():
        if columns[name].is_date:
            found.append(_date(columns[name], is_category=column_type(feature) == "string"))
    if columns[features.label.column].rows >= MIN_ROWS:
        found += _leaks(features, columns)
    return found


def _column(name: str, batches: list[Batch]) -> Column:
    """Return a column as the files write it; numbers in another notation as the pipeline reads them."""
    written = Column(name, pa.chunked_array([batch.texts.column(name) for batch in batches]).combine_chunks())
    values = pa.chunked_array([batch.values.column(name) for batch in batches])
    if pa.types.is_binary(values.type) or written.is_number or not written.present:
        return written
    return Column(name, values.combine_chunks().cast(pa.string()))


def _date(column: Column, *, is_category: bool) -> Anomaly:
    example = f"is a {column.time_form} ({column.values[0][0]!r})"
    remedy = "Derive a weekday or a month from it, or name it in data.ignored_columns"
    if is_category:
        return Anomaly("data", column.name, DATE, f"{example}; as a category it will not come again. {remedy}")
    text = f"{example}; as a number it is above all that was learned from, once time passes. {remedy}"
    return Anomaly("data", column.name, DATE_NUMBER, text)


def _leaks(features: FeatureSet, columns: dict[str, Column]) -> list[Anomaly]:
    label = features.label
    inputs = [columns[name] for name in features.features]
    leaks = find_leaks(inputs, target(columns[label.column], label.classes).with_rows(inputs))
    remedy = "known when a prediction is asked for? If not, name {} in data.ignored_columns"
    found = [
        Anomaly(
            "data",
            name,
            LEAK,
            f"explains {leaks.shares[name]:.1%} of the label '{label.column}' by itself: is it {remedy.format('it')}",
        )
        for name in leaks.columns
    ]
    for formula in leaks.sums:
        text = f"is part of {formula}, which explains {formula.share:.1%} of the label '{label.column}'"
        one = remedy.format("one of them, or all,")
        found += [Anomaly("data", name, LEAK, f"{text}: are all {one}") for name in formula.names]
    return found


def _count(labels: Counter[str], counted: Any) -> None:
    for entry in counted.to_pylist():
        labels[entry["values"]] += entry["counts"]


def _check_labels(features: FeatureSet, findings: Findings) -> None:
    column = features.label.column
    for value in features.label.classes:
        if value not in findings.labels:
            there = ", ".join(map(repr, findings.labels)) or "nothing"
            raise DataError(f"label '{column}': no row has the value '{value}'; there is only {there}")
    if not features.label.classes and (findings.label_range is None or len(set(findings.label_range)) < 2):
        raise DataError(f"label '{column}': expected different numbers, found {findings.label_range or 'none'}")
