"""All that a page says of one run, each section asked on its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from oncall import anomalies, evaluations, runs, why
from oncall.diff import flat
from oncall.evidence import Evidence, Run
from oncall.metadata import key
from oncall.web.graph import graph
from oncall.web.sections import Section, section
from oncall.web.timeline import timeline
from pipeline.run.records import State

MAX_SLICES = 100


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
      run: it, with its record if there is one.
      head: what `show` answers.
      why: what `why` answers.
      timeline: timeline of its components.
      gate: what `anomalies` answers.
      metrics: by slice, beside the baseline's.
      statistics: statistics of each feature, beside those of the model pushed last.
      graph: graph of its executions and artifacts.
      config: by dotted key.
      newer, older: the runs beside it.
    """

    run: Run
    head: Section
    why: Section
    timeline: Section
    gate: Section
    metrics: Section
    statistics: Section
    graph: Section
    config: dict[str, Any]
    newer: str
    older: str


def view(evidence: Evidence, name: str) -> RunView:
    """Return a run's page.

    Raises:
      ConfigError: there is no such run, or it is not clear which is meant.
      RunRootError: only ML Metadata could say, and it cannot be read.
    """
    run = evidence.find(name)
    run_id = run.run_id
    unreadable = section(lambda: evidence.metadata).problem

    def of_database(question: Callable[[], Any]) -> Section:
        # Whoever waits for a lock does so once.
        return Section(problem=unreadable) if unreadable else section(question)

    newer, older = _beside(of_database(lambda: evidence.run_ids).found or evidence.record_ids, run_id)
    return RunView(
        run=run,
        head=section(lambda: runs.shown(evidence, run_id)),
        why=section(lambda: why.why(evidence, run_id)),
        timeline=section(lambda: timeline(evidence, run)),
        gate=of_database(lambda: anomalies.anomalies(evidence, run_id)),
        metrics=of_database(lambda: _metrics(evidence, run_id)),
        statistics=of_database(lambda: _statistics(evidence, run_id)),
        graph=of_database(lambda: graph(evidence.metadata, run_id, goes_on=run.state is State.RUNNING)),
        config=flat(run.record.config) if run.record is not None else {},
        newer=newer,
        older=older,
    )


def _beside(ids: Sequence[str], run_id: str) -> tuple[str, str]:
    """Return the next newer and the next older run."""
    at = ids.index(run_id)
    return (ids[at - 1] if at else ""), (ids[at + 1] if at + 1 < len(ids) else "")


@dataclass(frozen=True)
class Metrics:
    """The metrics by slice, their names without the number of rows; Evaluator's judgement; the baseline, if any."""

    names: list[str]
    slices: dict[str, dict[str, evaluations.Measured]]
    hidden: int
    judgement: evaluations.Judgement
    baseline: Any
    baseline_run: str


def _metrics(evidence: Evidence, run_id: str) -> Metrics | None:
    metadata = evidence.metadata
    outputs = metadata.outputs(run_id)
    slices = evaluations.by_slice(outputs)
    if not slices:
        return None
    # The evaluation may be from the cache, and then another run's Evaluator was given the baseline.
    made = [a.id for found in outputs["Evaluator"].values() for a in found]
    makers = {maker.id for maker in metadata.makers(made).values()}
    events = metadata.events_of_executions(makers)
    baseline = next((e.artifact_id for e in events if metadata.is_input(e) and key(e) == "baseline_model"), None)
    maker = metadata.makers([baseline]).get(baseline) if baseline is not None else None
    return Metrics(
        names=list(dict.fromkeys(n for of_slice in slices.values() for n in of_slice if n != "example_count")),
        slices=dict(list(slices.items())[:MAX_SLICES]),
        hidden=max(len(slices) - MAX_SLICES, 0),
        judgement=evaluations.judgement(evidence, run_id),
        baseline=baseline,
        baseline_run=metadata.place(maker.id)[0] if maker is not None else "",
    )


def _statistics(evidence: Evidence, run_id: str) -> Any:
    # Numpy and TFDV's extension, which no other page needs.
    from oncall.web.features import statistics

    return statistics(evidence.metadata, run_id)
