"""Two runs, or two versions, side by side."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cli.errors import ConfigError, PipelineError
from oncall.diff import RunChanges, find_changes
from oncall.evaluations import MetricValue, judge_change, read_metrics_by_slice, read_plots
from oncall.local.run_store import LocalRunStore
from oncall.metadata import Artifact, Outputs
from oncall.provenance import read_input_data
from oncall.run_store import Run
from oncall.text_format import format_seconds
from oncall.web.charts import Chart
from oncall.web.options import PageOptions
from oncall.web.plots import Plots, overlay_plots
from oncall.web.run_inputs import find_inputs
from oncall.web.sections import Section, read_section
from oncall.web.training_curves import draw_training, read_training
from schemas.metrics import EXAMPLE_COUNT

MAX_SLICES = 100
_MAX_CHOICES = 25
_VERSION = re.compile(r"v(\d{1,9})")
# Sections of `diff` that have a part of the page of their own.
_SHOWN_ELSEWHERE = ("metrics", "statistics")


@dataclass(frozen=True)
class ComparedRun:
    """One of the two: the name that was asked for, its run, and the version, if one was asked for."""

    name: str
    run: Run
    version: int | None = None

    @property
    def title(self) -> str:
        """Version and run."""
        return f"version {self.version}" if self.version is not None else self.run.run_id


@dataclass(frozen=True)
class MetricPair:
    """One metric of both, with the difference and its meaning."""

    first: MetricValue | None
    second: MetricValue | None
    verdict: str = ""

    @property
    def change(self) -> float | None:
        """Difference; None if one is undefined or missing."""
        if self.first is None or self.second is None or self.first.value is None or self.second.value is None:
            return None
        return self.second.value - self.first.value


@dataclass(frozen=True)
class MetricPairs:
    """The metrics of both by slice and name.

    Attributes:
      slices: metrics by slice; `hidden` more are not shown.
      names: names of the metrics.
      is_paired: whether the second model was compared with the first on the same rows.
      are_same_rows: whether both were evaluated on the same rows; None if that is not known.
    """

    slices: Mapping[str, Mapping[str, MetricPair]]
    hidden: int
    names: Sequence[str]
    is_paired: bool
    are_same_rows: bool | None


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side; each section is read by itself."""

    first: ComparedRun
    second: ComparedRun
    times: Sequence[tuple[str, str, str]]
    metrics: Section
    curves: Section
    plots: Section
    changes: Section
    features: Section


def find_side(store: LocalRunStore, options: PageOptions, name: str) -> ComparedRun:
    """Return the run of a name, or of a version such as `v3`.

    Raises:
      ConfigError: there is no such run or version, or the name is ambiguous.
    """
    match = _VERSION.fullmatch(name)
    if match is None:
        return ComparedRun(name, store.find_run(name))
    versions = store.find_model_versions(options.registry, options.model)
    by_number = {version.number: version for version in versions.list_versions()}
    version = by_number.get(int(match[1]))
    if version is None or not version.run:
        names = ", ".join(f"v{number}" for number, other in by_number.items() if other.run) or "none"
        raise ConfigError(f"{versions.location}: has no version {match[1]} of a run; it has {names}")
    return ComparedRun(name, store.find_run(version.run), version.number)


def list_choices(store: LocalRunStore, options: PageOptions) -> list[tuple[str, str]]:
    """Return names that can be compared, each with its description: versions, then the newest runs."""
    try:
        versions = store.find_model_versions(options.registry, options.model).list_versions()
        choices = [(f"v{v.number}", f"version {v.number}, {v.state}") for v in reversed(versions) if v.run]
    except PipelineError:
        # Runs can be compared without a registry; the first page reports what is wrong with it.
        choices = []
    runs = store.list_runs(_MAX_CHOICES).runs
    return [*choices[:_MAX_CHOICES], *((run.run_id, f"run {run.run_id}, {run.state}") for run in runs)]


def read_comparison(store: LocalRunStore, first: ComparedRun, second: ComparedRun) -> RunComparison:
    """Return two runs side by side."""
    ids = (first.run.run_id, second.run.run_id)

    def read_outputs() -> list[Outputs]:
        return [store.metadata.get_run_outputs(run_id) for run_id in ids]

    return RunComparison(
        first,
        second,
        _pair_times(first.run, second.run),
        read_section(lambda: _pair_metrics(store, ids, read_outputs())),
        read_section(lambda: _overlay_training(first, second, read_outputs())),
        read_section(lambda: _overlay_plots(first, second, read_outputs())),
        read_section(lambda: _list_changes(store, ids)),
        read_section(lambda: _compare_features(read_outputs(), first, second)),
    )


