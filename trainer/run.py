"""Module file of TFX's Trainer: fits the network to the transformed `train` split and exports the served model.

Trainer(run_fn="trainer.run.run_fn", custom_config={"feature_set": ..., "model": ..., "training": ..., "seed": ...})
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api as hp
from tensorflow_metadata.proto.v0 import schema_pb2

from cli import progress
from cli.errors import DataError
from schemas.curated.schema_file import hash_schema
from schemas.features import FeatureSet, LabelKind
from schemas.metrics import METRICS
from schemas.user_code import UserCode
from serving.model.literal_paths import make_literal_path
from serving.model.served_model import ServedModel, TransformGraph
from trainer import devices, distribution
from trainer.config import (
    CustomConfig,
    Model,
    Precision,
    Training,
    apply_values,
    find_undefined_metrics,
    parse_values,
)
from trainer.decision import fit_threshold
from trainer.health import DivergenceError, StopAtNonFinite, describe_non_finite, name_remedy
from trainer.input import Source, TrainingRows, open_split, read_evaluation_rows, read_training_rows
from trainer.layers import PiecewiseLinear
from trainer.model import (
    ACTIVATION_PREFIX,
    WIDE_PREFIX,
    WideAndDeep,
    build_eval_metrics,
    build_model,
    compile_model,
    find_layers,
    set_calibration,
)
from trainer.normalization import PopulationStatistics
from trainer.outputs import choose_temperature, compute_mean_factor
from trainer.own_columns import add_own_columns
from trainer.own_model import build_own_outputs
from trainer.warm_start import WarmStart, name_weights

# Beside TensorBoard's logs, in the ModelRun artifact.
HISTORY_FILE = "history.json"


@dataclass(frozen=True)
class FitHistory:
    """Metrics of a fit.

    Attributes:
      metrics: values of each epoch, by Keras's names; `val_` is the eval split. None is undefined.
      kept_epoch: the epoch whose weights the network has, from 0.
    """

    metrics: Mapping[str, list[float | None]]
    kept_epoch: int


def run_fn(fn_args: Any) -> None:
    """Train and export. `fn_args` is TFX's FnArgs."""
    config = CustomConfig.parse(fn_args.custom_config)
    transform_output = tft.TFTransformOutput(make_literal_path(fn_args.transform_output))
    features = add_own_columns(config.features, transform_output)
    model, training = apply_values(
        config.model,
        config.training,
        parse_values(fn_args.hyperparameters) if fn_args.hyperparameters else {},
    )
    start = WarmStart(fn_args.base_model, features, transform_output) if fn_args.base_model else None
    evaluation = open_split(fn_args.eval_files, features, transform_output)
    network, history = fit(
        train=open_split(fn_args.train_files, features, transform_output),
        evaluation=evaluation,
        model=model,
        training=training,
        seed=config.seed,
        log_folder=fn_args.model_run_dir if distribution.is_chief() else None,
        warm_start=start,
        code=config.code,
    )
    if distribution.is_chief():
        with tf.io.gfile.GFile(os.path.join(fn_args.model_run_dir, HISTORY_FILE), "w") as file:
            file.write(json.dumps(asdict(history), allow_nan=False))
    with tf.io.gfile.GFile(fn_args.schema_path) as file:
        schema = text_format.Parse(file.read(), schema_pb2.Schema())
    served = ServedModel(
        network,
        name_weights(network),
        TransformGraph(transform_output),
        features,
        hash_schema(schema),
        config.read_options,
        fit_threshold(network, evaluation, config.costs, training),
    )
    served.export(distribution.choose_write_folder(fn_args.serving_model_dir))
    distribution.wait_for_model(fn_args.serving_model_dir)


