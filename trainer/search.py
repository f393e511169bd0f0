"""Module file of TFX's Tuner: searches hyper-parameters on the `eval` split with keras-tuner.

Tuner(tuner_fn="trainer.search.tuner_fn", custom_config={...as for Trainer...})
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import keras_tuner
import tensorflow_transform as tft
from keras_tuner.engine import hyperparameters
from keras_tuner.engine.trial import TrialStatus
from tfx.components.tuner.component import TunerFnResult

from cli import progress
from cli.counts import format_count
from cli.errors import PipelineError
from schemas.features import FeatureSet
from schemas.metrics import METRICS
from schemas.user_code import UserCode
from serving.model.literal_paths import make_literal_path
from trainer.config import (
    EPOCHS,
    Choices,
    CustomConfig,
    Model,
    Range,
    Training,
    apply_values,
    find_undefined_metrics,
    format_values,
    parse_values,
)
from trainer.health import DivergenceError
from trainer.input import Source, open_split, sum_class_weights
from trainer.own_columns import add_own_columns
from trainer.run import check_defined, fit
from trainer.search_space import Space, choose_space, get_value

_SCORE = "score"
# Random trials before the Gaussian process chooses: so many more than parameters. keras-tuner's own three times as
# many as parameters would be all that a budget of minutes has.
_FURTHER_INITIAL_POINTS = 2
# Number of epochs that keras-tuner's Hyperband adds to the values of a trial.
_HYPERBAND_EPOCHS = "tuner/epochs"


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Return a tuner over `training.search`. `fn_args` is TFX's FnArgs.

    Raises:
      DataError: the search is judged by a metric that is undefined on eval.
    """
    config = CustomConfig.parse(fn_args.custom_config)
    transform_output = tft.TFTransformOutput(make_literal_path(fn_args.transform_graph_path))
    features, training = add_own_columns(config.features, transform_output), config.training
    evaluation = open_split(fn_args.eval_files, features, transform_output)
    undefined = find_undefined_metrics(features.label.kind, sum_class_weights(evaluation))
    check_defined("training.search.metric", choose_metric(training, features), undefined)
    tuner = _ConfigTuner(
        train=open_split(fn_args.train_files, features, transform_output),
        evaluation=evaluation,
        model=config.model,
        training=training,
        seed=config.seed,
        code=config.code,
        folder=fn_args.working_dir,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})


class _OutOfTimeError(Exception):
    """The budget ended within a trial."""


class _Deadline(keras.callbacks.Callback):
    """Stops a trial at the end of the budget.

    Args:
      minutes: Budget, which begins now; None without one.
    """

    def __init__(self, minutes: float | None) -> None:
        super().__init__()
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def is_over(self) -> bool:
        return self._end is not None and time.monotonic() > self._end

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Stop if the time is over."""
        if self.is_over:
            raise _OutOfTimeError


class _Plan(keras_tuner.Oracle):
    """Begins with the values of the config, and ends with the budget; a base of keras-tuner's oracles.

    Attributes:
      start: Values of the first trial; None if they are not in the space.
      deadline: End of the budget.
    """

    start: Mapping[str, Any] | None
    deadline: _Deadline

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of the next trial, as keras-tuner asks for them."""
        if self.deadline.is_over:
            return {"status": TrialStatus.STOPPED}
        response: dict[str, Any] = super().populate_space(trial_id)
        return response

    def _random_values(self) -> dict[str, Any] | None:
        """Return the values of a trial that does not depend on others; all searches start with some."""
        if not self.trials and self.start is not None:
            return dict(self.start)
        values: dict[str, Any] | None = super()._random_values()
        return values


class _RandomOracle(_Plan, keras_tuner.oracles.RandomSearchOracle):
    pass


