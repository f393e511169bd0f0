"""The wide-and-deep network (Cheng et al. 2016, https://arxiv.org/abs/1606.07792) and its joint training step.

The wide part is one weight for each ID and a slope for each number. The deep part is a multilayer perceptron over
embeddings and numbers, or several that share their layers. Both add up to a logit, to one for each of several
classes, or for regression to a number of mean 0 and deviation 1. They are trained together, each by its own
optimizer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import keras
import tensorflow as tf

from schemas.features import Embedding, FeatureSet, IdColumn, LabelKind, NumberEncoding
from schemas.metrics import METRICS, list_watchable
from serving.model.network_inputs import IDS, NUMBERS, compute_places, count_places
from trainer.config import Model, Precision, Training
from trainer.health import StepHealth
from trainer.layers import (
    BagOfIds,
    Dropout,
    IdTable,
    MemberHeads,
    Members,
    OneHotIds,
    PiecewiseLinear,
    Squash,
    SumOfColumns,
)
from trainer.normalization import build_normalization
from trainer.optimizers import build_optimizer
from trainer.outputs import LabelUnit, LabelValues, MeanOfMembers, Temperature

WIDE_PREFIX = "wide_"
ACTIVATION_PREFIX = "activation_"


# From Keras's inputs by name and the number of outputs to the outputs that are learned.
BuildOutputs = Callable[[Mapping[str, Any], int], Any]


@dataclass(frozen=True)
class _Hidden:
    """Hides its content from Keras, which would add it to the weights of the model."""

    content: Any


@keras.saving.register_keras_serializable("trainer")
class WideAndDeep(keras.Model):
    """A functional model that predicts, with the part of it that is trained.

    The trained part gives a logit or a number for each member. The wide weights and the deep weights have an optimizer
    each.
    """

    def set_trained_part(self, part: keras.Model, label_unit: LabelUnit | None) -> None:
        """Set what the training step calls.

        Args:
          part: a model of the same inputs, with outputs of shape [batch, outputs] or [batch, members, outputs].
          label_unit: unit of the numbers that a regression learns.
        """
        self._trained = _Hidden((part, label_unit))

    @property
    def trained_part(self) -> keras.Model:
        """The model that the training step calls."""
        part: keras.Model = self._trained.content[0]
        return part

    def compile(self, wide_optimizer: Any = None, ema: float = 0.0, **kwargs: Any) -> None:
        """Compile as Keras does, with `wide_optimizer` for the wide part beside `optimizer` for all the rest.

        Args:
          wide_optimizer: the optimizer.
          ema: decay of the moving average of the weights; 0 for none.
          **kwargs: Keras's arguments.
        """
        super().compile(**kwargs)
        self.wide_optimizer = wide_optimizer
        # Here, since in a step of several replicas no variables can be made.
        for optimizer, is_wide in ((wide_optimizer, True), (self.optimizer, False)):
            optimizer.build([w for w in self.trainable_variables if w.path.startswith(WIDE_PREFIX) == is_wide])
        self._health = _Hidden(StepHealth(self.trainable_variables))
        self._ema = ema
        self._averages = _Hidden([_create_average(weight) for weight in self.trainable_variables] if ema else [])

    @property
    def health(self) -> StepHealth:
        """The numerical health of the training; only after `compile`."""
        health: StepHealth = self._health.content
        return health

    def swap_averages(self) -> None:
        """Exchange the weights and their moving averages."""
        for weight, average in zip(self.trainable_variables, self._averages.content, strict=False):
            value = weight.numpy()
            weight.assign(average.numpy())
            average.assign(value)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Do nothing: all is built. Keras would average a batch over the replicas, which fails for named inputs."""

    @property
    def metrics(self) -> list[Any]:
        """Metrics that Keras resets at the start of each epoch."""
        return [*super().metrics, *getattr(self, "eval_metrics", [])]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one joint step: one forward and one backward pass, then each optimizer updates its own weights."""
        inputs, label, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self._compute_joint_loss(inputs, label, weight)
        weights = self.trainable_variables
        gradients = tape.gradient(loss, weights)
        self.health.add_step(loss, gradients)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        for optimizer, is_wide in ((self.wide_optimizer, True), (self.optimizer, False)):
            own = [(g, w) for g, w in zip(gradients, weights, strict=True) if w.path.startswith(WIDE_PREFIX) == is_wide]
            if own:
                optimizer.apply_gradients(own)
        self._update_averages()
        # Each of several replicas has its part of the batch's mean loss.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(label)[0])
        loss = self._loss_tracker.result()
        # Keras takes the mean over the replicas along the first axis, which a scalar has not.
        return {"loss": loss[None] if replicas > 1 else loss}

    @tf.function(autograph=False)
    def compute_eval_loss(self, inputs: Mapping[str, tf.Tensor], label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Return the loss of a batch as the training has it, without dropout."""
        return self._compute_joint_loss(inputs, label, weight, training=False)

    def _compute_joint_loss(
        self, inputs: Mapping[str, tf.Tensor], label: tf.Tensor, weight: tf.Tensor, *, training: bool = True
    ) -> tf.Tensor:
        """Return the mean of the members' losses."""
        part, label_unit = self._trained.content
        outputs = part(inputs, training=training)
        if label_unit is not None:
            label = label_unit.encode(label)
        if outputs.shape.rank == 3:
            members = outputs.shape[1]
            label, weight = tf.repeat(label, members, axis=0), tf.repeat(weight, members, axis=0)
            outputs = tf.reshape(outputs, [-1, outputs.shape[2]])
        return self.compute_loss(x=inputs, y=label, y_pred=outputs, sample_weight=weight, training=training)

    def _update_averages(self) -> None:
        if not self._ema:
            return
        step = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self._ema, (1 + step) / (10 + step))
        for weight, average in zip(self.trainable_variables, self._averages.content, strict=True):
            average.assign_sub((1 - decay) * (average - tf.convert_to_tensor(weight)))


