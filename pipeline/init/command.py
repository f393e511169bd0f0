"""The command `python -m pipeline init`."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.errors import ConfigError
from cli.terminal import clean, exit_on_error, format_command, get_runner, print_message

if TYPE_CHECKING:
    from pipeline.init.starter import Starter

_SECTIONS = {
    "Files": ("test", "delimiter", "no_header", "column_names", "quote", "encoding"),
    "Decisions": ("label", "kind", "keep", "drop", "missing_values", "group", "time", "weight", "sensitive"),
    "Results": ("name", "output", "schema_file", "force", "verbose", "as_json"),
}


class _Sections(click.Command):
    """A command whose help lists its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        records = {option.name: option.get_help_record(ctx) for option in options}
        names_in_sections = {name for names in _SECTIONS.values() for name in names}
        others = tuple(name for name in records if name not in names_in_sections)
        for title, names in {**_SECTIONS, "Other": others}.items():
            lines = [record for name in names if (record := records.get(name)) is not None]
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)


@click.command(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data")
@click.option("--label", required=True, metavar="COLUMN", help="Column to predict.")
@click.option(
    "--kind",
    type=click.Choice(["binary", "multiclass", "regression"]),
    help="Kind of the label.  [default: by its values]",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Make this column a feature, whatever speaks against it. Repeatable.",
)
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave this column out. Repeatable, or A,B,C.")
@click.option(
    "--missing-value",
    "missing_values",
    multiple=True,
    metavar="STRING",
    help="String or number that stands for a missing value, beside those that are found. Repeatable.",
)
@click.option("--group", metavar="COLUMN", help="Keep all rows with one value, such as a customer, in one split.")
@click.option("--time", metavar="COLUMN", help="Test on the latest rows by this column, instead of a random share.")
@click.option(
    "--weight", metavar="COLUMN", help="Let each row count by this column of numbers from 0 on; docs/how-to/weights.md."
)
@click.option(
    "--sensitive",
    multiple=True,
    metavar="COLUMN",
    help="Mark this column, and mask all that may show its values. Repeatable.",
)
@click.option(
    "--test",
    metavar="FILES",
    help="Files of a test split.  [default: 20% of the rows; of 5,000 or more, 10%]",
)
@click.option("--delimiter", help="Delimiter of CSV.  [default: from the first lines]")
@click.option("--no-header", is_flag=True, help="The first row of CSV is data; columns become column_1, column_2, ...")
@click.option("--column-names", metavar="A,B,C", help="Names of the columns, for CSV without a header.")
@click.option(
    "--quote",
    type=click.Choice(['"', "'", "none"]),
    help="Character around values of CSV; none if quotes are part of the values.  [default: from the content]",
)
@click.option("--encoding", help="Encoding of CSV, such as cp1252.  [default: from the content]")
@click.option("--name", help="Name of the pipeline and its model.  [default: from the name of DATA]")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="The config.  [default: configs/NAME.yaml]"
)
@click.option(
    "--schema",
    "schema_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The schema.  [default: schemas/NAME.pbtxt]",
)
@click.option("--force", is_flag=True, help="Overwrite the two files.")
@click.option("--verbose", is_flag=True, help="Print all notes; the config always has all.")
@click.option("--json", "as_json", is_flag=True, help="Print the decisions as JSON.")
def init(as_json: bool, **flags: Any) -> None:
    """Write a config and a curated schema for DATA: a file of CSV (also compressed), Parquet or TFRecord, a quoted
    pattern such as 'data/*.csv', or a folder.

    Chooses the kind of the label and of each column, crosses, splits and bounds, each with its reason in a comment of
    the config. Leaves out IDs, constants and leaks. The result runs unchanged:

    \b
      python -m pipeline init data/orders.csv --label returned
      python local_runner.py --config configs/orders.yaml

    Each decision can be changed, here or in the config:

    \b
      python -m pipeline init data/wine.csv --label quality --kind multiclass
      python -m pipeline init data/orders.csv --label returned --drop refund,comment --missing-value -999

    \b
      python -m pipeline init data/orders.csv --label returned --time ordered_on
      python -m pipeline init data/visits.csv --label readmitted --group patient_id
    """
    with exit_on_error(as_json=as_json, interrupted="interrupted; no file was written"):
        _write_files(as_json=as_json, **flags)


