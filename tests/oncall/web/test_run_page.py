"""Parts of a run's page: timeline, lineage, statistics with drift, metrics against the baseline."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import statistics_pb2

from oncall.local.run_store import LocalRunStore
from oncall.web.run_page import RunPage, read_run_page
from pipeline.run.records import RecordFile
from tests.oncall.run_roots import Artifacts, Runs
from tests.oncall.test_cli import FIRST, SECOND


def view(runs: Runs, run_id: str) -> RunPage:
    page = read_run_page(LocalRunStore(runs.root.path), run_id)
    for section in (page.head, page.why, page.live.timeline, page.gate, page.metrics, page.statistics, page.graph):
        assert section.problem == ""
    return page


def node(runs: Runs, run_id: str, name: str) -> mlmd.Execution:
    """Return the execution of a node of a run."""
    store = runs.store
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    executions = {e.id: e for e in store.get_executions_by_context(context.id)}
    (matching,) = (
        execution
        for id_, execution in executions.items()
        if any(c.name.endswith(f".{name}") for c in store.get_contexts_by_execution(id_))
    )
    return matching


def add_input(runs: Runs, execution: mlmd.Execution, key: str, artifact: mlmd.Artifact) -> None:
    """Add an input to an execution."""
    event = mlmd.Event(type=mlmd.Event.INPUT, execution_id=execution.id, artifact_id=artifact.id)
    event.path.steps.add().key = key
    runs.store.put_events([event])


def test_the_timeline_has_each_component_where_it_was(runs: Runs) -> None:
    runs.run(FIRST, fails=("Transform", "no", 1))
    record = LocalRunStore(runs.root.path).read_record(FIRST)
    assert record is not None
    record.started = 1000.0
    for number, times in enumerate(record.nodes.values()):
        times.started, times.ended = 1000.0 + 10 * number, 1010.0 + 10 * number
    RecordFile(runs.root, record)
    timeline = view(runs, FIRST).live.timeline.content
    assert [label for _, label in timeline.ticks] == ["0.0 s", "17.5 s", "35.0 s", "52.5 s", "1 min"]
    bars = {bar.node: bar for bar in timeline.bars}
    assert (bars["ExampleGen"].left, bars["ExampleGen"].width) == (0, 14.29)
    assert (bars["Gate"].left, bars["Gate"].label) == (71.43, "complete in 10.0 s")
    assert (bars["Transform"].label, bars["Transform"].error) == ("failed in 10.0 s", "no")
    assert (bars["Pusher"].label, bars["Pusher"].started) == ("not reached", None)


def test_clocks_that_went_back_stay_on_the_scale(runs: Runs) -> None:
    runs.run(FIRST)
    record = LocalRunStore(runs.root.path).read_record(FIRST)
    assert record is not None
    record.nodes["SchemaGen"].started, record.nodes["SchemaGen"].ended = 1.0, 0.5
    record.nodes["Gate"].ended = record.started + 1e12
    RecordFile(runs.root, record)
    for bar in view(runs, FIRST).live.timeline.content.bars:
        assert 0 <= bar.left <= bar.left + bar.width <= 100


def test_a_cached_component_names_the_run_that_made_it_and_keeps_its_inputs(runs: Runs) -> None:
    first = runs.run(FIRST)
    runs.run(SECOND, cached=first)
    graph = view(runs, SECOND).graph.content
    boxes = {box.title: (name, box) for name, box in graph.boxes.items()}
    name, trainer = boxes["Trainer"]
    assert (trainer.note, trainer.run, trainer.state) == ("cached, of 20260101T000000", FIRST, "CACHED")
    inputs = {(graph.boxes[source].title, key) for source, other, key in graph.edges if other == name}
    examples, transform_graph = first["Transform"]["transformed_examples"].id, first["Transform"]["transform_graph"].id
    assert inputs == {
        (f"Examples {examples}", "examples"),
        (f"TransformGraph {transform_graph}", "transform_graph"),
        (f"Schema {first['SchemaGen']['schema'].id}", "schema"),
    }
    # What is never cached is this run's own.
    assert boxes["Gate"][1].run == ""
    assert boxes["Gate"][1].note == "complete"


def test_a_component_runs_as_long_as_its_run_does(runs: Runs) -> None:
    def trainer(run_id: str) -> tuple[str, str]:
        (box,) = (box for box in view(runs, run_id).graph.content.boxes.values() if box.title == "Trainer")
        return box.note, box.state

    runs.run(FIRST, crashes_in="Trainer")
    assert trainer(FIRST) == ("cut off", "FAILED")
    with runs.root.lock():
        runs.run(SECOND, crashes_in="Trainer")
        assert trainer(SECOND) == ("running", "RUNNING")


def test_what_comes_from_another_run_has_its_component_in_the_graph(runs: Runs) -> None:
    first, second = runs.run(FIRST), runs.run(SECOND)
    add_input(runs, node(runs, SECOND, "Evaluator"), "baseline_model", first["Trainer"]["model"])
    graph = view(runs, SECOND).graph.content
    (elsewhere,) = (box for box in graph.boxes.values() if box.kind == "elsewhere")
    assert (elsewhere.title, elsewhere.note, elsewhere.run) == ("Trainer", "of 20260101T000000", FIRST)
    drawing = graph.drawing
    # Resolvers have neither inputs nor outputs here.
    assert {box.title for box in graph.boxes.values()} - {box.title for box, _, _ in drawing.boxes} == {
        "History",
        "Baseline",
    }
    assert len(drawing.paths) == len(graph.edges)
    assert second["Trainer"]["model"].id in [box.id for box in graph.artifacts]


def _statistics(shares: dict[str, float], rows: int = 1000) -> bytes:
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    feature = statistics.datasets.add(name="train", num_examples=rows).features.add(name="sex")
    feature.type = statistics_pb2.FeatureNameStatistics.STRING
    feature.string_stats.unique = len(shares)
    feature.string_stats.common_stats.num_non_missing = rows
    feature.string_stats.common_stats.tot_num_values = rows
    for value, share in shares.items():
        feature.string_stats.rank_histogram.buckets.add(label=value, sample_count=share * rows)
    return statistics.SerializeToString()


def _gate(runs: Runs, run_id: str, made: Artifacts, before: Artifacts | None, policy: Any) -> None:
    """Add the parameters of Gate, as the pipeline sets them."""
    gate = node(runs, run_id, "Gate")
    gate.custom_properties["policy"].string_value = json.dumps(policy)
    gate.custom_properties["compared_splits"].string_value = "test"
    runs.store.put_executions([gate])
    # Without comparators of its own, which would go before the policy's.
    (Path(made["SchemaGen"]["schema"].uri) / "schema.pbtxt").write_text('feature { name: "sex" type: BYTES }')
    add_input(runs, gate, "schema", made["SchemaGen"]["schema"])
    if before is not None:
        add_input(runs, gate, "pushed_statistics", before["StatisticsGen"]["statistics"])


def _write(made: Artifacts, **shares: dict[str, float]) -> None:
    for split, frequencies in shares.items():
        folder = Path(made["StatisticsGen"]["statistics"].uri) / f"Split-{split}"
        folder.mkdir(exist_ok=True)
        (folder / "FeatureStats.pb").write_bytes(_statistics(frequencies))


POLICY = {
    "drift": {"features": {"sex": {"measure": "l_infinity", "threshold": 0.1}}},
    "skew": {"features": {"sex": {"measure": "l_infinity", "threshold": 0.5}}},
}


def test_drift_is_against_what_the_gate_was_given_by_the_policy_it_had(runs: Runs) -> None:
    first, second = runs.run(FIRST), runs.run(SECOND)
    _write(first, train={"Female": 0.5, "Male": 0.5})
    _write(second, train={"Female": 0.3, "Male": 0.7}, test={"Female": 0.6, "Male": 0.4})
    _gate(runs, SECOND, second, first, POLICY)
    statistics = view(runs, SECOND).statistics.content
    assert (statistics.pushed_run, statistics.distances) == (FIRST, "distances measured: 2, above their threshold: 1")
    assert statistics.rows == {"train": 1000, "test": 1000, "pushed train": 1000}
    (sex,) = statistics.features
    shifts = {comparison.kind: comparison.shift for comparison in sex.compared}
    assert (shifts["DRIFT"].value, shifts["DRIFT"].exceeded) == (pytest.approx(0.2), True)
    assert (shifts["SKEW"].value, shifts["SKEW"].exceeded) == (pytest.approx(0.3), False)
    assert [word for word, _ in sex.flags] == ["drift"]


def test_before_the_first_push_there_is_no_drift(runs: Runs) -> None:
    first = runs.run(FIRST)
    _write(first, train={"Female": 0.3, "Male": 0.7}, test={"Female": 0.6, "Male": 0.4})
    _gate(runs, FIRST, first, None, POLICY)
    statistics = view(runs, FIRST).statistics.content
    distances = "distances measured: 1, above their threshold: 0; nothing was pushed before, so there is no drift"
    assert (statistics.pushed_run, statistics.distances) == ("", distances)


@pytest.mark.parametrize(
    ("policy", "distances"),
    [
        ({"drift": 3}, "no distances: the gate's policy does not fit this checkout"),
        ({}, "no feature has a threshold for drift or skew"),
    ],
)
def test_without_distances_the_data_is_shown_all_the_same(policy: Any, distances: str, runs: Runs) -> None:
    first, second = runs.run(FIRST), runs.run(SECOND)
    _write(second, train={"Female": 0.3, "Male": 0.7})
    _gate(runs, SECOND, second, first, policy)
    statistics = view(runs, SECOND).statistics.content
    assert statistics.distances.startswith(distances)
    assert "sex" in [feature.name for feature in statistics.features]


def test_a_run_that_did_not_reach_its_gate_has_no_distances(runs: Runs) -> None:
    runs.run(FIRST, crashes_in="SchemaGen")
    statistics = view(runs, FIRST).statistics.content
    assert statistics.distances == "no distances: the gate was not reached"
    assert {feature.name for feature in statistics.features} == {"age", "sex"}


def test_metrics_are_beside_those_of_the_baseline_on_the_same_rows(runs: Runs) -> None:
    first, second = runs.run(FIRST), runs.run(SECOND)
    add_input(runs, node(runs, SECOND, "Evaluator"), "baseline_model", first["Trainer"]["model"])
    summary = Path(second["Evaluator"]["evaluation"].uri) / "summary.json"
    metrics = {"overall": {"auc": 0.9, "log_loss": 0.3, "example_count": 100.0}, "sex=Male": {"auc": None}}
    baseline = {"overall": {"auc": 0.92, "log_loss": 0.35}}
    summary.write_text(json.dumps({"metrics": metrics, "failures": ["auc is low"], "baseline": baseline}))
    comparison = view(runs, SECOND).metrics.content
    assert (comparison.names, comparison.judgement.missed) == (["auc", "log_loss"], ["auc is low"])
    assert (comparison.baseline, comparison.baseline_run) == (first["Trainer"]["model"].id, FIRST)
    overall = comparison.slices["overall"]
    assert overall["auc"].change == pytest.approx(-0.02)
    assert overall["log_loss"].change == pytest.approx(-0.05)
    assert (comparison.slices["sex=Male"]["auc"].value, comparison.slices["sex=Male"]["auc"].change) == (None, None)
    assert view(runs, FIRST).metrics.content.baseline is None


def test_an_artifact_may_be_two_inputs_of_a_component(runs: Runs) -> None:
    """A cached StatisticsGen gives Gate the statistics of the last push again: TFX writes one event with both names."""
    first = runs.run(FIRST)
    _write(first, train={"Female": 0.3, "Male": 0.7}, test={"Female": 0.6, "Male": 0.4})
    runs.run(SECOND, cached=first)
    gate = node(runs, SECOND, "Gate")
    _gate(runs, SECOND, first, None, POLICY)
    (event,) = (
        event
        for event in runs.store.get_events_by_execution_ids([gate.id])
        if event.artifact_id == first["StatisticsGen"]["statistics"].id
    )
    assert [step.key for step in event.path.steps if step.key] == ["statistics"]
    _replace_event(runs, event, ["statistics", "pushed_statistics"])
    statistics = view(runs, SECOND).statistics.content
    assert (statistics.pushed_run, statistics.distances) == (FIRST, "distances measured: 2, above their threshold: 0")


def _replace_event(runs: Runs, event: mlmd.Event, keys: list[str]) -> None:
    """Give an event other names; ML Metadata itself changes none."""
    with closing(sqlite3.connect(runs.root.metadata)) as database, database:
        (id_,) = database.execute(
            "SELECT id FROM Event WHERE artifact_id = ? AND execution_id = ?", (event.artifact_id, event.execution_id)
        ).fetchone()
        database.execute("DELETE FROM EventPath WHERE event_id = ?", (id_,))
        for key in keys:
            database.execute("INSERT INTO EventPath (event_id, is_index_step, step_key) VALUES (?, 0, ?)", (id_, key))
            database.execute("INSERT INTO EventPath (event_id, is_index_step, step_index) VALUES (?, 1, 0)", (id_,))
