"""`diff`: the differences between two runs: config, code, packages, data, statistics, schema, anomalies, metrics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.errors import DataError
from oncall.anomalies import read_anomalies, read_gate_outcome, read_gate_report
from oncall.evaluations import CandidateMetrics, read_candidate_metrics
from oncall.metadata import Outputs
from oncall.provenance import InputData, compare_columns, read_input_data
from oncall.results import CommandResult
from oncall.run_store import Run, RunStore
from oncall.runs import get_record
from pipeline.run.records import RunRecord
from schemas.slices import OVERALL

if TYPE_CHECKING:
    from oncall.distributions import MovedFeature

# A smaller difference may be chance: relative for means and counts, absolute for shares and metrics.
_MAX_RELATIVE_NOISE, _MAX_SHARE_NOISE, _MAX_METRIC_NOISE = 0.02, 0.005, 0.0005
# The node whose output a section compares.
_MAKERS = {
    "data": "ExampleGen",
    "statistics": "StatisticsGen",
    "schema": "SchemaGen",
    "anomalies": "ExampleValidator",
    "metrics": "Evaluator",
}
_FINDINGS = "found"

Changes = dict[str, list[Any]]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class RunChanges:
    """The changes from one run to another.

    Attributes:
      runs: Both runs.
      sections: Old and new values by section and key.
      missing: Why a section cannot be compared.
      intervals: 95 % intervals of the metrics that changed, by key.
      columns: Columns whose values changed, in words, by split.
      moved: Features whose distribution moved.
    """

    runs: Sequence[Run]
    sections: Mapping[str, Changes]
    missing: Mapping[str, str]
    intervals: Changes
    columns: Mapping[str, str]
    moved: "Sequence[MovedFeature]"

    @property
    def same(self) -> list[str]:
        """The sections that were compared and do not differ."""
        return [name for name, changes in self.sections.items() if not changes and name not in self.missing]


def find_changes(store: RunStore, first: str, second: str) -> RunChanges:
    """Return the changes from one run to another.

    Raises:
      ConfigError: there is no such run, or a name is ambiguous.
      RunRootError: ML Metadata cannot be read.
    """
    runs = [store.find_run(first), store.find_run(second)]
    records = [get_record(store, run) for run in runs]
    outputs = [store.metadata.get_run_outputs(run.run_id) for run in runs]
    metrics = [read_candidate_metrics(of_run) for of_run in outputs]
    sides = [*zip(records, outputs, metrics, strict=True)]
    old, new = (_collect_facts(*side) for side in sides)
    data = [_read_data(of_run) for of_run in outputs]
    columns = compare_columns(*data)
    moved = _find_moved(*outputs) if data[0].content != data[1].content or not data[0].content else []
    sections: dict[str, Changes] = {}
    missing: dict[str, str] = {}
    for name in old:
        reasons = [_explain_missing(*side, name) for side in zip(runs, outputs, (old[name], new[name]), strict=True)]
        if any(reasons):
            missing[name] = "; ".join(filter(None, reasons))
        compare = find_number_changes if name in ("statistics", "metrics") else _find_value_changes
        sections[name] = {} if name in missing else compare(old[name], new[name])
    intervals = [
        {**(of_run.intervals or record.flat_intervals), **of_run.gain_intervals} for record, _, of_run in sides
    ]
    changed = {key: [of_run.get(key) for of_run in intervals] for key in sections["metrics"]}
    changed = {key: ends for key, ends in changed.items() if any(ends)}
    return RunChanges(runs, sections, missing, changed, columns, moved)


def compare_runs(store: RunStore, first: str, second: str) -> CommandResult:
    """Return the changes from one run to another."""
    difference = find_changes(store, first, second)
    old, new = difference.runs
    document = {
        "from": old.run_id,
        "to": new.run_id,
        **difference.sections,
        "missing": difference.missing,
        "intervals": difference.intervals,
        "columns": difference.columns,
        "moved": [feature.to_dict() for feature in difference.moved],
    }
    lines = [f"{old.run_id} {old.state} -> {new.run_id} {new.state}"]
    for name, changes in difference.sections.items():
        intervals = difference.intervals if name == "metrics" else {}
        section = [difference.missing[name]] if name in difference.missing else _format_changes(changes, intervals)
        lines += [f"{name:<10} {line}" for line in section]
        if name == "data":
            lines += [f"{'columns':<10} {split}: {line}" for split, line in difference.columns.items()]
            lines += [f"{'moved':<10} {feature}" for feature in difference.moved]
    return CommandResult(document, [*lines, *([f"the same   {', '.join(difference.same)}"] if difference.same else [])])


def _collect_facts(record: RunRecord, outputs: Outputs, metrics: CandidateMetrics) -> dict[str, Facts]:
    """Return the facts of a run by section."""
    data = _read_data(outputs)
    # In the order of their weight: what comes first is printed without --all.
    return {
        "data": data.list_facts(),
        "config": flatten(record.shown_config),
        "code": {**record.code, "revision": record.revision},
        "schema": {"hash": data.schema_hash} if data.schema_hash else {},
        "anomalies": _collect_anomalies(record, outputs),
        "metrics": _put_overall_first({**(metrics.metrics or record.flat_metrics), **metrics.gains}),
        "statistics": _read_statistics(outputs),
        "packages": record.packages,
    }


def _put_overall_first(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics and gains of all rows, then those of slices: a page or a terminal may show the first alone."""
    return dict(sorted(metrics.items(), key=lambda metric: not metric[0].startswith(f"{OVERALL}: ")))


