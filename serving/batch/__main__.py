"""python -m serving.batch INPUT OUTPUT --model MODEL: predictions for whole files."""

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click
from pydantic import ValidationError

from cli.errors import ConfigError
from cli.interrupts import skip_teardown
from cli.terminal import INTERRUPTED_EXIT_CODE, exit_on_error, print_interruption
from serving.beam.config import BeamOptions

if TYPE_CHECKING:
    from serving.batch.job_runner import BatchOptions, RunResult

EPILOG = """\b
Examples:
  python -m serving.batch data/new.csv predictions --model runs/census-income/registry/census-income --key id
  python -m serving.batch 'data/2026-*/*.parquet' predictions --model .../census-income/3 --workers 4
  python -m serving.batch raw.csv predictions --model .../3 --column-names age,job,id --missing-value '?'
  python -m serving.batch gs://b/new gs://b/predictions --model gs://b/models/3 --beam runner=dataflow ...

\b
OUTPUT gets:
  part-00003-000012.parquet  the 13th part of the predictions for the 4th file: file and row (the place in the
                             input; the header of CSV is row 1), the keys, the model's outputs, model_version
  _SUCCESS                   at the end: rows, rejects, parts, version and hashes of the model
  _rejects.jsonl             bad rows, with place and reason (--max-bad-rows)
  _job.json, _outcomes, _log.txt  the job, its progress, the output of Beam and TensorFlow

\b
Run the same command again after Ctrl-C, a crash or a bad row: finished parts are kept. An input or a model that has
changed is rejected; only a rejected file may be fixed.

\b
Exit codes:
  0    done, or done already
  1    something failed; _log.txt has the traceback
  2    a flag is wrong
  3    the input cannot be read, or does not fit the model
  5    the model cannot be loaded; or OUTPUT cannot be written, or holds another job
  130  interrupted (Ctrl-C or SIGTERM)
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.argument("beam_arguments", metavar="[-- BEAM_OPTION...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--model",
    required=True,
    metavar="FOLDER",
    help="A version of a model, its folder of versions (then the champion), or the gs:// folder of a version.",
)
@click.option("--allow-unvalidated", is_flag=True, help="Use a model that no push of this product wrote, unchecked.")
@click.option(
    "--format",
    type=click.Choice(["csv", "tfrecord", "parquet"]),
    help="Format of the input; TFRecord is of tf.Example.  [default: that of the file names]",
)
@click.option("--key", "keys", multiple=True, metavar="COLUMN", help="Copy this column to the output. May be repeated.")
@click.option(
    "--output-format",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    default="parquet",
    show_default=True,
    help="In CSV, outputs with several values for a row are JSON.",
)
@click.option(
    "--max-bad-rows",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Maximum number of bad rows; they are written to _rejects.jsonl. One more stops the run.",
)
@click.option(
    "--rows-per-part",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Rows of a part, the most a killed run loses.",
)
@click.option(
    "--delimiter",
    metavar="CHARACTER",
    help="Delimiter; '\\t' is a tab.  [default: the model's, or a comma; .tsv a tab]",
)
@click.option("--encoding", help="Encoding of CSV, such as latin-1.  [default: the model's, or utf-8]")
@click.option(
    "--column-names",
    metavar="A,B,C",
    help="Names for CSV without a header.  [default: the model's, or the header]",
)
@click.option("--header", is_flag=True, help="The first row of CSV names the columns, whatever the model's data had.")
@click.option(
    "--quote",
    type=click.Choice(['"', "'", "none"]),
    help="Quote of CSV; none reads quotes like any other character.  [default: the model's]",
)
@click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="Character before the fraction.  [default: the model's, or .]",
)
@click.option(
    "--thousands",
    type=click.Choice([",", ".", " ", "'", "_"]),
    help="Character between groups of three digits.  [default: the model's]",
)
@click.option("--strip-spaces", is_flag=True, help="Remove spaces around the values of CSV.")
@click.option(
    "--missing-value",
    "missing_values",
    multiple=True,
    metavar="STRING",
    help="String that stands for a missing value. May be repeated.  [default: the model's, or the empty string]",
)
@click.option(
    "--ignore-column",
    "ignored_columns",
    multiple=True,
    metavar="COLUMN",
    help="Accept this column, which the training data does not have. May be repeated.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes here; each takes whole files."
)
@click.option(
    "--beam",
    multiple=True,
    metavar="KEY=VALUE",
    help="Key of a config's section `beam`, such as runner=flink (docs/config.md). May be repeated.",
)
@click.option(
    "--beam-option",
    "beam_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of Beam that has no key, such as region=europe-west4. May be repeated; arguments after -- are "
    "options, too.",
)
@click.option("--quiet", is_flag=True, help="Print nothing unless something fails.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary, or the error, as one JSON document.")
def main(as_json: bool, quiet: bool, **flags: Any) -> None:
    """Predict the rows of INPUT with a model of this pipeline, and write them to the folder OUTPUT.

    INPUT is a file of CSV (also compressed), Parquet or TFRecord, a quoted pattern such as 'data/*.csv', or a folder.
    It has the columns that the model was trained on, by name. It may have the other columns of the training data, such
    as the label. Any further column is an error, unless --key or --ignore-column names it. Columns that the model may
    miss values of (`missing` in its config) may have empty values.
    """
    # Before TensorFlow is loaded, in worker processes too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with exit_on_error(as_json=as_json):
        try:
            from serving.batch.job_runner import run_job

            result = run_job(_build_options(quiet=quiet or as_json, **flags))
        except KeyboardInterrupt:
            text = "interrupted; finished parts are kept: run the same command again to continue"
            print_interruption(text, as_json=as_json)
            _end_process(INTERRUPTED_EXIT_CODE)
    if as_json:
        click.echo(result.to_json())
    elif not quiet:
        click.echo(_format_result(result))


def _build_options(
    *,
    beam_arguments: tuple[str, ...],
    beam: tuple[str, ...],
    beam_options: tuple[str, ...],
    delimiter: str | None,
    encoding: str | None,
    column_names: str | None,
    header: bool,
    quote: str | None,
    decimal: str | None,
    thousands: str | None,
    strip_spaces: bool,
    missing_values: tuple[str, ...],
    **flags: Any,
) -> "BatchOptions":
    from serving.batch.job_runner import BatchOptions

    if beam_arguments and not beam_arguments[0].startswith("--"):
        stray = beam_arguments[0]
        raise ConfigError(f"unexpected argument '{stray}'; a pattern needs quotes, so that the shell leaves it alone")
    if header and column_names:
        raise ConfigError("--header and --column-names: give one of them")
    csv = {
        "delimiter": {"\\t": "\t", "tab": "\t"}.get(delimiter or "", delimiter),
        "encoding": encoding,
        "column_names": column_names.split(",") if column_names else () if header else None,
        "quote": quote,
        "decimal": decimal,
        "thousands": thousands,
        "strip_spaces": strip_spaces or None,
    }
    return BatchOptions(
        csv={name: value for name, value in csv.items() if value is not None},
        missing_values=missing_values or None,
        beam=_build_beam_options(beam, [*beam_options, *_join_values(beam_arguments)]),
        **flags,
    )


def _build_beam_options(settings: tuple[str, ...], options: list[str]) -> BeamOptions:
    """Return the options of Beam from `key=value` and `name=value`.

    Raises:
      ConfigError: one of them is wrong.
    """
    values: dict[str, Any] = dict(setting.partition("=")[::2] for setting in settings)
    flags = {name: value if equals else True for name, equals, value in (option.partition("=") for option in options)}
    try:
        beam = BeamOptions(**values, options=flags)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"][:1])
        rule = problem["msg"].removeprefix("Value error, ")
        if rule.startswith("options."):
            raise ConfigError(f"--beam-option {rule.removeprefix('options.')}") from error
        raise ConfigError(f"--beam{f' {key}' if key else ''}: {rule[0].lower()}{rule[1:]}") from error
    problem_key = beam.find_foreign_key([beam.runner or "direct"])
    if problem_key:
        raise ConfigError(f"--beam {problem_key}")
    return beam


def _join_values(arguments: tuple[str, ...]) -> list[str]:
    """Return `--name value` as `name=value`."""
    options: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            options.append(argument.removeprefix("--"))
        else:
            options[-1] += f"={argument}"
    return options


def _format_result(result: "RunResult") -> str:
    """Return the line that reports the result."""
    summary = result.summary
    rejected = f" ({summary.rejected:,} rejected: _rejects.jsonl)" if summary.rejected else ""
    counts = ", ".join(f"{column} {count:,}" for column, count in summary.values_out_of_range.items())
    out_of_range = f" (out of range, replaced by the nearest ID or cut: {counts})" if counts else ""
    rows, files = _format_count(summary.rows, "row"), _format_count(summary.files, "file")
    predictions = f"{rows} of {files} with version {summary.model_version}{rejected}{out_of_range}"
    if result.already_done:
        return f"nothing to do: {result.output} holds the predictions for {predictions}, finished {summary.finished}"
    reused = f", {result.reused_parts:,} from earlier runs" if result.reused_parts else ""
    parts = _format_count(summary.parts, "part")
    return f"predicted {predictions} in {result.seconds:,.1f} s: {parts} in {result.output}{reused}"


def _format_count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _end_process(exit_code: int) -> NoReturn:
    """End without waiting for Beam's threads, which would first finish their files."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    # At the interpreter's end Arrow's threads abort the process after some errors: its exit code would be 134.
    with skip_teardown():
        main()
