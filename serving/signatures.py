"""The signatures of an exported model: one `_predict` stands behind every one of them.

- `serving_default` takes raw values by the column's `safe_name`, as a JSON caller has them, shape [batch] each.
- `serving_examples` takes serialized tf.Example, shape [batch]; Evaluator and batch prediction use it.
- `true_label` takes serialized tf.Example and gives the label as 0 or 1, for Evaluator.

Both prediction signatures answer `probability`, of the positive label, and `predicted_label`, shape [batch] each.
A missing value is sent as "", NaN or -1 (see components/transform.py) or, in a tf.Example, left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schemas.features import ColumnType, FeatureSet, safe_name

SERVING_DEFAULT = "serving_default"
SERVING_EXAMPLES = "serving_examples"
TRUE_LABEL = "true_label"
PROBABILITY = "probability"
PREDICTED_LABEL = "predicted_label"
LABEL = "label"
DECISION_THRESHOLD = 0.5

DTYPES: Mapping[ColumnType, tf.DType] = {"float": tf.float32, "int": tf.int64, "string": tf.string}


class ServedModel(tf.Module):
    """A trained network with its Transform graph, ready to be exported."""

    def __init__(
        self,
        network: Callable[..., tf.Tensor],
        transform_output: tft.TFTransformOutput,
        features: FeatureSet,
    ) -> None:
        """Args:
        network: from transformed columns of shape [batch, 1] to the logit, [batch, 1].
        transform_output: the graph the network was trained behind.
        features: the declaration of both.
        """
        super().__init__()
        self.network = network
        self.transform_layer = transform_output.transform_features_layer()
        self._features = features
        self._label_spec = {features.label.column: tf.io.FixedLenFeature([], tf.string, default_value="")}
        spec = transform_output.raw_feature_spec()
        self._raw_spec = {name: spec[name] for name in features.features}
        self._inputs = [c.name for c in features.id_columns] + [c.name for c in features.number_columns]

    def _predict(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        transformed = self.transform_layer(dict(raw))
        logit = self.network({name: tf.reshape(transformed[name], [-1, 1]) for name in self._inputs}, training=False)
        probability = tf.sigmoid(tf.squeeze(logit, axis=1))
        label = self._features.label
        predicted = tf.where(probability >= DECISION_THRESHOLD, label.positive, label.negative)
        return {PROBABILITY: probability, PREDICTED_LABEL: predicted}

    @tf.function
    def predict_named(self, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Raw values by the column's safe name, [batch] each."""
        return self._predict({name: self._as_parsed(name, values[safe_name(name)]) for name in self._raw_spec})

    def _as_parsed(self, name: str, value: tf.Tensor) -> Any:
        """The value as parsing a tf.Example gives it, so that both ways into the graph are one."""
        if not isinstance(self._raw_spec[name], tf.io.VarLenFeature):
            return tf.reshape(value, [-1, *self._raw_spec[name].shape])
        return tf.RaggedTensor.from_tensor(value[:, None]).to_sparse()

    @tf.function
    def predict_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Example, [batch]."""
        return self._predict(tf.io.parse_example(examples, self._raw_spec))

    @tf.function
    def true_label(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The label of serialized tf.Example, [batch], as int64 of 0 and 1."""
        label = self._features.label
        values = tf.io.parse_example(examples, self._label_spec)[label.column]
        return {LABEL: tf.cast(values == label.positive, tf.int64)}

    def export(self, folder: str) -> None:
        """Writes a SavedModel with all signatures."""
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
