"""The comparison of variants of the network."""

from pathlib import Path

import pytest

from benchmarks import network
from benchmarks.network import Result, list_overrides, loss_ratio


def _result(variant: str, seed: int, loss: float, error: str = "") -> Result:
    metrics = {"rmse": loss, "r2": 0.5}
    return Result("a", "regression", variant, [], seed, eval=metrics, test={"rmse": 2 * loss}, error=error)


def test_settings_are_computed_from_the_table() -> None:
    settings = {
        "training.epochs": "=max(8, min(50, round(3000 * 128 / rows)))",
        "training.batch_size": 128,
        "model.normalization": "= 'none' if kind == 'regression' else 'batch'",
    }
    facts = {"rows": 20_000, "kind": "regression"}
    expected = ["training.epochs=19", "training.batch_size=128", 'model.normalization="none"']
    assert list(list_overrides(settings, facts)) == expected


def test_the_ratio_is_that_of_the_mean_losses_without_failed_trainings() -> None:
    results = [_result("first", 0, 1.0), _result("first", 1, 3.0), _result("b", 0, 1.0), _result("b", 1, 9.0, "failed")]
    assert loss_ratio(results, "a", "b", "first", "eval") == pytest.approx(0.5)
    assert loss_ratio(results, "a", "b", "first", "test") == pytest.approx(0.5)
    assert loss_ratio(results, "a", "c", "first", "eval") is None


def test_results_are_read_back_and_another_setting_is_another_result(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert network.read(file) == []
    result = _result("first", 0, 1.0)
    file.write_text(network.as_line(result))
    assert network.read(file) == [result]
    other = Result("a", "regression", "first", ["model.dropout=0.5"], 0)
    assert other.key != result.key
