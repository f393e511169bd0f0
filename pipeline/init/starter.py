"""Decides on a table and writes the two files."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components.profile import Column
from components.targets import target
from pipeline.init.config_text import config_lines
from pipeline.init.crosses import choose_crosses
from pipeline.init.decision import Decision
from pipeline.init.features import choose_columns
from pipeline.init.label import choose_label
from pipeline.init.notes import Notes
from pipeline.init.requests import Requests
from pipeline.init.schema_text import schema_lines
from pipeline.init.source import Source, no_header_hint
from pipeline.init.table import RawTable
from schemas.declaration import did_you_mean
from schemas.errors import ConfigError


@dataclass(frozen=True)
class Starter:
    """The two files, and what the user is told about them.

    Attributes:
      config: Text of the config.
      schema: Text of the schema.
      rows: Number of rows that have a label.
      distinct_rows: Number of those that differ in a feature.
      notes: What the user should look at, the most important first.
    """

    config: str
    schema: str
    rows: int
    distinct_rows: int
    notes: list[str]


def write_starter(source: Source, requests: Requests, *, name: str, config_folder: Path, schema_path: Path) -> Starter:
    """Profile the data and return the texts of a config and a schema.

    Args:
      source: Files, from `find_source`.
      requests: Choices of the user.
      name: Name of the pipeline.
      config_folder: Folder of the config; its paths are relative to it.
      schema_path: File of the schema.

    Raises:
      DataError: The files cannot be read, or the label cannot be learned.
      ConfigError: There is no column of that name.
    """
    decision = decide(source, requests, name=name, config_folder=config_folder, schema_path=schema_path)
    config, schema = ("\n".join(lines) + "\n" for lines in (config_lines(decision), schema_lines(decision)))
    return Starter(config, schema, decision.rows, decision.distinct_rows, decision.notes.texts())


def decide(source: Source, requests: Requests, *, name: str, config_folder: Path, schema_path: Path) -> Decision:
    """Return what `write_starter` writes."""
    label = requests.label
    table = RawTable(source, label)
    if label not in table.columns:
        hint = did_you_mean(label, list(table.columns))
        raise ConfigError(f"--label {label}: the data has no such column; {hint}{no_header_hint(source)}")
    column = table.columns[label]
    notes = Notes()
    chosen_label = choose_label(column, table.label_missing_values, requests)
    labelled = column.texts.is_valid()
    if chosen_label.rare_rows:
        labelled = pc.and_(labelled, pc.fill_null(pc.is_in(column.texts, pa.array(chosen_label.classes)), False))
    columns = {name: Column(name, other.texts.filter(labelled)) for name, other in table.columns.items()}
    labels = target(columns[label], chosen_label.classes)
    chosen = choose_columns(columns, labels, table, requests, notes)
    return Decision(
        name=name,
        source=source,
        table=table,
        label=chosen_label,
        label_column=columns[label],
        target=labels,
        features=chosen.features,
        ignored=chosen.ignored,
        crosses=choose_crosses(chosen.features, labels, notes),
        notes=notes,
        config_folder=config_folder,
        schema_path=schema_path,
    )
