"""The `preprocessing_fn` of a config with `transform.module`: calls the user's function, and checks its outputs.

Transform(preprocessing_fn="components.transform.own_preprocessing.preprocessing_fn", custom_config={...})
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_transform import schema_inference

from cli.errors import PipelineError
from components.transform.preprocessing import FEATURE_SET_KEY
from schemas.declaration import find_close_match
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet
from schemas.user_code import UserCode, has_custom_config, load_preprocessing_fn

# In the custom_config: the UserCode as JSON, and whether the network reads the declared columns.
CODE_KEY, IS_NETWORK_OURS_KEY = "user_code", "is_network_ours"


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Call the function of `transform.module`.

    Args:
      inputs: Raw columns by name.
      custom_config: Values of `transform.custom_config`, `feature_set`, `user_code` and `is_network_ours`.

    Raises:
      PipelineError: The function raises, or its outputs are not those that the network reads.
    """
    code = UserCode.from_json(custom_config[CODE_KEY])
    function = load_preprocessing_fn(code)
    name = getattr(function, "__name__", "preprocessing_fn")
    with code.report_errors(name, function):
        outputs = function(inputs, custom_config) if has_custom_config(function) else function(inputs)
    where = f"{code.key}: {code.locate(function)}: {name}"
    _check_types(where, outputs)
    if custom_config[IS_NETWORK_OURS_KEY]:
        _check_declared(where, FeatureSet.model_validate_json(custom_config[FEATURE_SET_KEY]), outputs)
    return dict(outputs)


def _check_types(where: str, outputs: Any) -> None:
    if not isinstance(outputs, Mapping) or not outputs:
        kind = "an empty dict" if isinstance(outputs, Mapping) else type(outputs).__name__
        raise PipelineError(f"{where} returns {kind}; return a dict of tensors by name")
    for name, value in outputs.items():
        if not isinstance(name, str):
            raise PipelineError(f"{where} returns a tensor by the name {name!r}; names are strings")
        if not isinstance(value, tf.Tensor | tf.SparseTensor | tf.RaggedTensor):
            raise PipelineError(f"{where} returns '{name}' as {type(value).__name__}; return a tensor")


def _check_declared(where: str, features: FeatureSet, outputs: Mapping[str, Any]) -> None:
    """Check the columns that the network and the training read."""
    expected = {column.name: tf.int64 for column in features.id_columns}
    expected |= {column.name: tf.float32 for column in features.number_columns}
    needed = [*expected, features.label.name, *([TRANSFORMED_WEIGHT] if features.weight is not None else [])]
    for name in needed:
        if name not in outputs:
            close = find_close_match(name, sorted({*outputs} - {*needed}))
            hint = f"did you mean it by '{close}'? Otherwise" if close else "to keep the built-in columns,"
            raise PipelineError(
                f"{where} returns no '{name}', which the network reads; {hint} return "
                f"{{**preprocessing.preprocessing_fn(inputs, custom_config), ...}} (`from components.transform import "
                f"preprocessing`)"
            )
    widths = {column.name: column.width for column in features.id_columns}
    widths |= {column.name: column.width for column in features.number_columns}
    for name, value in outputs.items():
        if not isinstance(value, tf.Tensor):
            to_dense = "to_tensor(shape=[None, width])" if isinstance(value, tf.RaggedTensor) else "tf.sparse.to_dense"
            raise PipelineError(
                f"{where} returns '{name}' as {type(value).__name__}; the network takes dense tensors: {to_dense}"
            )
        dtype = expected.get(name)
        if dtype is not None and value.dtype != dtype:
            raise PipelineError(
                f"{where} returns '{name}' as {value.dtype.name}; the network takes {dtype.name}: tf.cast"
            )
        if name not in needed and value.dtype not in (tf.float32, tf.int64):
            raise PipelineError(
                f"{where} returns '{name}' as {value.dtype.name}; the network takes float32 numbers and int64 ids of a "
                "known range, such as those of tft.compute_and_apply_vocabulary: tf.cast, or do not return it"
            )
        if name in widths or name not in needed:
            _check_shape(where, name, value, widths.get(name))
        if name not in needed and value.dtype == tf.int64 and not _has_known_ids(value):
            raise PipelineError(
                f"{where} returns '{name}' as integers in an unknown range, from below 0, or several in a row; the "
                "network takes ids from 0 on: tft.compute_and_apply_vocabulary(..., num_oov_buckets=1), or numbers: "
                "tf.cast(..., tf.float32)"
            )


def _check_shape(where: str, name: str, value: tf.Tensor, width: int | None) -> None:
    """Check that a column has a fixed width, and that of its declaration."""
    rank = value.shape.rank
    if rank not in (1, 2) or (rank == 2 and value.shape[1] is None):
        raise PipelineError(
            f"{where} returns '{name}' of shape {value.shape}; the network takes [batch] or [batch, width]: "
            "tf.reshape(..., [-1, width])"
        )
    columns = value.shape[1] if rank == 2 else 1
    if width not in (None, columns):
        raise PipelineError(
            f"{where} returns '{name}' of shape {value.shape}, and its declaration in features has {width} values in a "
            "row; return it by another name"
        )


def _has_known_ids(value: tf.Tensor) -> bool:
    """Return whether integers are one in a row, and an analyzer gives their range, from 0 on."""
    try:
        least, _ = schema_inference.get_tensor_schema_override(value)
    except ValueError:
        return False
    # tft.compute_and_apply_vocabulary without out-of-vocabulary buckets: the lesser of 0 and the default, -1.
    parts = least.op.inputs if least.op.type == "Minimum" else [least]
    is_negative = any((tf.get_static_value(part) or 0) < 0 for part in parts)
    return not is_negative and (value.shape.rank == 1 or value.shape[1] == 1)
