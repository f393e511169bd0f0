"""python -m serving.outcomes FILE --key COLUMN --log FOLDER --model MODEL: joins late labels to logged predictions."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.counts import format_count
from cli.errors import ConfigError, PushError
from cli.interrupts import skip_teardown
from cli.terminal import exit_on_error, format_command, print_message

if TYPE_CHECKING:
    from serving.outcomes.store import JoinSummary, LabelFile

EPILOG = """\b
Examples:
  python -m serving.outcomes labels-november.csv --key loan --log logs/census --model registry/census-income
  python -m serving.outcomes paid.parquet --key loan --label paid --time paid_at --log logs/census --model ...
  python -m serving.outcomes labels.csv --key request --by-id --row row --log logs/census --model ...
  python -m serving.outcomes --log logs/census        # joins again, for predictions that came after their labels

\b
LOG/outcomes/ gets:
  labels-*.parquet   the labels of each file; remove one to withdraw its labels, and join again
  joined-*.parquet   the predictions with a label: inputs as they were served, outputs, label
  summary.json       the counts of the join

The same file twice changes nothing, and files may come in any order. Of several labels of one key the latest is
joined: by --time, then by the time of the file's last change, then by the row. docs/monitoring.md

\b
Exit codes:
  0    joined, or nothing new
  2    a flag is wrong
  3    the labels or the log cannot be read, or a label does not fit the model
  5    the model cannot be read
  130  interrupted (Ctrl-C or SIGTERM); the last join is unchanged
