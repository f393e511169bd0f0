"""The epochs of a training, from Trainer's history and from a log."""

import json
from pathlib import Path

import pytest

from cli.errors import DataError
from oncall.metadata import Artifact
from oncall.web.training_curves import TrainingCurves, draw_training, parse_epochs, read_training


def _outputs(folder: Path) -> dict[str, dict[str, list[Artifact]]]:
    return {"Trainer": {"model_run": [Artifact(1, "ModelRun", str(folder))]}}


def test_the_history_is_a_chart_for_each_metric(tmp_path: Path) -> None:
    history = {"metrics": {"loss": [0.5, 0.4], "val_log_loss": [0.45, None], "val_auc": [0.9, 0.91]}, "kept_epoch": 0}
    (tmp_path / "history.json").write_text(json.dumps(history))
    training = read_training(_outputs(tmp_path))
    assert training is not None
    loss, auc = draw_training({"": training})
    assert (loss.title, [name for name, *_ in loss.lines]) == ("log loss", ["train", "eval"])
    assert [len(dots) for *_, dots in loss.lines] == [2, 1]
    assert (auc.title, [label for _, label in auc.x_ticks]) == ("AUC", ["1", "2"])
    assert [mark.title for _, mark, _ in auc.marks] == ["epoch 1 is kept"]


def test_two_runs_are_in_the_same_chart() -> None:
    (chart,) = draw_training({"A": TrainingCurves({"val_auc": [0.8]}), "B": TrainingCurves({"val_auc": [0.9, 0.95]})})
    assert [(name, len(dots)) for name, _, _, dots in chart.lines] == [("A, eval", 1), ("B, eval", 2)]
    assert chart.marks == []


def test_a_run_without_a_history_has_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_training({}) is None
    assert read_training(_outputs(tmp_path)) is None
    (tmp_path / "history.json").write_text('{"metrics": 3}')
    with pytest.raises(DataError, match=r"history\.json: is damaged"):
        read_training(_outputs(tmp_path))


def test_a_log_has_the_epochs_so_far() -> None:
    lines = [
        "WARNING: epoch of nothing",
        "epoch 1 of 6: loss 0.3486, val_log_loss undefined, val_auc 0.9242",
        "something else",
        "epoch 2 of 6: loss 2.836e-05, val_log_loss 0.2816, val_auc 0.926",
    ]
    training = parse_epochs(lines)
    assert training is not None
    assert (training.epochs, training.length) == (6, 2)
    assert training.metrics == {"loss": [0.3486, 2.836e-05], "val_auc": [0.9242, 0.926], "val_log_loss": [None, 0.2816]}
    (loss, _) = draw_training({"": training})
    # The axis is as long as the training will be.
    assert loss.x_ticks[-1][1] == "6"
    assert parse_epochs(["nothing"]) is None
    later = parse_epochs(["epoch 3 of 6: loss 0.3"])
    assert later is not None
    assert (later.length, later.metrics) == (3, {"loss": [None, None, 0.3]})
