"""Live metrics of all kinds of labels, with weights, windows and samples; and the judgement of a drop."""

import datetime
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.config import Evaluation
from pipeline.outcomes.live_metrics import Group, LiveMetrics, LiveSettings, Window, measure_outcomes
from pipeline.outcomes.quality_drop import OfflineValue, compare, find_drops, find_quality_drop
from schemas.bootstrap import Interval
from schemas.features import FeatureSet
from schemas.metric_counts import MulticlassCounts, RegressionCounts
from schemas.metrics import METRICS
from serving.outcomes.store import JoinSummary, read_summary
from tests.serving.outcomes.logs import FEATURES, START, build_rows, join_labels, write_labels, write_log, write_model

ROWS = 400
KEYS = [f"k{row}" for row in range(ROWS)]


def declare(label: dict[str, object]) -> FeatureSet:
    features = FEATURES.model_dump(mode="json", exclude_defaults=True)["features"]
    return FeatureSet.model_validate({"features": features, "label": label})


def join_file(folder: Path, *lines: str) -> tuple[Path, JoinSummary]:
    document = join_labels(folder, write_labels(folder / "labels.csv", *lines))
    assert "error" not in document, document
    summary = read_summary(folder / "log")
    assert summary is not None
    return folder / "log", summary


def test_numbers_are_measured_by_weight(tmp_path: Path) -> None:
    features = declare({"kind": "regression", "column": "pay"}).model_copy(update={"weight": "share"})
    write_model(tmp_path, features)
    generator = np.random.default_rng(0)
    labels, weights = generator.normal(10, 3, ROWS).round(3), generator.integers(1, 4, ROWS)
    predictions = (labels + generator.normal(0, 1, ROWS)).astype(np.float32)
    write_log(tmp_path, "1", build_rows(KEYS, columns={"_prediction_prediction": pa.array(predictions)}))
    rows = (f"{key},{label},{weight}" for key, label, weight in zip(KEYS, labels, weights, strict=True))
    log, summary = join_file(tmp_path, "person,pay,share", *rows)
    counts = RegressionCounts()
    counts.add(labels.astype(np.float32), predictions, weights.astype(float))
    live, _ = measure_outcomes(log, summary, LiveSettings())
    (overall,) = [metrics for metrics in live if metrics.group == Group(1)]
    assert summary.weight == "share"
    assert {(file.weight, file.model_weight) for file in summary.files.values()} == {("share", "share")}
    for name in ("rmse", "mae", "r2"):
        assert overall.values[name] == pytest.approx(METRICS[name].compute(counts), rel=1e-5)
        assert overall.intervals[name].low < METRICS[name].compute(counts) < overall.intervals[name].high


def test_classes_are_measured_by_their_probabilities(tmp_path: Path) -> None:
    classes = ("low", "mid", "high")
    write_model(tmp_path, declare({"kind": "multiclass", "column": "level", "classes": classes}))
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(3, size=ROWS), generator.dirichlet([1, 1, 1], ROWS)
    columns = {"_prediction_probabilities": pa.array(predictions.tolist(), pa.list_(pa.float64()))}
    write_log(tmp_path, "1", build_rows(KEYS, columns=columns))
    rows = (f"{key},{classes[label]}" for key, label in zip(KEYS, labels, strict=True))
    log, summary = join_file(tmp_path, "person,level", *rows)
    counts = MulticlassCounts()
    counts.add(labels, predictions)
    live, _ = measure_outcomes(log, summary, LiveSettings())
    for name in ("accuracy", "log_loss", "macro_f1"):
        assert live[0].values[name] == pytest.approx(METRICS[name].compute(counts))


def test_slices_have_the_names_of_the_evaluation_and_enough_rows(tmp_path: Path) -> None:
    """Values have the types of the model: an age that a log has as 20.0 is 20 where the model takes integers."""
    write_model(tmp_path)
    ages = pa.array([20.0 if row < 300 else 30.0 if row < 360 else None for row in range(ROWS)])
    jobs = pa.array(["clerk" if row % 2 else "nurse" for row in range(ROWS)])
    write_log(tmp_path, "1", build_rows(KEYS, columns={"age": ages, "job": jobs}))
    log, summary = join_file(tmp_path, "person,income", *(f"{key},>50K" for key in KEYS))
    evaluation = Evaluation(slice_by=(("age",), ("age", "job"), ("city",)), min_rows_per_slice=100)
    settings = LiveSettings(evaluation, types={"age": "int", "job": "string"})
    live, notes = measure_outcomes(log, summary, settings)
    slices = {metrics.group.slice: metrics.rows for metrics in live if not metrics.group.week}
    assert slices == {"overall": 400, "age=20": 300, "age=20 x job=clerk": 150, "age=20 x job=nurse": 150}
    assert notes == ["no slices by city: column 'city' is not in the log"]
    window = Window(since=START + datetime.timedelta(hours=10), until=START + datetime.timedelta(hours=30), version=1)
    live, _ = measure_outcomes(log, summary, settings, window)
    assert [(metrics.group.week, metrics.rows) for metrics in live] == [("", 20), ("2026-W45", 20)]
    assert measure_outcomes(log, summary, settings, Window(version=2)) == ([], notes)


