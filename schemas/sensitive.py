"""Sensitive columns, whose values are in no message, log, alert, reject file or page. Imports no TensorFlow.

A feature and the label are marked where they are declared, other columns in `data.sensitive_columns`. From there the
mark goes with the data: `Rule` and `Columns` have it for rows, the exported model for requests, and statistics for
pages and comparisons (components/sensitive_statistics.py).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.data import ReadOptions
    from schemas.features import FeatureSet

# Stands for a value, or for a row that may hold one.
MASK = "<masked>"


def find_sensitive(features: "FeatureSet", options: "ReadOptions") -> tuple[str, ...]:
    """Return the sensitive columns of a table; a feature or label that is computed from one is sensitive, too.

    Args:
      features: Declarations of the features and the label.
      options: Options of reading the table, which name its other columns.
    """
    marked = [name for name, feature in features.features.items() if feature.sensitive]
    columns = [*marked, *options.sensitive_columns]
    marked_set = {*columns}
    columns += [
        name
        for name, column in features.derived_columns.items()
        if name not in marked_set and not marked_set.isdisjoint(column.expression.columns)
    ]
    label = features.label
    used = () if label.expression is None else label.list_inputs(features.expression_types)
    is_label_sensitive = label.sensitive or not {*columns}.isdisjoint(used)
    return (*columns, *([label.column] if is_label_sensitive else []))
