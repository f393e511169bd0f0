"""The decay of a metric, and its interval."""

import math

import numpy as np
import pytest

from pipeline.staleness import command
from pipeline.staleness.decay import Measurement, compare_spans, select_metrics, summarize_decay


def measure(span: int, value: float | None, half: float = 0.01) -> Measurement:
    intervals = {"auc": (value - half, value + half)} if value is not None and half else {}
    return Measurement(span, str(span), 100.0, {"example_count": 100.0, "auc": value, "accuracy": 0.5}, intervals)


def test_the_interval_of_a_difference_is_that_of_independent_rows() -> None:
    change = compare_spans(measure(1, 0.9, 0.03), measure(2, 0.8, 0.04), "auc")
    assert change.value == pytest.approx(-0.1)
    assert change.interval == pytest.approx((-0.15, -0.05))
    assert change.is_worse


def test_intervals_of_uneven_ends_are_kept_apart() -> None:
    first = Measurement(1, "1", 1.0, {"log_loss": 1.0}, {"log_loss": (0.9, 1.4)})
    later = Measurement(2, "2", 1.0, {"log_loss": 1.5}, {"log_loss": (1.45, 2.0)})
    change = compare_spans(first, later, "log_loss")
    assert change.interval == pytest.approx((0.5 - math.hypot(0.05, 0.4), 0.5 + math.hypot(0.5, 0.1)))
    assert change.is_worse


def test_the_interval_covers_the_true_difference() -> None:
    """Count the intervals of 1,000 pairs of proportions that have the true difference."""
    random = np.random.default_rng(1)
    rows, hits = 400, 0
    for _ in range(1000):
        pair = []
        for span, share in enumerate((0.8, 0.7)):
            value = random.binomial(rows, share) / rows
            half = 1.96 * math.sqrt(value * (1 - value) / rows)
            pair.append(Measurement(span, "", rows, {"accuracy": value}, {"accuracy": (value - half, value + half)}))
        interval = compare_spans(pair[0], pair[1], "accuracy").interval
        assert interval is not None
        hits += interval[0] <= -0.1 <= interval[1]
    assert 930 <= hits <= 970


def test_without_a_value_or_an_interval_nothing_is_significant() -> None:
    assert compare_spans(measure(1, 0.9), measure(2, None), "auc").value is None
    change = compare_spans(measure(1, 0.9, 0), measure(2, 0.1, 0), "auc")
    assert (change.interval, change.is_worse) == (None, False)


def test_the_conclusion_names_the_first_span_that_is_worse() -> None:
    fine, bad = measure(2, 0.9), measure(3, 0.8)
    assert summarize_decay([measure(1, 0.9), fine, bad, measure(4, 0.7)], ["auc"]) == [
        "AUC is significantly worse from span 3 on, 2 after the training's"
    ]
    assert summarize_decay([measure(1, 0.9), fine, bad, measure(4, 0.9)], ["auc"]) == [
        "AUC is significantly worse on 3"
    ]
    assert summarize_decay([measure(1, 0.9), fine], ["auc"]) == [
        "AUC is not significantly worse on any of the 1 later spans"
    ]


def test_named_metrics_are_printed() -> None:
    assert select_metrics(measure(1, 0.9), ["accuracy"]) == ["accuracy"]
    assert "auc" in select_metrics(measure(1, 0.9), [])


def test_weighted_rows_are_not_called_rows() -> None:
    measurement = Measurement(span=1, name="1", rows=716.2, metrics={"auc": 0.9}, intervals={})
    for weight, heading in ((None, "rows"), ("importance", "weight")):
        assert command._build_table([measurement], ["auc"], weight=weight).columns[2].header == heading
