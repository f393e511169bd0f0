"""The signatures of a model as TF Serving describes them."""

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.model.inference import METHOD_NAMES, Method, has_method
from serving.model.predictor import Predictor
from serving.model.signatures import SERVING_EXAMPLES
from serving.model.tensor_predictor import TensorPredictor


def build_signature_defs(predictor: Predictor | TensorPredictor) -> get_model_metadata_pb2.SignatureDefMap:
    """Return the signatures that a request may name."""
    definitions = {name: predictor.get_signature(name) for name in predictor.signatures}
    if predictor.features is not None and SERVING_EXAMPLES in predictor.signatures:
        for method, name in METHOD_NAMES.items():
            if has_method(predictor, method):
                definitions[name] = _define_method(method)
    return get_model_metadata_pb2.SignatureDefMap(signature_def=definitions)


def _define_method(method: Method) -> meta_graph_pb2.SignatureDef:
    """Return the signature of Classify or Regress, whose outputs are derived from those of the prediction."""
    records = tf.TensorSpec([None], tf.string, "examples")
    scores = tf.TensorSpec([None, None], tf.float32, tf.saved_model.CLASSIFY_OUTPUT_SCORES)
    classes = tf.TensorSpec([None, None], tf.string, tf.saved_model.CLASSIFY_OUTPUT_CLASSES)
    values = tf.TensorSpec([None], tf.float32, tf.saved_model.REGRESS_OUTPUTS)
    outputs = (classes, scores) if method == "classify" else (values,)
    return meta_graph_pb2.SignatureDef(
        inputs={tf.saved_model.CLASSIFY_INPUTS: _describe(records)},
        outputs={spec.name: _describe(spec) for spec in outputs},
        method_name=METHOD_NAMES[method],
    )


def _describe(spec: tf.TensorSpec) -> meta_graph_pb2.TensorInfo:
    shape = spec.shape.as_proto()
    return meta_graph_pb2.TensorInfo(name=spec.name, dtype=spec.dtype.as_datatype_enum, tensor_shape=shape)
