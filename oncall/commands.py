"""The commands of `python -m oncall`, each a few lines: what they do is in the module of their name."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from oncall.evidence import Evidence
from oncall.shared_options import answers, answers_here
from oncall.sources import Source
from oncall.terminal import Answer

# Modules are imported where they are used: `--help` should wait for none.


def _registry(command: Callable[..., None]) -> Callable[..., None]:
    """Which registry is meant, where the newest run's is not."""
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


_yes = click.option("--yes", is_flag=True, help="Do it.")


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many, the newest first.")
@answers
def runs(evidence: Source, limit: int) -> Answer:
    """List the runs: how each ended and why, and what it pushed."""
    from oncall.runs import listed

    return listed(evidence, limit)


@click.command()
@click.argument("run")
@answers
def show(evidence: Source, run: str) -> Answer:
    """Show a run: who ran what, and what each node did."""
    from oncall.runs import shown

    return shown(evidence, run)


@click.command()
@click.argument("run")
@answers
def why(evidence: Source, run: str) -> Answer:
    """Print why a run failed, and what to try.

    Names the node and the cause, with the lines of the log that say so.
    """
    from oncall import why as module

    return module.why(evidence, run)


@click.command()
@click.argument("run")
@click.argument("node", required=False)
@click.option("--lines", type=click.IntRange(0), metavar="N", help="Only the last N.")
@click.option("--follow", is_flag=True, help="Continue until the run, or the node, has ended; Ctrl-C leaves it.")
@answers_here("`why RUN` names the command of Cloud Logging that shows a task's log")
def log(evidence: Evidence, run: str, node: str | None, lines: int | None, follow: bool) -> Answer | int:
    """Print what a node of a run wrote to the log.

    By default the node that failed, or, where none did, all of the run.
    """
    from oncall import log as module

    as_json = bool(click.get_current_context().params["as_json"])
    return module.log(evidence, run, node, lines=lines, follow=follow, as_json=as_json)


@click.command()
@_registry
@answers
def serving(evidence: Source, registry: Path | None, model: str | None) -> Answer:
    """Print the serving version, and what it was made from.

    Each version with its run, data, schema and metrics, and whether its files are those that were pushed.
    """
    from oncall import releases

    return releases.serving(evidence, registry, model)


@click.command()
@click.argument("artifact", metavar="ARTIFACT_ID|vN")
@_registry
@answers
def lineage(evidence: Source, artifact: str, registry: Path | None, model: str | None) -> Answer:
    """Print what an artifact was made from, and what from it.

    It is named by its number in ML Metadata, or as a version of the registry: v2.
    """
    from oncall import lineage as module

    return module.lineage(evidence, artifact, registry, model)


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@answers
def diff(evidence: Source, run_a: str, run_b: str) -> Answer:
    """Print what changed from one run to another.

    Config, code, packages, data, statistics, schema, anomalies and metrics.
    """
    from oncall import diff as module

    return module.diff(evidence, run_a, run_b)


@click.command()
@click.argument("run")
@answers
def anomalies(evidence: Source, run: str) -> Answer:
    """Print the anomalies of a run's data, and the gate's verdict."""
    from oncall import anomalies as module

    return module.anomalies(evidence, run)


@click.command()
@click.option("--url", metavar="URL", help="Of a model server: its default version shall be the champion.")
@click.option(
    "--alert",
    is_flag=True,
    help="Tell only news, on standard error, and to the webhook of the newest run.",
)
@_registry
@answers
def check(evidence: Source, url: str | None, alert: bool, registry: Path | None, model: str | None) -> Answer:
    """Check the newest run, the champion and the server.

    Ends with 1 if the newest run that ended did not end well, the database cannot be used, no version serves, the
    champion's files are not those that were pushed by a run on record, or the server of --url serves another version.
    """
    from oncall import checks

    return checks.check(evidence, url, registry, model, alert=alert)


@click.command()
@_registry
@answers
def doctor(evidence: Source, registry: Path | None, model: str | None) -> Answer:
    """Print what is wrong with the run root, with remedies.

    Looks at the database, the lock, crashed runs, artifacts, disk and registry; ends with 1 if something is wrong.
    """
    if isinstance(evidence, Evidence):
        from oncall import doctor as module

        return module.doctor(evidence, registry, model)
    from oncall.vertex import doctor as on_vertex
    from oncall.vertex.evidence import VertexEvidence

    assert isinstance(evidence, VertexEvidence)
    return on_vertex.doctor(evidence, registry, model)