def _create_average(weight: Any) -> tf.Variable:
    # All replicas have the same weights.
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(weight.numpy(), trainable=False, aggregation=aggregation, name="average")


def build_model(
    features: FeatureSet,
    model: Model,
    *,
    labels: LabelValues | None = None,
    precision: Precision = "float32",
    build_outputs: BuildOutputs | None = None,
) -> WideAndDeep:
    """Return the untrained network; its inputs are those of `serving.model.network_inputs`.

    Its output is of shape [batch, 1], a logit or, for regression, a number in the unit of the label; or of shape
    [batch, classes], a logit for each.

    Args:
      features: declaration of the inputs.
      model: the shape of the network.
      labels: labels of a regression, whose mean the untrained network predicts; if omitted, it predicts 0.
      precision: precision in which the hidden layers compute; the weights are float32 in any.
      build_outputs: function from the inputs and the number of outputs to what is learned, in place of the two parts.
    """
    outputs = max(len(features.label.classes), 1) if len(features.label.classes) != 2 else 1
    ids = keras.Input((count_places(features.id_columns),), name=IDS, dtype="int64")
    numbers = keras.Input((count_places(features.number_columns),), name=NUMBERS, dtype="float32")
    inputs = {IDS: ids, NUMBERS: numbers}
    if build_outputs is not None:
        learned = build_outputs(inputs, outputs)
    else:
        learned = _build_parts(features, model, ids, numbers, outputs, precision)
    prediction, label_unit = _add_prediction(learned, features.label.kind, model, labels or LabelValues())
    network = WideAndDeep(inputs=inputs, outputs=prediction, name=model.architecture)
    network.set_trained_part(keras.Model(inputs, learned), label_unit)
    return network


def _build_parts(features: FeatureSet, model: Model, ids: Any, numbers: Any, outputs: int, precision: Precision) -> Any:
    """Return the sum of the wide and the deep part."""
    scaled = Squash(model.squash, name="squash")(numbers) if model.squash and features.number_columns else numbers
    logits = [] if model.architecture == "deep" else _build_wide_logits(features, ids, numbers, scaled, outputs)
    deep_inputs = [] if model.architecture == "wide" else _build_deep_inputs(features, ids, numbers, scaled, model)
    if deep_inputs:
        if model.members > 1:
            # The same for each member.
            logits = [keras.layers.Reshape((1, outputs))(logit) for logit in logits]
        logits.append(_build_deep_logit(_concatenate(deep_inputs, "deep_input"), model, outputs, precision))
    if not logits:
        raise ValueError("no feature is used by the parts of the model")
    return logits[0] if len(logits) == 1 else keras.layers.Add(name="logit")(logits)


