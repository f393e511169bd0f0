"""A SavedModel that was loaded, and its answers: to columns of values, to rows of JSON, to serialized tf.Example."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from schemas.features import ColumnType, FeatureSet
from serving.inputs import Input, columns_of, declared_inputs
from serving.literal_paths import literal_path
from serving.registry import DECLARATION_FILE
from serving.signatures import DTYPES, MODEL_VERSION, OUTPUT_ORDER, SCHEMA_HASH, SERVING_DEFAULT, SERVING_EXAMPLES

# Among TensorFlow's many lines: which feature, or which bytes.
_EXAMPLE_ERROR = re.compile(r"(?:Feature: |Key: |Could not parse example input).*")

Outputs = dict[str, NDArray[Any]]


class ModelError(Exception):
    """The folder holds no model that can be served; the text says why."""


class Predictor:
    """A loaded model.

    Attributes:
      inputs: what `serving_default` takes.
      features: the declaration it was trained on; None for a model of another origin, all of whose inputs are required.
      version, schema_hash: as the model says them in its answers; empty if it does not.

    Raises:
      ModelError: there is no SavedModel in the folder, it is damaged, or its signature takes other than columns.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            self._model = tf.saved_model.load(literal_path(folder))
            self._signature = self._model.signatures[SERVING_DEFAULT]
        except (OSError, ValueError, KeyError, AttributeError, tf.errors.OpError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{folder}: no model can be loaded from it: {reason}") from error
        specs = self._signature.structured_input_signature[1]
        self.features = _declaration(Path(folder))
        self.inputs = _inputs(specs, self.features, folder)
        self._packs = _packs(self.inputs)
        self._packed = self._pack(specs)
        answer = self.predict_columns({name: [_plausible(one)] for name, one in self.inputs.items()})
        self.version, self.schema_hash = (
            str(plain(answer[name])[0]) if name in answer else "" for name in (MODEL_VERSION, SCHEMA_HASH)
        )

    def _pack(self, specs: Mapping[str, tf.TensorSpec]) -> Any:
        """The signature, with one argument for all inputs of a type: each argument costs as much as a small layer."""

        def call(*stacked: tf.Tensor) -> dict[str, tf.Tensor]:
            columns: dict[str, tf.Tensor] = {}
            for names, pack in zip(self._packs.values(), stacked, strict=True):
                columns |= {name: pack[index] for index, name in enumerate(names)}
            outputs: dict[str, tf.Tensor] = self._signature(**columns)
            return outputs

        signature = [tf.TensorSpec([len(names), None], DTYPES[kind]) for kind, names in self._packs.items()]
        return tf.function(call, input_signature=signature, autograph=False).get_concrete_function()

    def predict_columns(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> Outputs:
        """The outputs of `serving_default`, [rows] or [rows, classes] each.

        Args:
          columns: every input by its name, [rows] each, as `columns_of` makes them.
        """
        packs = [tf.constant([columns[name] for name in names], DTYPES[kind]) for kind, names in self._packs.items()]
        return self._ordered({name: tensor.numpy() for name, tensor in self._packed(*packs).items()})

    def predict_examples(self, examples: Sequence[bytes]) -> Outputs:
        """The outputs of `serving_examples` for serialized tf.Example.

        Raises:
          KeyError: the model has no such signature.
          ValueError: a record is no tf.Example, or lacks a feature.
        """
        try:
            outputs = self._of_examples(examples)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(self._first_fault(examples)) from error
        return self._ordered({name: tensor.numpy() for name, tensor in outputs.items()})

    def _of_examples(self, examples: Sequence[bytes]) -> dict[str, tf.Tensor]:
        signature = self._model.signatures[SERVING_EXAMPLES]
        (argument,) = signature.structured_input_signature[1]
        # By keyword: of an argument by position TensorFlow first makes a text, for an error message.
        outputs: dict[str, tf.Tensor] = signature(**{argument: tf.constant(list(examples), tf.string)})
        return outputs

    def _first_fault(self, examples: Sequence[bytes], start: int = 0) -> str:
        """What is wrong with the first record that cannot be parsed: TensorFlow names the feature, not the record."""
        half = len(examples) // 2
        try:
            self._of_examples(examples[:half] or examples)
        except tf.errors.InvalidArgumentError as error:
            if half:
                return self._first_fault(examples[:half], start)
            said = _EXAMPLE_ERROR.search(error.message)
            reason = said[0][:200] if said else "a feature has several values, or is none of the model's"
            return f"instances[{start}]: cannot be parsed as a tf.Example of this model: {reason}"
        return self._first_fault(examples[half:], start + half) if half else "the records cannot be parsed"

    def _ordered(self, outputs: Outputs) -> Outputs:
        """In the order of the documentation; TensorFlow's is another at each start."""
        return {name: outputs[name] for name in sorted(outputs, key=lambda name: (_place(name), name))}

    def predict(self, instances: Sequence[Any]) -> list[dict[str, Any]]:
        """One mapping of outputs for each row of named values.

        Raises:
          RequestError: a row does not fit the model.
        """
        return rows_of(self.predict_columns(columns_of(self.inputs, instances)))

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures that take rows: those of raw values, and of tf.Example."""
        return tuple(name for name in (SERVING_DEFAULT, SERVING_EXAMPLES) if name in self._model.signatures)

    def signature(self, name: str) -> Any:
        """A signature's ConcreteFunction."""
        return self._model.signatures[name]


def _place(output: str) -> int:
    return OUTPUT_ORDER.index(output) if output in OUTPUT_ORDER else -1


def _declaration(folder: Path) -> FeatureSet | None:
    file = folder / DECLARATION_FILE
    return FeatureSet.model_validate_json(file.read_text()) if file.exists() else None


def _inputs(specs: Mapping[str, tf.TensorSpec], features: FeatureSet | None, folder: str | Path) -> dict[str, Input]:
    kinds: dict[Any, ColumnType] = {dtype: kind for kind, dtype in DTYPES.items()}
    for name, spec in specs.items():
        if spec.dtype not in kinds or spec.shape.rank != 1:
            raise ModelError(
                f"{folder}: input '{name}' of {SERVING_DEFAULT} is {spec.dtype.name} of shape {spec.shape}; expected "
                "one text, float32 or int64 a row"
            )
    found = {name: Input(name, name, kinds[spec.dtype], True) for name, spec in specs.items()}
    if features is None:
        return found
    declared = declared_inputs(features)
    if {(one.name, one.kind) for one in declared.values()} != {(one.name, one.kind) for one in found.values()}:
        raise ModelError(f"{folder}: {DECLARATION_FILE} and the inputs of {SERVING_DEFAULT} do not agree")
    return declared


def _packs(inputs: Mapping[str, Input]) -> dict[ColumnType, list[str]]:
    packs: dict[ColumnType, list[str]] = {}
    for name, one in inputs.items():
        packs.setdefault(one.kind, []).append(name)
    return packs


def _plausible(one: Input) -> Any:
    return "" if one.kind == "string" else 0


def rows_of(outputs: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Outputs by name as one mapping for each row."""
    names = list(outputs)
    columns = [plain(values) for values in outputs.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def plain(values: NDArray[Any]) -> list[Any]:
    """An array as lists of what JSON holds; texts decoded."""
    if values.dtype == np.object_:
        return [_text(value) for value in values.tolist()]
    listed: list[Any] = values.tolist()
    return listed


def _text(value: Any) -> Any:
    return [_text(item) for item in value] if isinstance(value, list) else value.decode("utf-8", errors="replace")
