"""The page of one run; each section is read by itself, so that a missing file empties only its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from oncall.anomalies import report_anomalies
from oncall.diff import flatten
from oncall.evaluations import Judgement, MetricValue, read_judgement, read_metrics_by_slice, read_plots
from oncall.failures import explain_run
from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from oncall.runs import show_run
from oncall.web.charts import Chart
from oncall.web.lineage_graph import read_graph
from oncall.web.plots import Plots, build_plots
from oncall.web.progress import read_progress
from oncall.web.run_inputs import find_inputs
from oncall.web.sections import Section, read_section
from oncall.web.thresholds import Bound, list_bounds
from oncall.web.timeline import read_timeline
from oncall.web.training_curves import draw_training, read_training
from pipeline.run.records import RunState

MAX_SLICES = 100


@dataclass(frozen=True)
class RunPage:
    """One run.

    Attributes:
      run: run, with its record if that exists.
      head: document of `show`.
      live: part that changes while it is active.
      why: document of `why`.
      training: metrics of each epoch, as charts.
      gate: document of `anomalies`.
      metrics: metrics by slice, beside the baseline's.
      statistics: statistics of each feature, beside those of the model pushed last.
      graph: graph of the executions and artifacts.
      config: values by dotted key.
      newer, older: IDs of the runs beside it.
    """

    run: Run
    head: Section
    live: "LivePart"
    why: Section
    training: Section
    gate: Section
    metrics: Section
    statistics: Section
    graph: Section
    config: dict[str, Any]
    newer: str
    older: str


@dataclass(frozen=True)
class LivePart:
    """The part of a run's page that refreshes itself while the run is active.

    Attributes:
      run: run.
      progress: its node, epoch and log; None if it is not active.
      timeline: timeline of the nodes.
    """

    run: Run
    progress: Section
    timeline: Section


def read_live(store: LocalRunStore, run: Run) -> LivePart:
    """Return the part of a run's page that changes while it is active."""
    return LivePart(
        run,
        read_section(lambda: read_progress(store, run)),
        read_section(lambda: read_timeline(store, run)),
    )


def read_run_page(store: LocalRunStore, name: str) -> RunPage:
    """Return a run's page.

    Raises:
      ConfigError: there is no such run, or the name is ambiguous.
      RunRootError: the run may be in ML Metadata, which cannot be read.
    """
    run = store.find_run(name)
    run_id = run.run_id
    metadata_problem = read_section(lambda: store.metadata).problem

    def read_from_database(read: Callable[[], Any]) -> Section:
        # Only the first section waits for a lock.
        return Section(problem=metadata_problem) if metadata_problem else read_section(read)

    newer, older = _find_neighbours(read_from_database(lambda: store.run_ids).content or store.record_ids, run_id)
    return RunPage(
        run=run,
        head=read_section(lambda: show_run(store, run_id)),
        why=read_section(lambda: explain_run(store, run_id)),
        live=read_live(store, run),
        training=read_from_database(lambda: _read_training(store, run_id)),
        gate=read_from_database(lambda: report_anomalies(store, run_id)),
        metrics=read_from_database(lambda: _read_metrics(store, run)),
        statistics=read_from_database(lambda: _read_statistics(store, run)),
        graph=read_from_database(lambda: read_graph(store.metadata, run_id, is_running=run.state is RunState.RUNNING)),
        config=flatten(run.record.shown_config) if run.record is not None else {},
        newer=newer,
        older=older,
    )


def _find_neighbours(ids: Sequence[str], run_id: str) -> tuple[str, str]:
    """Return the next newer and the next older run."""
    at = ids.index(run_id)
    return (ids[at - 1] if at else ""), (ids[at + 1] if at + 1 < len(ids) else "")


@dataclass(frozen=True)
class MetricsTable:
    """The metrics by slice, their names without the number of rows; Evaluator's judgement; the baseline, if any.

    `bounds` are the thresholds of the run's config.
    """

    names: list[str]
    slices: dict[str, dict[str, MetricValue]]
    hidden: int
    bounds: list[Bound]
    judgement: Judgement
    plots: Plots
    baseline: Any
    baseline_run: str


def _read_training(store: LocalRunStore, run_id: str) -> list[Chart] | None:
    training = read_training(store.metadata.get_run_outputs(run_id))
    return draw_training({"": training}) if training is not None else None


def _read_metrics(store: LocalRunStore, run: Run) -> MetricsTable | None:
    metadata = store.metadata
    outputs = metadata.get_run_outputs(run.run_id)
    slices = read_metrics_by_slice(outputs)
    if not slices:
        return None
    # A cached evaluation is another run's, and so is the baseline of its Evaluator.
    model = find_inputs(metadata, run.run_id, "Evaluator").get("baseline_model")
    baseline = model.id if model is not None else None
    maker = metadata.find_makers([baseline]).get(baseline) if baseline is not None else None
    return MetricsTable(
        names=list(dict.fromkeys(n for metrics in slices.values() for n in metrics if n != "example_count")),
        slices=dict(list(slices.items())[:MAX_SLICES]),
        hidden=max(len(slices) - MAX_SLICES, 0),
        bounds=list_bounds(run.record.config if run.record is not None else {}, slices),
        judgement=read_judgement(store, run.run_id),
        plots=build_plots(read_plots(outputs)),
        baseline=baseline,
        baseline_run=metadata.get_run_and_node(maker.id)[0] if maker is not None else "",
    )


def _read_statistics(store: LocalRunStore, run: Run) -> Any:
    # Numpy and TFDV's extension, which no other page needs.
    from oncall.web.feature_statistics import read_feature_statistics

    return read_feature_statistics(store.metadata, run.run_id, run.record.config if run.record is not None else {})