def _add_prediction(learned: Any, label: LabelKind, model: Model, labels: LabelValues) -> tuple[Any, LabelUnit | None]:
    """Return the prediction, and for a regression the layer of the label's unit."""
    label_unit = None
    if label == "regression":
        label_unit = LabelUnit(model.label_scale, labels, model.clip_predictions, name="unit_of_label")
        learned = label_unit(learned)
    if len(learned.shape) == 3:
        learned = MeanOfMembers(label, name="mean_of_members")(learned)
    return (learned if label_unit is not None else Temperature(name="temperature")(learned)), label_unit


def find_layers(network: WideAndDeep, *kinds: type[keras.layers.Layer]) -> list[Any]:
    """Return the layers of a network that are of some classes."""
    return [layer for layer in network.layers if isinstance(layer, kinds)]


def set_calibration(network: WideAndDeep, value: float) -> None:
    """Set the temperature that logits are divided by, or the factor of a regression's predictions."""
    for layer in find_layers(network, Temperature, LabelUnit):
        layer.set_calibration(value)


def _build_wide_logits(features: FeatureSet, ids: Any, numbers: Any, scaled: Any, outputs: int) -> list[Any]:
    """Return the logits of the wide part: a weight for each ID and a slope for each number, initially zero."""
    logits = []
    single, bags = _split_bags([column for column in features.id_columns if column.wide])
    id_places, number_places = compute_places(features.id_columns), compute_places(features.number_columns)
    wide_numbers = [place for column in features.number_columns if column.wide for place in number_places[column.name]]
    if single:
        columns = [id_places[column.name].start for column in single]
        sizes = [column.num_ids for column in single]
        weights = IdTable(columns, sizes, outputs, "zeros", name=f"{WIDE_PREFIX}ids")(ids)
        logits.append(SumOfColumns(name="sum_of_wide_ids")(weights))
    for column in bags:
        layer = BagOfIds(
            id_places[column.name].start,
            number_places[str(column.weights)].start,
            column.width,
            column.num_ids,
            outputs,
            "zeros",
            name=f"{WIDE_PREFIX}{column.name}",
        )
        logits.append(layer([ids, numbers]))
    if wide_numbers:
        slopes = keras.layers.Dense(outputs, kernel_initializer="zeros", name=f"{WIDE_PREFIX}numbers")
        logits.append(slopes(_select_columns(scaled, wide_numbers)))
    return logits


def _split_bags(columns: Sequence[IdColumn]) -> tuple[list[IdColumn], list[IdColumn]]:
    """Return the columns of one id in each row, and those of several."""
    return [c for c in columns if c.weights is None], [c for c in columns if c.weights is not None]


def _build_deep_logit(hidden: Any, model: Model, outputs: int, precision: Precision) -> Any:
    """Return the logits of a multilayer perceptron, or of several at once."""
    if model.embedding_dropout:
        hidden = Dropout(model.embedding_dropout, name="dropout_input")(hidden)
    if model.members > 1:
        hidden = Members(model.members, name="members")(hidden)
    penalty = keras.regularizers.L1L2(model.l1, model.l2) if model.l1 or model.l2 else None
    for number, units in enumerate(model.hidden_units, start=1):
        normalization = build_normalization(model.normalization, number, precision)
        # A normalization has a bias of its own.
        use_bias = normalization is None
        dense = keras.layers.Dense(
            units, use_bias=use_bias, kernel_regularizer=penalty, dtype=precision, name=f"hidden_{number}"
        )
        hidden = dense(hidden)
        if normalization is not None:
            hidden = normalization(hidden)
        hidden = _build_activation(model, number, precision)(hidden)
        if model.dropout:
            hidden = Dropout(model.dropout, dtype=precision, name=f"dropout_{number}")(hidden)
    head = MemberHeads if model.members > 1 else keras.layers.Dense
    return head(outputs, kernel_regularizer=penalty, name="deep_logit")(hidden)


