"""The spans and configs of a staleness test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError, DataError
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.staleness.configs import describe_training, plan_staleness

DAYS = 'data.splits={"train": {"files": "day-{SPAN}.csv"}, "eval": {"source": "train", "fraction": 0.2}}'


def load(config: Path, *settings: str) -> PipelineConfig:
    return pipeline_config.load(config, [DAYS, "evaluation.split=eval", *settings])


@pytest.fixture
def days(small_census: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that makes a small census with files of the named days."""

    def make(*spans: int) -> Path:
        config = small_census(rows=20)
        for span in spans:
            (config.parent / f"day-{span}.csv").write_text((config.parent / "train.csv").read_text())
        return config

    return make


def test_the_newest_spans_are_tested_and_a_gap_is_passed_over(days: Callable[..., Path]) -> None:
    plan = plan_staleness(load(days(1, 2, 3, 5, 8)), None, 3)
    assert (plan.span, plan.later) == (2, [3, 5, 8])
    trained, *tested = plan.configs
    assert [c.evaluation.split for c in plan.configs] == ["eval", "span_3", "span_5", "span_8"]
    assert {name: split.pattern for name, split in trained.data.read_splits.items()} == {
        "train": "day-{SPAN}.csv",
        "span_3": "day-3.csv",
        "span_5": "day-5.csv",
        "span_8": "day-8.csv",
    }
    # All but Evaluator is reused.
    assert all(config.data == trained.data and config.training == trained.training for config in tested)
    assert trained.data.span == 2


def test_nothing_of_a_test_is_pushed_or_judged_or_reported(days: Callable[..., Path]) -> None:
    config = load(
        days(1, 2),
        "push.registry=/elsewhere",
        "alerts.webhook_env=HOOK",
        "training.warm_start=true",
        "evaluation.change_thresholds=[{metric: auc, max_regression: 0.1}]",
    )
    derived = plan_staleness(config, 1, 4).configs[0]
    assert (derived.push.registry, derived.alerts.webhook_env, derived.training.warm_start) == (None, None, False)
    assert (derived.evaluation.thresholds, derived.evaluation.change_thresholds) == ((), ())
    severities = {rule.anomaly: rule.severity for rule in derived.validation.severities}
    assert severities["SKEW"] == severities["ENUM_TYPE_UNEXPECTED_STRING_VALUES"] == "warn"


def test_dates_are_named_as_dates(days: Callable[..., Path]) -> None:
    config = days()
    for day in ("2026-01-30", "2026-01-31", "2026-02-01"):
        (config.parent / f"d-{day}.csv").write_text("")
    dated = DAYS.replace("day-{SPAN}", "d-{YYYY}-{MM}-{DD}")
    plan = plan_staleness(pipeline_config.load(config, [dated, "evaluation.split=eval", "data.window=2"]), None, 9)
    assert plan.name_span(plan.span) == "2026-01-31"
    assert [plan.name_span(span) for span in plan.later] == ["2026-02-01"]
    assert describe_training(plan.configs[0], plan) == "spans 2026-01-30 to 2026-01-31"


def test_groups_come_again_in_later_spans(days: Callable[..., Path]) -> None:
    config = load(days(1, 2), "data.group_column=household")
    plan = plan_staleness(config, None, 1)
    assert plan.configs[0].data.group_column is None
    assert "household" in plan.configs[0].data.ignored_columns
    assert plan.notes[0].startswith("data.group_column is not used, since values of 'household' come again")


@pytest.mark.parametrize(
    ("spans", "settings", "arguments", "error"),
    [
        ((3,), (), (None, 4), "staleness needs a span after the 1 that it trains on, and there is one span alone: 3;"),
        ((3, 4), ("data.window=2",), (None, 4), "needs a span after the 2 that it trains on, and there are 2 spans"),
        ((3, 5), (), (4, 4), r"has no span 4; there are: 3, 5 \(--span\)"),
        ((3, 5), (), (5, 4), "span 5 is the last one; staleness tests on later spans: choose an earlier one of 3, 5"),
        ((), (), (None, 4), r"day-\*.csv: no such file \(data.splits.train.files\)"),
    ],
)
def test_what_is_missing_is_named(
    spans: tuple[int, ...], settings: tuple[str, ...], arguments: Any, error: str, days: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=error):
        plan_staleness(load(days(*spans), *settings), *arguments)


def test_files_without_spans_are_rejected(small_census: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"^data.splits.train.files: has no \{SPAN\} or \{YYYY\}"):
        plan_staleness(pipeline_config.load(small_census(rows=20)), None, 4)
