"""Results of TF Serving's Classify and Regress, derived from the outputs of a prediction.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/inference.proto

A declared model derives them from its label. A binary or multiclass label has classes with their probabilities. A
regression has a number, as has a binary label: the probability of its positive value, as with TensorFlow's Estimators.
A model of tensors has them by the names of its outputs.
"""

from collections.abc import Mapping
from typing import Any, Literal, assert_never

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import input_pb2

from schemas.features import BinaryLabel, MulticlassLabel, RegressionLabel
from serving.model.inputs import RequestError
from serving.model.output_names import PREDICTION, PROBABILITIES, PROBABILITY
from serving.model.predictor import Predictor, to_list
from serving.model.signatures import CLASSES
from serving.model.tensor_predictor import TensorPredictor

Method = Literal["classify", "regress"]
# The classes of a row with their scores.
Classes = list[tuple[str, float]]
# The names of the methods, and of the signatures that stand for them.
METHOD_NAMES: Mapping[Method, str] = {
    "classify": tf.saved_model.CLASSIFY_METHOD_NAME,
    "regress": tf.saved_model.REGRESS_METHOD_NAME,
}
_CLASSES, _SCORES = tf.saved_model.CLASSIFY_OUTPUT_CLASSES, tf.saved_model.CLASSIFY_OUTPUT_SCORES
_VALUES = tf.saved_model.REGRESS_OUTPUTS
# Every row has a copy.
_MAX_CONTEXT_BYTES = 32_000_000


def read_input(message: input_pb2.Input, most_rows: int) -> list[bytes]:
    """Return the records of a request.

    Raises:
      RequestError: there are none, or too many, or the context is too large or has a feature that an example has, too.
    """
    kind = message.WhichOneof("kind")
    examples = getattr(message, kind).examples if kind else []
    # Checked before they are serialized.
    if not examples:
        raise RequestError("the request has no rows: expected input.example_list with tf.Example")
    if len(examples) > most_rows:
        raise RequestError(f"the request has {len(examples):,} rows; at most {most_rows:,} are taken")
    if kind == "example_list":
        return [example.SerializeToString() for example in examples]
    context = message.example_list_with_context.context
    if len(examples) * context.ByteSize() > _MAX_CONTEXT_BYTES:
        raise RequestError(f"the context of each row takes more than {_MAX_CONTEXT_BYTES:,} bytes altogether")
    return [_add_context(example, context, row).SerializeToString() for row, example in enumerate(examples)]


def _add_context(example: Any, context: Any, row: int) -> Any:
    both = sorted(example.features.feature.keys() & context.features.feature.keys())
    if both:
        raise RequestError(f"instances[{row}]: {both[0][:40]}: is in the context, too")
    whole = tf.train.Example()
    whole.MergeFrom(context)
    whole.MergeFrom(example)
    return whole


def has_method(predictor: Predictor | TensorPredictor, method: Method) -> bool:
    """Return whether a model classifies, or regresses."""
    label = predictor.features.label if predictor.features is not None else None
    match label:
        case BinaryLabel():
            return True
        case MulticlassLabel():
            return method == "classify"
        case RegressionLabel():
            return method == "regress"
        case None:
            outputs = predictor.get_signature(predictor.signatures[0]).outputs
            return bool(outputs.keys() & ({_CLASSES, _SCORES} if method == "classify" else {_VALUES}))
        case _:
            assert_never(label)


def check_method(predictor: Predictor | TensorPredictor, method: Method) -> None:
    """Reject a method that the model does not have.

    Raises:
      RequestError: the label, or the outputs, are of another kind.
    """
    if has_method(predictor, method):
        return
    if predictor.features is not None:
        raise RequestError(f"the model's label is {predictor.features.label.kind}, which has no {method}; use predict")
    expected = f"{_CLASSES} or {_SCORES}" if method == "classify" else _VALUES
    outputs = ", ".join(sorted(predictor.get_signature(predictor.signatures[0]).outputs))
    raise RequestError(f"{method}: expected a signature with the output {expected}; this one has {outputs}")


def classify(predictor: Predictor | TensorPredictor, outputs: Mapping[str, NDArray[Any]]) -> list[Classes]:
    """Return the classes with their scores for each row.

    Raises:
      RequestError: the outputs of a model of tensors have another shape.
    """
    label = predictor.features.label if predictor.features is not None else None
    match label:
        case BinaryLabel():
            positive = outputs[PROBABILITY]
            scores = np.stack([1 - positive, positive], axis=1).tolist()
            return [list(zip(label.classes, row, strict=True)) for row in scores]
        case MulticlassLabel():
            names, scores = to_list(outputs[CLASSES]), outputs[PROBABILITIES].tolist()
            return [list(zip(*row, strict=True)) for row in zip(names, scores, strict=True)]
        case None:
            return _read_classes(outputs)
        case RegressionLabel():
            raise AssertionError("check_method rejects it")
        case _:
            assert_never(label)


def _read_classes(outputs: Mapping[str, NDArray[Any]]) -> list[Classes]:
    shapes = {outputs[name].shape for name in (_CLASSES, _SCORES) if name in outputs}
    if len(shapes) != 1 or any(len(shape) != 2 for shape in shapes):
        raise RequestError(f"classify: expected {_CLASSES} and {_SCORES} of one shape [rows, classes], found {shapes}")
    (shape,) = shapes
    # TF Serving's rule: a score without a class has the label "", a class without a score 0.
    names: list[Any] = to_list(outputs[_CLASSES]) if _CLASSES in outputs else np.full(shape, "").tolist()
    scores: Any = (outputs[_SCORES] if _SCORES in outputs else np.zeros(shape)).tolist()
    return [list(zip(*row, strict=True)) for row in zip(names, scores, strict=True)]


def regress(predictor: Predictor | TensorPredictor, outputs: Mapping[str, NDArray[Any]]) -> list[float]:
    """Return the number of each row.

    Raises:
      RequestError: the output of a model of tensors has another shape.
    """
    label = predictor.features.label if predictor.features is not None else None
    match label:
        case BinaryLabel():
            values = outputs[PROBABILITY]
        case RegressionLabel():
            values = outputs[PREDICTION]
        case None:
            values = outputs[_VALUES]
        case MulticlassLabel():
            raise AssertionError("check_method rejects it")
        case _:
            assert_never(label)
    if values.size != len(values) or values.ndim > 2:
        raise RequestError(f"regress: expected {_VALUES} of shape [rows] or [rows, 1], found {list(values.shape)}")
    numbers: list[float] = values.reshape(-1).tolist()
    return numbers
