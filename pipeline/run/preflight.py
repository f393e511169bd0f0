"""Checks of config, files and registry, in seconds, before Beam starts. Imports no TensorFlow."""

import datetime
import importlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count
from cli.errors import DataError
from cli.terminal import quiet_stderr
from components.config import DATE, DATE_NUMBER, LEAK
from components.example_gen.labels import LabelCounts, count_labels, merge_label_counts, summarize_label_counts
from components.example_gen.parts import collect_rules
from components.example_gen.source import build_source
from components.example_gen.split_findings import reject_weightless
from components.example_gen.split_rows import SplitRows
from components.example_gen.value_findings import find_unfit_values
from components.expired_features import find_expired_features
from components.policy import Anomaly, judge
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import check_code
from pipeline.profile.columns import Column
from pipeline.profile.leaks import MIN_ROWS, find_leaks
from pipeline.profile.targets import build_target
from pipeline.run.beam_workers import check_beam_workers
from pipeline.run.registry import open_run_registry, plan_push
from pipeline.run.run_root import RunRoot
from schemas.curated.schema_file import check_schema, load_schema
from schemas.features import BaseFeature, FeatureSet, Timestamp
from schemas.sensitive import MASK
from schemas.tables import data_files
from schemas.tables.bigquery import UnreachableError
from schemas.tables.precision import TableCounts
from schemas.tables.typed_columns import Batch, Columns, Table, build_bad_rows_error, summarize_bad_rows

# ExampleGen checks all rows of a file; so many are read here.
ROWS_READ = 2_000_000
# Leaks and dates are searched in so many rows, and in fewer of wide tables.
_ROWS_PROFILED, _VALUES_PROFILED = 100_000, 20_000_000


@dataclass(frozen=True)
class Findings:
    """Findings in the files.

    Attributes:
      rows: Rows of each split that is read from files.
      split_rows: Rows of each split, after parts and shares are taken; empty if not all rows were read.
      labels: Count of each class over all files; empty for a regression.
      label_range: Least and greatest label of a regression.
      bad_rows: Number of rows that do not fit, at most `data.max_bad_rows`.
      unlabelled: Number of rows without a label, which are left out.
      warnings: Anomalies that the policy only warns of.
      unchecked: Reason why the rows were not read; empty if they were.
      is_label_sensitive: Whether the labels of a regression must not be shown.
    """

    rows: dict[str, int]
    split_rows: dict[str, int]
    labels: dict[str, int]
    label_range: tuple[float, float] | None
    bad_rows: int
    unlabelled: int
    warnings: list[str]
    is_label_sensitive: bool = False
    unchecked: str = ""

    def format_lines(self) -> list[tuple[str, str]]:
        """Return the findings as lines for people, each a label and a text."""
        if self.unchecked:
            return [("unchecked", self.unchecked)]
        total = sum(self.labels.values())
        shares = [f"{value} {count / total:.1%}" for value, count in list(self.labels.items())[:10]]
        if self.label_range is not None:
            shares = [MASK if self.is_label_sensitive else f"{self.label_range[0]:g} to {self.label_range[1]:g}"]
        lines = [
            ("data", ", ".join(f"{split} {rows:,}" for split, rows in self.rows.items()) + " rows in the files"),
            ("label", ", ".join(shares)),
        ]
        if self.split_rows:
            split_rows = ", ".join(f"{split} {rows:,}" for split, rows in self.split_rows.items())
            lines.insert(1, ("splits", f"{split_rows} rows"))
        if self.bad_rows:
            lines.append(("rejects", f"{format_count(self.bad_rows, 'row', 'do')} not fit and would be left out"))
        if self.unlabelled:
            lines.append(("no label", f"{format_count(self.unlabelled, 'row')} would be left out"))
        return [*lines, *(("warning", text) for text in self.warnings)]


def check(config: PipelineConfig, run_root: RunRoot, *, needs_rows: bool = True) -> Findings:
    """Check the config against the schema, the files and the registry; `_check` has the errors."""
    with config.name_file_in_errors():
        findings = _check(config, run_root, needs_rows=needs_rows)
    # The buffers of the files; the run is the same process.
    pa.default_memory_pool().release_unused()
    return findings


