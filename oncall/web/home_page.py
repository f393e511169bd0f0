"""The first page: checks, serving version and runs."""

from dataclasses import dataclass
from pathlib import Path

from cli.errors import PushError
from oncall.checks import report_checks, run_checks
from oncall.local.run_store import LocalRunStore
from oncall.runs import RunRow, describe_run
from oncall.web.options import PageOptions
from oncall.web.run_filter import RunFilter
from oncall.web.run_index import RunIndex
from oncall.web.sections import Section, read_section
from serving.registry import Event, Ledger, LocalRegistry

RUNS_PER_PAGE = 25
_MAX_VERSIONS, _MAX_EVENTS = 10, 50
# Events that may change the serving version.
_PROMOTIONS = ("push", "promote", "rollback", "adopt")


@dataclass(frozen=True)
class VersionRow:
    """A version of the registry, with its state and a part of its release."""

    number: int
    state: str
    run: str = ""
    pushed_at: str = ""
    metrics: str = ""
    problem: str = ""


@dataclass(frozen=True)
class RegistrySummary:
    """The serving version and its promotion; the newest versions and events, and the number of all of them."""

    folder: Path
    name: str
    champion: int | None
    since: Event | None
    versions: list[VersionRow]
    all_versions: int
    events: list[Event]
    all_events: int


@dataclass(frozen=True)
class RunsPage:
    """Some of the runs, newest first, and their place among all."""

    runs: list[RunRow]
    page: int
    pages: int
    total: int


def get_pipeline(store: LocalRunStore) -> str:
    """Return the pipeline's name, or the run root's if no run is on record."""
    return next((record.pipeline for record in store.read_records()), store.root.path.name)


def read_checks(store: LocalRunStore, options: PageOptions) -> Section:
    """Return the document of `check`."""
    return read_section(
        lambda: report_checks(run_checks(store, options.url, options.registry, options.model, options.log))
    )


def read_registry(store: LocalRunStore, options: PageOptions) -> Section:
    """Return the summary of the registry."""
    return read_section(lambda: _summarize(store.find_registry(options.registry, options.model)))


def read_events(store: LocalRunStore, options: PageOptions) -> list[Event]:
    """Return the pushes, promotions and rollbacks, the oldest first.

    Raises:
      PipelineError: there is no registry that can be read.
    """
    return list(store.find_registry(options.registry, options.model).read_ledger().history)


def _summarize(registry: LocalRegistry) -> RegistrySummary:
    ledger = registry.read_ledger()
    versions = registry.list_numbers()
    labelled = {*ledger.labels.values()}
    newest = sorted({*versions[-_MAX_VERSIONS:], *labelled}, reverse=True)
    events = list(reversed(ledger.history))
    since = next((e for e in events if e.version == ledger.champion and e.action in _PROMOTIONS), None)
    return RegistrySummary(
        folder=registry.folder,
        name=registry.name,
        champion=ledger.champion,
        since=since,
        versions=[_read_version(registry, number, ledger) for number in newest],
        all_versions=len({*versions, *labelled}),
        events=events[:_MAX_EVENTS],
        all_events=len(events),
    )


def _read_version(registry: LocalRegistry, number: int, ledger: Ledger) -> VersionRow:
    state = str(ledger.states.get(number, ""))
    try:
        release = registry.read_release(number)
        state = state or registry.describe_state(number, ledger)
    except PushError as error:
        return VersionRow(number, state, problem=str(error))
    if release is None:
        has_folder = number in registry.list_numbers()
        return VersionRow(number, state, problem="of another tool" if has_folder else "its folder is gone")
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in list(release.metrics.items())[:3])
    return VersionRow(number, state, release.run_id, release.pushed_at, metrics)


def read_runs(store: LocalRunStore, index: RunIndex, selection: RunFilter, page: int) -> Section:
    """Return the selected runs of one page, counted from 1; of the last page if there are fewer."""
    section = read_section(lambda: _select_runs(store, index, selection, page))
    if section.content is None:
        return section
    runs, error = section.content
    return Section(runs, error)


def _select_runs(store: LocalRunStore, index: RunIndex, selection: RunFilter, page: int) -> tuple[RunsPage, str]:
    """Return the runs, and why some could not be read."""
    ids, error = store.list_run_ids()
    if selection.values:
        ids = [run_id for run_id in ids if selection.is_match(index.read(store, run_id))]
    pages = max(-(-len(ids) // RUNS_PER_PAGE), 1)
    page = min(page, pages)
    start = (page - 1) * RUNS_PER_PAGE
    runs = map(store.get_run, ids[start : start + RUNS_PER_PAGE])
    rows = [describe_run(store, run, readable=not error) for run in runs]
    return RunsPage(rows, page, pages, len(ids)), error