def fit(
    *,
    train: Source,
    evaluation: Source,
    model: Model,
    training: Training,
    seed: int,
    log_folder: str | None,
    warm_start: WarmStart | None = None,
    code: UserCode | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[WideAndDeep, FitHistory]:
    """Fit a network; a seed makes it repeatable up to the order of floating-point sums.

    Returns:
      The network (with the best epoch's weights under early stopping), and its metrics.

    Raises:
      DataError: a split has no row or a value that is not finite, or early stopping watches a metric that is
        undefined on eval.
      DivergenceError: a loss or a gradient is not finite, or no epoch that could be kept has finite predictions.
    """
    keras.utils.set_random_seed(seed)
    # First, since several machines have to connect before anything else is computed.
    strategy = distribution.build_strategy(training)
    training, precision = devices.adapt_to_device(training)
    label = train.features.label.kind
    with tempfile.TemporaryDirectory(prefix="trainer-") as cache_folder:
        rows = read_training_rows(train, training, seed=seed, cache_folder=cache_folder)
        eval_rows = read_evaluation_rows(evaluation, cache_folder=cache_folder)
        undefined = find_undefined_metrics(label, eval_rows.class_weights)
        if training.early_stopping is not None:
            check_defined("training.early_stopping.metric", training.choose_watched_metric(label), undefined)
        for metric, reason in undefined.items():
            progress.report(f"{metric} is {reason}")
        validation = ValidationMetrics(eval_rows.batches, build_eval_metrics(label), undefined)
        build_outputs = None if code is None else partial(build_own_outputs, code, train.features, model)
        build = partial(build_model, train.features, model, labels=rows.labels, build_outputs=build_outputs)
        return _fit_rows(
            strategy, rows, validation, train.features, build, training, precision, log_folder, warm_start, callbacks
        )


def check_defined(key: str, metric: str, undefined: Mapping[str, str]) -> None:
    """Check that a metric can decide.

    Args:
      key: place in the config that names the metric.
      metric: its name.
      undefined: from `find_undefined_metrics`.

    Raises:
      DataError: the metric is undefined.
    """
    if metric in undefined:
        raise DataError(
            f"{key}: {metric} is {undefined[metric]}; give eval rows of both classes (data.splits.eval), or choose "
            "log_loss"
        )


def _fit_rows(
    strategy: Any,
    rows: TrainingRows,
    validation: "ValidationMetrics",
    features: FeatureSet,
    build: Callable[..., WideAndDeep],
    training: Training,
    precision: Precision,
    log_folder: str | None,
    warm_start: WarmStart | None,
    further_callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[WideAndDeep, FitHistory]:
    label = features.label.kind
    with strategy.scope():
        network = build(precision=precision)
        for layer in find_layers(network, PiecewiseLinear):
            layer.set_edges(rows.numbers)
        if warm_start is not None:
            warm_start.restore(network)
            # The weights include the calibration of the last training.
            set_calibration(network, 1.0)
            progress.report(f"starts from the weights of {warm_start.path}")
        compile_model(
            network,
            training,
            label,
            steps=rows.steps_per_epoch * training.epochs,
            steps_together=rows.steps_together,
        )
    callbacks: list[keras.callbacks.Callback] = [
        StopAtNonFinite(network.health, features, training, rows.steps_per_epoch, rows.read_batch, WIDE_PREFIX),
        # Before the others, which measure the weights and the statistics that are served.
        *([AveragedWeights()] if training.ema_momentum else []),
        PopulationStatistics(rows.sample),
        validation,
        _ReportProgress(training.epochs, validation),
        *further_callbacks,
    ]
    if log_folder is not None:
        callbacks += [
            DeadActivations(log_folder, validation.batches),
            # Behind Validation, whose values it writes to validation/ under the tags of train/.
            TensorBoardLogs(log_folder, training, validation.batches),
        ]
    stopping = _build_early_stopping(training, label)
    if stopping is not None:
        callbacks.append(stopping)
    fit_history = network.fit(
        distribution.shard_rows(rows.batches),
        epochs=training.epochs,
        steps_per_epoch=rows.steps_per_epoch,
        callbacks=callbacks,
        verbose=0,
        # The data set shuffles itself.
        shuffle=False,
    )
    kept_epoch = stopping.best_epoch if stopping is not None else fit_history.epoch[-1]
    if validation.history[kept_epoch][training.choose_watched_metric(label)] is None:
        place = f"predictions on eval after epoch {kept_epoch + 1} are not finite"
        cause = next(filter(None, (describe_non_finite(features, batch) for batch in validation.batches)), None)
        if cause is not None:
            raise DataError(f"{place}: {cause}")
        raise DivergenceError(f"the training diverged: {place}; {name_remedy(training)}")
    if precision != "float32":
        trained, network = network, build()
        network.set_weights(trained.get_weights())
        # In the precision that is served.
        statistics = PopulationStatistics(rows.sample)
        statistics.set_model(network)
        statistics.update()
    if training.calibration == "temperature":
        calibrate(network, validation.batches)
    elif training.calibration == "mean":
        calibrate_mean(network, rows, validation)
    if training.calibration != "none":
        # The reported metrics are those of the network that is served.
        validation.history[kept_epoch] = validation.measure(network)
    return network, _build_history(fit_history.history["loss"], validation, kept_epoch)


def _build_history(losses: Sequence[float], validation: "ValidationMetrics", kept_epoch: int) -> FitHistory:
    metrics: dict[str, list[float | None]] = {"loss": [_replace_non_finite(loss) for loss in losses]}
    for name in validation.history[0]:
        metrics[f"val_{name}"] = [measured[name] for measured in validation.history]
    return FitHistory(metrics, kept_epoch)


def _replace_non_finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _build_early_stopping(training: Training, label: LabelKind) -> "_EarlyStopping | None":
    if training.early_stopping is None:
        return None
    metric = training.choose_watched_metric(label)
    return _EarlyStopping(
        monitor=f"val_{metric}",
        mode="max" if METRICS[metric].better == "higher" else "min",
        patience=training.early_stopping.patience,
        restore_best_weights=True,
    )


class _EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's early stopping, without epochs whose metric is undefined: Keras would take NaN for the best value."""

    def get_monitor_value(self, logs: Mapping[str, float] | None) -> float | None:
        """Return the watched metric, or None to skip the epoch."""
        return (logs or {}).get(self.monitor)


class AveragedWeights(keras.callbacks.Callback):
    """Evaluates, keeps and returns the moving averages of the weights; each epoch trains on with the weights."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Continue with the weights of the last step."""
        if epoch:
            self.model.swap_averages()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Use the averages."""
        self.model.swap_averages()


def calibrate(network: WideAndDeep, batches: tf.data.Dataset) -> None:
    """Set the temperature that is the likeliest by the eval split.

    Args:
      network: a trained network of classes.
      batches: the eval split, (inputs, label [batch, 1], weight [batch, 1]).
    """
    parts = [
        (network(inputs, training=False).numpy(), label.numpy()[:, 0], weight.numpy()[:, 0])
        for inputs, label, weight in batches
    ]
    temperature, before, after = choose_temperature(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    set_calibration(network, temperature)
    progress.report(f"temperature {temperature:.3f}: log loss on eval {after:.4f}, without it {before:.4f}")


def calibrate_mean(network: WideAndDeep, rows: TrainingRows, validation: "ValidationMetrics") -> None:
    """Set the factor that gives the predictions the mean of the labels, if the error on eval is not larger with it.

    Both means are weighted.

    Args:
      network: a trained network of a regression.
      rows: the train split, of which the sample is predicted.
      validation: measures the eval split.
    """
    predictions = np.concatenate([network(inputs, training=False).numpy()[:, 0] for inputs, _ in rows.sample])
    factor = compute_mean_factor(rows.sample_labels, predictions, rows.sample_weights)
    before = validation.measure(network)["rmse"]
    set_calibration(network, factor)
    after = validation.measure(network)["rmse"]
    is_better = before is None or (after is not None and after <= before)
    if not is_better:
        set_calibration(network, 1.0)
    used = "used" if is_better else "not used"
    progress.report(
        f"factor {factor:.4g} gives predictions the mean of the labels of train; {used}: "
        f"RMSE on eval {after or math.nan:.4g}, without it {before or math.nan:.4g}"
    )


class ValidationMetrics(keras.callbacks.Callback):
    """Measures the network on the eval split after each epoch, and adds the metrics to `logs` as Keras does.

    Outside any strategy: each of several processes measures all rows, so that all stop at the same epoch. Keras's AUC
    is wrong when replicas share it. If a prediction is not finite, all metrics are undefined, and training stops.

    Args:
      batches: the eval split, (inputs, label [batch, 1], weight [batch, 1]).
      metrics: metrics to measure.
      undefined: names of those that are undefined on the split.

    Attributes:
      batches: the eval split.
      history: metrics by name, of each epoch; None is undefined.
    """

    def __init__(
        self, batches: tf.data.Dataset, metrics: list[keras.metrics.Metric], undefined: Container[str] = ()
    ) -> None:
        super().__init__()
        self.batches = batches
        self.history: list[dict[str, float | None]] = []
        self._names = [metric.name for metric in metrics]
        self._metrics = [metric for metric in metrics if metric.name not in undefined]

    # AutoGraph, which rewrites functions with control flow, takes longer than the tracing does.
    @tf.function(autograph=False)
    def _update(
        self, network: keras.Model, inputs: Mapping[str, tf.Tensor], label: tf.Tensor, weight: tf.Tensor
    ) -> tf.Tensor:
        """Add a batch to the metrics; return whether its predictions are finite."""
        logit = network(inputs, training=False)
        finite = tf.math.is_finite(logit)
        for metric in self._metrics:
            # Keras's AUC ends in an assertion where a prediction is NaN.
            metric.update_state(label, tf.where(finite, logit, 0.0), sample_weight=weight)
        return tf.reduce_all(finite)

    def measure(self, network: keras.Model) -> dict[str, float | None]:
        """Return the metrics of a network as it is now; all are None if a prediction is not finite."""
        for metric in self._metrics:
            metric.reset_state()
        is_finite = all(bool(self._update(network, *batch)) for batch in self.batches)
        measured = {m.name: _replace_non_finite(float(m.result())) for m in self._metrics} if is_finite else {}
        return {name: measured.get(name) for name in self._names}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure, and add what is defined to `logs`."""
        self.history.append(self.measure(self.model))
        # The losses of a split with rows are defined.
        if all(value is None for value in self.history[-1].values()):
            progress.report(f"epoch {epoch + 1}: predictions on eval are not finite; training stops")
            self.model.stop_training = True
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in self.history[-1].items() if value is not None})


