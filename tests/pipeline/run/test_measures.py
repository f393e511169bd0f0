"""Measures of a run, and the comparison with the last good run."""

import time
from pathlib import Path

import pytest

from components.infra_validator.summary import InfraValidatorSummary
from components.pusher.summary import PusherSummary
from pipeline.config import pipeline_config
from pipeline.run.measures import compare_measures, measure
from pipeline.run.records import NodeRecord, RecordFile, RunRecord, create_record
from pipeline.run.run_root import RunRoot
from pipeline.run.summary import NodeOutcome
from tests.conftest import CENSUS_CONFIG
from tests.pipeline.run.test_console import SUMMARY
from trainer.summary import TrainerSummary

BASE = {"Trainer seconds": 60.0, "Trainer rows/s": 9_000.0, "InfraValidator p95 ms": 8.0, "Pusher MB": 4.0, "rows": 1e5}


@pytest.fixture
def root(tmp_path: Path) -> RunRoot:
    return RunRoot(tmp_path)


def write_run(root: RunRoot, run_id: str, measures: dict[str, float], exit_code: int = 0) -> RunRecord:
    config = pipeline_config.load(CENSUS_CONFIG)
    record = create_record(config, run_id, log=None, expected=["Trainer"], resumes=None)
    record.nodes["Trainer"] = NodeRecord(state="complete", started=time.time(), ended=time.time())
    file = RecordFile(root, record)
    file.end(exit_code=exit_code, error="", reason="", summary={}, measures=measures)
    return file.record


def test_only_nodes_that_ran_are_measured() -> None:
    examples = SUMMARY.nodes[0].summary
    nodes = [
        NodeOutcome("ExampleGen", "complete", 16.0, examples),
        NodeOutcome("Transform", "cached", 0.1),
        NodeOutcome("Trainer", "complete", 100.0, TrainerSummary(epochs=10, kept_epoch=3, metrics={})),
        NodeOutcome("InfraValidator", "complete", 9.0, InfraValidatorSummary(20, 1.0, 2.5, 300.0)),
        NodeOutcome("Pusher", "complete", 1.0, PusherSummary(True, 1, "/r/1", "", 4.5)),
    ]
    assert measure(nodes) == {
        "rows": 32561.0,
        "ExampleGen seconds": 16.0,
        "ExampleGen rows/s": 2035.1,
        "Trainer seconds": 100.0,
        "Trainer rows/s": 2936.1,
        "InfraValidator seconds": 9.0,
        "InfraValidator p95 ms": 2.5,
        "Pusher seconds": 1.0,
        "Pusher MB": 4.5,
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"Trainer seconds": 150.0}, "Trainer seconds: 150.0, 60.0 in the last good run 1 (2.5 times that)"),
        ({"Trainer rows/s": 3_000.0}, "Trainer rows/s: 3,000.0, 9,000.0 in the last good run 1 (0.33 times that)"),
        ({"InfraValidator p95 ms": 20.0}, "InfraValidator p95 ms: 20.0, 8.0 in the last good run 1 (2.5 times that)"),
        ({"Pusher MB": 6.4}, "Pusher MB: 6.4, 4.0 in the last good run 1 (1.6 times that)"),
        (
            {"Trainer seconds": 300.0, "rows": 2e5},
            "Trainer seconds: 300.0, 60.0 in the last good run 1 (5 times that, for 2.0 times as many rows)",
        ),
        # Explained by the rows, better, or within the noise.
        ({"Trainer seconds": 150.0, "rows": 2e5}, ""),
        ({"Trainer seconds": 10.0, "Trainer rows/s": 50_000.0, "Pusher MB": 1.0}, ""),
        ({"Trainer seconds": 110.0, "InfraValidator p95 ms": 12.0, "Pusher MB": 4.9}, ""),
    ],
)
def test_a_measure_that_is_clearly_worse_is_a_warning(changes: dict[str, float], line: str, root: RunRoot) -> None:
    write_run(root, "1", BASE)
    record = write_run(root, "2", {})
    assert compare_measures(root, record, {**BASE, **changes}) == ([line] if line else [])


def test_short_nodes_are_not_compared(root: RunRoot) -> None:
    write_run(root, "1", {"Gate seconds": 0.5, "rows": 10.0})
    record = write_run(root, "2", {})
    assert compare_measures(root, record, {"Gate seconds": 9.0, "rows": 10.0}) == []


def test_the_last_good_run_that_has_the_measure_counts(root: RunRoot) -> None:
    """A run that failed, and one whose node was reused from the cache, say nothing."""
    write_run(root, "1", {"Trainer seconds": 60.0})
    write_run(root, "2", {"Pusher MB": 1.0})
    write_run(root, "3", {"Trainer seconds": 500.0}, exit_code=1)
    record = write_run(root, "4", {})
    (line,) = compare_measures(root, record, {"Trainer seconds": 400.0})
    assert line == "Trainer seconds: 400.0, 60.0 in the last good run 1 (6.7 times that)"
    assert compare_measures(root, record, {"Transform seconds": 400.0}) == []
