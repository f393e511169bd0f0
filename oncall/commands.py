"""The commands of `python -m oncall`; each calls the function of its module."""

from collections.abc import Callable
from pathlib import Path

import click

from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult
from oncall.run_store import RunStore
from oncall.shared_options import add_local_store, add_store

# Each command imports its own module, so that `--help` loads none.


def _add_registry_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select the registry."""
    for option in (
        click.option("--model", metavar="NAME", help="push.model_name.  [default: the newest run's]"),
        click.option(
            "--registry",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="push.registry.  [default: the newest run's]",
        ),
    ):
        command = option(command)
    return command


_log = click.option(
    "--log",
    "request_log",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of the request log.  [default: monitoring.request_log of the newest run]",
)
_yes = click.option("--yes", is_flag=True, help="Make the change.")


def _is_json() -> bool:
    return bool(click.get_current_context().params["as_json"])


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of runs, newest first.")
@add_store
def runs(store: RunStore, limit: int) -> CommandResult:
    """List the runs with their state, cause and push."""
    from oncall.runs import list_runs

    return list_runs(store, limit)


@click.command()
@click.argument("run")
@add_store
def show(store: RunStore, run: str) -> CommandResult:
    """Show a run: user, config, command and the state of each node."""
    from oncall.runs import show_run

    return show_run(store, run)


@click.command()
@click.argument("run")
@add_store
def why(store: RunStore, run: str) -> CommandResult:
    """Print why a run failed, and what to try.

    Names the node and the cause, with the lines of the log that show it.
    """
    from oncall.failures import explain_run

    return explain_run(store, run)


@click.command()
@click.argument("run")
@click.argument("node", required=False)
@click.option("--lines", type=click.IntRange(0), metavar="N", help="Print only the last N lines.")
@click.option("--follow", is_flag=True, help="Continue until the run, or the node, has ended, or until Ctrl-C.")
@add_local_store("`why RUN` names the command of Cloud Logging that shows a task's log")
def log(store: LocalRunStore, run: str, node: str | None, lines: int | None, follow: bool) -> CommandResult | int:
    """Print the log of a run or of one node.

    Defaults to the node that failed, or to the whole run if none did.
    """
    from oncall.log import print_log

    return print_log(store, run, node, lines=lines, follow=follow, as_json=_is_json())


@click.command()
@_add_registry_options
@add_store
def serving(store: RunStore, registry: Path | None, model: str | None) -> CommandResult:
    """Print the serving version and all others.

    Each version has its run, data, schema and metrics, and a check of its files against the push.
    """
    from oncall.serving_versions import show_versions

    return show_versions(store, registry, model)


@click.command()
@click.argument("artifact", metavar="ARTIFACT_ID|vN")
@_add_registry_options
@add_store
def lineage(store: RunStore, artifact: str, registry: Path | None, model: str | None) -> CommandResult:
    """Print the inputs and the users of an artifact.

    The name is its number in ML Metadata, or a version of the registry: v2.
    """
    from oncall.lineage import trace_artifact

    return trace_artifact(store, artifact, registry, model)


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@add_store
def diff(store: RunStore, run_a: str, run_b: str) -> CommandResult:
    """Print the changes from one run to another.

    Compares config, code, packages, data, statistics, schema, anomalies and metrics.
    """
    from oncall.diff import compare_runs

    return compare_runs(store, run_a, run_b)


@click.command()
@click.argument("run")
@add_store
def anomalies(store: RunStore, run: str) -> CommandResult:
    """Print the anomalies of a run's data, and the gate's verdict."""
    from oncall.anomalies import report_anomalies

    return report_anomalies(store, run)


@click.command()
@click.option("--url", metavar="URL", help="Check that the model server at URL serves the champion by default.")
@click.option(
    "--alert",
    is_flag=True,
    help="Notify of new failures only, on standard error and to the webhook of the newest run.",
)
@_log
@_add_registry_options
@add_store
def check(
    store: RunStore,
    url: str | None,
    alert: bool,
    request_log: Path | None,
    registry: Path | None,
    model: str | None,
) -> CommandResult:
    """Check the newest run, the champion, the server and live traffic.

    Ends with 1 if the newest run that has ended failed, the database cannot be used, or no version serves. Likewise if
    the champion's files are not those that a run on record pushed, or the server of --url serves another version. With
    a request log, so it does if requests of the last day differ from the training data, or the live quality is
    significantly below the evaluated.
    """
    from oncall.checks import report_checks, run_checks

    checks = run_checks(store, url, registry, model, request_log)
    if not alert:
        return report_checks(checks)
    from oncall.check_alerts import notify_of_checks

    return notify_of_checks(store, checks)


@click.command()
@_log
@_add_registry_options
@add_store
def outcomes(store: RunStore, request_log: Path | None, registry: Path | None, model: str | None) -> CommandResult:
    """Print the live metrics of each version, with intervals.

    By week and slice, beside the values of its evaluation. They are of the logged predictions whose label
    `python -m serving.outcomes` has joined. --json has all metrics.
    """
    from oncall.outcomes import report_outcomes

    return report_outcomes(store, request_log, registry, model)


@click.command()
@click.option(
    "--since",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Start of the window: 30m, 12h, 1d, 2w, or a date or time of ISO 8601, which is UTC without an offset.",
)
@click.option("--version", type=click.IntRange(0), metavar="N", help="Version to judge.  [default: the champion]")
@_log
@_add_registry_options
@add_local_store("the monitoring of the endpoint compares its requests with the training data")
def traffic(
    store: LocalRunStore,
    since: str,
    version: int | None,
    request_log: Path | None,
    registry: Path | None,
    model: str | None,
) -> CommandResult:
    """Compare live traffic with the champion's training data.

    Reads the request log that the model server writes. Names the features that moved, missing and new values, drift of
    the predictions, and rejected requests by reason. Ends with 1 if more differs than chance explains.
    """
    from oncall.traffic import report_traffic

    return report_traffic(store, registry, model, log=request_log, since=since, version=version)


@click.command()
@_add_registry_options
@add_store
def doctor(store: RunStore, registry: Path | None, model: str | None) -> CommandResult:
    """Print the problems of the run root, with remedies.

    Checks the database, the lock, crashed runs, artifacts, disk and registry; ends with 1 if it finds a problem.
    """
    if isinstance(store, LocalRunStore):
        from oncall.local.doctor import diagnose_run_root

        return diagnose_run_root(store, registry, model)
    from oncall.vertex.doctor import diagnose_vertex
    from oncall.vertex.run_store import VertexRunStore

    assert isinstance(store, VertexRunStore)
    return diagnose_vertex(store, registry, model)


@click.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Resume it even if its push would replace a newer champion.")
@add_local_store("submit the same config again: python vertex_runner.py submit --wait{flags}")
def resume(store: LocalRunStore, run: str, yes: bool) -> CommandResult | int:
    """Continue a run with its own config and the cache.

    Results of finished nodes are reused from the cache. Changes the run root, as any run does. Without --yes, a run
    whose push would replace a newer champion, or undo a rollback, is not resumed.
    """
    from oncall.resumption import resume_run

    return resume_run(store, run, yes=yes, as_json=_is_json())


@click.command()
@_yes
@_add_registry_options
@add_local_store("python -m serving.registry list{flags} shows versions of other tools")
def quarantine(store: LocalRunStore, registry: Path | None, model: str | None, yes: bool) -> CommandResult:
    """Move aside what no artifact and no push explains.

    Folders that no artifact is in, and versions that were copied into the registry by hand. Prints the command that
    moves them back. Without --yes nothing is changed. gc removes them.
    """
    from oncall.local.quarantine import quarantine_files

    return quarantine_files(store, registry, model, yes=yes)


@click.command()
@click.option("--version", type=click.IntRange(0), metavar="N", help="Version to serve.  [default: the previous one]")
@click.option("--reason", default="", metavar="TEXT", help="Reason, kept in the registry's history.")
@_yes
@_add_registry_options
@add_local_store("python -m serving.registry rollback{flags} --yes gives an earlier version all traffic")
def rollback(
    store: LocalRunStore, registry: Path | None, model: str | None, version: int | None, reason: str, yes: bool
) -> CommandResult:
    """Let the previous version serve again.

    Without --yes nothing is changed. A second rollback reverts the first one; a rerun of the pipeline does not.
    """
    from oncall.rollback import roll_back

    return roll_back(store, registry, model, version, reason, yes=yes)


@click.command()
@click.option("--keep-last", type=click.IntRange(1), required=True, metavar="N", help="Runs that keep all they used.")
@click.option(
    "--keep-pushed/--drop-pushed",
    default=True,
    show_default=True,
    help="Keep all that registered versions were made from.",
)
@_yes
@_add_registry_options
@add_local_store(
    "python -m serving.registry gc{flags} deletes versions, and a lifecycle rule of the bucket old artifacts"
)
def gc(
    store: LocalRunStore, registry: Path | None, model: str | None, keep_last: int, keep_pushed: bool, yes: bool
) -> CommandResult:
    """Remove the artifacts of old runs.

    Without --yes nothing is changed. Artifacts of the serving version, of the next run's baseline and of the last good
    run are kept.
    """
    from oncall.local.garbage_collection import collect_garbage

    return collect_garbage(store, keep_last=keep_last, keep_pushed=keep_pushed, yes=yes, folder=registry, model=model)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8502, show_default=True, help="Port; 0 for a free one.")
@click.option("--url", metavar="URL", help="URL of a model server for the checks of the first page.")
@_log
@_add_registry_options
@add_local_store("the Google Cloud console shows its jobs, lineage and models as pages")
def web(
    store: LocalRunStore,
    port: int,
    url: str | None,
    request_log: Path | None,
    registry: Path | None,
    model: str | None,
) -> int:
    """Show all of this as pages, until Ctrl-C.

    Runs, the serving version, and a page for each run, for this machine's browsers alone.
    """
    from oncall.web.options import PageOptions
    from oncall.web.server import serve

    return serve(store, PageOptions(url, registry, model, request_log), port=port, as_json=_is_json())


@click.command()
@click.argument("run")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Output file.  [default: reports/run-RUN.html in the run root]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_add_registry_options
@add_local_store("`show RUN --json` and `why RUN --json` hold what an incident needs")
def report(
    store: LocalRunStore, run: str, output: Path | None, overwrite: bool, registry: Path | None, model: str | None
) -> CommandResult:
    """Write a run's page to a file, for an incident.

    One HTML file that needs neither a server nor a network. Writes that file alone.
    """
    from oncall.web.options import PageOptions
    from oncall.web.report import write_report

    return write_report(store, run, PageOptions(None, registry, model), output=output, overwrite=overwrite)


ALL = (
    runs,
    show,
    why,
    log,
    serving,
    lineage,
    diff,
    anomalies,
    check,
    outcomes,
    traffic,
    doctor,
    resume,
    rollback,
    quarantine,
    gc,
    web,
    report,
)