def _write_files(
    *,
    data: str,
    name: str | None,
    output: Path | None,
    schema_file: Path | None,
    force: bool,
    verbose: bool,
    as_json: bool,
    test: str | None,
    delimiter: str | None,
    no_header: bool,
    column_names: str | None,
    encoding: str | None,
    quote: Any,
    **requests: Any,
) -> None:
    from components.config import NAME_PATTERN
    from pipeline.init.progress import ProgressLines
    from pipeline.init.requests import Requests
    from pipeline.init.source import derive_name, find_source
    from pipeline.init.starter import write_starter

    name = name or derive_name(data)
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"--name {name}: expected lower-case letters, digits and hyphens, as in {derive_name(name)}")
    output = output or Path("configs") / f"{name}.yaml"
    schema_file = schema_file or Path("schemas") / f"{name}.pbtxt"
    for file in (output, schema_file):
        if file.exists() and not force:
            raise ConfigError(f"{file}: exists; add --force to overwrite it, or give another --name")
    source = find_source(
        data,
        test=test,
        delimiter=delimiter,
        column_names=column_names.split(",") if column_names else (),
        header=not no_header,
        encoding=encoding,
        quote=quote,
        is_masked=bool(requests["sensitive"]),
    )
    choices = Requests(**requests)
    with choices.mask_errors():
        started = write_starter(
            source,
            choices,
            name=name,
            config_folder=output.parent,
            schema_path=schema_file,
            progress=ProgressLines(lambda line: print_message(line, "notice")),
        )
    _write_together({output: started.config, schema_file: started.schema})
    if as_json:
        click.echo(json.dumps(_build_document(started, output, schema_file), indent=2, ensure_ascii=False))
    else:
        for line in _format_lines(started, output, schema_file, verbose=verbose):
            click.echo(clean(line))


def _write_together(texts: Mapping[Path, str]) -> None:
    """Write all files or none."""
    from pipeline.config import pipeline_config

    new = {file: file.with_name(f".{file.name}.{os.getpid()}.new") for file in texts}
    try:
        for file, text in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            new[file].write_text(text, encoding="utf-8")
        # A config that cannot be read is an error here, not in the run.
        written = next(iter(new))
        try:
            pipeline_config.load(new[written])
        except ConfigError as error:
            # The new file is gone when the user reads this.
            raise ConfigError(str(error).replace(str(new[written]), str(written))) from error
        with _hold_signals():
            for file in texts:
                new[file].replace(file)
    finally:
        for file in new.values():
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _hold_signals() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _format_count(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"


def _format_lines(started: "Starter", output: Path, schema_file: Path, *, verbose: bool) -> Iterator[str]:
    """Yield what the command prints for people."""
    from pipeline.init.notes import MAX_SHOWN_NOTES
    from schemas.data import MIN_DISTINCT_ROWS

    decision = started.decision
    features = _format_count(len(decision.features), "feature", "features")
    yield f"{output}: {features}, {_format_count(len(decision.crosses), 'cross', 'crosses')}"
    yield f"{schema_file}: {len(decision.features) + 1 + (decision.requests.weight is not None)} columns"
    distinct = decision.distinct_rows
    spread = f"; fewer than {MIN_DISTINCT_ROWS:,}, so equal rows are spread over the shares"
    few = spread if distinct < MIN_DISTINCT_ROWS and decision.requests.group is None else ""
    yield f"rows: {decision.rows:,}, of which {distinct:,} are distinct{few}"
    parts = decision.plan.parts.items()
    yield (
        "splits: "
        + ", ".join(f"{name} {_describe_share(part.share)}{part.expected_rows:,}" for name, part in parts)
        + " rows"
    )
    yield f"label: {decision.label_column.name}, {decision.label.kind}: {decision.label.summary}"
    notes = decision.notes.texts
    first_notes = notes if verbose else notes[:MAX_SHOWN_NOTES]
    for note in first_notes:
        yield f"note: {note}"
    if len(notes) > len(first_notes):
        yield f"{len(notes) - len(first_notes)} more notes: in {output}, or print all with --verbose"
    yield f"next: {format_command(*_build_next_command(output))}"


def _describe_share(share: float) -> str:
    return "" if share == 1 else "about "


def _build_next_command(output: Path) -> Sequence[str]:
    return [*get_runner("local_runner.py"), "--config", str(output)]


def _build_document(started: "Starter", output: Path, schema_file: Path) -> dict[str, Any]:
    """Return what the command prints for programs."""
    decision = started.decision
    return {
        "config": str(output),
        "schema": str(schema_file),
        "rows": decision.rows,
        "distinct_rows": decision.distinct_rows,
        "splits": {name: part.expected_rows for name, part in decision.plan.parts.items()},
        "label": {**decision.label.declared, "kind": decision.label.kind, "reason": decision.label.reason},
        "weight": decision.requests.weight,
        "features": {
            feature.column.name: {**feature.declared, "reason": feature.reason, "explained": feature.explained}
            for feature in decision.features
        },
        "crosses": [{"features": cross.names, "reason": cross.reason} for cross in decision.crosses],
        "ignored": dict(decision.ignored),
        "notes": decision.notes.texts,
        "next": _build_next_command(output),
        "exit_code": 0,
    }
