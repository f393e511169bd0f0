"""The keys of a split's column, read from requests of each protocol before their rows are converted.

A value that cannot be read has no key: the conversion rejects it afterwards.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from schemas.features import escape_name
from serving.model.tensors import read_tensor


def read_json_keys(content: Mapping[str, Any], column: str | None) -> Iterable[str]:
    """Yield the values of a column in the rows of a JSON request; what cannot be read has no key.

    Args:
      content: Request with `instances`, `inputs`, or `examples` and `context`.
      column: Name of the column; None yields nothing.
    """
    if column is None:
        return
    rows = content.get("instances", content.get("examples"))
    context, inputs = content.get("context"), content.get("inputs")
    for entry in [context, *(rows if isinstance(rows, list) else [])]:
        if isinstance(entry, Mapping):
            yield from _read_row(entry, column)
    if isinstance(inputs, Mapping):
        for name in _list_names(column):
            values = inputs.get(name)
            yield from (key for value in (values if isinstance(values, list) else []) for key in _read_value(value))


def _read_row(row: Mapping[str, Any], column: str) -> Iterable[str]:
    coded = row.get("examples", row)
    if isinstance(coded, Mapping) and coded.keys() == {"b64"}:
        # Decoded twice, only where a key is inside.
        try:
            yield from read_record_keys([base64.b64decode(coded["b64"])], column)
        except (TypeError, ValueError, binascii.Error):
            return
        return
    for name in _list_names(column):
        yield from _read_value(row.get(name))


def _list_names(column: str) -> Sequence[str]:
    return tuple(dict.fromkeys((column, escape_name(column))))


def _read_value(value: Any) -> Iterable[str]:
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, bytes):
        yield value.decode(errors="backslashreplace")
    elif isinstance(value, float) and value.is_integer():
        # JSON may write an integer with a point.
        yield str(int(value))
    elif isinstance(value, str | int | float) and value != "":
        yield str(value)


def read_tensor_keys(tensors: Mapping[str, Any], column: str | None, most_values: int) -> Iterable[str]:
    """Yield the values of a column in a gRPC request of tensors.

    Args:
      tensors: TensorProto by name.
      column: Name of the column; None yields nothing.
      most_values: Maximum number of values of a tensor.
    """
    if column is None:
        return
    for name in _list_names(column):
        if name in tensors:
            for value in read_tensor(name, tensors[name], most_values).reshape(-1).tolist():
                yield from _read_value(value)
    if not any(name in tensors for name in _list_names(column)) and tensors.keys() == {"examples"}:
        yield from read_record_keys(read_tensor("examples", tensors["examples"], most_values).reshape(-1), column)


def read_message_keys(message: Any, column: str | None) -> Iterable[str]:
    """Yield the values of a column in an `Input` of Classify, Regress or MultiInference."""
    kind = message.WhichOneof("kind")
    if column is None or kind is None:
        return
    for example in getattr(message, kind).examples:
        yield from _read_example(example, column)
    if kind == "example_list_with_context":
        yield from _read_example(message.example_list_with_context.context, column)


def read_record_keys(records: Iterable[bytes], column: str) -> Iterable[str]:
    """Yield the values of a column in serialized tf.Example; the conversion rejects records that are damaged."""
    for record in records:
        try:
            example = tf.train.Example.FromString(record)
        except (DecodeError, TypeError):
            return
        yield from _read_example(example, column)


def _read_example(example: Any, column: str) -> Iterable[str]:
    for name in _list_names(column):
        if name in example.features.feature:
            feature = example.features.feature[name]
            kind = feature.WhichOneof("kind")
            yield from (key for value in (getattr(feature, kind).value if kind else ()) for key in _read_value(value))
