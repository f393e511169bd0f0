"""A SavedModel in a session of TensorFlow 1: one row costs a third of a call of what `tf.saved_model.load` returns."""

import os
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.model.literal_paths import make_literal_path

Arrays = Mapping[str, NDArray[np.generic]]
# https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/config.proto, RunOptions
_IN_THE_CALLERS_THREAD = -1


class ModelError(Exception):
    """The folder holds no model that can be served; the message has the reason."""


class SessionModel:
    """A loaded SavedModel; its functions may be called in any thread.

    Attributes:
      signatures: Its signatures by name, as TF Serving describes them.

    Raises:
      ModelError: The folder has no SavedModel, or it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        graph, path = tf.Graph(), make_literal_path(folder)
        self._session = tf.compat.v1.Session(graph=graph)
        # Also at the end of the process, after which its callables find no module to be released by.
        weakref.finalize(self, self._session.close)
        try:
            with graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], path)
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError, tf.errors.OpError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{folder}: no model can be loaded from it: {reason}") from error
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(loaded.signature_def)

    def run_tensors(self, feed: Arrays, fetch: Sequence[str], targets: Sequence[str]) -> None:
        """Run parts of the graph, by the names of its tensors and operations, as TF Serving's SessionRun does.

        Raises:
          ValueError: A name or a value does not fit the graph.
          tf.errors.OpError: The graph rejects the values.
        """
        graph = self._session.graph
        try:
            parts = [*map(graph.get_tensor_by_name, fetch), *map(graph.get_operation_by_name, targets)]
            self._session.run(parts, {graph.get_tensor_by_name(name): value for name, value in feed.items()})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error.args[0])) from error

    def build_function(self, name: str) -> Callable[[Arrays], dict[str, NDArray[np.generic]]]:
        """Return a signature as a function of arrays, whose types and shapes are those of its inputs.

        The function raises `tf.errors.OpError` if the model rejects the values.
        """
        signature = self.signatures[name]
        inputs, outputs = list(signature.inputs), list(signature.outputs)
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[key].name for key in inputs], fetch=[signature.outputs[key].name for key in outputs]
        )
        # A handover to another thread costs as much as the whole model.
        options.run_options.inter_op_thread_pool = _IN_THE_CALLERS_THREAD
        call = self._session._make_callable_from_options(options)

        def run(arrays: Arrays) -> dict[str, NDArray[np.generic]]:
            return dict(zip(outputs, call(*(arrays[key] for key in inputs)), strict=True))

        return run


def list_specs(tensors: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, tf.TensorSpec]:
    """Return the inputs or outputs of a signature by name, sorted: TensorFlow's order differs at each start."""
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))
        for name, info in sorted(tensors.items())
    }