def test_a_difference_has_the_interval_of_two_samples() -> None:
    offline = OfflineValue(0.9, (0.88, 0.92))
    change = compare("auc", 0.8, Interval(0.77, 0.83), offline)
    assert change == pytest.approx((-0.1 - math.hypot(0.03, 0.02), -0.1 + math.hypot(0.03, 0.02)))
    assert compare("auc", 0.8, Interval(0.7, 0.85), OfflineValue(0.9)) == pytest.approx((-0.2, -0.05))
    # Of an AUC of 1 on a few rows, nothing is known.
    assert compare("auc", 0.99, Interval(0.98, 0.995), OfflineValue(1.0)) is None


def summarize(tmp_path: Path) -> JoinSummary:
    write_model(tmp_path)
    write_log(tmp_path, "1", build_rows(["a"]))
    return join_file(tmp_path, "person,income", "a,>50K")[1]


def test_a_drop_is_significant_and_beyond_the_margin(tmp_path: Path) -> None:
    summary = summarize(tmp_path)
    offline = {"overall": {"auc": OfflineValue(0.9, (0.88, 0.92))}}
    bound = {"metric": "auc", "max_regression": 0.08}

    def judge(value: float, width: float, **evaluation: object) -> list[str]:
        interval = Interval(value - width, value + width)
        live = LiveMetrics(Group(1), 500, {"auc": value}, {"auc": interval}, {})
        drops = find_drops([live], offline, Evaluation.model_validate(evaluation), summary)
        return [str(drop) for drop in drops]

    assert judge(0.8, 0.03) == [
        "live AUC 0.8000 [0.7700, 0.8300], 500 rows; expected about 0.9000, as on test [0.8800, 0.9200]"
    ]
    assert judge(0.8, 0.2) == []
    assert judge(0.95, 0.01) == []
    assert judge(0.8, 0.03, change_thresholds=[bound]) == []
    assert judge(0.7, 0.03, change_thresholds=[bound])[0].endswith("[0.8800, 0.9200], and at most 0.08 worse")


def test_a_threshold_is_missed_by_the_whole_interval_of_a_slice(tmp_path: Path) -> None:
    summary = summarize(tmp_path)
    evaluation = Evaluation.model_validate(
        {"slice_by": [["sex"]], "thresholds": [{"metric": "auc", "lower_bound": 0.8, "slice_by": ["sex"]}]}
    )
    live = [
        LiveMetrics(Group(1, slice=name), 90, {"auc": 0.75}, {"auc": Interval(0.7, high)}, {})
        for name, high in (("sex=Male", 0.79), ("sex=Female", 0.81), ("race=A", 0.79), ("overall", 0.79))
    ]
    drops = find_drops(live, {}, evaluation, summary)
    assert [str(drop) for drop in drops] == [
        "live AUC 0.7500 [0.7000, 0.7900] on sex=Male, 90 rows; expected at least 0.8, a threshold of the config"
    ]


def test_only_the_newest_days_are_judged(tmp_path: Path) -> None:
    """A version that was good for long and is bad since a week has a drop."""
    write_model(tmp_path)
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=2 * ROWS)
    predictions = np.where(labels == 1, 0.8, 0.2) + generator.normal(0, 0.1, 2 * ROWS)
    predictions[ROWS:] = generator.random(ROWS)
    keys = [f"k{row}" for row in range(2 * ROWS)]
    start = START - datetime.timedelta(days=40)
    columns = {"_prediction_probability": pa.array(predictions.clip(0, 1))}
    # The clock of the server was a year ahead for one row.
    write_log(
        tmp_path,
        "0",
        build_rows(
            ["late"], start=start + datetime.timedelta(days=365), columns={"_prediction_probability": pa.array([0.5])}
        ),
    )
    write_log(tmp_path, "1", build_rows(keys, start=start, columns=columns))
    rows = (f"{key},{'>50K' if label else '<=50K'}" for key, label in zip(keys, labels, strict=True))
    log, _ = join_file(tmp_path, "person,income", "late,>50K", *rows)
    offline = {"overall": {"auc": OfflineValue(0.7, (0.68, 0.72))}}
    now = start + datetime.timedelta(hours=2 * ROWS)
    assert find_quality_drop(log, 1, LiveSettings(), offline, days=365) == []
    (drop,) = find_quality_drop(log, 1, LiveSettings(), offline, days=7, now=now)
    # 168 hours, and the row of the wrong clock.
    assert (drop.metric, drop.rows) == ("auc", 169)
    assert find_quality_drop(log, 2, LiveSettings(), offline) == []
    assert find_quality_drop(tmp_path / "nowhere", 1, LiveSettings(), offline) == []