def _read_data(outputs: Outputs) -> InputData:
    artifacts = [artifact for by_output in outputs.values() for group in by_output.values() for artifact in group]
    return read_input_data(artifacts)


def _find_moved(old: Outputs, new: Outputs) -> "list[MovedFeature]":
    # Numpy and TFDV's extension, for runs of other data only.
    from oncall.distributions import find_moved_features

    return find_moved_features(*(_read_by_split(outputs) for outputs in (old, new)))


def _read_by_split(outputs: Outputs) -> Mapping[str, Any]:
    from pipeline.run.statistics_files import read_statistics

    for artifact in outputs.get("StatisticsGen", {}).get("statistics", ()):
        try:
            return read_statistics(artifact.folder)
        except DataError:
            continue
    return {}


def _explain_missing(run: Run, outputs: Outputs, facts: Facts, name: str) -> str:
    """Return why a run has nothing to compare; empty if it has."""
    node = _MAKERS.get(name)
    if node is None:
        return ""
    if node not in outputs and not facts:
        return f"{run.run_id} has none: it did not finish {node}"
    return "" if facts else f"the files of {run.run_id} are gone"


def _format_changes(changes: Changes, intervals: Changes) -> Iterator[str]:
    """Yield a line for each change, with intervals where there are some; for lists, one for each new or gone line."""
    for key, (old, new) in changes.items():
        if key == _FINDINGS:
            yield from (f"gone: {line}" for line in old if line not in new)
            yield from (f"new: {line}" for line in new if line not in old)
        else:
            before, after = intervals.get(key, (None, None))
            yield f"{key}: {_format_value(old, before)} -> {_format_value(new, after)}"


def flatten(values: object, prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted keys; a list counts as one value, unless it holds objects."""
    if isinstance(values, Mapping):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list) and any(isinstance(value, Mapping) for value in values):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {prefix: values}
    flat = {}
    for key, value in items:
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _find_value_changes(old: Facts, new: Facts) -> Changes:
    """Return the old and the new value of each key that differs; None for a missing one."""
    keys = dict.fromkeys([*old, *new])
    return {key: [old.get(key), new.get(key)] for key in keys if old.get(key) != new.get(key)}


def find_number_changes(old: Mapping[str, float], new: Mapping[str, float]) -> Changes:
    """Return the numbers that differ by more than noise."""
    changes: Changes = {}
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if before is None or after is None or _is_change(key, before, after):
            changes[key] = [before, after]
    return changes


def _is_change(key: str, before: float, after: float) -> bool:
    # An undefined metric is NaN.
    return math.isnan(before) != math.isnan(after) or abs(after - before) > _get_noise(key, before)


def _get_noise(key: str, before: float) -> float:
    if key.endswith(" missing"):
        return _MAX_SHARE_NOISE
    is_statistic = key.endswith((" mean", " distinct"))
    return _MAX_RELATIVE_NOISE * max(abs(before), 1e-9) if is_statistic else _MAX_METRIC_NOISE


def _read_statistics(outputs: Outputs) -> dict[str, float]:
    """Return the share of missing values and the number of distinct values, or the mean unless it is sensitive, by
    split and feature.
    """
    from components.column_names import name_column
    from components.sensitive_statistics import is_sensitive
    from pipeline.run.statistics_files import read_statistics

    numbers: dict[str, float] = {}
    for artifact in outputs.get("StatisticsGen", {}).get("statistics", ()):
        try:
            by_split = read_statistics(artifact.folder)
        except DataError:
            continue
        for split, statistics in by_split.items():
            for feature in statistics.features:
                name = f"{split} {name_column(feature)}"
                common = (feature.num_stats if feature.HasField("num_stats") else feature.string_stats).common_stats
                rows = common.num_non_missing + common.num_missing
                numbers[f"{name} missing"] = common.num_missing / max(rows, 1)
                if is_sensitive(feature) and feature.HasField("num_stats"):
                    continue
                if feature.HasField("num_stats"):
                    numbers[f"{name} mean"] = feature.num_stats.mean
                else:
                    numbers[f"{name} distinct"] = float(feature.string_stats.unique)
    return numbers


def _collect_anomalies(record: RunRecord, outputs: Outputs) -> dict[str, Any]:
    gate, report = read_gate_outcome(record), read_gate_report(outputs)
    warnings = report.warnings if report else []
    lines = [*read_anomalies(outputs), *warnings, *gate.verdict.stops, *gate.verdict.warnings]
    return {"gate": gate.text, _FINDINGS: list(dict.fromkeys(lines))}


def _format_value(value: Any, interval: tuple[float, float] | None = None) -> str:
    """Return a value, with its 95 % interval if there is one: `0.9281 [0.9241, 0.9319]`."""
    if isinstance(value, float):
        ends = "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
        return "undefined" if math.isnan(value) else f"{value:.6g}{ends}"
    return "none" if value in (None, "", []) else str(value)
