"""Columns that Transform gives the challengers where a `preprocessing_fn` of the user's own may have written them.

A declared column stays what its declaration says. Any other column is named and typed by Transform: integers in a known
range are IDs, and all other numbers are numbers.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from components.evaluator.challengers import EncodedColumns
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, IdColumn, NumberColumn, OwnColumn
from serving.model.literal_paths import make_literal_path

# Range of the IDs of a column: the least, and the greatest.
_Range = tuple[int, int]


def find_columns(features: FeatureSet, transform_uri: str, targets: Collection[str]) -> tuple[EncodedColumns, str]:
    """Return the columns of a Transform graph, and why the others are left out; empty if there are no others.

    Args:
      features: declaration of the columns.
      transform_uri: folder of the Transform graph.
      targets: columns of the label and of the weight, under all their names.
    """
    output = tft.TFTransformOutput(make_literal_path(transform_uri))
    specs: Mapping[str, Any] = output.transformed_feature_spec()
    ranges = {
        feature.name: (feature.int_domain.min, feature.int_domain.max)
        for feature in output.transformed_metadata.schema.feature
        if feature.HasField("int_domain")
    }
    kept = {
        name: feature
        for name, feature in features.features.items()
        if all(_is_as_declared(column, specs, ranges) for column in _list_columns(features, name))
    }
    crosses = tuple(
        cross
        for cross in features.crosses
        if _is_as_declared(cross.build_column(cross.name, cross.num_ids), specs, ranges)
    )
    declared = features.model_copy(update={"features": kept, "crosses": crosses, "own_columns": ()})
    names = {column.name for column in declared.id_columns} | {column.name for column in declared.number_columns}
    excluded = {*targets, *names, features.label.name, TRANSFORMED_WEIGHT}
    own, least_ids, left_out = [], {}, []
    for name, spec in sorted(specs.items()):
        if name in excluded:
            continue
        reason = _explain_unreadable(spec)
        if reason:
            left_out.append(f"{name} ({reason})")
            continue
        least, greatest = ranges.get(name, (0, -1))
        own.append(
            OwnColumn(
                name=name,
                width=math.prod(spec.shape),
                num_ids=greatest - least + 1 if spec.dtype == tf.int64 and name in ranges else None,
            )
        )
        if own[-1].num_ids is not None and least:
            least_ids[name] = least
    columns = EncodedColumns(
        transform_uri,
        declared.model_copy(update={"own_columns": tuple(own)}),
        frozenset(features.raw_features) - {*targets},
        least_ids,
    )
    return columns, ", ".join(left_out)


def _list_columns(features: FeatureSet, name: str) -> Iterator[IdColumn | NumberColumn]:
    """Yield the transformed columns of a feature."""
    for key, part in features.features[name].expand(name).items():
        yield from part.list_id_columns(key)
        yield from part.list_number_columns(key)


def _is_as_declared(column: IdColumn | NumberColumn, specs: Mapping[str, Any], ranges: Mapping[str, _Range]) -> bool:
    """Return whether Transform gives a column with the type and the width that its declaration has."""
    spec = specs.get(column.name)
    if not isinstance(spec, tf.io.FixedLenFeature) or math.prod(spec.shape) != column.width:
        return False
    if isinstance(column, NumberColumn):
        return bool(spec.dtype == tf.float32)
    least, greatest = ranges.get(column.name, (0, 0))
    return bool(spec.dtype == tf.int64) and least >= 0 and greatest < column.num_ids


def _explain_unreadable(spec: Any) -> str:
    """Return why a column has no place in a matrix of numbers; empty if it has one."""
    if not isinstance(spec, tf.io.FixedLenFeature):
        return "not dense"
    if spec.dtype == tf.string:
        return "strings"
    return "" if math.prod(spec.shape) else "no values"