@click.command()
@click.argument("run")
@answers_here("submit the same config again: python vertex_runner.py submit --wait{place}")
def resume(evidence: Evidence, run: str) -> Answer | int:
    """Continue a run: its own config, with the cache.

    What it had finished is reused from the cache. Changes the run root, as any run does.
    """
    from oncall import resume as module

    return module.resume(evidence, run, as_json=bool(click.get_current_context().params["as_json"]))


@click.command()
@click.option("--version", type=click.IntRange(0), metavar="N", help="That shall serve.  [default: the previous one]")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the registry's history.")
@_yes
@_registry
@answers_here("python -m serving.registry rollback{place} --yes gives an earlier version all traffic")
def rollback(
    evidence: Evidence, registry: Path | None, model: str | None, version: int | None, reason: str, yes: bool
) -> Answer:
    """Let the previous version serve again.

    Without --yes nothing is changed. A second rollback takes the first one back; a rerun of the pipeline does not.
    """
    from oncall.releases import need_version, registry_of

    found = registry_of(evidence, registry, model)
    need_version(found, version)
    switch = found.rollback(version, reason=reason, dry_run=not yes)
    document: dict[str, Any] = {**asdict(switch), "changed": switch.changed and yes, "serving": found.champion()}
    before = f"version {switch.champion_before}" if switch.champion_before is not None else "no version"
    if not switch.changed:
        said = f"nothing to do: version {switch.version} serves"
    elif yes:
        said = f"version {switch.version} of {found.name} serves; before: {before}"
    else:
        said = f"would roll back: version {switch.version} would serve, and now {before} does; add --yes to do it"
    return Answer(document, [said])


@click.command()
@click.option("--keep-last", type=click.IntRange(1), required=True, metavar="N", help="Runs that keep all they used.")
@click.option("--keep-pushed", is_flag=True, help="Keep what registered versions were made from.")
@_yes
@_registry
@answers_here("python -m serving.registry gc{place} deletes versions, and a lifecycle rule of the bucket old artifacts")
def gc(
    evidence: Evidence, registry: Path | None, model: str | None, keep_last: int, keep_pushed: bool, yes: bool
) -> Answer:
    """Remove the artifacts of old runs.

    Without --yes nothing is changed. Artifacts of the serving version, of the next run's baseline and of the last good
    run are kept.
    """
    from oncall import garbage

    return garbage.gc(evidence, keep_last=keep_last, keep_pushed=keep_pushed, yes=yes, folder=registry, model=model)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8502, show_default=True, help="0 takes any free one.")
@click.option("--url", metavar="URL", help="Of a model server, which `check` asks on the first page.")
@_registry
@answers_here("the Google Cloud console shows its jobs, lineage and models as pages")
def web(evidence: Evidence, port: int, url: str | None, registry: Path | None, model: str | None) -> int:
    """Show all of this as pages, until Ctrl-C.

    Runs, the serving version, and a page for each run, for this machine's browsers alone.
    """
    from oncall.web.server import serve
    from oncall.web.start import Place

    as_json = bool(click.get_current_context().params["as_json"])
    return serve(evidence, Place(url, registry, model), port=port, as_json=as_json)


@click.command()
@click.argument("run")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where it goes.  [default: reports/run-RUN.html in the run root]",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@_registry
@answers_here("`show RUN --json` and `why RUN --json` hold what an incident needs")
def report(
    evidence: Evidence, run: str, output: Path | None, overwrite: bool, registry: Path | None, model: str | None
) -> Answer:
    """Write a run's page to a file, for an incident.

    One HTML file that needs neither a server nor a network. Writes that file alone.
    """
    from oncall.web import report as module
    from oncall.web.start import Place

    return module.report(evidence, run, Place(None, registry, model), output=output, overwrite=overwrite)


ALL = (runs, show, why, log, serving, lineage, diff, anomalies, check, doctor, resume, rollback, gc, web, report)
