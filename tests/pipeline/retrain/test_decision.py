"""The conditions of a retraining, and the decision."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError
from components.example_gen.input_fingerprint import compute_data_fingerprint
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.retrain.attempts import Attempt
from pipeline.retrain.conditions import Champion, judge_conditions
from pipeline.retrain.decision import RetrainDecision, decide
from pipeline.run.records import NodeRecord, RecordFile, create_record, hash_data
from pipeline.run.run_root import RunRoot
from schemas.tables.content_hash import Memory
from serving.registry import Candidate, LocalRegistry
from serving.registry.data_time import DataTime
from tests.serving.registry.local.registry_bench import model, push

DAYS = 'data.splits={"train": {"files": "day-{SPAN}.csv"}, "eval": {"source": "train", "fraction": 0.2}}'
DAY = 86_400.0
NOW = 1_790_000_000.0


@pytest.fixture
def load(small_census: Callable[..., Path]) -> Callable[..., PipelineConfig]:
    """Return a function that loads a config with files of days 1 and 2."""
    config = small_census(rows=20)
    for span in (1, 2):
        (config.parent / f"day-{span}.csv").write_text((config.parent / "train.csv").read_text())
    return lambda retrain, *settings: pipeline_config.load(
        config, [DAYS, "evaluation.split=eval", f"retrain={retrain}", *settings]
    )


def champion(days: float, span: int | None) -> Champion:
    return Champion(3, DataTime(NOW - days * DAY, "column 'pickup'", span))


def judge(config: PipelineConfig, serving: Champion | None) -> list[tuple[bool, str]]:
    root = RunRoot(Path("no-run-root"))
    return [(condition.holds, str(condition)) for condition in judge_conditions(config, root, serving, NOW)]


def test_a_new_span_and_an_old_champion_are_reasons(load: Callable[..., PipelineConfig]) -> None:
    config = load("{new_span: true, max_age_days: 30}")
    assert judge(config, champion(31, 1)) == [
        (True, "new_span: span 2 is new; version 3 was trained on 1"),
        (
            True,
            "max_age_days: version 3 is 31 days old: data until 2026-08-21 14:13 UTC, by column 'pickup'; at most 30 "
            "days",
        ),
    ]
    assert [holds for holds, _ in judge(config, champion(29, 2))] == [False, False]


def test_without_a_champion_every_config_starts(load: Callable[..., PipelineConfig]) -> None:
    assert judge(load("{max_age_days: 30}"), None) == [(True, "no_champion: no version serves yet")]


def test_a_champion_without_a_data_time_is_no_reason(load: Callable[..., PipelineConfig]) -> None:
    config = load("{new_span: true, max_age_days: 30}")
    assert judge(config, Champion(3, None)) == [
        (False, "new_span: version 3 has no span of its data on record; run the pipeline once to push one"),
        (False, "max_age_days: version 3 has no time of its data on record; run the pipeline once to push one"),
    ]


@pytest.mark.parametrize(
    ("retrain", "settings", "error"),
    [
        ("{}", (), "retrain: names no condition; set new_span, max_age_days, drift or live_quality"),
        (
            "{drift: true}",
            (),
            r"^monitoring.request_log: is missing, and retrain.drift reads it; give the folder of the server's --log",
        ),
        (
            "{drift: true, live_quality: true}",
            ("monitoring.request_log=gone",),
            r"^monitoring.request_log: .*/gone does not exist, and retrain.drift and live_quality read it",
        ),
        ("{new_span: true}", ("data.span=2",), "retrain.new_span: data.span fixes the span 2"),
        (
            "{new_span: true}",
            ('data.splits={"train": {"files": "train.csv"}, "eval": {"source": "train", "fraction": 0.2}}',),
            r"retrain.new_span: needs files of spans, and data.splits.train has no \{SPAN\}",
        ),
    ],
)
def test_conditions_that_cannot_be_judged_are_rejected(
    retrain: str, settings: tuple[str, ...], error: str, load: Callable[..., PipelineConfig]
) -> None:
    with pytest.raises(ConfigError, match=error):
        judge(load(retrain, *settings), champion(1, 1))


def test_live_traffic_of_a_run_fn_is_no_condition(load: Callable[..., PipelineConfig], tmp_path: Path) -> None:
    module = tmp_path / "own_run.py"
    module.write_text("def run_fn(fn_args):\n    pass\n")
    config = load("{drift: true, live_quality: true}", f"model.module={module}", f"monitoring.request_log={tmp_path}")
    message = r"^retrain.drift and retrain.live_quality: model.module has a run_fn of your own, .*; retrain by new_span"
    with pytest.raises(ConfigError, match=message):
        judge(config, champion(1, 1))


@pytest.fixture
def root(tmp_path: Path) -> RunRoot:
    return RunRoot(tmp_path / "root")


@pytest.fixture
def registry(root: RunRoot, tmp_path: Path) -> LocalRegistry:
    return LocalRegistry(root.path / "registry", "income")


def decide_now(config: PipelineConfig, root: RunRoot, registry: LocalRegistry, *attempts: Attempt) -> RetrainDecision:
    root.path.mkdir(exist_ok=True)
    return decide(config, root, registry, attempts, NOW)


def write_run(root: RunRoot, config: PipelineConfig, exit_code: int, **values: Any) -> str:
    """Write the record of a run that had the data of this moment; return its ID."""
    record = create_record(config, "20260901T000000.000000", log=None, expected=["Gate"], resumes=None)
    node = NodeRecord(state="failed" if exit_code else "complete", started=1.0, ended=2.0, error="Gate: x")
    record.nodes["Gate"] = node
    root.path.mkdir(exist_ok=True)
    file = RecordFile(root, record)
    data_hash = hash_data(config, compute_data_fingerprint(config.data, Memory()))
    file.end(exit_code=exit_code, reason="", summary={}, data_hash=data_hash, **{"error": "", **values})
    return record.run_id


def test_the_champion_of_a_registry_is_judged(
    load: Callable[..., PipelineConfig], root: RunRoot, registry: LocalRegistry, tmp_path: Path
) -> None:
    config = load("{new_span: true}")
    first = decide_now(config, root, registry)
    assert (first.starts, first.reason) == (True, "no_champion: no version serves yet")
    push(registry.folder.parent, model(tmp_path / "model"))
    unknown = decide_now(config, root, registry)
    assert not unknown.starts
    assert unknown.lines[-1] == "nothing was started: no condition holds"
    data = {"seconds": NOW - DAY, "source": "the files", "span": 1}
    candidate = Candidate("census", run_id="2", folder=model(tmp_path / "other", "other"), data=data)
    registry.push(candidate)
    assert decide_now(config, root, registry).reason == "new_span: span 2 is new; version 2 was trained on 1"


@pytest.mark.parametrize(
    ("attempt", "obstacle"),
    [
        (
            Attempt(started=NOW - 3600, reason="", exit_code=0),
            r"1.0 hours ago, and it waits until .* \(retrain.min_inte",
        ),
        (Attempt(started=NOW - 1.5 * DAY, reason="", exit_code=0), ""),
        (
            Attempt(started=NOW - 1.5 * DAY, reason="", exit_code=1),
            "36.0 hours ago, and it waits until .* after 1 fail",
        ),
        (Attempt(started=NOW - 1.5 * DAY, reason="", exit_code=None), "after 1 failure in a row"),
        (Attempt(started=NOW - 2.5 * DAY, reason="", exit_code=1), ""),
        # The clock was set back: a little, and by more than the wait, which would not end before it has caught up.
        (Attempt(started=NOW + 60, reason="", exit_code=0), "0.0 hours ago"),
        (Attempt(started=NOW + 900 * DAY, reason="", exit_code=0), ""),
    ],
)
def test_the_next_run_waits(
    attempt: Attempt, obstacle: str, load: Callable[..., PipelineConfig], root: RunRoot, registry: LocalRegistry
) -> None:
    decision = decide_now(load("{new_span: true}"), root, registry, attempt)
    if not obstacle:
        assert decision.obstacle == ""
    else:
        assert re.search(obstacle, decision.obstacle)


@pytest.mark.parametrize(
    ("code", "error", "obstacle"),
    [
        (
            3,
            "the data does not fit:\n  train: age: is gone [X]",
            "Gate rejected this very data: train: age: is gone [X]",
        ),
        (4, "", "trained on this very data, and its model was not blessed"),
        (0, "", "trained on this very data"),
        (1, "", ""),
        (130, "", ""),
    ],
)
def test_the_same_data_is_not_tried_again(
    code: int,
    error: str,
    obstacle: str,
    load: Callable[..., PipelineConfig],
    root: RunRoot,
    registry: LocalRegistry,
) -> None:
    config = load("{new_span: true}")
    run_id = write_run(root, config, code, error=error)
    decision = decide_now(config, root, registry)
    assert obstacle in decision.obstacle
    assert decision.starts == (not obstacle)
    assert not obstacle or run_id in decision.obstacle
    # Another schema, or other rows, are another attempt.
    day = Path(config.data.base) / "day-2.csv"
    day.write_text(day.read_text() * 2)
    assert decide_now(config, root, registry).starts


def test_a_run_that_is_active_is_not_disturbed(
    load: Callable[..., PipelineConfig], root: RunRoot, registry: LocalRegistry
) -> None:
    root.path.mkdir()
    with root.hold("--run-root"):
        decision = decide_now(load("{new_span: true}"), root, registry)
    assert decision.obstacle == f"a run is active in {root.path}"


def test_an_earlier_day_is_measured_from_now() -> None:
    assert DataTime(time.time() + 100, "x").measure_age() == 0.0