"""
_REPORT_SECONDS = 5.0


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", metavar="[FILE]", required=False)
@click.option(
    "--log",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of the request log, which the server writes.",
)
@click.option("--key", metavar="COLUMN", help="Column of FILE with the keys that were logged with the predictions.")
@click.option("--by-id", is_flag=True, help="The column of --key has the IDs of requests, not keys.")
@click.option("--row", metavar="COLUMN", help="With --by-id, column of the row in its request, from 0.  [default: 0]")
@click.option("--model", metavar="FOLDER", help="Version of the model, or its folder of versions (then the champion).")
@click.option("--label", metavar="COLUMN", help="Column of the label.  [default: its name in the model's table]")
@click.option("--time", "time_column", metavar="COLUMN", help="Column of the time at which the label was known.")
@click.option(
    "--time-format",
    default="iso8601",
    show_default=True,
    metavar="FORMAT",
    help="Format of the times, as a timestamp feature has it; UTC without an offset.",
)
@click.option("--weight", metavar="COLUMN", help="Column of the weights.  [default: the model's, if FILE has it]")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "tfrecord", "parquet"]),
    help="Format of FILE.  [default: that of its name or content]",
)
@click.option("--delimiter", metavar="CHARACTER", help="Delimiter of CSV.  [default: the model's; .tsv a tab]")
@click.option(
    "--max-bad-rows",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Maximum number of labels that do not fit the model; they are left out. One more stops the command.",
)
@click.option(
    "--memory", default="1GB", show_default=True, metavar="SIZE", help="Memory of the join; more is kept on disk."
)
@click.option("--quiet", is_flag=True, help="Print nothing unless something fails.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts, or the error, as one JSON document.")
def main(as_json: bool, quiet: bool, **options: Any) -> None:
    """Join the labels of FILE to the logged predictions of a model.

    FILE is CSV (also compressed), Parquet or TFRecord, and has a row for each label: a key, the label, and the time
    at which it was known. Labels may come before or after the predictions. Without FILE, all labels are joined again.
    """
    with exit_on_error(
        as_json=as_json, interrupted="interrupted; the last join is unchanged: run the same command again"
    ):
        described, summary, is_new = _join(print_progress=not (quiet or as_json), **options)
    if as_json:
        file = described.model_dump(mode="json") if described is not None else None
        fields = {"joined", "at", "label", "weight", "counts", "examples"}
        document = {"new": is_new, "file": file, **summary.model_dump(mode="json", include=fields)}
        import json

        click.echo(json.dumps(document, indent=2))
    elif not quiet:
        click.echo("\n".join(_format(described, summary, is_new, options["log"])))


def _join(
    *,
    source: str | None,
    log: Path,
    key: str | None,
    by_id: bool,
    row: str | None,
    model: str | None,
    label: str | None,
    time_column: str | None,
    time_format: str,
    weight: str | None,
    file_format: Any,
    delimiter: str | None,
    max_bad_rows: int,
    memory: str,
    print_progress: bool,
) -> "tuple[LabelFile | None, JoinSummary, bool]":
    """Keep the labels of the file, if there is one, and join all; return its description and the summary."""
    if row is not None and not by_id:
        raise ConfigError("--row: is for --by-id; a key belongs to all rows that were logged with it")
    if source is not None and (key is None or model is None):
        missing = "--key COLUMN" if key is None else "--model FOLDER"
        raise ConfigError(f"{missing}: is missing; the labels of {source} need it: --help has examples")
    from serving.outcomes.join import check_keys, join_outcomes, open_outcomes
    from serving.outcomes.label_file import LabelColumns, LabelReading, keep_labels

    progress = _Progress(is_printed=print_progress)
    described, is_new = None, False
    if source is None:
        from serving.request_log.shards import list_shards

        list_shards(log)
    else:
        assert key is not None and model is not None
        folder = _find_model(model, log)
        from serving.batch.model_loader import read_features, read_options

        columns = LabelColumns(key, "id" if by_id else "key", row, label, time_column, time_format, weight)
        delimiter = {"\\t": "\t"}.get(delimiter or "", delimiter)
        reading = LabelReading(read_features(folder), read_options(folder), file_format, delimiter, max_bad_rows)
        check_keys(log, columns.by)
    with open_outcomes(log) as outcomes:
        if source is not None:

            def report_rows(rows: int) -> None:
                progress.report(f"reads {source}: {format_count(rows, 'row')}")

            _, described, is_new = keep_labels(source, columns, reading, outcomes, report_rows)
        summary, has_changed = join_outcomes(outcomes, memory, progress.start)
    return described, summary, is_new or has_changed


def _find_model(model: str, log: Path) -> Path:
    """Return the folder of the version that the labels are of.

    Raises:
      ConfigError: The log is of another model.
      PushError: There is no such model, or it declares no features.
    """
    from serving.batch.model_loader import find_version_folder
    from serving.outcomes.store import OWN_MODEL_REMEDY
    from serving.registry import DECLARATION_FILE
    from serving.request_log.shards import list_shards

    folder = find_version_folder(model)
    if not (folder / DECLARATION_FILE).exists():
        raise PushError(
            f"{folder}: declares no features (it has no {DECLARATION_FILE}), expected a model of this pipeline's own "
            f"network; {OWN_MODEL_REMEDY}"
        )
    for shard in list_shards(log):
        if folder.name.isdigit() and shard.description.model != folder.parent.name:
            raise ConfigError(
                f"--model {model}: is '{folder.parent.name}', and {shard.path} is a log of "
                f"'{shard.description.model}'; name the folder of that model"
            )
    return folder


class _Progress:
    """Lines on the progress, on standard error."""

    def __init__(self, *, is_printed: bool) -> None:
        self._is_printed = is_printed
        self._started = self._printed = time.monotonic()

    def report(self, text: str) -> None:
        """Print a line if the command has run for some seconds since the last one."""
        now = time.monotonic()
        if self._is_printed and now - self._printed >= _REPORT_SECONDS:
            self._printed = now
            print_message(f"{text}, after {now - self._started:.0f} s", "notice")

    def start(self, text: str) -> None:
        """Print a line on a step that may take long and reports nothing meanwhile."""
        if self._is_printed:
            self._printed = time.monotonic()
            print_message(text, "notice")


def _format(described: "LabelFile | None", summary: "JoinSummary", is_new: bool, log: Path) -> Iterator[str]:
    counts, examples = summary.counts, summary.examples
    if described is not None:
        yield f"{described.source}: {format_count(described.rows, 'label')}{'' if is_new else '; none is new'}"
        for count, text in (
            (described.without_key, "without a key, left out"),
            (described.without_label, "without a label yet; give the file again when there is one"),
            (described.bad_rows, "with a label that does not fit the model, left out"),
        ):
            if count:
                yield f"  {format_count(count, 'row')} {text}"
    share = f" ({counts.joined / counts.predictions:.1%})" if counts.predictions else ""
    yield f"{log}: {counts.joined:,} of {format_count(counts.predictions, 'prediction', 'have')} a label{share}"
    for name, noun, text in (
        ("unknown", "label key", "without a prediction yet"),
        ("repeated", "label", "equal to another of the same key"),
        ("contradicted", "key", "with labels that differ; the latest is joined"),
        ("future", "label", "from the future, to be joined in time"),
        ("early", "prediction", "with a label from before it, which is not joined, perhaps of another time zone"),
        ("without_key", "prediction", "logged without a key, which no label can belong to"),
    ):
        if count := getattr(counts, name):
            example = f", such as {examples[name]}" if name in examples else ""
            yield f"  {format_count(count, noun)} {text}{example}"
    yield f"next: {format_command('python', '-m', 'oncall', 'outcomes', '--log', log)}"


def run_program() -> None:
    """Run the command, and leave at once."""
    with skip_teardown():
        main()


if __name__ == "__main__":
    run_program()
