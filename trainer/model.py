"""The wide-and-deep network (Cheng et al. 2016, https://arxiv.org/abs/1606.07792) and its joint training step.

The wide part is one weight for each id and a slope for each number; the deep part is a multilayer perceptron over
embeddings and numbers. Both add up to the logits (one, or one for each of several classes; for regression the
predicted number itself) and are trained together, each by its own optimizer.
"""

import itertools
from collections.abc import Sequence
from typing import Any, assert_never

import keras
import tensorflow as tf

from schemas.features import Embedding, FeatureSet, LabelKind, RegressionLabel
from serving.network_inputs import IDS, NUMBERS
from trainer.config import Model, Precision, Training
from trainer.normalization import normalization_layer
from trainer.optimizers import build_optimizer

WIDE_PREFIX = "wide_"
ACTIVATION_PREFIX = "activation_"


@keras.saving.register_keras_serializable("trainer")
class IdTable(keras.layers.Layer):
    """One table of vectors for several id columns, each with rows of its own.

    A table for each column would be the same mathematics; one table makes a lookup, and an optimizer's update, one
    operation instead of dozens, which halves the time of a step.
    """

    def __init__(
        self,
        columns: Sequence[int],
        num_ids: Sequence[int],
        dimension: int,
        initializer: str,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Args:
        columns: places of the columns in the input.
        num_ids: number of IDs of each column.
        dimension: length of a vector.
        initializer: initial values.
        l2: penalty.
        **kwargs: Keras's arguments.
        """
        super().__init__(**kwargs)
        self.columns = tuple(columns)
        self.num_ids = tuple(num_ids)
        self.dimension = dimension
        self.initializer = initializer
        self.l2 = l2

    def build(self, input_shape: Any) -> None:
        self.table = self.add_weight(
            shape=(sum(self.num_ids), self.dimension),
            initializer=self.initializer,
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="table",
        )

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Look up IDs: int64 of shape [batch, all columns] gives float32 of shape [batch, n, dimension]."""
        return tf.gather(self.table, _places(ids, self.columns, self.num_ids))

    def get_config(self) -> dict[str, Any]:
        own = {"columns": self.columns, "num_ids": self.num_ids, "dimension": self.dimension}
        return {**super().get_config(), **own, "initializer": self.initializer, "l2": self.l2}


@keras.saving.register_keras_serializable("trainer")
class OneHotIds(keras.layers.Layer):
    """Several ID columns, one-hot each, side by side."""

    def __init__(self, columns: Sequence[int], num_ids: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = tuple(columns)
        self.num_ids = tuple(num_ids)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Encode IDs: int64 of shape [batch, all columns] gives float32 of shape [batch, sum of `num_ids`]."""
        places = _places(ids, self.columns, self.num_ids)
        rows = tf.shape(places, tf.int64)[0]
        at = tf.stack([tf.repeat(tf.range(rows), len(self.columns)), tf.reshape(places, [-1])], axis=1)
        encoded = tf.scatter_nd(at, tf.ones([tf.size(places)]), tf.stack([rows, sum(self.num_ids)]))
        return tf.ensure_shape(encoded, [None, sum(self.num_ids)])

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], sum(self.num_ids))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "columns": self.columns, "num_ids": self.num_ids}


def _places(ids: tf.Tensor, columns: tuple[int, ...], num_ids: tuple[int, ...]) -> tf.Tensor:
    """Return the places of the IDs of some columns in a table that has the rows of one column after the other's."""
    chosen = ids if columns == tuple(range(ids.shape[1])) else tf.gather(ids, columns, axis=1)
    starts = itertools.accumulate(num_ids[:-1], initial=0)
    return chosen + tf.constant([list(starts)], tf.int64)


@keras.saving.register_keras_serializable("trainer")
class WideAndDeep(keras.Model):
    """A functional model whose wide weights and deep weights have an optimizer each."""

    def compile(self, wide_optimizer: Any = None, **kwargs: Any) -> None:
        """Keras's compile, with `wide_optimizer` for the wide part beside `optimizer` for all the rest."""
        super().compile(**kwargs)
        self.wide_optimizer = wide_optimizer
        # Here, since in a step of several replicas no variables can be made.
        for optimizer, is_wide in ((wide_optimizer, True), (self.optimizer, False)):
            optimizer.build([w for w in self.trainable_variables if w.path.startswith(WIDE_PREFIX) == is_wide])

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: all is built. Keras would average a batch over the replicas, which fails for named inputs."""

    @property
    def metrics(self) -> list[Any]:
        """What Keras resets at the start of each epoch."""
        return [*super().metrics, *getattr(self, "eval_metrics", [])]

    def train_step(self, data: Any) -> dict[str, Any]:
        """One joint step: one forward and one backward pass, then each optimizer updates its own weights."""
        inputs, label, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logit = self(inputs, training=True)
            loss = self.compute_loss(x=inputs, y=label, y_pred=logit, sample_weight=weight, training=True)
        weights = self.trainable_variables
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
        for optimizer, is_wide in ((self.wide_optimizer, True), (self.optimizer, False)):
            own = [(g, w) for g, w in zip(gradients, weights, strict=True) if w.path.startswith(WIDE_PREFIX) == is_wide]
            if own:
                optimizer.apply_gradients(own)
        # Each of several replicas has its part of the batch's mean loss.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(label)[0])
        loss = self._loss_tracker.result()
        # Keras takes the mean over the replicas along the first axis, which a scalar has not.
        return {"loss": loss[None] if replicas > 1 else loss}


def build_model(
    features: FeatureSet,
    model: Model,
    *,
    label_mean: float = 0.0,
    label_std: float = 1.0,
    precision: Precision = "float32",
) -> WideAndDeep:
    """The untrained network; its inputs are those of `serving.network_inputs`.

    Its output is of shape [batch, 1], a logit or, for regression, a number; or [batch, classes], a logit for each.

    Args:
      features: what the inputs are.
      model: the shape of the network.
      label_mean: of the labels of a regression, which the untrained network predicts.
      label_std: their standard deviation, the unit in which the network learns.
      precision: that the hidden layers compute in; the weights are float32 in any.
    """
    outputs = max(len(features.label.classes), 1) if len(features.label.classes) != 2 else 1
    ids = keras.Input((len(features.id_columns),), name=IDS, dtype="int64")
    numbers = keras.Input((len(features.number_columns),), name=NUMBERS, dtype="float32")
    logits = []
    if model.parts != "deep":
        logits += _wide_logits(features, ids, numbers, outputs)
    if model.parts != "wide":
        logits.append(_deep_logit(features, ids, numbers, model, outputs, precision))
    if not logits:
        raise ValueError("no feature is used by the parts of the model")
    logit = logits[0] if len(logits) == 1 else keras.layers.Add(name="logit")(logits)
    if isinstance(features.label, RegressionLabel):
        logit = keras.layers.Rescaling(label_std, label_mean, name="in_unit_of_label")(logit)
    return WideAndDeep(inputs={IDS: ids, NUMBERS: numbers}, outputs=logit, name=model.parts)


def _wide_logits(features: FeatureSet, ids: Any, numbers: Any, outputs: int) -> list[Any]:
    """The wide part: a zero-initialised weight for each id, and a slope for each number; for each output."""
    logits = []
    columns = [place for place, column in enumerate(features.id_columns) if column.wide]
    wide_numbers = [place for place, column in enumerate(features.number_columns) if column.wide]
    if columns:
        weights = IdTable(columns, _sizes(features, columns), outputs, "zeros", name=f"{WIDE_PREFIX}ids")(ids)
        logits.append(keras.layers.Lambda(_sum_columns, name="sum_of_wide_ids")(weights))
    if wide_numbers:
        slopes = keras.layers.Dense(outputs, kernel_initializer="zeros", name=f"{WIDE_PREFIX}numbers")
        is_all = len(wide_numbers) == numbers.shape[1]
        logits.append(slopes(numbers if is_all else keras.ops.take(numbers, wide_numbers, axis=1)))
    return logits


@keras.saving.register_keras_serializable("trainer")
def _sum_columns(weights: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(weights, axis=1)


def _deep_logit(features: FeatureSet, ids: Any, numbers: Any, model: Model, outputs: int, precision: Precision) -> Any:
    """The deep part: embeddings, one-hot ids and numbers through a multilayer perceptron."""
    hidden = _concatenated(_deep_inputs(features, ids, numbers, model), "deep_input")
    if model.embedding_dropout:
        hidden = keras.layers.Dropout(model.embedding_dropout, name="dropout_input")(hidden)
    penalty = keras.regularizers.L1L2(model.l1, model.l2) if model.l1 or model.l2 else None
    for number, units in enumerate(model.hidden_units, start=1):
        normalization = normalization_layer(model.normalization, number, precision)
        # A normalization has a bias of its own.
        use_bias = normalization is None
        dense = keras.layers.Dense(
            units, use_bias=use_bias, kernel_regularizer=penalty, dtype=precision, name=f"hidden_{number}"
        )
        hidden = dense(hidden)
        if normalization is not None:
            hidden = normalization(hidden)
        hidden = _activation(model, number, precision)(hidden)
        if model.dropout:
            hidden = keras.layers.Dropout(model.dropout, dtype=precision, name=f"dropout_{number}")(hidden)
    return keras.layers.Dense(outputs, kernel_regularizer=penalty, name="deep_logit")(hidden)


def _deep_inputs(features: FeatureSet, ids: Any, numbers: Any, model: Model) -> list[Any]:
    parts = [numbers] if features.number_columns else []
    by_embedding: dict[Embedding, list[int]] = {}
    for place, column in enumerate(features.id_columns):
        by_embedding.setdefault(column.embedding, []).append(place)
    by_embedding.pop("none", None)
    one_hot = by_embedding.pop("one_hot", [])
    if one_hot:
        parts.append(OneHotIds(one_hot, _sizes(features, one_hot), name="one_hot")(ids))
    for dimension, columns in by_embedding.items():
        assert isinstance(dimension, int)
        sizes, name = _sizes(features, columns), f"embedding_{dimension}"
        table = IdTable(columns, sizes, dimension, "uniform", l2=model.embedding_l2, name=name)
        parts.append(keras.layers.Flatten(name=f"embedded_{dimension}")(table(ids)))
    return parts


def _sizes(features: FeatureSet, columns: Sequence[int]) -> list[int]:
    # Once: the property makes all columns anew.
    every = features.id_columns
    return [every[place].num_ids for place in columns]


def _activation(model: Model, number: int, precision: Precision) -> Any:
    name = f"{ACTIVATION_PREFIX}{number}"
    # PReLU learns a slope, so it is a layer of its own kind.
    if model.activation == "prelu":
        return keras.layers.PReLU(dtype=precision, name=name)
    return keras.layers.Activation(model.activation, dtype=precision, name=name)


def _concatenated(parts: list[Any], name: str) -> Any:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name=name)(parts)


def compile_model(
    model: WideAndDeep, training: Training, label: LabelKind, *, steps: int, steps_together: int = 1
) -> None:
    """Gives the model its loss and its two optimizers.

    Args:
      model: from `build_model`.
      label: decides on the loss.
      training: the optimizers and their schedules.
      steps: of the whole training, which the learning-rate schedules span.
      steps_together: how many are one call of TensorFlow's.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    model.compile(
        wide_optimizer=build_optimizer(training.wide_optimizer, steps=steps),
        optimizer=build_optimizer(training.deep_optimizer, steps=steps),
        loss=_loss(label),
        # XLA compiles no step that several replicas take together.
        jit_compile=False if replicas > 1 else "auto",
        steps_per_execution=1 if replicas > 1 else steps_together,
    )


def _loss(label: LabelKind) -> keras.losses.Loss:
    match label:
        case "binary":
            return keras.losses.BinaryCrossentropy(from_logits=True)
        case "multiclass":
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        case "regression":
            return keras.losses.MeanSquaredError()
        case _:
            assert_never(label)


def eval_metrics(label: LabelKind) -> list[keras.metrics.Metric]:
    """Return what is measured on the eval split; the names are those of `WATCHED_METRICS`."""
    match label:
        case "binary":
            return [
                keras.metrics.BinaryCrossentropy(from_logits=True, name="log_loss"),
                keras.metrics.AUC(num_thresholds=1000, from_logits=True, name="auc"),
            ]
        case "multiclass":
            return [
                keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="log_loss"),
                keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            ]
        case "regression":
            return [
                keras.metrics.RootMeanSquaredError(name="rmse"),
                keras.metrics.MeanAbsoluteError(name="mae"),
            ]
        case _:
            assert_never(label)
