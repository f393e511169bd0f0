"""The signatures of an exported model: one `_predict` stands behind every one of them.

- `serving_default` takes raw values by the column's `safe_name`, as a JSON caller has them, shape [batch] each.
- `serving_examples` takes serialized tf.Example, shape [batch]; Evaluator and batch prediction use it.
- `true_label` takes serialized tf.Example and gives the label as the network was fitted to it, for Evaluator.

Both prediction signatures answer, by the kind of the label:
- binary: `probability` of the positive value and `predicted_label`, shape [batch] each;
- multiclass: `probabilities` and `classes`, the values they belong to, shape [batch, classes], and `predicted_label`;
- regression: `prediction`, in the label's own unit, shape [batch];
and in each row who says so: `model_version`, read from a text file among the assets, into which a push writes the
number, and `schema_hash` (`schemas.curated.schema_hash`) of the schema that the training data was held against.

A missing value is sent as "", NaN or -1 (see components/transform.py) or, in a tf.Example, left out.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import tensorflow as tf
import tensorflow_transform as tft

from schemas.data import ReadOptions
from schemas.features import (
    BinaryLabel,
    ColumnType,
    FeatureSet,
    Label,
    LabelKind,
    MulticlassLabel,
    RegressionLabel,
    safe_name,
)
from serving.registry import DECLARATION_FILE, READ_OPTIONS_FILE, VERSION_FILE

SERVING_DEFAULT = "serving_default"
SERVING_EXAMPLES = "serving_examples"
TRUE_LABEL = "true_label"
PROBABILITY = "probability"
PROBABILITIES = "probabilities"
CLASSES = "classes"
PREDICTED_LABEL = "predicted_label"
PREDICTION = "prediction"
MODEL_VERSION = "model_version"
SCHEMA_HASH = "schema_hash"
# As answers have them.
OUTPUT_ORDER = (PREDICTED_LABEL, PROBABILITY, PROBABILITIES, CLASSES, PREDICTION, MODEL_VERSION, SCHEMA_HASH)
# The output that metrics are taken of.
MEASURED_OUTPUT: Mapping[LabelKind, str] = {
    "binary": PROBABILITY,
    "multiclass": PROBABILITIES,
    "regression": PREDICTION,
}
LABEL = "label"
DECISION_THRESHOLD = 0.5
# The version before a push.
UNPUSHED = "unpushed"

DTYPES: Mapping[ColumnType, tf.DType] = {"float": tf.float32, "int": tf.int64, "string": tf.string}


def encoded_label(label: Label, raw: tf.Tensor) -> tf.Tensor:
    """Raw labels as a network is fitted to them: int64 places in `label.classes`, or float32; shape [batch]."""
    match label:
        case RegressionLabel():
            return raw
        case BinaryLabel() | MulticlassLabel():
            return tf.argmax(tf.equal(raw[:, None], tf.constant(label.classes)), axis=1)
        case _:
            assert_never(label)


class ServedModel(tf.Module):
    """A trained network with its Transform graph, ready to be exported."""

    def __init__(
        self,
        network: Callable[..., tf.Tensor],
        transform_output: tft.TFTransformOutput,
        features: FeatureSet,
        schema_hash: str,
        read_options: ReadOptions,
    ) -> None:
        """Args:
        network: from transformed columns of shape [batch, 1] to logits or numbers, [batch, outputs].
        transform_output: the graph the network was trained behind.
        features: the declaration of both.
        schema_hash: of the schema of the training data.
        read_options: how the training data was read; batch prediction reads its input alike.
        """
        super().__init__()
        self._read_options = read_options
        self._schema_hash = schema_hash
        self._version: tf.lookup.StaticHashTable | None = None
        self.network = network
        self.transform_layer = transform_output.transform_features_layer()
        self._features = features
        column = features.label.column
        self._label_spec = {column: tf.io.FixedLenFeature([], DTYPES[features.column_types[column]])}
        spec = transform_output.raw_feature_spec()
        self._raw_spec = {name: spec[name] for name in features.features}
        # A schema without shapes lets TFT read every feature as one that may be missing.
        self._example_spec = {
            name: spec[name]
            if feature.missing is not None
            else tf.io.FixedLenFeature([], DTYPES[features.column_types[name]])
            for name, feature in features.features.items()
        }
        self._inputs = [c.name for c in features.id_columns] + [c.name for c in features.number_columns]

    def _predict(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        transformed = self.transform_layer(dict(raw))
        output = self.network({name: tf.reshape(transformed[name], [-1, 1]) for name in self._inputs}, training=False)
        rows = tf.shape(output)[0]
        assert self._version is not None
        version = self._version.lookup(tf.constant(0, tf.int64))
        who = {MODEL_VERSION: tf.fill([rows], version), SCHEMA_HASH: tf.fill([rows], self._schema_hash)}
        return {**self._answer(output), **who}

    def _answer(self, output: tf.Tensor) -> dict[str, tf.Tensor]:
        """From logits or numbers, [batch, outputs], to the outputs of the label's kind."""
        match self._features.label:
            case BinaryLabel() as label:
                probability = tf.sigmoid(output[:, 0])
                predicted = tf.where(probability >= DECISION_THRESHOLD, label.positive, label.negative)
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

    @tf.function
    def predict_named(self, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Raw values by the column's safe name, [batch] each."""
        return self._predict({name: self._as_parsed(name, values[safe_name(name)]) for name in self._raw_spec})

    def _as_parsed(self, name: str, value: tf.Tensor) -> Any:
        """The value as Transform takes it, so that both ways into the graph are one."""
        if isinstance(value, tf.SparseTensor):
            return value
        if not isinstance(self._raw_spec[name], tf.io.VarLenFeature):
            return tf.reshape(value, [-1, *self._raw_spec[name].shape])
        return tf.RaggedTensor.from_tensor(value[:, None]).to_sparse()

    @tf.function
    def predict_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Example, [batch]; one that lacks a required feature fails, with the feature's name."""
        parsed = tf.io.parse_example(examples, self._example_spec)
        return self._predict({name: self._as_parsed(name, value) for name, value in parsed.items()})

    @tf.function
    def true_label(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The `encoded_label` of serialized tf.Example, [batch]."""
        label = self._features.label
        return {LABEL: encoded_label(label, tf.io.parse_example(examples, self._label_spec)[label.column])}

    def export(self, folder: str) -> None:
        """Writes a SavedModel with all signatures."""
        with tempfile.TemporaryDirectory() as temporary:
            version = os.path.join(temporary, os.path.basename(VERSION_FILE))
            with open(version, "w") as file:
                file.write(f"{UNPUSHED}\n")
            # An asset: read once, when the model is loaded.
            self._version = _first_line(version)
            self._save(folder)
        # Beside TensorFlow's own assets, which it lists in the graph; servers leave this folder alone.
        tf.io.gfile.makedirs(os.path.dirname(os.path.join(folder, DECLARATION_FILE)))
        for name, declaration in {DECLARATION_FILE: self._features, READ_OPTIONS_FILE: self._read_options}.items():
            with tf.io.gfile.GFile(os.path.join(folder, name), "w") as file:
                file.write(declaration.model_dump_json(indent=1))

    def _save(self, folder: str) -> None:
        examples = tf.TensorSpec([None], tf.string, name="examples")
        kinds = self._features.column_types
        named = {
            safe_name(name): tf.TensorSpec([None], DTYPES[kinds[name]], name=safe_name(name)) for name in self._raw_spec
        }
        signatures = {
            SERVING_DEFAULT: self.predict_named.get_concrete_function(**named),
            SERVING_EXAMPLES: self.predict_examples.get_concrete_function(examples),
            TRUE_LABEL: self.true_label.get_concrete_function(examples),
        }
        tf.saved_model.save(self, folder, signatures=signatures)


def _first_line(file: str) -> tf.lookup.StaticHashTable:
    """A table that holds the first line of a text file under the key 0."""
    index = tf.lookup.TextFileIndex
    lines = tf.lookup.TextFileInitializer(file, tf.int64, index.LINE_NUMBER, tf.string, index.WHOLE_LINE)
    return tf.lookup.StaticHashTable(lines, UNPUSHED)
