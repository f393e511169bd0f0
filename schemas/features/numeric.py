"""The kind `numeric`."""

from typing import Literal

from pydantic import field_validator, model_validator

from schemas.features.base import BaseFeature
from schemas.features.buckets import Buckets, as_float32
from schemas.features.columns import IdColumn, NumberColumn, NumberEncoding, escape_name

Scale = Literal["z_score", "log_z_score", "min_max", "robust", "quantile_normal", "identity", "none"]
BUCKETIZED_SUFFIX = "_bucketized"
INDICATOR_SUFFIX = "_is_missing"


class Numeric(BaseFeature):
    """A number, used scaled, or in buckets, or both."""

    column_type = "float"
    expression_type = "number"

    kind: Literal["numeric"]
    scale: Scale = "z_score"
    """`log_z_score` is the z-score of sign(x) * log(1 + |x|). `robust` is (x - median) / (interquartile range).
    `quantile_normal` maps the ranks of the training values to a normal distribution. `none` leaves only the buckets in
    the model."""
    encoding: NumberEncoding | None = None
    """Input of the deep part for the scaled number: as it is, as a learned piecewise-linear function of it, or none. If
    omitted, `model.number_encoding`."""
    buckets: Buckets | None = None
    missing: Literal["mean"] | float | None = None
    """Replacement of a missing value: the training mean, or this number. If omitted, a missing value is an error."""

    missing_indicator: bool = False
    """Whether the model also has a number that is 1 where the value is missing and 0 elsewhere."""

    @field_validator("missing")
    @classmethod
    def _check_float32(cls, value: str | float | None) -> str | float | None:
        if isinstance(value, int | float):
            as_float32(value)
        return value

    @model_validator(mode="after")
    def _check_is_used(self) -> "Numeric":
        if self.buckets is None and self.scale == "none":
            raise ValueError("a numeric feature with scale 'none' needs buckets")
        if self.scale == "none" and self.encoding is not None:
            raise ValueError(f"encoding: '{self.encoding}' needs a scaled number; scale is 'none'")
        if self.missing_indicator and self.missing is None:
            raise ValueError("missing_indicator: needs `missing`; without it, a missing value is an error")
        if self.buckets is None and self.embedding != "none":
            raise ValueError("an embedding of a numeric feature needs buckets")
        return self

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        return () if self.buckets is None else (self.build_column(name_buckets(name), self.buckets.num_ids),)

    def list_number_columns(self, name: str) -> tuple[NumberColumn, ...]:
        columns = [] if self.scale == "none" else [NumberColumn(escape_name(name), self.wide, self.encoding)]
        if self.missing_indicator:
            columns.append(NumberColumn(name_indicator(name), self.wide, "number"))
        return tuple(columns)

    @property
    def cross_problem(self) -> str | None:
        return "a numeric feature without buckets; give it buckets" if self.buckets is None else None


def name_indicator(column: str) -> str:
    """Return the name of the transformed column that is 1 where a numeric feature's value is missing."""
    return escape_name(column) + INDICATOR_SUFFIX


def name_buckets(column: str) -> str:
    """Return the name of a numeric feature's transformed column of bucket ids."""
    return escape_name(column) + BUCKETIZED_SUFFIX
