"""What TFX's Tuner calls: searches hyper-parameters on the `eval` split with keras-tuner.

Tuner(tuner_fn="trainer.search.tuner_fn", custom_config={...as for Trainer...})
"""

import json
from typing import Any

import keras
import keras_tuner
import tensorflow_transform as tft
from tfx.components.tuner.component import TunerFnResult

from schemas.features import FeatureSet
from serving.literal_paths import literal_path
from trainer import progress
from trainer.config import HIGHER_IS_BETTER, Model, Range, Search, Training, shown_values, tuned, values_of
from trainer.input import Source, split_source
from trainer.run import fit

_SCORE = "score"


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """A tuner over `training.search`. `fn_args` is TFX's FnArgs."""
    config = fn_args.custom_config
    transform_output = tft.TFTransformOutput(literal_path(fn_args.transform_graph_path))
    features = FeatureSet.model_validate_json(config["feature_set"])
    training = Training.model_validate_json(config["training"])
    seed = int(config["seed"])
    tuner = _ConfigTuner(
        oracle=_oracle(training, features, seed),
        train=split_source(fn_args.train_files, features, transform_output),
        evaluation=split_source(fn_args.eval_files, features, transform_output),
        model=Model.model_validate_json(config["model"]),
        training=training,
        seed=seed,
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
    ) -> None:
        super().__init__(oracle=oracle, directory=folder, project_name="search", overwrite=True)
        self._train, self._evaluation = train, evaluation
        self._model, self._training, self._seed = model, training, seed
        self._metric = search_metric(training, train.features)
        self._done: list[float] = []

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """The score of one set of values."""
        values = values_of({"values": trial.hyperparameters.values})
        number = f"trial {len(self._done) + 1} of {self.oracle.max_trials}"
        progress.report(f"{number}: {shown_values(values)}")
        model, training = tuned(self._model, self._training, values)
        keras.backend.clear_session()
        _, history = fit(
            train=self._train,
            evaluation=self._evaluation,
            model=model,
            training=training,
            seed=self._seed,
            log_folder=None,
        )
        best = max if self._metric in HIGHER_IS_BETTER else min
        score = best(history.metrics[f"val_{self._metric}"])
        self._done.append(score)
        progress.report(f"{number}: {self._metric} {score:.4f}, best so far {best(self._done):.4f}")
        return {_SCORE: score}

    def load_model(self, trial: Any) -> Any:
        """Networks are not kept: Trainer fits the best one again."""
        raise NotImplementedError


def search_metric(training: Training, features: FeatureSet) -> str:
    """The metric that a search is judged by."""
    search = training.search
    assert search is not None
    return search.metric or training.watched(features.label.kind)


def _space(search: Search) -> keras_tuner.HyperParameters:
    space = keras_tuner.HyperParameters()
    for path, values in search.parameters.items():
        if not isinstance(values, Range):
            space.Choice(path, [json.dumps(value) for value in values.choices])
        elif isinstance(values.low, int) and isinstance(values.high, int):
            space.Int(path, values.low, values.high, step=values.step, sampling="log" if values.log else "linear")
        else:
            space.Float(path, values.low, values.high, step=values.step, sampling="log" if values.log else "linear")
    return space


def _oracle(training: Training, features: FeatureSet, seed: int) -> keras_tuner.Oracle:
    search = training.search
    assert search is not None
    kind = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    }[search.algorithm]
    direction = "max" if search_metric(training, features) in HIGHER_IS_BETTER else "min"
    return kind(
        objective=keras_tuner.Objective(_SCORE, direction),
        max_trials=search.trials,
        hyperparameters=_space(search),
        tune_new_entries=False,
        allow_new_entries=False,
        # A trial that fails is a mistake in the search; keras-tuner would go on without it.
        max_consecutive_failed_trials=1,
        seed=seed,
    )
