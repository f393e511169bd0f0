"""What is exported: each signature once, one graph behind both that predict."""

from pathlib import Path
from typing import Any

from schemas.data import ReadOptions
from tests.serving.models import FEATURES, SCHEMA_HASH, Transform


def test_the_network_is_traced_once_and_saved_once_for_all_signatures(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    from serving.served_model import ServedModel

    traced = []

    def network(inputs: dict[str, Any], training: bool) -> Any:
        traced.append(training)
        return tf.math.atanh(tf.reduce_sum(inputs["numbers"], axis=1, keepdims=True))

    ServedModel(network, {}, Transform(), FEATURES, SCHEMA_HASH, ReadOptions()).export(str(tmp_path))
    assert traced == [False]
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    nodes = [node.op for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def]
    assert nodes.count("Atanh") == 1
    assert nodes.count("ParseExampleV2") == 2
