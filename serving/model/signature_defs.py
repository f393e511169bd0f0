"""The signatures of a model as TF Serving describes them."""

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor


def signature_defs(predictor: Predictor | TensorPredictor) -> get_model_metadata_pb2.SignatureDefMap:
    """Return the signatures that a request may name."""
    definitions: dict[str, meta_graph_pb2.SignatureDef] = {
        name: predictor.signature(name) for name in predictor.signatures
    }
    return get_model_metadata_pb2.SignatureDefMap(signature_def=definitions)
