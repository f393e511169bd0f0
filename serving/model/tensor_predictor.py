"""A SavedModel of another origin, called as TF Serving calls it: its inputs are tensors, or serialized tf.Example.

https://www.tensorflow.org/tfx/serving/api_rest#encoding_binary_values
"""

import base64
import binascii
import copy
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2

from cli.counts import format_count
from schemas.declaration import suggest_name
from serving.model.inputs import Columns, Inputs, RequestError
from serving.model.predictor import Outputs, Predictor, check_finite, to_rows
from serving.model.session_model import Arrays, ModelError, SessionModel, list_specs
from serving.model.signatures import SERVING_DEFAULT
from serving.registry import DECLARATION_FILE

# TensorFlow adds it to exported models; it returns nothing.
_INTERNAL = "__saved_model_init_op"
_MAX_ERROR_CHARS = 300
_FUNCTION_NODES = re.compile(r"\{\{\w+ [^}]*\}\} ?")


class TensorPredictor:
    """A loaded model without declared features.

    Attributes:
      inputs: No inputs with rules of conversion.
      features: No declaration.
      decision: No declared costs.
      version, schema_hash: Empty, since the model has no such outputs.

    Raises:
      ModelError: The folder has no SavedModel, it is damaged, or no signature takes rows.
    """

    features = None
    decision = None
    version = schema_hash = ""

    def __init__(self, folder: str | Path) -> None:
        self._model = SessionModel(folder)
        self._name = _choose_signature(self._model.signatures, folder)
        self._call = self._model.build_function(self._name)
        self.inputs = Inputs([])
        self.specs: Mapping[str, tf.TensorSpec] = list_specs(self.get_signature(SERVING_DEFAULT).inputs)
        for name, spec in self.specs.items():
            if not _has_rows(spec):
                raise ModelError(
                    f"{folder}: input '{name}' has shape {spec.shape}; expected one whose first dimension is the "
                    "number of rows"
                )

    @functools.cached_property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures that take rows, the default first."""
        others = sorted(self._model.signatures.keys() - {_INTERNAL, SERVING_DEFAULT})
        taking_rows = (n for n in others if all(map(_has_rows, list_specs(self._model.signatures[n].inputs).values())))
        return (SERVING_DEFAULT, *taking_rows)

    def run_tensors(self, feed: Arrays, fetch: Sequence[str], targets: Sequence[str]) -> None:
        """Run parts of the graph; raises as `SessionModel.run_tensors`."""
        self._model.run_tensors(feed, fetch, targets)

    def get_signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """Return a signature as TF Serving describes it."""
        return self._model.signatures[self._name if name == SERVING_DEFAULT else name]

    @property
    def own_signature(self) -> meta_graph_pb2.SignatureDef:
        """The signature that is called."""
        return self._model.signatures[self._name]

    def select(self, name: str) -> "TensorPredictor":
        """Return this model with another of its `signatures` as the one that is called."""
        selected = copy.copy(self)
        selected._name = self._name if name == SERVING_DEFAULT else name
        selected._call = self._model.build_function(selected._name)
        selected.specs = list_specs(self.get_signature(name).inputs)
        return selected

    def convert_rows(self, instances: Sequence[Any]) -> Columns:
        """Return rows as one list of arrays for each input.

        Raises:
          RequestError: A name is unknown or missing, or a value has another type or shape.
        """
        rows = [self._name_inputs(instance, f"instances[{row}]") for row, instance in enumerate(instances)]
        return {
            name: [_convert(row[name], spec, f"instances[{number}]: {name}") for number, row in enumerate(rows)]
            for name, spec in self.specs.items()
        }

    def convert_columns(self, columns: Mapping[str, Any]) -> Columns:
        """Return values that come by input; raises as `convert_rows`."""
        lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
        if len(lengths) != 1 or -1 in lengths:
            raise RequestError("expected a list of values for each input, all with the same number of rows")
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return self.convert_rows(rows)

    def convert_examples(self, records: Sequence[bytes]) -> Columns:
        """Return serialized tf.Example for the single input of strings.

        Raises:
          RequestError: The model has other inputs.
        """
        if len(self.specs) != 1 or next(iter(self.specs.values())).dtype != tf.string:
            raise RequestError(f"the model takes {self.describe_inputs()}, not serialized tf.Example")
        return {name: [np.array(record, object) for record in records] for name in self.specs}

    def count_out_of_range(self, columns: Columns) -> dict[str, int]:
        """Return no counts: no IDs are declared."""
        del columns
        return {}

    def check_finite(self, outputs: Mapping[str, NDArray[Any]], columns: Columns) -> None:
        """Raise RequestError if a number among the outputs is NaN or infinite."""
        del columns
        check_finite(outputs, {}, {})

    def predict_columns(self, columns: Mapping[str, Sequence[Any]]) -> Outputs:
        """Return the outputs by name, [rows, ...] each.

        Raises:
          ValueError: The model rejects the values, or an output has other rows.
        """
        rows = len(next(iter(columns.values())))
        try:
            arrays = {
                name: np.stack(columns[name]).astype(spec.dtype.as_numpy_dtype) for name, spec in self.specs.items()
            }
            outputs = dict(sorted(self._call(arrays).items()))
        except tf.errors.OpError as error:
            where = "" if (row := _find_damaged(columns)) is None else f"instances[{row}]: "
            raise ValueError(f"{where}the model rejects the values: {_find_reason(str(error))}") from error
        for name, values in outputs.items():
            if values.ndim == 0 or len(values) != rows:
                raise ValueError(f"the model's {name} has shape {list(values.shape)} for {format_count(rows, 'row')}")
        return outputs

    def predict(self, instances: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one mapping of outputs for each row.

        Raises:
          RequestError: A row does not fit the model, or its prediction is not finite.
        """
        try:
            outputs = self.predict_columns(self.convert_rows(instances))
        except ValueError as error:
            raise RequestError(str(error)) from error
        check_finite(outputs, {}, {})
        return to_rows(outputs)

    def describe_inputs(self) -> str:
        """Return the inputs with their types and shapes, in words."""
        return ", ".join(f"'{name}', {spec.dtype.name} of shape {spec.shape}" for name, spec in self.specs.items())

    def build_example_row(self) -> dict[str, Any]:
        """Return a row of zeros, or of empty strings; dimensions of any size have one value."""
        return {name: _build_example_value(spec) for name, spec in self.specs.items()}

    def _name_inputs(self, instance: Any, where: str) -> Mapping[str, Any]:
        is_named = isinstance(instance, Mapping) and instance.keys() != {"b64"}
        if not is_named and len(self.specs) == 1:
            # TF Serving's rule: a single input need not be named.
            return dict.fromkeys(self.specs, instance)
        if not is_named:
            raise RequestError(f"{where}: expected an object of the inputs {self.describe_inputs()}")
        for name in instance:
            if name not in self.specs:
                raise RequestError(f"{where}: '{name[:40]}' is unknown; {suggest_name(name, [*self.specs])}")
        for name in self.specs:
            if name not in instance:
                raise RequestError(f"{where}: '{name}' is missing; expected {self.describe_inputs()}")
        named: Mapping[str, Any] = instance
        return named


