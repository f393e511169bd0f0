"""What the start page shows: whether all is well, the serving version and the one before, the runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import PushError
from oncall import checks, runs
from oncall.evidence import Evidence
from oncall.releases import registry_of
from oncall.web.sections import Section, section
from serving.registry import Event, LocalRegistry

RUNS_ON_A_PAGE = 25
_VERSIONS, _EVENTS = 10, 50
# What may let a version serve.
_CROWNING = ("push", "promote", "rollback", "adopt")


@dataclass(frozen=True)
class Place:
    """Where to look besides the run root: --url, --registry and --model of the command."""

    url: str | None = None
    registry: Path | None = None
    model: str | None = None


@dataclass(frozen=True)
class Version:
    """A version of the registry: its state, and of its release what the list shows."""

    number: int
    state: str
    run: str = ""
    pushed_at: str = ""
    metrics: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Served:
    """The serving version, and how it came to that; the newest versions and events, and how many there are."""

    folder: Path
    name: str
    champion: int | None
    since: Event | None
    versions: list[Version]
    all_versions: int
    events: list[Event]
    all_events: int


@dataclass(frozen=True)
class RunsPage:
    """Some of the runs, newest first, and where they are among all."""

    runs: list[dict[str, Any]]
    page: int
    pages: int
    total: int


def name_of(evidence: Evidence) -> str:
    """Return the pipeline's name; the run root's where no run is on record."""
    return next((record.pipeline for record in evidence.records()), evidence.root.path.name)


def checked(evidence: Evidence, place: Place) -> Section:
    """Return what `check` answers."""
    return section(lambda: checks.check(evidence, place.url, place.registry, place.model, alert=False))


def served(evidence: Evidence, place: Place) -> Section:
    """Return what the registry says of itself."""
    return section(lambda: _served(registry_of(evidence, place.registry, place.model)))


def _served(registry: LocalRegistry) -> Served:
    ledger = registry.ledger()
    there = registry.numbers()
    labelled = {*ledger.labels.values()}
    newest = sorted({*there[-_VERSIONS:], *labelled}, reverse=True)
    events = list(reversed(ledger.history))
    since = next((e for e in events if e.version == ledger.champion and e.action in _CROWNING), None)
    return Served(
        folder=registry.folder,
        name=registry.name,
        champion=ledger.champion,
        since=since,
        versions=[_version(registry, number, str(ledger.states.get(number, "cut off"))) for number in newest],
        all_versions=len({*there, *labelled}),
        events=events[:_EVENTS],
        all_events=len(events),
    )


def _version(registry: LocalRegistry, number: int, state: str) -> Version:
    try:
        release = registry.release(number)
    except PushError as error:
        return Version(number, state, problem=str(error))
    if release is None:
        is_there = number in registry.numbers()
        return Version(number, state, problem="of another tool" if is_there else "its folder is gone")
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in list(release.metrics.items())[:3])
    return Version(number, state, release.run_id, release.pushed_at, metrics)


def runs_page(evidence: Evidence, page: int) -> Section:
    """Return the runs of one page, counted from 1; of a page that is not there, the last."""
    found = section(lambda: runs.listed(evidence, RUNS_ON_A_PAGE, (page - 1) * RUNS_ON_A_PAGE))
    if found.found is None:
        return found
    total = found.found["total"]
    pages = max(-(-total // RUNS_ON_A_PAGE), 1)
    if page > pages:
        return runs_page(evidence, pages)
    return Section(RunsPage(found.found["runs"], page, pages, total), found.problem)
