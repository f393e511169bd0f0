"""The types of a log's input columns, which are those of the training table. Imports no TensorFlow."""

import pyarrow as pa

from schemas.tables.time_format import EPOCHS
from serving.model.inputs import ModelInput


def build_field(column: ModelInput) -> pa.Field:
    """Return the field of an input. A vector remains a string, since its decimals are those of the request."""
    rule = column.rule
    if rule.times is not None:
        return pa.field(column.column, pa.int64() if rule.times.format in EPOCHS else pa.string())
    if rule.items is not None and rule.items.numbers is None:
        return pa.field(column.column, pa.list_(pa.string()))
    types = {"float": pa.float64(), "int": pa.int64(), "string": pa.string()}
    return pa.field(column.column, types[rule.kind])
