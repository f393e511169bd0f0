"""Labels and predictions of the models that Evaluator measures, of this project's and of other origins."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cli.errors import PipelineError
from schemas.features import ColumnType, FeatureSet, LabelKind
from serving.model.output_names import MEASURED_OUTPUT
from serving.model.signatures import (
    DTYPES,
    LABEL,
    SERVING_DEFAULT,
    SERVING_EXAMPLES,
    TRUE_LABEL,
    encode_label,
)

_Numbers = NDArray[Any]
# Rounding of a softmax's float32.
_SUM_TOLERANCE = 1e-3


def predict(model: Any, records: tf.Tensor, label: LabelKind) -> _Numbers:
    """Return what metrics are computed from: probabilities [rows] or [rows, classes], or numbers [rows].

    Args:
      model: Loaded SavedModel.
      records: Serialized tf.Example, [rows].
      label: Kind of the label.

    Raises:
      PipelineError: The model does not take serialized tf.Example, or its outputs are others.
    """
    # By keyword: of an argument by position TensorFlow first makes a text, for an error message.
    if SERVING_EXAMPLES in model.signatures:
        predictions: _Numbers = model.signatures[SERVING_EXAMPLES](examples=records)[MEASURED_OUTPUT[label]].numpy()
        return predictions
    signature = model.signatures.get(SERVING_DEFAULT)
    inputs = signature.structured_input_signature[1] if signature is not None else {}
    if signature is None or [spec.dtype for spec in inputs.values()] != [tf.string]:
        raise PipelineError(
            f"the model's {SERVING_DEFAULT} takes {', '.join(inputs) or 'nothing'}; Evaluator needs a signature with "
            "one input, serialized tf.Example, as in TFX's examples"
        )
    outputs = signature(**dict.fromkeys(inputs, records))
    return as_predictions({name: tensor.numpy() for name, tensor in outputs.items()}, label)


def as_predictions(outputs: Mapping[str, _Numbers], label: LabelKind) -> _Numbers:
    """Return the measured one of a model's outputs.

    A multiclass model may return logits. Two columns of a binary label are the probabilities of both values.

    Raises:
      PipelineError: It is ambiguous, or has another shape.
    """
    numbers = {name: values for name, values in outputs.items() if values.dtype.kind == "f"}
    name = MEASURED_OUTPUT[label] if MEASURED_OUTPUT[label] in numbers else next(iter(numbers), "")
    if not name or (len(numbers) > 1 and name != MEASURED_OUTPUT[label]):
        raise PipelineError(
            f"the model's outputs are {', '.join(outputs)}; expected '{MEASURED_OUTPUT[label]}', or one output of "
            "numbers"
        )
    values = numbers[name]
    columns = values.shape[1] if values.ndim == 2 else 1
    if values.ndim > 2 or columns < 1 or (columns > (2 if label == "binary" else 1) and label != "multiclass"):
        raise PipelineError(f"the model's {name} has shape {list(values.shape)}, which a {label} label does not have")
    if label == "multiclass":
        is_probability = (np.abs(values.sum(axis=1) - 1) < _SUM_TOLERANCE) & (values >= 0).all(axis=1)
        return np.where(is_probability[:, None], values, tf.nn.softmax(values).numpy())
    values = values.reshape(len(values), columns)[:, -1]
    if label == "binary" and ((values < 0) | (values > 1)).any():
        raise PipelineError(f"the model's {name} is not a probability; export the model with a sigmoid")
    return values


def read_labels(model: Any, records: tf.Tensor, features: FeatureSet) -> _Numbers:
    """Return the labels as the network is fitted to them, [rows]."""
    if TRUE_LABEL in model.signatures:
        labels: _Numbers = model.signatures[TRUE_LABEL](examples=records)[LABEL].numpy()
        return labels
    column = features.label.column
    kind: ColumnType = features.column_types[column]
    parsed = tf.io.parse_example(records, {column: tf.io.FixedLenFeature([], DTYPES[kind])})
    encoded: _Numbers = encode_label(features.label, parsed[column]).numpy()
    return encoded


def to_probabilities(logits: _Numbers, outputs: int) -> _Numbers:
    """Return the sigmoid of one logit a row, or the softmax of several, which are the last dimension."""
    return np.asarray(tf.sigmoid(logits) if outputs == 1 else tf.nn.softmax(logits))