def _check(config: PipelineConfig, run_root: RunRoot, *, needs_rows: bool) -> Findings:
    """Check the config against the schema, the files and the registry.

    Args:
      config: Config of the run.
      run_root: Run root of the run.
      needs_rows: Whether it is an error that BigQuery cannot be reached.

    Raises:
      ConfigError: The schema is not readable or does not describe the declared columns. `data.example_gen` cannot be
        built, or code of the user's own cannot be imported, or does not fit. Workers of Beam cannot be reached, or do
        not see the files.
      DataError: A file is missing, cannot be read, or has other columns or more bad rows than allowed. Or no row has a
        class; a value cannot be compared with the bounds of a split; a feature leaks the label or is a date.
      PushError: The push could not succeed.
    """
    if config.data.schema_file is not None:
        check_schema(config.data.schema_file, load_schema(config.data.schema_file), config.feature_set)
    plan_push(config, open_run_registry(config, run_root))
    check_code(config)
    check_beam_workers(config, run_root)
    if config.extra_components:
        _check_extra_components(config, run_root)
    if config.data.example_gen is not None:
        # The component imports TFX, for these configs only.
        with quiet_stderr():
            build_source(config.data.example_gen)
        return _skip_rows(f"the rows: {config.data.example_gen.component} runs first; ExampleGen checks its records")
    try:
        return _read(config)
    except UnreachableError as error:
        if needs_rows:
            raise
        return _skip_rows(f"the rows: {error}")


def _check_extra_components(config: PipelineConfig, run_root: RunRoot) -> None:
    """Build the pipeline, which imports TFX, for configs with components of the user's own only."""
    with quiet_stderr():
        importlib.import_module("pipeline.create_pipeline").create_pipeline(
            config,
            pipeline_root=str(run_root.artifacts),
            registry=config.build_registry_settings(run_root.locate_registry(config)),
            run_id="",
        )


def _skip_rows(reason: str) -> Findings:
    return Findings({}, {}, {}, None, 0, 0, [], unchecked=reason)


