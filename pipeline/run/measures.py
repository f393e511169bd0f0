"""Measures of a run (node seconds, rows a second, latency, size of the push), and the last good run's. No TensorFlow.

A model that slowly gets larger, or a node that takes twice as long, stops no run: the run reports it as a warning.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

from cli.node_summary import NodeSummary
from pipeline.run.records import RunRecord, read_newest_records
from pipeline.run.run_root import RunRoot

if TYPE_CHECKING:
    from components.example_gen.summary import ExampleGenSummary
    from components.infra_validator.summary import InfraValidatorSummary
    from components.pusher.summary import PusherSummary
    from pipeline.run.summary import NodeOutcome
    from trainer.summary import TrainerSummary

ROWS = "rows"
_MAX_READ_RECORDS = 50


@dataclass(frozen=True)
class _Limit:
    """Limit of a kind of measure, which is the end of its name.

    Attributes:
      ratio: Worse by this factor than the last good run's is a warning.
      least: Differences below it are none, whatever the ratio.
      higher_is_worse: Whether a higher value is worse.
      grows_with_rows: Whether more rows explain a higher value.
    """

    ratio: float
    least: float
    higher_is_worse: bool = True
    grows_with_rows: bool = False


# Seconds of a node vary with the load of the machine, and the first node loads the packages.
_LIMITS = {
    "seconds": _Limit(2.0, 10.0, grows_with_rows=True),
    "rows/s": _Limit(2.0, 100.0, higher_is_worse=False),
    "p95 ms": _Limit(2.0, 5.0),
    "MB": _Limit(1.5, 1.0),
}
# Nodes whose rows a second are distorted by their start below it.
_LEAST_SECONDS_OF_A_RATE = 10.0


def measure(nodes: Sequence["NodeOutcome"]) -> dict[str, float]:
    """Return the measures of the nodes that ran; one that was reused from the cache has none.

    Args:
      nodes: Nodes that have ended.
    """
    ran = {node.id: node for node in nodes if node.state == "complete"}
    summaries: dict[str, NodeSummary] = {node.id: node.summary for node in nodes if node.summary is not None}
    measures = {f"{name} seconds": node.seconds for name, node in ran.items()}
    examples = cast("ExampleGenSummary | None", summaries.get("ExampleGen"))
    if examples is not None:
        measures[ROWS] = float(sum(examples.rows.values()))
        trainer = cast("TrainerSummary | None", summaries.get("Trainer"))
        epochs = trainer.epochs if trainer is not None else 0
        for name, rows in (("ExampleGen", measures[ROWS]), ("Trainer", float(examples.rows.get("train", 0) * epochs))):
            if name in ran and rows and ran[name].seconds >= _LEAST_SECONDS_OF_A_RATE:
                measures[f"{name} rows/s"] = round(rows / ran[name].seconds, 1)
    validator = cast("InfraValidatorSummary | None", summaries.get("InfraValidator"))
    if validator is not None and "InfraValidator" in ran and validator.golden_requests:
        measures["InfraValidator p95 ms"] = validator.p95_ms
    pusher = cast("PusherSummary | None", summaries.get("Pusher"))
    if pusher is not None and pusher.pushed and pusher.megabytes:
        measures["Pusher MB"] = pusher.megabytes
    return measures


def compare_measures(root: RunRoot, record: RunRecord, measures: Mapping[str, float]) -> list[str]:
    """Return a line for each measure that is clearly worse than in the last good run that has it.

    Args:
      root: Run root of the runs.
      record: Record of the run.
      measures: Measures of the run.
    """
    missing = {*measures} - {ROWS}
    lines: list[str] = []
    for earlier in islice(_read_good_runs(root, record), _MAX_READ_RECORDS):
        for name in sorted(missing & {*earlier.measures}):
            missing.remove(name)
            lines += _compare(name, measures, earlier, has_other_config=earlier.config_hash != record.config_hash)
        if not missing:
            break
    return sorted(lines)


def _read_good_runs(root: RunRoot, record: RunRecord) -> Iterator[RunRecord]:
    for earlier in read_newest_records(root):
        if earlier.run_id != record.run_id and earlier.succeeded and earlier.kind == record.kind:
            yield earlier


def _compare(name: str, measures: Mapping[str, float], earlier: RunRecord, *, has_other_config: bool) -> Iterator[str]:
    limit = next(limit for unit, limit in _LIMITS.items() if name.endswith(unit))
    now, before = measures[name], earlier.measures[name]
    growth = measures[ROWS] / earlier.measures[ROWS] if measures.get(ROWS) and earlier.measures.get(ROWS) else 1.0
    expected = before * max(growth, 1.0) if limit.grows_with_rows else before
    worse, better = (now, expected) if limit.higher_is_worse else (expected, now)
    if worse - better < limit.least or worse < better * limit.ratio:
        return
    rows = f", for {growth:.1f} times as many rows" if limit.grows_with_rows and growth > 1 else ""
    config = "; the config is another" if has_other_config else ""
    place = f"in the last good run {earlier.run_id}"
    ratio = f"{now / before:.2g} times that" if before else "0 before"
    yield f"{name}: {now:,.1f}, {before:,.1f} {place} ({ratio}{rows}{config})"
