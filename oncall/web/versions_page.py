"""All versions of a model in one table: state, data, metrics, and the config keys in which they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.errors import DataError, RunRootError
from oncall.diff import flatten
from oncall.evaluations import MetricValue, read_metrics_by_slice
from oncall.local.run_store import LocalRunStore
from oncall.serving_versions import VersionFacts, read_registry_facts
from oncall.web.options import PageOptions
from schemas.metrics import EXAMPLE_COUNT
from schemas.slices import OVERALL

MAX_VERSIONS = 8


@dataclass(frozen=True)
class VersionColumn:
    """One version.

    Attributes:
      facts: version with its data and verdicts.
      metrics: metrics over all rows, with intervals if some were stored.
      config: config of its run by dotted key; empty if it is not on record.
    """

    facts: VersionFacts
    metrics: Mapping[str, MetricValue]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class VersionTable:
    """The versions side by side.

    Attributes:
      registry: folder of the registry.
      columns: newest versions, the champion always among them.
      hidden: number of older versions.
      metric_names: names of the metrics.
      differences: values by config key and version, for keys in which versions differ.
      champion: number of the champion.
      error: why a part could not be read.
    """

    registry: str
    columns: Sequence[VersionColumn]
    hidden: int
    metric_names: Sequence[str]
    differences: Mapping[str, Sequence[Any]]
    champion: int | None
    error: str


def read_versions(store: LocalRunStore, options: PageOptions) -> VersionTable:
    """Return the versions of the model, the newest first."""
    registry = read_registry_facts(store, options.registry, options.model)
    newest, champion = registry.versions[::-1], registry.champion
    listed = [facts for n, facts in enumerate(newest) if n < MAX_VERSIONS or facts.version.number == champion]
    columns = [VersionColumn(f, _read_metrics(store, f), _read_config(store, f.version.run)) for f in listed]
    names = dict.fromkeys(name for column in columns for name in column.metrics if name != EXAMPLE_COUNT)
    with_config = [column for column in columns if column.config]
    keys = dict.fromkeys(key for column in with_config for key in column.config)
    differences = {
        key: [column.config.get(key) if column.config else None for column in columns]
        for key in keys
        if len({str(column.config.get(key)) for column in with_config}) > 1
    }
    hidden = len(newest) - len(listed)
    return VersionTable(registry.location, columns, hidden, list(names), differences, champion, registry.error)


def _read_metrics(store: LocalRunStore, facts: VersionFacts) -> Mapping[str, MetricValue]:
    """Return the metrics of a version's evaluation; without that, those of its release, which have no interval."""
    try:
        run = facts.version.run
        slices = read_metrics_by_slice(store.metadata.get_run_outputs(run)) if run else {}
    except (DataError, RunRootError):
        slices = {}
    return slices.get(OVERALL) or {name: MetricValue(value) for name, value in facts.metrics.items()}


def _read_config(store: LocalRunStore, run_id: str) -> Mapping[str, Any]:
    record = store.read_record(run_id) if run_id else None
    return flatten(record.shown_config) if record is not None else {}
