"""Decides on a table and writes the two files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count
from cli.errors import DataError
from components.config import Evaluation
from pipeline.init.config_text import format_config
from pipeline.init.crosses import choose_crosses
from pipeline.init.decision import Decision
from pipeline.init.features import ChosenFeature, choose_columns
from pipeline.init.kinds import without_values
from pipeline.init.label import ChosenLabel, choose_label
from pipeline.init.notes import Notes, Rank
from pipeline.init.progress import ProgressLines
from pipeline.init.requests import Requests
from pipeline.init.schema_text import format_schema
from pipeline.init.shared_ids import mark_shared_ids
from pipeline.init.source import TableSource, suggest_no_header
from pipeline.init.splits import SplitPlan, plan_splits
from pipeline.init.table import RawTable, read_table
from pipeline.init.weight import check_weight
from pipeline.profile.columns import Column
from pipeline.profile.targets import build_target
from schemas.sensitive import MASK

# A share of missing values in test that differs so much from that in train is noted.
_MISSING_DIFFERENCE = 0.1
_MAX_SHOWN = 5
_MIN_TEST_ROWS: int = Evaluation.model_fields["min_rows"].default
_MIN_TEST_ROWS_OF_CLASS: int = Evaluation.model_fields["min_rows_per_class"].default


@dataclass(frozen=True)
class Starter:
    """The two files, and the decision that they are written from."""

    config: str
    schema: str
    decision: Decision


def write_starter(
    source: TableSource,
    requests: Requests,
    *,
    name: str,
    config_folder: Path,
    schema_path: Path,
    progress: ProgressLines | None = None,
) -> Starter:
    """Profile the data and return the texts of a config and a schema.

    Args:
      source: Files, from `find_source`.
      requests: Choices of the user.
      name: Name of the pipeline.
      config_folder: Folder of the config; its paths are relative to it.
      schema_path: File of the schema.
      progress: Gets a line now and then; None shows none.

    Raises:
      DataError: The files cannot be read, or the label cannot be learned.
      ConfigError: There is no column of that name, or the requests contradict the data.
    """
    decision = decide(
        source,
        requests,
        name=name,
        config_folder=config_folder,
        schema_path=schema_path,
        progress=progress or ProgressLines(),
    )
    schema = "\n".join(format_schema(decision)) + "\n"
    return Starter("\n".join(format_config(decision)) + "\n", schema, decision)


def decide(
    source: TableSource,
    requests: Requests,
    *,
    name: str,
    config_folder: Path,
    schema_path: Path,
    progress: ProgressLines,
) -> Decision:
    """Return what `write_starter` writes."""
    notes = Notes(requests.mask)
    for note in source.notes:
        notes.add(Rank.ROWS, note)
    table = read_table(source, requests, notes, progress)
    needed = {requests.label, requests.group, requests.time, requests.weight, *requests.keep}
    for name in table.unusable.keys() & needed:
        raise DataError(f"column '{name}' {table.unusable[name]}; expected it in each file, as numbers or strings")
    requests = requests.resolve([*table.columns, *table.unusable], suggest_no_header(source))
    check_weight(table.columns, requests, notes)
    plan = plan_splits(table.columns, table.is_test, requests, notes)
    label = choose_label(table.columns, plan.is_test, table.missing.of_label, requests, notes)
    rows = np.asarray(label.column.texts.is_valid())
    _check_test_labels(table.columns[requests.label], label, plan)
    if label.rare_rows:
        rows &= np.asarray(pc.fill_null(pc.is_in(label.column.texts, pa.array(label.classes)), False))
    columns = {**table.columns, requests.label: label.column}
    if not rows.all():
        columns = {name: Column(name, column.texts.filter(pa.array(rows))) for name, column in columns.items()}
        plan = plan.filter(rows)
    places = table.places.filter(rows)
    _note_label_counts(columns[requests.label], label, plan, notes)
    labels = build_target(columns[requests.label], label.classes)
    columns, ignored = _select_usable(columns, plan, requests, notes)
    progress.report_step(f"choosing the kinds of {format_count(len(columns), 'column')}")
    chosen = choose_columns(columns, labels, table, places, requests, notes)
    shared = mark_shared_ids({feature.column.name: feature for feature in chosen.features})
    features = [_with_missing_values(feature, table) for feature in shared.values()]
    features = [
        _mark_sensitive(feature) if feature.column.name in requests.sensitive else feature for feature in features
    ]
    if requests.label in requests.sensitive:
        label = replace(label, declared={**label.declared, "sensitive": True}, summary=MASK, evidence="")
    progress.report_step("choosing crosses")
    decision = Decision(
        name=name,
        source=source,
        table=table,
        requests=requests,
        plan=plan,
        label=label,
        label_column=columns[requests.label],
        target=labels,
        features=features,
        faulty_rows=chosen.faulty_rows,
        ignored=[
            (column, MASK if column in requests.sensitive else reason)
            for column, reason in [*table.unusable.items(), *ignored, *chosen.ignored]
        ],
        crosses=choose_crosses(features, labels, notes),
        notes=notes,
        config_folder=config_folder,
        schema_path=schema_path,
    )
    if decision.left_out:
        notes.add(Rank.ROWS, f"{decision.left_out} will be left out (data.max_bad_rows)")
    if not table.complete:
        notes.add(
            Rank.ROWS,
            f"only {format_count(table.rows, 'row', 'were')} read, the first of each file; others may hold other "
            "values",
        )
    return decision


def _with_missing_values(feature: ChosenFeature, table: RawTable) -> ChosenFeature:
    """Return a feature with its own strings for a missing value, if it has some."""
    own = table.missing.of_columns.get(feature.column.name)
    if not own:
        return feature
    declared = {**feature.declared, "missing_values": table.missing.list_strings(feature.column.name)}
    return replace(feature, declared=declared, reason=f"{', '.join(own)} stand for missing; {feature.reason}")


def _mark_sensitive(feature: ChosenFeature) -> ChosenFeature:
    """Return a feature that is marked, whose declaration and reason show no value."""
    declared = without_values(feature.declared, feature.column.distinct)
    return replace(feature, declared={**declared, "sensitive": True}, reason=MASK)


def _select_usable(
    columns: Mapping[str, Column], plan: SplitPlan, requests: Requests, notes: Notes
) -> tuple[dict[str, Column], list[tuple[str, str]]]:
    """Return the columns that may be features, with the label, and those left out by the splits, with the reason."""
    usable, ignored = {}, []
    for name, column in columns.items():
        is_divider = name in (requests.group, requests.time, requests.weight) and name not in requests.keep
        if name == requests.label or name in requests.drop:
            usable[name] = column
        elif not is_divider:
            reason = _explain_not_in_test(column, plan, notes)
            if reason and name not in requests.keep:
                ignored.append((name, reason))
            else:
                usable[name] = column
    return usable, ignored


def _explain_not_in_test(column: Column, plan: SplitPlan, notes: Notes) -> str:
    """Return why a column of a table with test rows of its own cannot be learned; empty if it can."""
    is_test = plan.is_test
    if is_test is None or not column.present:
        return ""
    is_present = np.asarray(column.texts.is_valid())
    for split, rows in (("train", ~is_test), ("test", is_test)):
        if rows.any() and not is_present[rows].any():
            notes.add(Rank.MISSING, f"'{column.name}' has no value in {split}: left out")
            return f"has no value in {split}"
    missing = {"train": 1 - float(is_present[~is_test].mean()), "test": 1 - float(is_present[is_test].mean())}
    if abs(missing["train"] - missing["test"]) > _MISSING_DIFFERENCE:
        notes.add(
            Rank.MISSING,
            f"'{column.name}' is missing in {missing['train']:.1%} of train and {missing['test']:.1%} of test: "
            "is it written in the same way in both?",
        )
    return ""


def _check_test_labels(labels: Column, label: ChosenLabel, plan: SplitPlan) -> None:
    """Reject test files that have other classes than the train files.

    Args:
      labels: Column of the label as the files write it.
      label: Label that was chosen.
      plan: How the rows are divided.
    """
    if plan.is_test is None or not label.classes:
        return
    test = Column("", labels.texts.filter(pa.array(plan.is_test)))
    train = {value for value, _ in Column("", labels.texts.filter(pa.array(~plan.is_test))).values}
    values = [value for value, _ in test.values]
    if values and not train & {*values}:
        actual, expected = (", ".join(map(repr, sorted(some)[:_MAX_SHOWN])) for some in (values, train))
        raise DataError(f"label '{labels.name}': test has {actual}, and train has {expected}; write both in one way")


def _note_label_counts(labels: Column, label: ChosenLabel, plan: SplitPlan, notes: Notes) -> None:
    """Note splits that cannot judge a model: few rows, or classes without rows."""
    for split, part in plan.parts.items():
        if not part.rows.any():
            raise DataError(f"label '{labels.name}': no row of {split} has one of its values; expected some")
    test = plan.parts["test"]
    if test.expected_rows < _MIN_TEST_ROWS:
        notes.add(
            Rank.ROWS,
            f"test gets {'' if test.share == 1 else 'about '}{test.expected_rows} rows; no model is pushed on fewer "
            f"than {_MIN_TEST_ROWS} (evaluation.min_rows): add rows",
        )
    counts = dict(Column("", labels.texts.filter(pa.array(test.rows))).values)
    rare = {value: round(test.share * counts.get(value, 0)) for value in label.classes}
    # A class without rows in test files has a note of its own.
    is_rare = range(plan.is_test is not None, _MIN_TEST_ROWS_OF_CLASS)
    rare = {value: count for value, count in rare.items() if count in is_rare}
    if label.kind == "binary" and rare and test.expected_rows >= _MIN_TEST_ROWS:
        examples = ", ".join(f"{count} rows of {value!r}" for value, count in rare.items())
        notes.add(
            Rank.ROWS,
            f"test gets {'' if test.share == 1 else 'about '}{examples}; no model is pushed on fewer than "
            f"{_MIN_TEST_ROWS_OF_CLASS} of each class (evaluation.min_rows_per_class): add rows",
        )
    if plan.is_test is None:
        return
    for split in ("train", "test"):
        rows = ~plan.is_test if split == "train" else plan.is_test
        present = set(pc.unique(labels.texts.filter(pa.array(rows))).to_pylist())
        absent = [value for value in label.classes if value not in present]
        if absent:
            examples = ", ".join(map(repr, absent[:_MAX_SHOWN]))
            classes = "class" if len(absent) == 1 else f"{len(absent)} classes"
            notes.add(Rank.ROWS, f"{split} has no row of {classes} {examples} of '{labels.name}'")
