"""`diff`: what changed between two runs: config, code, packages, data, statistics, schema, anomalies, metrics."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from cli.errors import DataError
from components.policy import warned
from oncall.anomalies import gate_report, validator_anomalies, verdict
from oncall.evaluations import metrics
from oncall.graph import Outputs
from oncall.provenance import data_of
from oncall.runs import need_record
from oncall.sources import Run, Source
from oncall.terminal import Answer
from pipeline.run.records import RunRecord

# What may differ by chance is not a change.
_RELATIVE, _SHARE, _METRIC = 0.02, 0.005, 0.0005
# The node without which a run has nothing to compare.
_MAKERS = {
    "data": "ExampleGen",
    "statistics": "StatisticsGen",
    "schema": "SchemaGen",
    "anomalies": "ExampleValidator",
    "metrics": "Evaluator",
}
_FOUND = "found"

Changes = dict[str, list[Any]]
Facts = Mapping[str, Any]


def diff(evidence: Source, one: str, other: str) -> Answer:
    """Return what changed from one run to another."""
    runs = [evidence.find(one), evidence.find(other)]
    records = [need_record(evidence, run) for run in runs]
    outputs = [evidence.metadata.outputs(run.run_id) for run in runs]
    old, new = (_facts(record, found) for record, found in zip(records, outputs, strict=True))
    sections: dict[str, Changes] = {}
    missing: dict[str, str] = {}
    for name in old:
        lacking = [_lacking(*side, name) for side in zip(runs, outputs, (old[name], new[name]), strict=True)]
        if any(lacking):
            missing[name] = "; ".join(filter(None, lacking))
        compare = moved if name in ("statistics", "metrics") else changed
        sections[name] = {} if name in missing else compare(old[name], new[name])
    document = {"from": runs[0].run_id, "to": runs[1].run_id, **sections, "missing": missing}
    shown = [f"{runs[0].run_id} {runs[0].state} -> {runs[1].run_id} {runs[1].state}"]
    for name, found in sections.items():
        shown += [f"{name:<10} {line}" for line in ([missing[name]] if name in missing else _lines(found))]
    same = [name for name, found in sections.items() if not found and name not in missing]
    return Answer(document, [*shown, *([f"the same   {', '.join(same)}"] if same else [])])


def _facts(record: RunRecord, outputs: Outputs) -> dict[str, Facts]:
    """Return what is compared of a run."""
    data = data_of([artifact for found in outputs.values() for kept in found.values() for artifact in kept])
    return {
        "config": flat(record.config),
        "code": {**record.code, "revision": record.revision},
        "packages": record.packages,
        "data": data.facts(),
        "statistics": _statistics(outputs),
        "schema": {"hash": data.schema_hash} if data.schema_hash else {},
        "anomalies": _anomalies(record, outputs),
        "metrics": metrics(outputs),
    }


def _lacking(run: Run, outputs: Outputs, facts: Facts, name: str) -> str:
    """Why a run has nothing to compare; empty if it has."""
    node = _MAKERS.get(name)
    if node is None:
        return ""
    if node not in outputs:
        return f"{run.run_id} has none: it did not finish {node}"
    return "" if facts else f"the files of {run.run_id} are gone"


def _lines(changes: Changes) -> Iterator[str]:
    """Yield changes as people read them; of lists of sentences, those that came and those that went."""
    for key, (old, new) in changes.items():
        if key == _FOUND:
            yield from (f"gone: {line}" for line in old if line not in new)
            yield from (f"new: {line}" for line in new if line not in old)
        else:
            yield f"{key}: {_shown(old)} -> {_shown(new)}"


def flat(values: object, prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys; lists count as one value, unless they hold objects."""
    if isinstance(values, Mapping):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list) and any(isinstance(value, Mapping) for value in values):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {prefix: values}
    found = {}
    for key, value in items:
        found.update(flat(value, f"{prefix}.{key}" if prefix else key))
    return found


def changed(old: Facts, new: Facts) -> Changes:
    """Return the keys whose values differ; None stands for one that is not there."""
    keys = dict.fromkeys([*old, *new])
    return {key: [old.get(key), new.get(key)] for key in keys if old.get(key) != new.get(key)}


def moved(old: Mapping[str, float], new: Mapping[str, float]) -> Changes:
    """Return the numbers that differ by more than chance would have it."""
    found: Changes = {}
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if before is None or after is None or _differ(key, before, after):
            found[key] = [before, after]
    return found


def _differ(key: str, before: float, after: float) -> bool:
    # An undefined metric is NaN.
    return math.isnan(before) != math.isnan(after) or abs(after - before) > _allowed(key, before)


def _allowed(key: str, before: float) -> float:
    if key.endswith(" missing"):
        return _SHARE
    is_statistic = key.endswith((" mean", " distinct"))
    return _RELATIVE * max(abs(before), 1e-9) if is_statistic else _METRIC


def _statistics(outputs: Outputs) -> dict[str, float]:
    """Mean, share of missing values and number of distinct values, by split and feature."""
    from pipeline.run.artifact_lookup import read_statistics

    found: dict[str, float] = {}
    for artifact in outputs.get("StatisticsGen", {}).get("statistics", ()):
        try:
            by_split = read_statistics(artifact.folder)
        except DataError:
            continue
        for split, statistics in by_split.items():
            for feature in statistics.features:
                name = f"{split} {feature.name or '.'.join(feature.path.step)}"
                common = (feature.num_stats if feature.HasField("num_stats") else feature.string_stats).common_stats
                rows = common.num_non_missing + common.num_missing
                found[f"{name} missing"] = common.num_missing / max(rows, 1)
                if feature.HasField("num_stats"):
                    found[f"{name} mean"] = feature.num_stats.mean
                else:
                    found[f"{name} distinct"] = float(feature.string_stats.unique)
    return found


def _anomalies(record: RunRecord, outputs: Outputs) -> dict[str, Any]:
    gate, stops, _ = verdict(record)
    refusal = record.nodes["Gate"].error if record and stops else ""
    warnings = (gate_report(outputs) or {}).get("warnings", [])
    found = [*validator_anomalies(outputs), *warnings, *stops, *warned(refusal)]
    return {"gate": gate, _FOUND: list(dict.fromkeys(found))}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.6g}"
    return "none" if value in (None, "", []) else str(value)
