"""Anomalies of statistics and distances between two of them, found by TFDV in groups of columns.

TFDV compares every column with every other (2,000 columns took five seconds a split), although nothing that it finds
concerns two columns. Groups of columns take a time that grows with their number.

Imports no TensorFlow: TFDV counts in an extension of its own, which needs none; the package around it does.
"""

import functools
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any, TypeAlias

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

# Fewer columns cost more calls, more columns more comparisons.
_GROUP_COLUMNS = 50
# The default of `tfdv.update_schema`.
_MAX_DOMAIN_VALUES = 100
_TFDV = "tensorflow_data_validation"
_EXTENSION = f"{_TFDV}.pywrap.{_TFDV}_extension"

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatistics


def find_anomalies(
    statistics: Statistics,
    schema: schema_pb2.Schema,
    *,
    previous: Statistics | None = None,
    serving: Statistics | None = None,
) -> anomalies_pb2.Anomalies:
    """Return what `tfdv.validate_statistics` returns, for shares of rows.

    TFDV would take the bounds of a schema for shares of the weight where statistics are weighted, too. Weights change
    what a row counts for, and not which rows are right.

    Args:
      statistics: Statistics that are judged.
      schema: Schema that they should fit.
      previous: Statistics that the drift is measured from.
      serving: Statistics that the skew is measured from.
    """
    sides = [side for side in (statistics, previous, serving) if side is not None]
    names = list(dict.fromkeys(name for side in (*sides, schema) for name in _group_by_name(side)))
    size = _GROUP_COLUMNS
    if schema.sparse_feature or schema.weighted_feature:
        # They are made of several columns.
        size = max(len(names), 1)
    groups = [names[start : start + size] for start in range(0, len(names), size)] or [[]]
    parts = zip(
        _split_statistics(statistics, groups),
        _split_schema(schema, groups),
        _split_statistics(previous, groups),
        _split_statistics(serving, groups),
        strict=True,
    )
    merged = anomalies_pb2.Anomalies()
    for number, part in enumerate(parts):
        anomalies = anomalies_pb2.Anomalies.FromString(_validate(*part))
        if number:
            # Those of the whole data set are found again in each group.
            anomalies.ClearField("dataset_anomaly_info")
        merged.MergeFrom(anomalies)
    merged.baseline.CopyFrom(schema)
    return merged


def update_schema(schema: schema_pb2.Schema, statistics: Statistics) -> schema_pb2.Schema:
    """Return what `tfdv.update_schema` returns: the schema that the statistics have no anomalies by."""
    answer = _load_extension().validation.UpdateSchema(
        schema.SerializeToString(), statistics.SerializeToString(), _MAX_DOMAIN_VALUES
    )
    return schema_pb2.Schema.FromString(answer)


def _validate(statistics: bytes, schema: bytes, previous: bytes, serving: bytes) -> bytes:
    nothing = b""
    answer: bytes = _load_extension().validation.ValidateFeatureStatistics(
        statistics, schema, nothing, previous, serving, nothing, nothing, nothing, False
    )
    return answer


def _split_statistics(statistics: Statistics | None, groups: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Yield the statistics of each group of columns, serialized; no bytes if there are none."""
    by_name = {} if statistics is None else _group_by_name(statistics)
    for names in groups:
        if statistics is None:
            yield b""
            continue
        part = Statistics(name=statistics.name, num_examples=statistics.num_examples)
        part.features.extend(feature for name in names for feature in by_name.get(name, ()))
        yield part.SerializeToString()


def _split_schema(schema: schema_pb2.Schema, groups: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Yield the schema of each group of columns, serialized."""
    shared = schema_pb2.Schema()
    shared.CopyFrom(schema)
    del shared.feature[:], shared.string_domain[:]
    by_name = _group_by_name(schema)
    domains: dict[str, list[schema_pb2.StringDomain]] = {}
    for domain in schema.string_domain:
        domains.setdefault(domain.name, []).append(domain)
    for names in groups:
        part = schema_pb2.Schema()
        part.CopyFrom(shared)
        part.feature.extend(feature for name in names for feature in by_name.get(name, ()))
        used = {name for feature in part.feature for name in _list_domains(feature)}
        part.string_domain.extend(domain for name in used for domain in domains.get(name, ()))
        yield part.SerializeToString()


def _list_domains(feature: schema_pb2.Feature) -> Iterator[str]:
    """Yield the names of the domains that a column and its fields refer to."""
    yield feature.domain
    for field in feature.struct_domain.feature:
        yield from _list_domains(field)


def _group_by_name(columns: Any) -> dict[str, list[Any]]:
    """Return the features of statistics or of a schema by their column; a column of structs has several."""
    by_name: dict[str, list[Any]] = {}
    for feature in columns.feature if isinstance(columns, schema_pb2.Schema) else columns.features:
        steps = () if isinstance(feature, schema_pb2.Feature) else feature.path.step
        by_name.setdefault(steps[0] if steps else feature.name, []).append(feature)
    return by_name


@functools.cache
def _load_extension() -> Any:
    """Return TFDV's extension, which is loaded once, by the first that needs it."""
    if _EXTENSION in sys.modules:
        return sys.modules[_EXTENSION]
    package = importlib.util.find_spec(_TFDV)
    assert package is not None and package.origin is not None
    (file,) = (Path(package.origin).parent / "pywrap").glob(f"{_TFDV}_extension*.so")
    spec = importlib.util.spec_from_file_location(_EXTENSION, file, loader=ExtensionFileLoader(_EXTENSION, str(file)))
    assert spec is not None and spec.loader is not None
    # Under its own name, so that TFDV, if it is imported later, finds it there.
    module = sys.modules[_EXTENSION] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