class _ReportProgress(keras.callbacks.Callback):
    """One line an epoch; Keras's own progress bar would fill a log file."""

    def __init__(self, epochs: int, validation: ValidationMetrics) -> None:
        super().__init__()
        self._epochs = epochs
        self._validation = validation

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report the loss, and what was measured on eval."""
        values = {"loss": _replace_non_finite((logs or {})["loss"])}
        values |= {f"val_{name}": value for name, value in self._validation.history[-1].items()}
        text = ", ".join(f"{name} {'undefined' if value is None else f'{value:.4g}'}" for name, value in values.items())
        progress.report(f"epoch {epoch + 1} of {self._epochs}: {text}")


class TensorBoardLogs(keras.callbacks.TensorBoard):
    """Writes TensorBoard's logs: losses of train and eval in one chart, the graph, histograms of the weights, and the
    hyper-parameters.

    Args:
      log_folder: folder of the logs.
      training: section of the config, whose values are the hyper-parameters.
      batches: the eval split, (inputs, label [batch, 1], weight [batch, 1]).
    """

    def __init__(self, log_folder: str, training: Training, batches: tf.data.Dataset) -> None:
        super().__init__(log_folder, write_graph=False, update_freq="epoch")
        self._training = training
        self._batches = batches

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Write the graph and the hyper-parameters."""
        super().on_train_begin(logs)
        inputs, *_ = next(iter(self._batches))
        predict = tf.function(lambda values: self.model(values, training=False), autograph=False)
        with self._train_writer.as_default():
            tf.summary.graph(predict.get_concrete_function(inputs).graph)
            hp.hparams(flatten_values(self._training.model_dump(mode="json")), trial_id=os.path.basename(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the values of an epoch; the loss on eval is under the tag of the loss of train."""
        parts = [(float(self.model.compute_eval_loss(*batch)), len(batch[1])) for batch in self._batches]
        loss = sum(value * rows for value, rows in parts) / sum(rows for _, rows in parts)
        super().on_epoch_end(epoch, {**(logs or {}), "val_loss": loss})
        self._write_weights(epoch)

    def _write_weights(self, epoch: int) -> None:
        """Write histograms by NumPy: Keras's own, of thirty operations for each weight, take a tenth of a short run."""
        with self._train_writer.as_default():
            for layer in self.model.layers:
                for weight in layer.weights:
                    summary = histogram_pb(f"{weight.path}/histogram", keras.ops.convert_to_numpy(weight))
                    tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=epoch)
            self._train_writer.flush()


def flatten_values(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their dotted paths, as TensorBoard's hyper-parameters."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten_values(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value if isinstance(value, int | float | str) else json.dumps(value)
    return flat


class DeadActivations(keras.callbacks.Callback):
    """Writes to TensorBoard, for each ReLU layer, the share of units that are zero for every row of a sample.

    A unit that is never active gets no gradient and cannot come back: a large share means that the learning rate is
    too high or the layer too wide.
    """

    def __init__(self, log_folder: str, batches: tf.data.Dataset) -> None:
        super().__init__()
        self._log_folder = log_folder
        self._batches = batches

    def set_model(self, model: WideAndDeep) -> None:
        super().set_model(model)
        layers = [layer for layer in model.layers if layer.name.startswith(ACTIVATION_PREFIX)]
        self._names = [layer.name for layer in layers if getattr(layer, "activation", None) is keras.activations.relu]
        outputs = [model.get_layer(name).output for name in self._names]
        self._activations = keras.Model(model.input, outputs) if outputs else None
        self._writer = tf.summary.create_file_writer(os.path.join(self._log_folder, "validation"))

    def compute_shares(self) -> dict[str, float]:
        """Return the share of dead units by layer name."""
        if self._activations is None:
            return {}
        inputs, *_ = next(iter(self._batches))
        outputs = self._activations(inputs, training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        dead = [tf.reduce_mean(tf.cast(tf.reduce_all(o == 0, axis=0), tf.float32)) for o in outputs]
        return {name: float(share) for name, share in zip(self._names, dead, strict=True)}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        with self._writer.as_default():
            for name, share in self.compute_shares().items():
                tf.summary.scalar(f"dead_activations/{name}", share, step=epoch)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._writer.close()
