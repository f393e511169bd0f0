"""Handover of work to the executor of stock TFX: the reasons, and the line in the log."""

import logging
from collections.abc import Iterable

from tfx import types
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2

_LOG = logging.getLogger(__name__)
_GZIPPED = ("tfrecords_gzip", "FORMAT_TFRECORDS_GZIP")


def log_handover(component: str, reason: str) -> None:
    """Log why the executor of stock TFX does the work.

    Args:
      component: Name of the component.
      reason: What the faster executor does not support.
    """
    _LOG.warning("%s: the executor of stock TFX does the work, since %s", component, reason)


def explain_unreadable(artifacts: Iterable[types.Artifact]) -> str:
    """Return why a reader of TFRecord files of tf.Example cannot read some artifact; empty if it can read all."""
    for examples in artifacts:
        payload, files = examples_utils.get_payload_format_string(examples), examples_utils.get_file_format(examples)
        if payload != example_gen_pb2.PayloadFormat.Name(example_gen_pb2.FORMAT_TF_EXAMPLE):
            return f"the examples are of {payload}"
        if files not in _GZIPPED:
            return f"the examples' files are of {files}"
        if examples.has_custom_property(examples_utils.CUSTOM_SPLIT_PATTERN_PROPERTY_NAME):
            return "the examples have file patterns of their own"
    return ""
