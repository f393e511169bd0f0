"""The signatures of an exported model (`serving/model/served_model.py` makes them) and the names of their outputs.

- `serving_default` takes raw values by column (`escape_name`), as a JSON caller has them, shape [batch] each.
- `serving_examples` takes serialized tf.Example, shape [batch]; Evaluator uses it.
- `bulk_examples` is `serving_examples` with strings of shape [batch, 1], as stock BulkInferrer expects them.
- `true_label` takes serialized tf.Example and gives the label as the network was fitted to it, for Evaluator.

The outputs of both prediction signatures depend on the kind of the label:
- binary: `probability` of the positive value, and `predicted_label`, which is the positive value above the model's
  threshold (schemas/decision.py), shape [batch] each;
- multiclass: `probabilities` and `classes`, the values they belong to, shape [batch, classes], and `predicted_label`;
- regression: `prediction`, in the label's own unit, shape [batch];
Each row has two more outputs. `model_version` is read from a text file among the assets, into which a push writes the
number. `schema_hash` (`schemas.curated.schema_file.hash_schema`) is that of the schema of the training data.

A missing value is the one that `schemas.features.MISSING` has for its type. In a tf.Example it is omitted. The model
server converts strings that stand for a missing value to it (schemas/tables/values.py).
"""

from collections.abc import Mapping
from typing import assert_never

import tensorflow as tf

from schemas.features import (
    BinaryLabel,
    ColumnType,
    Label,
    MulticlassLabel,
    RegressionLabel,
)
from serving.model.output_names import PREDICTION, PROBABILITIES, PROBABILITY

SERVING_DEFAULT = "serving_default"
SERVING_EXAMPLES = "serving_examples"
BULK_EXAMPLES = "bulk_examples"
TRUE_LABEL = "true_label"
CLASSES = "classes"
PREDICTED_LABEL = "predicted_label"
MODEL_VERSION = "model_version"
SCHEMA_HASH = "schema_hash"
# The order of the outputs in a response.
OUTPUT_ORDER = (PREDICTED_LABEL, PROBABILITY, PROBABILITIES, CLASSES, PREDICTION, MODEL_VERSION, SCHEMA_HASH)
LABEL = "label"
# The version before a push.
UNPUSHED = "unpushed"

DTYPES: Mapping[ColumnType, tf.DType] = {"float": tf.float32, "int": tf.int64, "string": tf.string}


def encode_label(label: Label, raw: tf.Tensor) -> tf.Tensor:
    """Return the labels that the network is fitted to, [batch]: int64 indices of `label.classes`, or float32."""
    match label:
        case RegressionLabel():
            return raw
        case BinaryLabel() | MulticlassLabel():
            return tf.argmax(tf.equal(raw[:, None], tf.constant(label.classes)), axis=1)
        case _:
            assert_never(label)
