"""Commands around a run: `python -m pipeline init | ...`."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cli.counts import format_count
from cli.errors import ConfigError
from cli.interrupts import Interrupts, exit_at_once, skip_teardown
from cli.terminal import INTERRUPTED_EXIT_CODE, exit_on_error, format_command
from pipeline.init.command import init
from pipeline.retrain.command import retrain
from pipeline.staleness.command import staleness

EPILOG = """\
\b
Exit codes: 0 done, 2 a flag or a config is wrong, 3 the data cannot be read; docs and local_runner.py --help have all.
"""


class _Group(click.Group):
    """A group whose commands end with one line and the exit code of the error."""

    def invoke(self, ctx: click.Context) -> None:
        with exit_on_error():
            super().invoke(ctx)


@click.group(cls=_Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Prepare and follow the runs that local_runner.py starts."""


main.add_command(init)
main.add_command(staleness)
main.add_command(retrain)


def _add_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a run of a pipeline."""
    for option in (
        click.option("--run-root", type=click.Path(path_type=Path), help="[default: runs/NAME]"),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it."),
        click.option("--config", "config_file", default="configs/census.yaml", show_default=True),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("run", default="latest")
@_add_run_options
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: RUN_ROOT/reports/stats-RUN.html]"
)
def stats(run: str, config_file: str, settings: tuple[str, ...], run_root: Path | None, output: Path | None) -> None:
    """Write one offline HTML page of the statistics of RUN (a run id, its start, or latest). It has each feature in
    each split, with missing values, quantiles, histograms, top values, and the drift since the last push.
    """
    from pipeline.config import pipeline_config
    from pipeline.run.run_root import RunRoot, get_default_run_root
    from pipeline.stats import page

    loaded = pipeline_config.load(config_file, settings)
    root = RunRoot((run_root or get_default_run_root(loaded.name)).absolute())
    run_id, html = page.build_page(loaded, root, run)
    output = output or root.path / "reports" / f"stats-{run_id}.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(html, encoding="utf-8")
    click.echo(str(output))


@main.command()
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The request log.  [default: monitoring.request_log of the config]",
)
@click.option("--split", default="train", show_default=True, help="Split whose `files` name the new file.")
@click.option("--since", metavar="TIME", help="First time of prediction, such as 2026-11-01; UTC without an offset.")
@click.option("--until", metavar="TIME", help="End of the times of prediction, excluded.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: the next {SPAN} of the split's files]"
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option("--config", "config_file", default="configs/census.yaml", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def span(
    log: Path | None,
    split: str,
    since: str | None,
    until: str | None,
    output: Path | None,
    settings: tuple[str, ...],
    config_file: str,
    as_json: bool,
) -> None:
    """Write logged predictions with labels as the next span of a config's data.

    The rows have the features as they were served, and the label that `python -m serving.outcomes` has joined. Each
    prediction is written once. A column that was masked in the log, or that the log lacks, is named.

    \b
    Example, for data.format: parquet and files: span-{SPAN}/*.parquet:
      python -m pipeline span --config configs/loans.yaml --log logs/loans
    """
    from pipeline.config import pipeline_config
    from pipeline.outcomes.training_span import parse_time, write_span

    loaded = pipeline_config.load(config_file, settings)
    if log is None and loaded.monitoring.request_log is None:
        raise ConfigError("--log: is missing; name the folder of the request log, or set monitoring.request_log")
    log = log or Path(str(loaded.monitoring.request_log))
    times = {"since": parse_time(since, "--since"), "until": parse_time(until, "--until")}
    written = write_span(loaded, log, split=split, output=output, **times)
    if as_json:
        click.echo(json.dumps(asdict(written), default=str, indent=2))
        return
    before = f"; {written.written_before:,} are in earlier spans" if written.written_before else ""
    click.echo(
        f"{written.path}: {format_count(written.rows, 'row')}, predicted {written.first:%Y-%m-%d} to "
        f"{written.last:%Y-%m-%d}{before}"
    )


@main.command("beam-worker")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=50000, show_default=True, type=click.IntRange(0, 65535), help="0 chooses one.")
def beam_worker(host: str, port: int) -> None:
    """Start Beam workers on this machine for the jobs of `beam.worker_pool`, until Ctrl-C. Whoever reaches the port can
    run code as this user: open it to the machines of the cluster only. docs/scale.md
    """
    from serving.beam.config import is_loopback
    from serving.beam.worker_pool import open_pool

    with Interrupts() as interrupts, open_pool(host, port) as bound_port:
        # The workers end with the pool.
        interrupts.end_process = lambda: exit_at_once(INTERRUPTED_EXIT_CODE)
        click.echo(f"a pool of Beam workers listens on {host}:{bound_port}")
        if is_loopback(f"{host}:{bound_port}"):
            click.echo("only this machine reaches it; --host 0.0.0.0 opens it to others")
        threading.Event().wait()


@main.group()
def schema() -> None:
    """Review what the data of a run asks of the curated schema, and take it over."""


@schema.command("diff")
@_add_run_options
@click.option("--run", default="latest", show_default=True, help="A run id, or the start of one.")
@click.option("--feature", "features", multiple=True, metavar="COLUMN", help="Only this one. May be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def schema_diff(
    config_file: str,
    settings: tuple[str, ...],
    run_root: Path | None,
    run: str,
    features: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print how the schema would change to fit the data of a run, one that the gate stopped included."""
    _, reviewed = _review(config_file, settings, run_root, run, features)
    if as_json:
        changes = [asdict(change) for change in reviewed.changes]
        document = {"run_id": reviewed.run_id, "schema": str(reviewed.path), "changes": changes}
        moved = [f"{c.where}: {c.shift.feature}: {c.shift}" for c in reviewed.shifts]
        click.echo(json.dumps({**document, "moved": moved}, indent=2))
        return
    click.echo(f"{reviewed.path} against the data of run {reviewed.run_id}: {_format_changes(reviewed.changes)}")
    for compared in reviewed.shifts:
        click.echo(f"moved {compared.where}: {compared.shift.feature}: {compared.shift}")
    if reviewed.shifts:
        click.echo("a schema cannot take a moved distribution over: correct the data, or set other thresholds")
    for change in reviewed.changes:
        click.echo(str(change))
    if reviewed.changes:
        accept = format_command(
            "python", "-m", "pipeline", "schema", "accept", "--run", reviewed.run_id, *_collect_typed_flags()
        )
        click.echo(f"next: {accept}    # all of them; or only those of --feature COLUMN")


@schema.command("accept")
@_add_run_options
@click.option("--run", default="latest", show_default=True, help="A run id, or the start of one.")
@click.option("--feature", "features", multiple=True, metavar="COLUMN", help="Only this one. May be repeated.")
def schema_accept(
    config_file: str, settings: tuple[str, ...], run_root: Path | None, run: str, features: tuple[str, ...]
) -> None:
    """Write the changes that `diff` prints into the schema file; its comments outside of them stay."""
    from pipeline import schema_review

    pipeline_config, reviewed = _review(config_file, settings, run_root, run, features)
    if reviewed.changes:
        schema_review.accept(pipeline_config, reviewed)
    click.echo(
        f"{reviewed.path}: {_format_changes(reviewed.changes)} taken over from the data of run {reviewed.run_id}"
    )
    for change in reviewed.changes:
        click.echo(str(change))


def _collect_typed_flags() -> list[object]:
    """Return the typed options of the running command, without those of its output."""
    context = click.get_current_context()
    flags: list[object] = []
    for option in context.command.params:
        name = option.name or ""
        if name not in ("as_json", "run") and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            values = context.params[name] if option.multiple else [context.params[name]]
            flags += [part for value in values for part in (option.opts[0], _to_absolute(name, value))]
    return flags


def _to_absolute(name: str, value: object) -> object:
    """Return a path as it is typed in any folder."""
    return Path(str(value)).absolute() if name in ("config_file", "run_root") else value


def _review(
    config_file: str, settings: tuple[str, ...], run_root: Path | None, run: str, features: tuple[str, ...]
) -> Any:
    from pipeline import schema_review
    from pipeline.config import pipeline_config
    from pipeline.run.run_root import RunRoot, get_default_run_root

    source = click.get_current_context().get_parameter_source
    if run_root is not None and source("config_file") is ParameterSource.DEFAULT and not settings:
        # The default config is another pipeline's, perhaps; the run's own is on record.
        config_file, settings = _read_config_flags(RunRoot(run_root.absolute()), run, config_file)
    loaded = pipeline_config.load(config_file, settings)
    root = RunRoot((run_root or get_default_run_root(loaded.name)).absolute())
    return loaded, schema_review.review(loaded, root, run, features)


def _read_config_flags(root: Any, run: str, default: str) -> tuple[str, tuple[str, ...]]:
    """Return the config file and the settings that a run on record was started with."""
    from pipeline.run import artifact_lookup
    from pipeline.run.records import read_newest_records

    run_id = artifact_lookup.find_run(root, run).run_id
    record = next((record for record in read_newest_records(root) if record.run_id == run_id), None)
    flags = record.config_flags if record is not None else []
    if not flags:
        return default, ()
    return flags[1], tuple(flags[3::2])


def _format_changes(changes: Sequence[object]) -> str:
    return format_count(len(changes), "change") if changes else "no changes"


def run_program() -> None:
    """Run the command, and leave at once."""
    with skip_teardown():
        main()


if __name__ == "__main__":
    run_program()