def _build_deep_inputs(features: FeatureSet, ids: Any, numbers: Any, scaled: Any, model: Model) -> list[Any]:
    parts = _encode_numbers(features, numbers, scaled, model)
    single, bags = _split_bags([column for column in features.id_columns if column.embedding != "none"])
    id_places, number_places = compute_places(features.id_columns), compute_places(features.number_columns)
    by_embedding: dict[Embedding, list[IdColumn]] = {}
    for column in single:
        by_embedding.setdefault(column.embedding, []).append(column)
    one_hot = by_embedding.pop("one_hot", [])
    if one_hot:
        columns, sizes = [id_places[c.name].start for c in one_hot], [c.num_ids for c in one_hot]
        parts.append(OneHotIds(columns, sizes, name="one_hot")(ids))
    for dimension, embedded in by_embedding.items():
        assert isinstance(dimension, int)
        table = IdTable(
            [id_places[column.name].start for column in embedded],
            [column.num_ids for column in embedded],
            dimension,
            "uniform",
            tables=[column.table or column.name for column in embedded],
            l2=model.embedding_l2,
            name=f"embedding_{dimension}",
        )
        parts.append(keras.layers.Flatten(name=f"embedded_{dimension}")(table(ids)))
    for column in bags:
        assert isinstance(column.embedding, int)
        layer = BagOfIds(
            id_places[column.name].start,
            number_places[str(column.weights)].start,
            column.width,
            column.num_ids,
            column.embedding,
            "uniform",
            l2=model.embedding_l2,
            name=f"embedding_of_{column.name}",
        )
        parts.append(layer([ids, numbers]))
    return parts


def _encode_numbers(features: FeatureSet, numbers: Any, scaled: Any, model: Model) -> list[Any]:
    by_encoding: dict[NumberEncoding, list[int]] = {}
    number_places = compute_places(features.number_columns)
    for column in features.number_columns:
        by_encoding.setdefault(column.encoding or model.number_encoding, []).extend(number_places[column.name])
    parts = []
    if plain := by_encoding.get("number"):
        parts.append(_select_columns(scaled, plain))
    if piecewise := by_encoding.get("piecewise_linear"):
        size = model.piecewise_linear
        parts.append(PiecewiseLinear(piecewise, size.bins, size.dimension, name="piecewise_linear")(numbers))
    return parts


def _select_columns(numbers: Any, places: Sequence[int]) -> Any:
    return numbers if len(places) == numbers.shape[1] else keras.ops.take(numbers, places, axis=1)


def _build_activation(model: Model, number: int, precision: Precision) -> Any:
    name = f"{ACTIVATION_PREFIX}{number}"
    # PReLU learns a slope, so it is a layer of its own kind.
    if model.activation == "prelu":
        return keras.layers.PReLU(dtype=precision, name=name)
    return keras.layers.Activation(model.activation, dtype=precision, name=name)


def _concatenate(parts: list[Any], name: str) -> Any:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name=name)(parts)


def compile_model(
    model: WideAndDeep, training: Training, label: LabelKind, *, steps: int, steps_together: int = 1
) -> None:
    """Set the loss and the two optimizers of a model.

    Args:
      model: from `build_model`.
      label: kind of the label, which decides on the loss.
      training: options with the optimizers and their schedules.
      steps: number of steps of the whole training, which the learning-rate schedules span.
      steps_together: number of steps in one call of TensorFlow's.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    model.compile(
        wide_optimizer=build_optimizer(training.wide_optimizer, steps=steps),
        optimizer=build_optimizer(training.deep_optimizer, steps=steps),
        ema=training.ema_momentum,
        loss=_build_loss(label, training.label_smoothing),
        # XLA compiles no step that several replicas take together.
        jit_compile=False if replicas > 1 else "auto",
        steps_per_execution=1 if replicas > 1 else steps_together,
    )


def _build_loss(label: LabelKind, smoothing: float) -> keras.losses.Loss:
    match label:
        case "binary":
            return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
        case "multiclass" if smoothing:
            return _SmoothedCrossentropy(smoothing)
        case "multiclass":
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        case "regression":
            return keras.losses.MeanSquaredError()
        case _:
            assert_never(label)


class _SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class IDs, [batch, 1], with labels that are smoothed; Keras has it for one-hot labels only."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self._smoothing = smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each row."""
        true = tf.one_hot(tf.cast(y_true[:, 0], tf.int32), y_pred.shape[1])
        return keras.losses.categorical_crossentropy(true, y_pred, from_logits=True, label_smoothing=self._smoothing)


def build_eval_metrics(label: LabelKind) -> list[keras.metrics.Metric]:
    """Return the metrics that are measured on the eval split after each epoch."""
    declared = [(name, METRICS[name].keras[label]) for name in list_watchable(label)]
    return [getattr(keras.metrics, metric.class_name)(**metric.arguments, name=name) for name, metric in declared]