class _BayesianOracle(_Plan, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _HyperbandOracle(_Plan, keras_tuner.oracles.HyperbandOracle):
    """Starts rounds until the search ends; keras-tuner itself has no number of trials here."""

    def __init__(self, *, max_trials: int, **arguments: Any) -> None:
        super().__init__(hyperband_iterations=None, **arguments)
        self.max_trials = max_trials


class _ConfigTuner(keras_tuner.Tuner):
    """Trains the pipeline's own network with each set of values, and scores it by the best epoch on `eval`."""

    def __init__(
        self,
        *,
        train: Source,
        evaluation: Source,
        model: Model,
        training: Training,
        seed: int,
        folder: str,
        code: UserCode | None = None,
    ) -> None:
        assert training.search is not None
        self._minutes = training.search.minutes
        self._deadline = _Deadline(self._minutes)
        space = choose_space(training.search, train.features, model, training, is_own=code is not None)
        oracle = _build_oracle(space, training, train.features, seed)
        oracle.start = _find_start(oracle.hyperparameters, model, training)
        oracle.deadline = self._deadline
        super().__init__(oracle=oracle, directory=folder, project_name="search", overwrite=True)
        self._train, self._evaluation = train, evaluation
        self._model, self._training, self._seed, self._code = model, training, seed, code
        self._metric = choose_metric(training, train.features)
        # None for a trial that diverged.
        self._scores: list[float | None] = []

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Run trials until their number or the budget is reached.

        A trial that diverged has no score, any other error ends the search.

        Raises:
          PipelineError: no trial finished in the budget, or all diverged.
        """
        try:
            super().search(*args, **kwargs)
        except keras_tuner.errors.FatalError as error:
            raise (error.__cause__ or error) from None
        if not self._scores:
            raise PipelineError(
                f"training.search.minutes: no trial finished in {self._minutes:g} min; raise it, or lower "
                "training.epochs"
            )
        if all(score is None for score in self._scores):
            raise PipelineError(
                f"training.search: all {len(self._scores)} trials diverged; search lower learning rates, or set "
                "training.deep_optimizer.clip_norm"
            )
        if self._deadline.is_over:
            progress.report(
                f"the budget of {self._minutes:g} min is over after {format_count(len(self._scores), 'trial')}: "
                f"{self._metric} {self._find_best(self._scores):.4f} is the best"
            )

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """Train with one set of values; return the score."""
        values = parse_values({"values": trial.hyperparameters.values})
        if _HYPERBAND_EPOCHS in trial.hyperparameters.values:
            values[EPOCHS] = trial.hyperparameters.values[_HYPERBAND_EPOCHS]
        number = f"trial {len(self._scores) + 1} of {self.oracle.max_trials} at most"
        progress.report(f"{number}: {format_values(values)}")
        try:
            score = self._compute_score(values)
        except _OutOfTimeError as error:
            progress.report(f"{number}: stopped, as the budget is over")
            raise keras_tuner.errors.FailedTrialError("the budget is over") from error
        except DivergenceError as error:
            self._scores.append(None)
            progress.report(f"{number}: {self._metric} undefined: {error}")
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:
            # keras-tuner stores the message of any other error and continues.
            raise keras_tuner.errors.FatalError(str(error)) from error
        self._scores.append(score)
        so_far = self._find_best(self._scores)
        progress.report(f"{number}: {self._metric} {score:.4f}, best so far {so_far:.4f}")
        return {_SCORE: score}

    def _compute_score(self, values: Mapping[str, Any]) -> float:
        model, training = apply_values(self._model, self._training, values)
        keras.backend.clear_session()
        _, history = fit(
            train=self._train,
            evaluation=self._evaluation,
            model=model,
            training=training,
            seed=self._seed,
            log_folder=None,
            code=self._code,
            callbacks=[self._deadline],
        )
        return self._find_best(history.metrics[f"val_{self._metric}"])

    def _find_best(self, scores: Sequence[float | None]) -> float:
        """Return the best score; undefined ones do not count."""
        best = max if METRICS[self._metric].better == "higher" else min
        return best(score for score in scores if score is not None)

    def load_model(self, trial: Any) -> Any:
        """Raise: networks are not kept, and Trainer fits the best one again."""
        raise NotImplementedError


def choose_metric(training: Training, features: FeatureSet) -> str:
    """Return the metric that a search is judged by."""
    search = training.search
    assert search is not None
    return search.metric or training.choose_watched_metric(features.label.kind)


def _build_oracle(space: Space, training: Training, features: FeatureSet, seed: int) -> Any:
    search = training.search
    assert search is not None
    kinds: dict[str, Callable[..., Any]] = {
        "random": _RandomOracle,
        "bayesian": partial(_BayesianOracle, num_initial_points=len(space) + _FURTHER_INITIAL_POINTS),
        "hyperband": partial(_HyperbandOracle, max_epochs=training.epochs),
    }
    direction = "max" if METRICS[choose_metric(training, features)].better == "higher" else "min"
    return kinds[search.algorithm](
        objective=keras_tuner.Objective(_SCORE, direction),
        max_trials=search.max_trials,
        hyperparameters=_build_hyperparameters(space),
        tune_new_entries=False,
        allow_new_entries=False,
        # All may diverge; `_ConfigTuner.search` reports that.
        max_consecutive_failed_trials=search.max_trials + 1,
        # keras-tuner takes 0 for no seed.
        seed=seed + 1,
    )


def _build_hyperparameters(space: Space) -> keras_tuner.HyperParameters:
    parameters = keras_tuner.HyperParameters()
    for path, values in space.items():
        match values:
            case Choices(choices=choices):
                parameters.Choice(path, [json.dumps(value) for value in choices])
            case Range(low=int(low), high=int(high)):
                parameters.Int(path, low, high, step=values.step, sampling="log" if values.log else "linear")
            case Range(low=low, high=high):
                parameters.Float(path, low, high, step=values.step, sampling="log" if values.log else "linear")
    return parameters


def _find_start(space: keras_tuner.HyperParameters, model: Model, training: Training) -> dict[str, Any] | None:
    """Return the config's own values, as keras-tuner has them; None if one is not in the space."""
    start: dict[str, Any] = {}
    for parameter in space.space:
        value = get_value(parameter.name, model, training)
        if isinstance(parameter, hyperparameters.Choice):
            equal = [choice for choice in parameter.values if json.loads(choice) == value]
            if not equal:
                return None
            start[parameter.name] = equal[0]
        elif value is None or not parameter.min_value <= value <= parameter.max_value:
            return None
        else:
            start[parameter.name] = value
    return start
