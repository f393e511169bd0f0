from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli import progress
from tests.trainer.test_model import write_source
from trainer.config import Model, Range, Search, Training, apply_values, format_values, parse_values
from trainer.search import choose_metric

pytestmark = pytest.mark.integration

PARAMETERS: dict[str, Any] = {
    "model.hidden_units": {"choices": [[4], [8, 4]]},
    "training.deep_optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "training.epochs": {"low": 2, "high": 4},
}


def training(**changes: Any) -> Training:
    return Training.model_validate({"epochs": 2, "batch_size": 50, **changes})


def test_values_are_set_by_path() -> None:
    model, changed = apply_values(Model(), training(), {"model.hidden_units": [4], "training.wide_optimizer.l1": 0.5})
    assert model.hidden_units == (4,)
    assert changed.wide_optimizer.l1 == 0.5
    assert (Model(), training()) == apply_values(Model(), training(), {})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.hidden", [4], "'model.hidden' is not a key of model or training"),
        ("push.version", 1, "'push.version' is not a key of model or training"),
        ("training.search.max_trials", 3, "'training.search.max_trials' is not a key of model or training"),
        ("model.dropout", 1.5, "model.dropout: 1.5: dropout: Input should be less than 1"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        apply_values(Model(), training(), {path: value})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 2, "high": 1}, "low: 2 is not below high: 1"),
        ({"low": 0, "high": 1, "log": True}, "a logarithmic range must start above 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "give step or log, not both"),
    ],
)
def test_a_range_that_is_none_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        Range.model_validate(values)
    assert message in str(refused.value)


def test_the_metric_is_that_of_early_stopping_unless_named(tmp_path: Path) -> None:
    features = write_source(tmp_path / "rows.gz", rows=4).features
    search = {"max_trials": 2, "parameters": PARAMETERS}
    assert choose_metric(training(search=search), features) == "log_loss"
    assert choose_metric(training(search=search, early_stopping={"metric": "auc", "patience": 1}), features) == "auc"
    assert choose_metric(training(search={**search, "metric": "auc"}), features) == "auc"


def tuner(folder: Path, search: dict[str, Any]) -> Any:
    """Return a tuner as `tuner_fn` does, without the Transform output."""
    from trainer import search as module

    source = write_source(folder / "rows.gz")
    config = training(search=search)
    return module._ConfigTuner(
        oracle=module._build_oracle(config, source.features, 3),
        train=source,
        evaluation=source,
        model=Model(),
        training=config,
        seed=3,
        folder=str(folder / "trials"),
    )


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_the_best_trial_is_that_with_the_best_score(algorithm: str, tmp_path: Path) -> None:
    heard: list[str] = []
    progress.listeners.append(heard.append)
    try:
        search = tuner(tmp_path, {"max_trials": 3, "algorithm": algorithm, "parameters": PARAMETERS})
        search.search()
    finally:
        progress.listeners.remove(heard.append)
    trials = search.oracle.get_best_trials(3)
    scores = [trial.score for trial in trials]
    assert len(scores) == 3
    assert scores == sorted(scores)
    best = parse_values(search.get_best_hyperparameters()[0].get_config())
    assert set(best) == set(PARAMETERS)
    assert best["model.hidden_units"] in ([4], [8, 4])
    assert isinstance(best["training.epochs"], int)
    ended = [line for line in heard if "best so far" in line]
    assert [line.split(":")[0] for line in ended] == [f"trial {n} of 3" for n in (1, 2, 3)]
    assert ended[-1].endswith(f"best so far {scores[0]:.4f}")


def test_a_trial_that_fails_ends_the_search_with_its_own_error(tmp_path: Path) -> None:
    search = tuner(tmp_path, {"max_trials": 3, "parameters": {"training.epochs": {"low": 2, "high": 4}}})
    search._train = SimpleNamespace(features=search._train.features)
    with pytest.raises(AttributeError, match="blocks"):
        search.search()


def test_values_for_people() -> None:
    assert format_values({"a": 0.123456, "b": [1, 2], "c": 3}) == "a 0.1235, b [1, 2], c 3"


def test_a_search_needs_two_trials() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Search.model_validate({"max_trials": 1, "parameters": PARAMETERS})
