"""Answers of a SavedModel to requests in JSON: one dict of named values for each row, as Vertex AI sends them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serving.signatures import DECLARATION_FILE, SERVING_DEFAULT


class RequestError(ValueError):
    """The request does not fit the model; the text names the row and the feature."""


class Predictor:
    """A loaded model.

    Raises:
      OSError: there is no SavedModel in the folder, or it is damaged.
      KeyError: it has no signature `serving_default`.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        declaration = folder / DECLARATION_FILE
        self.version = folder.name if folder.name.isdecimal() else "unpushed"
        self.schema_hash = hashlib.sha256(declaration.read_bytes()).hexdigest() if declaration.is_file() else ""
        self._model = tf.saved_model.load(str(folder))
        self._signature = self._model.signatures[SERVING_DEFAULT]
        self.inputs: dict[str, tf.DType] = {
            name: spec.dtype for name, spec in self._signature.structured_input_signature[1].items()
        }

    def predict(self, instances: list[Any]) -> list[dict[str, Any]]:
        """One dict of outputs for each row.

        Raises:
          RequestError: a name is missing or unknown, or a value is of another type.
        """
        for row, instance in enumerate(instances):
            self._check_names(row, instance)
        columns = {name: self._column(name, dtype, instances) for name, dtype in self.inputs.items()}
        outputs = {name: tensor.numpy() for name, tensor in self._signature(**columns).items()}
        return [{name: plain(values[row]) for name, values in outputs.items()} for row in range(len(instances))]

    def predict_columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name, numpy arrays of [batch] or [batch, classes], for arrays of raw values by input, [batch]."""
        tensors = {name: tf.constant(columns[name], dtype) for name, dtype in self.inputs.items()}
        return {name: np.asarray(tensor.numpy()) for name, tensor in self._signature(**tensors).items()}

    def _check_names(self, row: int, instance: Any) -> None:
        if not isinstance(instance, dict):
            raise RequestError(f"instances[{row}]: expected an object of features, found {type(instance).__name__}")
        for wrong, said in (
            (self.inputs.keys() - instance, "is missing"),
            (instance.keys() - self.inputs, "is unknown"),
        ):
            if wrong:
                raise RequestError(f"instances[{row}]: {', '.join(sorted(wrong))}: {said}")

    def _column(self, name: str, dtype: tf.DType, instances: list[Any]) -> tf.Tensor:
        values = [_value(row, name, dtype, instance[name]) for row, instance in enumerate(instances)]
        try:
            return tf.constant(values, dtype, shape=[len(values)])
        except (ValueError, TypeError, OverflowError) as error:
            raise RequestError(f"{name}: a number is out of the range of {dtype.name}") from error


def _value(row: int, name: str, dtype: tf.DType, value: Any) -> Any:
    if dtype == tf.string:
        fits = isinstance(value, str)
    elif dtype.is_integer:
        # Numbers that passed through a protobuf Value, as on Vertex, are floats.
        fits = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        value = int(value) if fits else value
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        expected = "a text" if dtype == tf.string else "an integer" if dtype.is_integer else "a number"
        raise RequestError(f"instances[{row}]: {name}: expected {expected}, found {str(value)[:40]!r}")
    return value


def plain(value: Any) -> Any:
    """A number, text or array of numpy as JSON holds it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value
