"""Module file of TFX's Tuner: searches hyper-parameters on the `eval` split with keras-tuner.

Tuner(tuner_fn="trainer.search.tuner_fn", custom_config={...as for Trainer...})
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import tensorflow_transform as tft
from tfx.components.tuner.component import TunerFnResult

from cli import progress
from cli.errors import PipelineError
from schemas.features import FeatureSet
from schemas.metrics import METRICS
from schemas.user_code import UserCode
from serving.model.literal_paths import literal_path
from trainer.config import (
    CustomConfig,
    Model,
    Range,
    Search,
    Training,
    apply_values,
    find_undefined_metrics,
    format_values,
    parse_values,
)
from trainer.input import Source, open_split, sum_class_weights
from trainer.own_columns import add_own_columns
from trainer.run import DivergenceError, check_defined, fit

_SCORE = "score"


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Return a tuner over `training.search`. `fn_args` is TFX's FnArgs.

    Raises:
      DataError: the search is judged by a metric that is undefined on eval.
    """
    config = CustomConfig.parse(fn_args.custom_config)
    transform_output = tft.TFTransformOutput(literal_path(fn_args.transform_graph_path))
    features, training = add_own_columns(config.features, transform_output), config.training
    evaluation = open_split(fn_args.eval_files, features, transform_output)
    undefined = find_undefined_metrics(features.label.kind, sum_class_weights(evaluation))
    check_defined("training.search.metric", choose_metric(training, features), undefined)
    tuner = _ConfigTuner(
        oracle=_build_oracle(training, features, config.seed),
        train=open_split(fn_args.train_files, features, transform_output),
        evaluation=evaluation,
        model=config.model,
        training=training,
        seed=config.seed,
        code=config.code,
        folder=fn_args.working_dir,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})


class _ConfigTuner(keras_tuner.Tuner):
    """Trains the pipeline's own network with each set of values, and scores it by the best epoch on `eval`."""

    def __init__(
        self,
        *,
        oracle: keras_tuner.Oracle,
        train: Source,
        evaluation: Source,
        model: Model,
        training: Training,
        seed: int,
        folder: str,
        code: UserCode | None = None,
    ) -> None:
        super().__init__(oracle=oracle, directory=folder, project_name="search", overwrite=True)
        self._train, self._evaluation = train, evaluation
        self._model, self._training, self._seed, self._code = model, training, seed, code
        self._metric = choose_metric(training, train.features)
        # None for a trial that diverged.
        self._scores: list[float | None] = []

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Run all trials; a trial that diverged has no score, any other error ends the search.

        Raises:
          PipelineError: all trials diverged.
        """
        try:
            super().search(*args, **kwargs)
        except keras_tuner.errors.FatalError as error:
            raise (error.__cause__ or error) from None
        if all(score is None for score in self._scores):
            raise PipelineError(
                f"training.search: all {len(self._scores)} trials diverged; search lower learning rates, or set "
                "training.deep_optimizer.clip_norm"
            )

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """Train with one set of values; return the score."""
        values = parse_values({"values": trial.hyperparameters.values})
        number = f"trial {len(self._scores) + 1} of {self.oracle.max_trials}"
        progress.report(f"{number}: {format_values(values)}")
        try:
            score = self._score(values)
        except DivergenceError as error:
            self._scores.append(None)
            progress.report(f"{number}: {self._metric} undefined: {error}")
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:
            # keras-tuner stores the message of any other error and continues.
            raise keras_tuner.errors.FatalError(str(error)) from error
        self._scores.append(score)
        so_far = self._best(self._scores)
        progress.report(f"{number}: {self._metric} {score:.4f}, best so far {so_far:.4f}")
        return {_SCORE: score}

    def _score(self, values: Mapping[str, Any]) -> float:
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
        )
        return self._best(history.metrics[f"val_{self._metric}"])

    def _best(self, scores: Sequence[float | None]) -> float:
        """Return the best score; undefined ones do not count."""
        best = max if METRICS[self._metric].better == "higher" else min
        return best(score for score in scores if score is not None)

    def load_model(self, trial: Any) -> Any:
        """Networks are not kept: Trainer fits the best one again."""
        raise NotImplementedError


def choose_metric(training: Training, features: FeatureSet) -> str:
    """Return the metric that a search is judged by."""
    search = training.search
    assert search is not None
    return search.metric or training.watched_metric(features.label.kind)


def _build_space(search: Search) -> keras_tuner.HyperParameters:
    space = keras_tuner.HyperParameters()
    for path, values in search.parameters.items():
        if not isinstance(values, Range):
            space.Choice(path, [json.dumps(value) for value in values.choices])
        elif isinstance(values.low, int) and isinstance(values.high, int):
            space.Int(path, values.low, values.high, step=values.step, sampling="log" if values.log else "linear")
        else:
            space.Float(path, values.low, values.high, step=values.step, sampling="log" if values.log else "linear")
    return space


def _build_oracle(training: Training, features: FeatureSet, seed: int) -> keras_tuner.Oracle:
    search = training.search
    assert search is not None
    kind = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    }[search.algorithm]
    direction = "max" if METRICS[choose_metric(training, features)].better == "higher" else "min"
    return kind(
        objective=keras_tuner.Objective(_SCORE, direction),
        max_trials=search.max_trials,
        hyperparameters=_build_space(search),
        tune_new_entries=False,
        allow_new_entries=False,
        # All may diverge; `_ConfigTuner.search` reports that.
        max_consecutive_failed_trials=search.max_trials + 1,
        seed=seed,
    )
