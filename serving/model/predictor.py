"""A loaded SavedModel, and its predictions for columns of values, rows of JSON, and serialized tf.Example."""

import base64
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2

from schemas.data import ReadOptions
from schemas.decision import DecisionThreshold
from schemas.features import ColumnType, FeatureSet
from schemas.sensitive import MASK
from schemas.tables.values import Rule
from serving.model.inputs import (
    Columns,
    Inputs,
    ModelInput,
    RequestError,
    build_inputs,
    convert_columns,
    convert_examples,
    convert_rows,
    count_out_of_range,
)
from serving.model.session_model import Arrays, ModelError, SessionModel, list_specs
from serving.model.signatures import DTYPES, MODEL_VERSION, OUTPUT_ORDER, SCHEMA_HASH, SERVING_DEFAULT, SERVING_EXAMPLES
from serving.registry import DECISION_FILE, DECLARATION_FILE, READ_OPTIONS_FILE

Outputs = dict[str, NDArray[Any]]
# Strings may have any length, which only an array of objects leaves as they are.
_ARRAY_TYPES: Mapping[ColumnType, Any] = {
    kind: object if dtype == tf.string else dtype.as_numpy_dtype for kind, dtype in DTYPES.items()
}
# https://www.tensorflow.org/tfx/serving/api_rest#output_of_binary_values
_BYTES_SUFFIX = "_bytes"


