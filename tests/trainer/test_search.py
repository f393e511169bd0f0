from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli import progress
from cli.errors import PipelineError
from pipeline.config import pipeline_config
from schemas.features import LabelKind, RegressionLabel
from tests.conftest import CENSUS_CONFIG
from tests.trainer.test_model import write_source
from trainer.config import Model, Range, Search, Training, apply_values, format_values, parse_values
from trainer.search import choose_metric
from trainer.search_space import choose_space

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


# Built and traced in less time than the default.
SMALL = Model(architecture="deep", normalization="none", hidden_units=(6,))


def tuner(folder: Path, search: dict[str, Any], seed: int = 3, model: Model = SMALL, **changes: Any) -> Any:
    """Return a tuner as `tuner_fn` does, without the Transform output."""
    from trainer import search as module

    source = write_source(folder / "rows.gz")
    return module._ConfigTuner(
        train=source,
        evaluation=source,
        model=model,
        training=training(search=search, **changes),
        seed=seed,
        folder=str(folder / "trials"),
    )


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    progress.listeners.append(listener)
    try:
        yield
    finally:
        progress.listeners.remove(listener)


def test_the_best_trial_is_that_with_the_best_score(tmp_path: Path) -> None:
    trials = 6
    heard: list[str] = []
    search = tuner(tmp_path, {"max_trials": trials, "algorithm": "bayesian", "parameters": PARAMETERS})
    with listening(heard.append):
        search.search()
    scores = [trial.score for trial in search.oracle.get_best_trials(trials)]
    assert len(scores) == trials
    assert scores == sorted(scores)
    best = parse_values(search.get_best_hyperparameters()[0].get_config())
    assert set(best) == set(PARAMETERS)
    assert best["model.hidden_units"] in ([4], [8, 4])
    assert isinstance(best["training.epochs"], int)
    ended = [line for line in heard if "best so far" in line]
    assert [line.split(":")[0] for line in ended] == [f"trial {n + 1} of {trials} at most" for n in range(trials)]
    assert ended[-1].endswith(f"best so far {scores[0]:.4f}")


def test_hyperband_trains_the_best_of_short_trials_for_longer(tmp_path: Path) -> None:
    rate = "training.deep_optimizer.learning_rate"
    declared = {"max_trials": 4, "algorithm": "hyperband", "parameters": {rate: PARAMETERS[rate]}}
    search = tuner(tmp_path, declared, epochs=3)
    heard: list[str] = []
    with listening(heard.append):
        search.search()
    started = [line for line in heard if ": training." in line]
    assert [line.split("training.epochs ")[1] for line in started] == ["1", "1", "1", "3"]
    trials = [*search.oracle.trials.values()]
    values = [parse_values({"values": trial.hyperparameters.values}) for trial in trials]
    assert [{*of_trial} for of_trial in values] == [{rate}] * 4
    assert values[0][rate] == training().deep_optimizer.learning_rate
    assert values[3] == min(zip(trials[:3], values, strict=False), key=lambda pair: pair[0].score)[1]


def test_hyperband_refuses_a_range_of_epochs() -> None:
    with pytest.raises(ValueError, match="hyperband chooses training.epochs itself; remove it, or use another"):
        Search.model_validate({"algorithm": "hyperband", "parameters": PARAMETERS})


def test_a_seed_gives_the_same_trials_and_the_first_is_the_config_itself(tmp_path: Path) -> None:
    values = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        oracle = tuner(tmp_path / name, {}, seed=0, model=Model()).oracle
        trials = [oracle.create_trial(worker) for worker in ("a", "b", "c")]
        values.append([parse_values({"values": trial.hyperparameters.values}) for trial in trials])
    assert values[0] == values[1]
    first, second, third = values[0]
    assert first != second != third
    assert first["model.hidden_units"] == [128, 64]
    assert (first["model.dropout"], first["training.deep_optimizer.learning_rate"]) == (0.0, 0.002)
    # All of them are the values of a config that names none.
    assert apply_values(Model(), training(), first) == (Model(), training())


def test_values_outside_of_the_space_are_no_first_trial(tmp_path: Path) -> None:
    for parameters in ({"model.hidden_units": {"choices": [[4], [8]]}}, {"training.epochs": {"low": 3, "high": 4}}):
        assert tuner(tmp_path, {"max_trials": 2, "parameters": parameters}).oracle.start is None


def test_a_budget_that_ends_within_a_trial_keeps_the_best_before(tmp_path: Path) -> None:
    search = tuner(tmp_path, {"max_trials": 9, "minutes": 60, "algorithm": "random", "parameters": PARAMETERS})
    heard: list[str] = []

    def end_with_the_third(line: str) -> None:
        heard.append(line)
        if line.startswith("trial 3 of 9 at most: model.hidden_units"):
            search._deadline._end = 0.0

    with listening(end_with_the_third):
        search.search()
    scores = [trial.score for trial in search.oracle.trials.values()]
    assert (len(scores), scores[2]) == (3, None)
    assert heard[-2:] == [
        "trial 3 of 9 at most: stopped, as the budget is over",
        f"the budget of 60 min is over after 2 trials: log_loss {min(scores[:2]):.4f} is the best",
    ]
    assert search.oracle.get_best_trials()[0].score == min(scores[:2])


def test_a_budget_in_which_no_trial_finishes_is_an_error(tmp_path: Path) -> None:
    search = tuner(tmp_path, {"minutes": 1e-9})
    with pytest.raises(PipelineError) as stopped:
        search.search()
    assert str(stopped.value) == (
        "training.search.minutes: no trial finished in 1e-09 min; raise it, or lower training.epochs"
    )


def space(kind: LabelKind, model: Model, config: Training, *, is_own: bool = False) -> Any:
    features = pipeline_config.load(CENSUS_CONFIG).feature_set
    label = {"binary": features.label, "regression": RegressionLabel(kind="regression", column="income")}
    features = features.model_copy(update={"label": label[kind]})
    return choose_space(Search(), features, model, config, is_own=is_own)


def test_the_default_space_follows_the_label_and_the_network() -> None:
    binary, regression = (set(space(kind, Model(), training())) for kind in ("binary", "regression"))
    assert binary - regression == {"training.label_smoothing"}
    assert regression - binary == {"model.label_scale"}
    assert {"model.members", "model.number_encoding", "model.dropout", "training.ema_momentum"} < binary & regression
    assert set(space("binary", Model(architecture="wide"), training())) == {
        "training.wide_optimizer.learning_rate",
        "training.ema_momentum",
        "training.label_smoothing",
    }
    assert "training.wide_optimizer.learning_rate" not in space("binary", Model(architecture="deep"), training())
    assert not any(path.startswith("model.") for path in space("binary", Model(), training(), is_own=True))


def test_a_warm_start_keeps_the_shape_of_the_network() -> None:
    searched = space("regression", Model(), training(warm_start=True))
    assert [path for path in searched if path.startswith("model.")] == [
        *("model.dropout", "model.embedding_dropout", "model.squash")
    ]


def test_the_default_space_includes_the_values_of_the_config() -> None:
    model = Model(hidden_units=(5,), dropout=0.7, members=3)
    searched = space("binary", model, training(deep_optimizer={"name": "adam", "learning_rate": 0.1}))
    assert searched["model.hidden_units"].choices[0] == [5]
    assert searched["model.members"].choices == (3, 1, 8)
    assert searched["model.dropout"] == Range(low=0.0, high=0.7)
    assert searched["training.deep_optimizer.learning_rate"] == Range(low=0.0003, high=0.1, log=True)


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