def _has_rows(spec: tf.TensorSpec) -> bool:
    return bool(spec.shape.rank is None or (spec.shape.rank > 0 and spec.shape[0] is None))


def load_predictor(folder: Path) -> Predictor | TensorPredictor:
    """Return the model of a folder, by its declaration if it has one.

    Raises:
      ModelError: The folder has no model that can be served.
    """
    return Predictor(folder) if (folder / DECLARATION_FILE).exists() else TensorPredictor(folder)


def _choose_signature(signatures: Mapping[str, Any], folder: str | Path) -> str:
    names = sorted(name for name in signatures if name != _INTERNAL)
    if SERVING_DEFAULT in names:
        return SERVING_DEFAULT
    if len(names) == 1:
        return names[0]
    existing = f"its signatures are {', '.join(names)}" if names else "it has no signatures"
    raise ModelError(f"{folder}: no model can be loaded from it: expected the signature {SERVING_DEFAULT}; {existing}")


def _find_damaged(columns: Mapping[str, Sequence[Any]]) -> int | None:
    """Return the first row that is not a serialized tf.Example, if the model takes nothing else but strings."""
    for row, value in enumerate(next(iter(columns.values())) if len(columns) == 1 else ()):
        record = value.item() if isinstance(value, np.ndarray) and value.size == 1 else None
        try:
            tf.train.Example.FromString(record if isinstance(record, bytes) else b"")
        except DecodeError:
            return row
    return None


def _find_reason(message: str) -> str:
    """Return the reason in an error of TensorFlow, between the places in its code and those in the graph."""
    lines = message.partition("\n\t [[")[0].splitlines()
    return _FUNCTION_NODES.sub("", lines[-1])[:_MAX_ERROR_CHARS]


def _convert(value: Any, spec: tf.TensorSpec, where: str) -> NDArray[Any]:
    """Return the value of one row as an array of the input's type.

    Raises:
      RequestError: It has another type or shape.
    """
    try:
        array = _to_strings(value) if spec.dtype == tf.string else _to_numbers(value, spec.dtype)
    except (ValueError, TypeError, OverflowError, KeyError, binascii.Error):
        array = None
    # The rows are the first dimension.
    shape = tf.TensorShape(None) if spec.shape.rank is None else spec.shape[1:]
    if array is not None and array.ndim == 0 and shape.num_elements() == 1:
        # As TF Serving does, for TensorFlow 1's models: one value stands for a list of one.
        array = array.reshape(shape.as_list())
    if array is None or not shape.is_compatible_with(array.shape):
        expected = f"{spec.dtype.name} of shape {shape.as_list()}" if shape.rank else f"one {spec.dtype.name}"
        raise RequestError(f"{where}: expected {expected}, found {str(value)[:60]}")
    return array


def _to_numbers(value: Any, dtype: tf.DType) -> NDArray[Any]:
    array = np.asarray(value)
    converted = array.astype(dtype.as_numpy_dtype)
    if array.dtype.kind not in ("b" if dtype.is_bool else "iub" if dtype.is_integer else "iufb"):
        raise TypeError(array.dtype)
    if dtype.is_integer and not (converted == array).all():
        raise OverflowError(value)
    return converted


def _to_strings(value: Any) -> NDArray[Any]:
    return np.array(_to_bytes(value), object)


def _to_bytes(value: Any) -> Any:
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case {"b64": str(text)}:
            return base64.b64decode(text, validate=True)
        case list():
            return [_to_bytes(item) for item in value]
    raise TypeError(value)


def _build_example_value(spec: tf.TensorSpec) -> Any:
    sizes = [] if spec.shape.rank is None else [1 if size is None else size for size in spec.shape[1:]]
    if spec.dtype == tf.string:
        return np.full(sizes, "", object).tolist()
    return np.zeros(sizes, spec.dtype.as_numpy_dtype).tolist()
