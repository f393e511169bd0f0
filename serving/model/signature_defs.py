"""The signatures of a model as TF Serving describes them."""

from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor

_PREDICT = "tensorflow/serving/predict"


def signature_defs(predictor: Predictor | TensorPredictor) -> get_model_metadata_pb2.SignatureDefMap:
    """Return the signatures that a request may name."""
    return get_model_metadata_pb2.SignatureDefMap(
        signature_def={name: _definition(predictor.signature(name)) for name in predictor.signatures}
    )


def _definition(function: Any) -> meta_graph_pb2.SignatureDef:
    inputs = function.structured_input_signature[1]
    return meta_graph_pb2.SignatureDef(
        inputs={name: _tensor(spec) for name, spec in inputs.items()},
        outputs={name: _tensor(spec) for name, spec in function.structured_outputs.items()},
        method_name=_PREDICT,
    )


def _tensor(spec: tf.TensorSpec) -> meta_graph_pb2.TensorInfo:
    shape = spec.shape.as_proto()
    return meta_graph_pb2.TensorInfo(name=spec.name, dtype=spec.dtype.as_datatype_enum, tensor_shape=shape)