def _read(config: PipelineConfig) -> Findings:
    rows: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    numbers: list[float] = []
    problems: list[str] = []
    profiled: list[Batch] = []
    rows_profiled = min(_ROWS_PROFILED, _VALUES_PROFILED // len(config.feature_set.column_types))
    bad = unlabelled = 0
    is_complete = True
    weights: dict[str, LabelCounts] = {}
    weight, classes = config.feature_set.weight, config.label.classes
    counts = TableCounts(Columns.from_config(config.data, config.feature_set))
    inputs = data_files.resolve_inputs(config.data)
    divided = SplitRows(collect_rules(config.data))
    for split_files in inputs:
        for path in split_files.files:
            Table.from_config(path, config.data, config.feature_set, max_bad_rows=0).check_names()
    for split_files in inputs:
        for path in split_files.files:
            table = Table.from_config(path, config.data, config.feature_set, max_bad_rows=config.data.max_bad_rows)
            read = 0
            file_counts = TableCounts(counts.columns)
            for batch in table.read_batches():
                read += len(batch.rows)
                divided.add(split_files.split, table, batch)
                file_counts.add(batch, {split_files.split: np.ones(len(batch.rows), dtype=bool)})
                if sum(len(kept.rows) for kept in profiled) < rows_profiled:
                    profiled.append(batch)
                if weight is not None:
                    values = batch.values
                    more = count_labels(values.column(config.label.column), values.column(weight))
                    weights[split_files.split] = merge_label_counts([weights.get(split_files.split, {}), more], classes)
                if classes:
                    _count(labels, pc.value_counts(batch.labels))
                else:
                    numbers += pc.min_max(batch.values.column(config.label.column)).as_py().values()
                if read >= ROWS_READ:
                    is_complete = False
                    break
            file_counts.locate(table.reader)
            counts.merge(file_counts)
            rows[split_files.split] += read
            bad += len(table.bad_rows)
            unlabelled += table.unlabelled
            problems += summarize_bad_rows(table)
    if bad > config.data.max_bad_rows:
        raise build_bad_rows_error(problems, config.data.max_bad_rows)
    by_split = divided.count_rows(list(config.data.splits)) if is_complete else {}
    if weight is not None and is_complete:
        reject_weightless({split: summarize_label_counts(of, classes) for split, of in weights.items()}, weight)
    label_range = (min(numbers), max(numbers)) if numbers else None
    # First: a column seems to explain all of a label that has one value.
    _check_labels(config, labels, label_range)
    today = datetime.date.today()
    anomalies = [*_find_anomalies(config.feature_set, profiled), *find_unfit_values(counts)]
    anomalies += find_expired_features(config.feature_set, today=today)
    verdict = judge(anomalies, config.validation, today=today)
    if verdict.stops:
        raise DataError("\n".join(verdict.stops))
    return Findings(
        rows=dict(rows),
        split_rows=by_split,
        labels=dict(labels.most_common()),
        label_range=label_range,
        bad_rows=bad,
        unlabelled=unlabelled,
        warnings=verdict.warnings,
        is_label_sensitive=config.label.column in config.sensitive_columns,
    )


def _find_anomalies(features: FeatureSet, batches: list[Batch]) -> list[Anomaly]:
    """Return leaks of the label and dates among the features, in the first rows."""
    if not batches:
        return []
    columns = {name: _build_column(name, batches) for name in features.column_types}
    anomalies = []
    for name, feature in features.raw_features.items():
        if columns[name].is_date and not isinstance(feature, Timestamp):
            anomalies.append(_build_date_anomaly(columns[name], feature))
    if columns[features.label.column].rows >= MIN_ROWS:
        anomalies += _build_leak_anomalies(features, columns)
    return anomalies


def _build_column(name: str, batches: list[Batch]) -> Column:
    """Return a column as the files write it; numbers in another notation as the pipeline reads them."""
    written = Column(name, pa.chunked_array([batch.texts.column(name) for batch in batches]).combine_chunks())
    values = pa.chunked_array([batch.values.column(name) for batch in batches])
    if pa.types.is_binary(values.type) or written.is_number or not written.present:
        return written
    return Column(name, values.combine_chunks().cast(pa.string()))


def _build_date_anomaly(column: Column, feature: BaseFeature) -> Anomaly:
    value = MASK if feature.sensitive else repr(column.values[0][0])
    example = f"is a {column.time_form} ({value})"
    remedy = "Derive a weekday or a month from it, or name it in data.ignored_columns"
    if feature.column_type == "string":
        return Anomaly("data", column.name, DATE, f"{example}; as a category it will not come again. {remedy}")
    text = f"{example}; as a number it is above all that was learned from, once time passes. {remedy}"
    return Anomaly("data", column.name, DATE_NUMBER, text)


def _build_leak_anomalies(features: FeatureSet, columns: dict[str, Column]) -> list[Anomaly]:
    label = features.label
    inputs = [columns[name] for name in features.raw_features]
    leaks = find_leaks(inputs, build_target(columns[label.column], label.classes).with_rows(inputs))
    remedy = "known when a prediction is asked for? If not, name {} in data.ignored_columns"
    anomalies = [
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
        question = remedy.format("one of them, or all,")
        anomalies += [Anomaly("data", name, LEAK, f"{text}: are all {question}") for name in formula.names]
    return anomalies


def _count(labels: Counter[str], value_counts: Any) -> None:
    for entry in value_counts.to_pylist():
        labels[entry["values"]] += entry["counts"]


def _check_labels(config: PipelineConfig, labels: Counter[str], label_range: tuple[float, float] | None) -> None:
    column = config.label.column
    for value in config.label.classes:
        if value not in labels:
            values = ", ".join(repr(label) for label, _ in labels.most_common()) or "nothing"
            raise DataError(f"label '{column}': no row has the value '{value}'; there is only {values}")
    if not config.label.classes and (label_range is None or len(set(label_range)) < 2):
        numbers = MASK if label_range and column in config.sensitive_columns else label_range or "none"
        raise DataError(f"label '{column}': expected different numbers, found {numbers}")
