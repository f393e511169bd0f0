"""A trained network with its Transform graph, and its export. `serving/model/signatures.py` describes the result.

One `_predict` stands behind every signature, traced once.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import tensorflow as tf
import tensorflow_transform as tft

from schemas.data import ReadOptions
from schemas.decision import DecisionThreshold
from schemas.features import MISSING, BinaryLabel, FeatureSet, MulticlassLabel, RegressionLabel, escape_name
from serving.model.literal_paths import make_literal_path
from serving.model.network_inputs import build_network_inputs
from serving.model.output_names import PREDICTION, PROBABILITIES, PROBABILITY
from serving.model.signatures import (
    BULK_EXAMPLES,
    CLASSES,
    DTYPES,
    LABEL,
    MODEL_VERSION,
    PREDICTED_LABEL,
    SCHEMA_HASH,
    SERVING_DEFAULT,
    SERVING_EXAMPLES,
    TRUE_LABEL,
    UNPUSHED,
    encode_label,
)
from serving.registry import DECISION_FILE, DECLARATION_FILE, READ_OPTIONS_FILE, VERSION_FILE

Tensors = dict[str, tf.Tensor]


class TransformGraph(tf.Module):
    """The graph that Transform has written: raw columns in, transformed columns out.

    TFT's own layer is a Keras model: TensorFlow traces and saves four functions of it that nobody calls.

    Attributes:
      raw_feature_spec: feature specification of the raw columns, as the graph takes them.
    """

    def __init__(self, transform_output: tft.TFTransformOutput) -> None:
        super().__init__()
        self.raw_feature_spec: Mapping[str, Any] = transform_output.raw_feature_spec()
        # Not TFT's loader: it traces each output back to its inputs, which takes minutes for a wide table.
        loaded = tf.saved_model.load(make_literal_path(transform_output.transform_savedmodel_dir))
        # Attributes are saved with this object: the graph's resources have to be, its function need not.
        self._parts = [loaded.resources, loaded.trackable_objects, loaded.initializers, loaded.assets]
        self._loaded = _Untracked(loaded.transform_fn)

    def __call__(self, raw: Mapping[str, Any]) -> Tensors:
        """Return transformed columns; those of omitted raw columns, such as the label, have no meaning."""
        (inputs,), _ = self._loaded.call.structured_input_signature
        rows = _count_rows(next(iter(raw.values())))
        columns = {name: raw[name] if name in raw else _build_missing(spec, rows) for name, spec in inputs.items()}
        transformed: Tensors = self._loaded.call(*tf.nest.flatten(columns, expand_composites=True))
        return transformed


def _count_rows(column: Any) -> tf.Tensor:
    return column.dense_shape[0] if isinstance(column, tf.SparseTensor) else tf.shape(column, tf.int64)[0]


def _build_missing(spec: Any, rows: tf.Tensor) -> Any:
    """Return a column without values, or with any value if the specification requires one."""
    if isinstance(spec, tf.SparseTensorSpec):
        nothing = tf.zeros([0], spec.dtype)
        return tf.SparseTensor(tf.zeros([0, 2], tf.int64), nothing, tf.stack([rows, 1]))
    return tf.zeros(tf.stack([rows, *spec.shape[1:]]), spec.dtype)


class ServedModel(tf.Module):
    """A trained network with its Transform graph, ready to be exported."""

    def __init__(
        self,
        network: Callable[..., tf.Tensor],
        weights: Mapping[str, tf.Variable],
        transform: TransformGraph,
        features: FeatureSet,
        schema_hash: str,
        read_options: ReadOptions,
        decision: DecisionThreshold | None = None,
    ) -> None:
        """Args:
        network: from `serving.model.network_inputs` to logits or numbers, [batch, outputs].
        weights: learned weights by name. Only they are saved: with the network, its optimizers would take twice as
          much, and hundreds of objects would be created whenever the model is loaded.
        transform: the graph the network was trained behind.
        features: the declaration of both.
        schema_hash: hash of the schema of the training data.
        read_options: options of reading the training data; batch prediction reads its input with them.
        decision: threshold of a binary label. If omitted, the threshold of a model without declared costs.
        """
        super().__init__()
        self._read_options = read_options
        self._decision = decision or DecisionThreshold()
        self._schema_hash = schema_hash
        self._version: tf.lookup.StaticHashTable | None = None
        self._network = _Untracked(network)
        self.weights = dict(weights)
        self.transform = transform
        self._features = features

    def _predict(self, raw: Mapping[str, tf.Tensor]) -> Tensors:
        """Return the outputs for raw columns by name, [batch] each; `MISSING` has the missing values."""
        features = self._features
        transformed = self.transform(self._convert_for_transform(raw))
        output = self._network.call(build_network_inputs(features, transformed), training=False)
        rows = tf.shape(output)[0]
        assert self._version is not None
        version = self._version.lookup(tf.constant(0, tf.int64))
        identity = {MODEL_VERSION: tf.fill([rows], version), SCHEMA_HASH: tf.fill([rows], self._schema_hash)}
        return {**self._build_outputs(output), **identity}

    def _convert_for_transform(self, raw: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        rows = tf.shape(next(iter(raw.values())), tf.int64)[0]
        # An optional column has one value in each row, too; it may stand for a missing one.
        indices = tf.stack([tf.range(rows), tf.zeros([rows], tf.int64)], axis=1)
        shape = tf.stack([rows, 1])
        return {
            name: tf.SparseTensor(indices, value, shape)
            if isinstance(spec := self.transform.raw_feature_spec[name], tf.io.VarLenFeature)
            else _reshape(value, spec)
            for name, value in raw.items()
        }

    def _build_outputs(self, output: tf.Tensor) -> Tensors:
        """Return the outputs of the label's kind from logits or numbers, [batch, outputs]."""
        match self._features.label:
            case BinaryLabel() as label:
                probability = tf.sigmoid(output[:, 0])
                predicted = tf.where(probability > self._decision.threshold, label.positive, label.negative)
                return {PROBABILITY: probability, PREDICTED_LABEL: predicted}
            case MulticlassLabel() as label:
                classes = tf.constant(label.classes)
                predicted = tf.gather(classes, tf.argmax(output, axis=1))
                every = tf.broadcast_to(classes, tf.shape(output))
                return {PROBABILITIES: tf.nn.softmax(output), CLASSES: every, PREDICTED_LABEL: predicted}
            case RegressionLabel():
                return {PREDICTION: output[:, 0]}
            case label:
                assert_never(label)

    def export(self, folder: str) -> None:
        """Write a SavedModel with all signatures."""
        with tempfile.TemporaryDirectory() as temporary:
            version = os.path.join(temporary, os.path.basename(VERSION_FILE))
            with open(version, "w") as file:
                file.write(f"{UNPUSHED}\n")
            # An asset: read once, when the model is loaded.
            self._version = _build_line_table(version)
            tf.saved_model.save(self, folder, signatures=self._trace_signatures())
        # Not among TensorFlow's own assets, which the graph lists; servers ignore this folder.
        tf.io.gfile.makedirs(os.path.dirname(os.path.join(folder, DECLARATION_FILE)))
        declarations = {DECLARATION_FILE: self._features, READ_OPTIONS_FILE: self._read_options}
        if self._decision.costs is not None:
            declarations[DECISION_FILE] = self._decision
        for name, declaration in declarations.items():
            with tf.io.gfile.GFile(os.path.join(folder, name), "w") as file:
                file.write(declaration.model_dump_json(indent=1))

    def _trace_signatures(self) -> dict[str, Any]:
        """Trace the signatures. They are not kept: TensorFlow would trace and save attributes of the model again."""
        features, kinds = self._features, self._features.column_types
        # Without control flow there is no need for AutoGraph, which rewrites every called function.
        predict: Callable[[Mapping[str, tf.Tensor]], Tensors] = tf.function(self._predict, autograph=False)
        spec = {
            name: tf.io.FixedLenFeature([], DTYPES[kinds[name]])
            if feature.missing is None
            else tf.io.FixedLenFeature([], DTYPES[kinds[name]], MISSING[kinds[name]])
            for name, feature in features.raw_features.items()
        }
        label = features.label
        label_spec = {label.column: tf.io.FixedLenFeature([], DTYPES[kinds[label.column]])}

        def predict_columns(**values: tf.Tensor) -> Tensors:
            return predict({name: values[escape_name(name)] for name in spec})

        predict_examples = tf.function(lambda examples: predict(tf.io.parse_example(examples, spec)), autograph=False)

        def predict_in_bulk(examples: tf.Tensor) -> Tensors:
            # tfx_bsl takes the dtype of a row's value, which a string by itself does not have.
            outputs = predict_examples(examples)
            is_bare = {name: value.dtype == tf.string and value.shape.rank == 1 for name, value in outputs.items()}
            return {name: value[:, None] if is_bare[name] else value for name, value in outputs.items()}

        def encode_true_label(examples: tf.Tensor) -> Tensors:
            return {LABEL: encode_label(label, tf.io.parse_example(examples, label_spec)[label.column])}

        columns = {escape_name(n): tf.TensorSpec([None], DTYPES[kinds[n]], name=escape_name(n)) for n in spec}
        records = tf.TensorSpec([None], tf.string, name="examples")
        return {
            SERVING_DEFAULT: tf.function(predict_columns, autograph=False).get_concrete_function(**columns),
            SERVING_EXAMPLES: predict_examples.get_concrete_function(records),
            BULK_EXAMPLES: tf.function(predict_in_bulk, autograph=False).get_concrete_function(records),
            TRUE_LABEL: tf.function(encode_true_label, autograph=False).get_concrete_function(records),
        }


@dataclass(frozen=True)
class _Untracked:
    """Keeps an object out of the SavedModel."""

    call: Any


def _reshape(value: tf.Tensor, spec: tf.io.FixedLenFeature) -> tf.Tensor:
    return tf.reshape(value, [-1, *spec.shape]) if spec.shape else value


def _build_line_table(file: str) -> tf.lookup.StaticHashTable:
    """Return a table that holds the first line of a text file under the key 0."""
    index = tf.lookup.TextFileIndex
    lines = tf.lookup.TextFileInitializer(file, tf.int64, index.LINE_NUMBER, tf.string, index.WHOLE_LINE)
    return tf.lookup.StaticHashTable(lines, UNPUSHED)
