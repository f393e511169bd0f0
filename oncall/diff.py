"""`diff`: what changed between two runs: config, code, packages, data, statistics, schema, anomalies, metrics."""

from collections.abc import Mapping
from typing import Any

from oncall.anomalies import gate_report, validator_anomalies
from oncall.evaluations import metrics
from oncall.graph import Outputs
from oncall.provenance import data_of
from oncall.runs import need_record
from oncall.sources import Run, Source
from oncall.terminal import Answer
from schemas.errors import DataError

# What may differ by chance is not a change.
_RELATIVE, _SHARE, _METRIC = 0.02, 0.005, 0.0005

Changes = dict[str, list[Any]]


def diff(evidence: Source, one: str, other: str) -> Answer:
    """What changed from one run to another."""
    runs = [evidence.find(one), evidence.find(other)]
    records = [need_record(evidence, run) for run in runs]
    outputs = [evidence.metadata.outputs(run.run_id) for run in runs]
    data = [data_of([a for found in o.values() for kept in found.values() for a in kept]) for o in outputs]
    sections: dict[str, Changes] = {
        "config": changed(*(flat(record.config) for record in records)),
        "code": changed(*(record.code for record in records), revision=[r.revision for r in records]),
        "packages": changed(*(record.packages for record in records)),
        "data": changed(
            *({**{f"rows of {s}": n for s, n in d.rows.items()}, "fingerprint": d.fingerprint} for d in data)
        ),
        "statistics": moved(*(_statistics(found) for found in outputs)),
        "schema": changed(*({"hash": d.schema_hash} for d in data)),
        "anomalies": changed(*(_anomalies(run, found) for run, found in zip(runs, outputs, strict=True))),
        "metrics": moved(*(metrics(found) for found in outputs)),
    }
    document = {"from": runs[0].run_id, "to": runs[1].run_id, **sections}
    shown = [f"{runs[0].run_id} {runs[0].state} -> {runs[1].run_id} {runs[1].state}"]
    for name, found in sections.items():
        shown += [f"{name:<10} {key}: {_shown(old)} -> {_shown(new)}" for key, (old, new) in found.items()]
    same = [name for name, found in sections.items() if not found]
    return Answer(document, [*shown, *([f"the same   {', '.join(same)}"] if same else [])])


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


def changed(old: Mapping[str, Any], new: Mapping[str, Any], **extra: list[Any]) -> Changes:
    """The keys whose values differ; None stands for one that is not there."""
    keys = dict.fromkeys([*old, *new])
    found = {key: [old.get(key), new.get(key)] for key in keys if old.get(key) != new.get(key)}
    return {**found, **{key: pair for key, pair in extra.items() if pair[0] != pair[1]}}


def moved(old: Mapping[str, float], new: Mapping[str, float]) -> Changes:
    """The numbers that differ by more than chance would have it."""
    found: Changes = {}
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if before is None or after is None or abs(after - before) > _allowed(key, before):
            found[key] = [before, after]
    return found


def _allowed(key: str, before: float) -> float:
    if key.endswith(" missing"):
        return _SHARE
    is_statistic = key.endswith((" mean", " distinct"))
    return _RELATIVE * max(abs(before), 1e-9) if is_statistic else _METRIC


def _statistics(outputs: Outputs) -> dict[str, float]:
    """Mean, share of missing values and number of distinct values, by split and feature."""
    from pipeline.lookup import read_statistics

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


def _anomalies(run: Run, outputs: Outputs) -> dict[str, Any]:
    found = validator_anomalies(outputs)
    warnings = (gate_report(outputs) or {}).get("warnings", [])
    stopped = run.record.nodes["Gate"].error if run.record and "Gate" in run.record.nodes else ""
    return {"found": [*found, *warnings, *stopped.splitlines()]}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value in (None, "", []) else str(value)