class Predictor:
    """A loaded model.

    Attributes:
      inputs: inputs of `serving_default`.
      features: declaration of its training; None for a model of another origin, all of whose inputs are required.
      decision: threshold of a binary label and the costs it was chosen by; None for a model without declared costs.
      version, schema_hash: outputs of the model; empty if it has no such output.

    Raises:
      ModelError: the folder has no SavedModel, it is damaged, or its signature takes other inputs than columns.
    """

    def __init__(self, folder: str | Path) -> None:
        self._model = SessionModel(folder)
        if SERVING_DEFAULT not in self._model.signatures:
            raise ModelError(f"{folder}: no model can be loaded from it: it has no signature {SERVING_DEFAULT}")
        specs = list_specs(self._model.signatures[SERVING_DEFAULT].inputs)
        self.features = _read_features(Path(folder))
        self.decision = _read_decision(Path(folder))
        self.inputs = _read_inputs(specs, self.features, Path(folder))
        self._types = {name: _ARRAY_TYPES[field.kind] for name, field in self.inputs.items()}
        self._call = self._model.build_function(SERVING_DEFAULT)
        answer = self.predict_columns({name: [_choose_placeholder(field)] for name, field in self.inputs.items()})
        self.version, self.schema_hash = (
            str(to_list(answer[name])[0]) if name in answer else "" for name in (MODEL_VERSION, SCHEMA_HASH)
        )

    def predict_columns(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> Outputs:
        """Return the outputs of `serving_default`, [rows] or [rows, classes] each.

        Args:
          columns: every input by its name, [rows] each, as `convert_rows` makes them.
        """
        return self._sort(self._call({name: np.array(columns[name], kind) for name, kind in self._types.items()}))

    def predict_examples(self, records: Sequence[bytes]) -> Outputs:
        """Return the outputs for serialized tf.Example, [rows] or [rows, classes] each.

        Raises:
          RequestError: A record does not fit the model, or its prediction is not finite.
        """
        return self._predict_finite(convert_examples(self.inputs, records))

    def convert_rows(self, instances: Sequence[Any]) -> Columns:
        """Return rows as one list for each input; `serving.model.inputs` has the rules and the errors."""
        return convert_rows(self.inputs, instances)

    def convert_columns(self, columns: Mapping[str, Any]) -> Columns:
        """Return values that come by column as `convert_rows` does."""
        return convert_columns(self.inputs, columns)

    def convert_examples(self, records: Sequence[bytes]) -> Columns:
        """Return serialized tf.Example as `convert_rows` does."""
        return convert_examples(self.inputs, records)

    def count_out_of_range(self, columns: Columns) -> dict[str, int]:
        """Return by column how many values are IDs outside its range."""
        return count_out_of_range(self.inputs, columns)

    def check_finite(self, outputs: Mapping[str, NDArray[Any]], columns: Columns) -> None:
        """Raise RequestError if a number among the outputs is NaN or infinite."""
        check_finite(outputs, self.inputs, columns)

    def _predict_finite(self, columns: Columns) -> Outputs:
        outputs = self.predict_columns(columns)
        check_finite(outputs, self.inputs, columns)
        return outputs

    def _sort(self, outputs: Outputs) -> Outputs:
        """Return outputs in the order of the documentation; TensorFlow's order differs at each start."""
        return {name: outputs[name] for name in sorted(outputs, key=lambda name: (_find_rank(name), name))}

    def predict(self, instances: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one mapping of outputs for each row of named values.

        Raises:
          RequestError: a row does not fit the model, or its prediction is not finite.
        """
        return to_rows(self._predict_finite(convert_rows(self.inputs, instances)))

    @functools.cached_property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures that take rows: those of raw values, and of tf.Example."""
        return tuple(name for name in (SERVING_DEFAULT, SERVING_EXAMPLES) if name in self._model.signatures)

    def run_tensors(self, feed: Arrays, fetch: Sequence[str], targets: Sequence[str]) -> None:
        """Run parts of the graph; raises as `SessionModel.run_tensors`."""
        self._model.run_tensors(feed, fetch, targets)

    def get_signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """Return a signature as TF Serving describes it."""
        return self._model.signatures[name]


def _find_rank(output: str) -> int:
    return OUTPUT_ORDER.index(output) if output in OUTPUT_ORDER else -1


def _read_features(folder: Path) -> FeatureSet | None:
    file = folder / DECLARATION_FILE
    return FeatureSet.model_validate_json(file.read_text()) if file.exists() else None


def _read_decision(folder: Path) -> DecisionThreshold | None:
    file = folder / DECISION_FILE
    try:
        return DecisionThreshold.model_validate_json(file.read_bytes()) if file.exists() else None
    except ValueError as error:
        raise ModelError(f"{file}: is damaged; push the model again") from error


def _read_inputs(specs: Mapping[str, tf.TensorSpec], features: FeatureSet | None, folder: Path) -> Inputs:
    kinds: dict[Any, ColumnType] = {dtype: kind for kind, dtype in DTYPES.items()}
    for name, spec in specs.items():
        if spec.dtype not in kinds or spec.shape.rank != 1:
            raise ModelError(
                f"{folder}: input '{name}' of {SERVING_DEFAULT} is {spec.dtype.name} of shape {spec.shape}; expected "
                "one string, float32 or int64 a row"
            )
    undeclared = Inputs(
        [ModelInput(name, Rule(name, kinds[spec.dtype], required=True)) for name, spec in specs.items()]
    )
    if features is None:
        return undeclared
    declared = build_inputs(features, ReadOptions.model_validate_json((folder / READ_OPTIONS_FILE).read_text()))
    if {(field.name, field.kind) for field in declared.values()} != {
        (field.name, field.kind) for field in undeclared.values()
    }:
        raise ModelError(f"{folder}: {DECLARATION_FILE} and the inputs of {SERVING_DEFAULT} differ")
    return declared


def check_finite(
    outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, ModelInput], columns: Mapping[str, Sequence[Any]]
) -> None:
    """Raise an error if a number among the outputs is NaN or infinite.

    Args:
      outputs: Outputs by name, [rows] or [rows, classes] each.
      inputs: Inputs of the model.
      columns: Values that were predicted, by input.

    Raises:
      RequestError: Names the row, the output, and the largest number of the row.
    """
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
            numbers = [(columns[key][row], field) for key, field in inputs.items() if field.kind == "float"]
            hint = ""
            if numbers:
                number, field = max(numbers, key=lambda pair: abs(np.nan_to_num(pair[0])))
                hint = f"; the largest number is {MASK if field.rule.sensitive else f'{number:g}'} in {field.column}"
            raise RequestError(f"instances[{row}]: the model's {name} is not a finite number{hint}")


def _choose_placeholder(field: ModelInput) -> Any:
    return "" if field.kind == "string" else 0


def to_rows(outputs: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return outputs by name as one mapping for each row."""
    names = list(outputs)
    columns = [to_json(name, values) for name, values in outputs.items()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def to_json(name: str, values: NDArray[Any]) -> list[Any]:
    """Return an output as lists of JSON values; by TF Serving's rule, strings of an output `..._bytes` as base64."""
    return _encode(values.tolist()) if name.endswith(_BYTES_SUFFIX) and values.dtype == np.object_ else to_list(values)


def _encode(value: Any) -> Any:
    return [_encode(v) for v in value] if isinstance(value, list) else {"b64": base64.b64encode(value).decode()}


def to_list(values: NDArray[Any]) -> list[Any]:
    """Return an array as lists of JSON values; strings are decoded."""
    if values.dtype == np.object_:
        return [_decode(value) for value in values.tolist()]
    elements: list[Any] = values.tolist()
    return elements


def _decode(value: Any) -> Any:
    return [_decode(item) for item in value] if isinstance(value, list) else value.decode("utf-8", errors="replace")
