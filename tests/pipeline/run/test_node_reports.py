"""The headline of a node, from what it found."""

from typing import Any

import pytest

from pipeline.run.node_reports import headline

EVALUATED: dict[str, Any] = {
    "blessed": True,
    "failures": [],
    "warnings": [],
    "metrics": {"overall": {"auc": 0.9281, "log_loss": 0.3}},
}


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
    assert headline("Evaluator", {**EVALUATED, **changes}) == expected


def test_an_undefined_metric_of_the_trainer_is_named() -> None:
    known = {"kept_epoch": 2, "epochs": 3, "metrics": {"log_loss": 0.5, "auc": float("nan")}}
    assert headline("Trainer", known) == "eval log loss 0.5000, AUC undefined, kept epoch 2 of 3"
