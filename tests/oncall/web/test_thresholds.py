"""The thresholds of a run, with margins and intervals; and the meaning of a change."""

import json
from pathlib import Path

import pytest

from oncall.evaluations import MetricValue, judge_change, read_metrics_by_slice
from oncall.metadata import Artifact
from oncall.web.thresholds import list_bounds, parse_slice

CONFIG = {
    "evaluation": {
        "thresholds": [
            {"metric": "auc", "lower_bound": 0.9, "upper_bound": None, "slice_by": []},
            {"metric": "auc", "lower_bound": 0.8, "slice_by": ["sex"]},
            {"metric": "log_loss", "upper_bound": 0.3},
        ],
        "change_thresholds": [
            {"metric": "auc", "max_regression": 0.01},
            {"metric": "log_loss", "max_regression": 0.02},
        ],
    }
}


def test_each_bound_has_its_margin_and_a_verdict() -> None:
    slices = {
        "overall": {
            "auc": MetricValue(0.905, 0.92, interval=(0.895, 0.915), change_interval=(-0.02, -0.012)),
            "log_loss": MetricValue(0.25, 0.28),
        },
        "sex=Male": {"auc": MetricValue(0.79)},
        "race=Black": {"auc": MetricValue(0.1)},
        "sex=Other": {"auc": MetricValue(None)},
    }
    bounds = {(b.metric, b.slice, b.origin): b for b in list_bounds(CONFIG, slices)}
    verdicts = {key: (bound.text, bound.verdict) for key, bound in bounds.items()}
    assert verdicts == {
        ("auc", "overall", ""): ("at least 0.9", "kept, within noise"),
        ("auc", "overall", "0.9200 of the baseline minus 0.01"): ("at least 0.91", "missed"),
        ("log_loss", "overall", ""): ("at most 0.3", "kept"),
        ("log_loss", "overall", "0.2800 of the baseline plus 0.02"): ("at most 0.3", "kept"),
        ("auc", "sex=Male", ""): ("at least 0.8", "missed"),
        ("auc", "sex=Other", ""): ("at least 0.8", "undefined"),
    }
    assert bounds["auc", "sex=Male", ""].margin == pytest.approx(-0.01)
    # A missed bound comes first.
    assert [bound.verdict for bound in list_bounds(CONFIG, slices)][:2] == ["missed", "kept, within noise"]


def test_a_config_without_an_evaluation_has_no_bounds() -> None:
    assert list_bounds({}, {"overall": {"auc": MetricValue(0.9)}}) == []


@pytest.mark.parametrize(
    ("name", "slicings", "values"),
    [
        ("overall", [], {}),
        ("overall", [["sex"]], {}),
        ("sex=Male", [], None),
        ("sex=Male", [[], ["sex"]], {"sex": "Male"}),
        ("race=A x B=c x sex=Male", [["sex", "race"]], {"race": "A x B=c", "sex": "Male"}),
        ("sex=Male x race=A", [["sex"], ["sex", "race"]], {"sex": "Male", "race": "A"}),
        ("sex=a\nb", [["sex"]], {"sex": "a\nb"}),
        ("sexes=Male", [["sex"]], None),
    ],
)
def test_slices_are_parsed_by_their_columns(
    name: str, slicings: list[list[str]], values: dict[str, str] | None
) -> None:
    assert parse_slice(name, slicings) == values


def test_a_bound_on_a_column_is_not_one_on_its_crosses() -> None:
    evaluation = {"thresholds": [{"metric": "auc", "lower_bound": 0.8, "slice_by": ["sex"]}]}
    slices = {"sex=Male": {"auc": MetricValue(0.9)}, "sex=Male x race=A": {"auc": MetricValue(0.7)}}
    crossed = {"evaluation": {**evaluation, "slice_by": [["sex"], ["sex", "race"]]}}
    assert [bound.slice for bound in list_bounds(crossed, slices)] == ["sex=Male"]


@pytest.mark.parametrize(
    ("metric", "interval", "verdict"),
    [
        ("auc", (0.001, 0.01), "better"),
        ("auc", (-0.01, -0.001), "worse"),
        ("log_loss", (-0.01, -0.001), "better"),
        ("auc", (-0.0003, 0.0017), "within noise"),
        ("auc", None, ""),
        ("calibration", (0.1, 0.2), ""),
    ],
)
def test_a_change_is_better_or_worse_by_its_interval_alone(
    metric: str, interval: tuple[float, float] | None, verdict: str
) -> None:
    assert judge_change(metric, interval) == verdict


def test_intervals_are_read_where_they_are_stored(tmp_path: Path) -> None:
    summary = {
        "metrics": {"overall": {"auc": 0.9, "log_loss": 0.3, "recall": 0.5}},
        "baseline": {"overall": {"auc": 0.89}},
        "intervals": {"overall": {"auc": [0.88, 0.92], "log_loss": [0.2, 0.4], "recall": [0.1, None]}},
        "changes": {"overall": {"auc": [0.01, 0.001, 0.02]}},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    outputs = {"Evaluator": {"evaluation": [Artifact(1, "ModelEvaluation", str(tmp_path))]}}
    metrics = read_metrics_by_slice(outputs)["overall"]
    assert metrics["auc"] == MetricValue(0.9, 0.89, (0.88, 0.92), (0.001, 0.02))
    assert (metrics["log_loss"].interval, metrics["recall"].interval) == ((0.2, 0.4), None)
    assert metrics["auc"].judge("auc") == "better"
