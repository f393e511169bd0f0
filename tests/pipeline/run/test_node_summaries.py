"""The headlines of nodes, and the table of their summaries."""

from dataclasses import replace
from typing import Any

import pytest

from components.evaluator.summary import EvaluatorSummary
from pipeline.config.node_names import NODES
from pipeline.run.node_summaries import _SUMMARIES
from trainer.summary import TrainerSummary

EVALUATED = EvaluatorSummary(
    weight_column=None,
    blessed=True,
    failures=[],
    warnings=[],
    constant_predictor={},
    decision={},
    metrics={"overall": {"auc": 0.9281, "log_loss": 0.3}},
    intervals={"overall": {"auc": [0.9241, 0.9319]}},
    without_interval={"log_loss": "it is not computed from counts of rows"},
    changes={"overall": {"auc": [0.0007, -0.001, 0.0024], "log_loss": [0.01, None, None]}},
    challengers={"linear": {"text": "log loss 0.2910"}, "trees": {"text": "not compared: no time"}},
)


def test_the_evaluator_prints_intervals_changes_and_challengers() -> None:
    assert EVALUATED.format_lines() == [
        ("95 %", "AUC 0.9281 [0.9241, 0.9319]"),
        (
            "95 %",
            "against the last blessed model: AUC +0.0007 [-0.0010, +0.0024], log loss +0.0100 (without an interval)",
        ),
        ("95 %", "no interval of log loss: it is not computed from counts of rows"),
        ("linear", "log loss 0.2910"),
        ("trees", "not compared: no time"),
        ("model", "blessed"),
    ]
    same = replace(EVALUATED, changes={"overall": {"auc": [0, None, None]}}).format_lines()
    assert ("95 %", "against the last blessed model: no difference in any row") in same
    own = replace(EVALUATED, intervals={}, changes={"overall": {"auc": [0, None, None]}}).format_lines()
    assert ("95 %", "against the last blessed model: AUC +0.0000 (without an interval)") in own


def test_every_node_has_a_summary() -> None:
    assert tuple(_SUMMARIES) == NODES


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "AUC 0.9281, blessed"),
        ({"warnings": ["a", "b"]}, "AUC 0.9281, blessed, 2 warnings"),
        (
            {"blessed": False, "failures": ["a"], "metrics": {"overall": {"auc": None}}},
            "AUC undefined, NOT blessed for 1 reason",
        ),
        (
            {"blessed": False, "failures": ["a", "b"], "warnings": ["c"]},
            "AUC 0.9281, NOT blessed for 2 reasons, 1 warning",
        ),
    ],
)
def test_the_evaluators_headline(changes: dict[str, Any], expected: str) -> None:
    assert replace(EVALUATED, **changes).headline == expected


def test_an_undefined_metric_of_the_trainer_is_named() -> None:
    summary = TrainerSummary(epochs=3, kept_epoch=2, metrics={"log_loss": 0.5, "auc": float("nan")})
    assert summary.headline == "eval log loss 0.5000, AUC undefined, kept epoch 2 of 3"