def _pair_times(first: Run, second: Run) -> list[tuple[str, str, str]]:
    """Return each node with its state and duration in both."""
    records = [run.record for run in (first, second)]
    names = dict.fromkeys(name for record in records if record is not None for name in [*record.expected])
    rows = []
    for name in names:
        cells = []
        for record in records:
            node = record.nodes.get(name) if record is not None else None
            took = node.ended - node.started if node is not None and node.ended is not None else None
            cells.append("not reached" if node is None else f"{node.state} {format_seconds(took)}".strip())
        rows.append((name, *cells))
    return rows  # type: ignore[return-value]


def _pair_metrics(store: LocalRunStore, ids: tuple[str, str], outputs: Sequence[Outputs]) -> MetricPairs | None:
    first, second = map(read_metrics_by_slice, outputs)
    if not first and not second:
        return None
    model = _find_artifact(outputs[0], "Trainer", "model")
    inputs = [find_inputs(store.metadata, run_id, "Evaluator") for run_id in ids]
    baseline = inputs[1].get("baseline_model")
    is_paired = model is not None and baseline is not None and baseline.id == model.id
    names = dict.fromkeys(name for slices in (second, first) for metrics in slices.values() for name in metrics)
    slices = {
        where: {
            name: _pair(name, first.get(where, {}).get(name), second.get(where, {}).get(name), is_paired)
            for name in names
        }
        for where in dict.fromkeys([*second, *first])
    }
    return MetricPairs(
        dict(list(slices.items())[:MAX_SLICES]),
        max(len(slices) - MAX_SLICES, 0),
        [name for name in names if name != EXAMPLE_COUNT],
        is_paired,
        _are_same_rows(store, ids, inputs),
    )


def _pair(name: str, first: MetricValue | None, second: MetricValue | None, is_paired: bool) -> MetricPair:
    if first is None or second is None:
        return MetricPair(first, second)
    if is_paired:
        return MetricPair(first, second, second.judge(name))
    if first.interval is None or second.interval is None:
        return MetricPair(first, second)
    # Intervals that do not touch differ by more than chance, whatever the rows were.
    gap = (second.interval[0] - first.interval[1], second.interval[1] - first.interval[0])
    return MetricPair(first, second, judge_change(name, gap))


def _are_same_rows(store: LocalRunStore, ids: tuple[str, str], inputs: Sequence[Mapping[str, Artifact]]) -> bool | None:
    contents = []
    for run_id, by_name in zip(ids, inputs, strict=True):
        record = store.read_record(run_id)
        split = (record.config.get("evaluation") or {}).get("split", "") if record is not None else ""
        data = read_input_data([by_name["examples"]] if "examples" in by_name else [])
        contents.append(data.content.get(split))
    return contents[0] == contents[1] if all(contents) else None


def _find_artifact(outputs: Outputs, node: str, key: str) -> Artifact | None:
    return next(iter(outputs.get(node, {}).get(key, ())), None)


def _overlay_training(first: ComparedRun, second: ComparedRun, outputs: Sequence[Outputs]) -> list[Chart]:
    trainings = {
        name: read_training(of_run) for name, of_run in zip(_choose_names(first, second), outputs, strict=True)
    }
    return draw_training({name: training for name, training in trainings.items() if training is not None})


def _choose_names(first: ComparedRun, second: ComparedRun) -> tuple[str, str]:
    """Return short names: those of the versions, or A and B."""
    names = (first.title, second.title)
    return names if None not in (first.version, second.version) and names[0] != names[1] else ("A", "B")


def _overlay_plots(first: ComparedRun, second: ComparedRun, outputs: Sequence[Outputs]) -> Plots | None:
    plots = overlay_plots(dict(zip(_choose_names(first, second), map(read_plots, outputs), strict=True)))
    return plots if plots.curves else None


def _list_changes(store: LocalRunStore, ids: tuple[str, str]) -> RunChanges:
    changes = find_changes(store, *ids)
    sections = {name: values for name, values in changes.sections.items() if name not in _SHOWN_ELSEWHERE}
    return replace(changes, sections=sections)


def _compare_features(outputs: Sequence[Outputs], first: ComparedRun, second: ComparedRun) -> Any:
    # Numpy and TFDV's extension, which no other page needs.
    from oncall.web.feature_statistics import compare_features

    artifacts = [_find_artifact(of_run, "StatisticsGen", "statistics") for of_run in outputs]
    if artifacts[0] is None or artifacts[1] is None:
        return None
    return compare_features(dict(zip(_choose_names(first, second), artifacts, strict=True)))  # type: ignore[arg-type]
