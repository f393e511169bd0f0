"""Text of a curated schema."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.init.bounds import compute_min_domain_mass, compute_min_fraction
from pipeline.init.decision import Decision
from pipeline.init.features import ChosenFeature
from pipeline.profile.columns import Column
from schemas.curated.schema_file import SCHEMA_TYPES
from schemas.features import KINDS
from schemas.tables.items import LIST_SEPARATOR, LIST_START

_MAX_DOMAIN = 100
# Kinds whose values are no categories.
_WITHOUT_DOMAIN = ("timestamp", "text", "vector")


def format_schema(decision: Decision) -> Iterator[str]:
    """Yield the lines of a schema."""
    yield f"# The schema of {decision.name}: what the pipeline accepts. Written by `python -m pipeline init`."
    yield "# min_fraction: the least share of rows with a value; min_domain_mass: that of values in the domain."
    yield "# Both hold for the smallest split: chance breaks one of all bounds less than once in 10,000 divisions."
    domains = []
    for feature in decision.features:
        column, kind = feature.column, feature.declared["kind"]
        type_ = schema_pb2.FeatureType.Name(SCHEMA_TYPES[KINDS[kind].column_type])
        limit = _format_string(column.name)
        sensitive = column.name in decision.requests.sensitive
        yield "feature {"
        yield f"  name: {limit}"
        yield f"  type: {type_}"
        # A missing list or text has no tokens, so it is never an error.
        if column.missing_share or kind in ("list", "text") or "missing" in feature.declared:
            least = compute_min_fraction(column, decision.samples, len(decision.features))
            yield f"  presence {{ min_fraction: {least:g} min_count: 1 }} # {column.missing_share:.2%} missing now"
        else:
            yield "  value_count { min: 1 max: 1 }"
            yield "  presence { min_fraction: 1.0 min_count: 1 }"
        if kind == "identity" and not sensitive:
            yield f"  int_domain {{ min: 0 max: {int(column.compute_quantile(1))} }}"
        elif kind == "numeric" and column.compute_quantile(0) >= 0:
            highest = "" if sensitive else f" # up to {column.compute_quantile(1):g} now"
            yield f"  float_domain {{ min: 0 disallow_nan: true disallow_inf: true }}{highest}"
        elif kind == "numeric":
            yield "  float_domain { disallow_nan: true disallow_inf: true }"
        elif (
            (categories := _select_categories(feature)) is not None
            and categories.distinct <= _MAX_DOMAIN
            and not sensitive
        ):
            domains.append(categories)
            yield f"  domain: {limit}"
            mass = compute_min_domain_mass(categories, decision.samples, len(decision.features))
            yield f"  distribution_constraints {{ min_domain_mass: {mass:g} }}"
        yield "}"
    yield from _format_label(decision)
    if decision.requests.weight is not None:
        yield "feature {"
        yield f"  name: {_format_string(decision.requests.weight)}"
        yield "  type: FLOAT"
        yield "  value_count { min: 1 max: 1 }"
        yield "  presence { min_fraction: 1.0 min_count: 1 }"
        yield "  float_domain { min: 0 disallow_nan: true disallow_inf: true } # the weight of the row"
        yield "}"
    for column in domains:
        yield from _format_domain(column.name, sorted(value for value, _ in column.values))


def _select_categories(feature: ChosenFeature) -> Column | None:
    """Return the categories of a feature that the gate compares, the single values of a list; None if it has none."""
    kind, column = feature.declared["kind"], feature.accepted
    if kind in _WITHOUT_DOMAIN:
        return None
    if kind != "list":
        return column
    is_marked = pc.fill_null(pc.starts_with(column.texts, LIST_START), False)
    marked = pc.split_pattern(pc.utf8_slice_codeunits(column.texts.filter(is_marked), 1), LIST_SEPARATOR)
    written = pc.split_pattern(column.texts.filter(pc.invert(is_marked)), feature.declared["delimiter"])
    # The statistics have no spaces around the values either, and no empty ones.
    values = pc.utf8_trim_whitespace(pa.concat_arrays([marked.flatten(), written.flatten()]))
    return Column(column.name, values.filter(pc.not_equal(values, "")))


def _format_label(decision: Decision) -> Iterator[str]:
    name = _format_string(decision.label_column.name)
    yield "feature {"
    yield f"  name: {name}"
    yield f"  type: {'BYTES' if decision.label.classes else 'FLOAT'}"
    yield "  value_count { min: 1 max: 1 }"
    yield "  presence { min_fraction: 1.0 min_count: 1 }"
    if decision.label.classes:
        yield f"  domain: {name}"
    yield "}"
    if decision.label.classes:
        yield from _format_domain(decision.label_column.name, sorted(decision.label.classes))


def _format_string(value: str) -> str:
    """Return a string in the text format of protocol buffers."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _format_domain(name: str, values: Sequence[str]) -> Iterator[str]:
    yield "string_domain {"
    yield f"  name: {_format_string(name)}"
    for value in values:
        yield f"  value: {_format_string(value)}"
    yield "}"
