"""The kind `timestamp`."""

import math
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.declaration import suggest_name
from schemas.expressions import Type, choose_time_type
from schemas.features.base import BaseFeature, ModelUse
from schemas.features.buckets import Buckets
from schemas.features.identity import Identity
from schemas.features.numeric import Numeric
from schemas.tables.time_format import ISO8601, check_format, check_time_zone, has_date
from schemas.tables.time_parts import DATE_PARTS, NUM_VALUES, PARTS


class TimePart(ModelUse):
    """How the model uses one part of a time; the part of `pickup` is `pickup.hour` in crosses."""

    buckets: Buckets | None = None
    """Buckets of the part's values, in place of one id for each value. `year` and `days_since_1970` are numbers too."""
    cyclical: bool = False
    """Whether the sine and the cosine of the part, as an angle, are numbers of the model too: 23 h is near 0 h."""


class Timestamp(BaseFeature):
    """A date, a date-time or a time of day, used by its parts. Each part counts from 0: January, Monday, midnight."""

    column_type = "int"

    @property
    def expression_type(self) -> Type:  # type: ignore[override]
        """Type of the values in expressions."""
        return choose_time_type(self.format)

    kind: Literal["timestamp"]
    format: str = ISO8601
    """`iso8601` (a date or a date-time, with or without an offset), `time_of_day`, `epoch_seconds`,
    `epoch_milliseconds`, `epoch_microseconds`, `epoch_nanoseconds`, or codes of strptime such as `%d/%m/%Y %H:%M`. A
    value in any other format is a bad row. Years from 1900 to 2100."""
    time_zone: str = "UTC"
    """Zone of the parts (`Europe/Berlin`), and of values without an offset."""
    parts: dict[str, TimePart] = Field(default_factory=dict)
    """The parts that the model uses: `year`, `month`, `day_of_month`, `day_of_year`, `week` (ISO 8601), `weekday`,
    `hour`, `minute_of_day`, and `days_since_1970`, a number."""
    missing: Literal["own_id"] | None = None
    """With `own_id`, a missing time has an id of its own in each part, and the mean of each number. If omitted, a
    missing value is an error."""

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: str) -> str:
        check_format(value)
        return value

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        check_time_zone(value)
        return value

    @model_validator(mode="after")
    def _check_parts(self) -> "Timestamp":
        if self.expression is not None:
            raise ValueError(
                "expression: a time cannot be computed; use its parts in an expression, as in hour(pickup)"
            )
        for name, part in self.parts.items():
            if name not in PARTS:
                raise ValueError(f"parts: '{name}' is not a part of a time; {suggest_name(name, list(PARTS))}")
            if name in DATE_PARTS and not has_date(self.format):
                raise ValueError(f"parts: '{name}' needs a date, which values of format '{self.format}' do not have")
            if name not in NUM_VALUES and part.cyclical:
                raise ValueError(f"parts.{name}: does not recur, so it cannot be cyclical")
            if name not in NUM_VALUES and part.buckets is None and part.embedding != "none":
                raise ValueError(f"parts.{name}: an embedding of a number needs buckets")
        return self

    def expand(self, name: str) -> Mapping[str, BaseFeature]:
        return {key: feature for part in self.parts for key, feature in self._expand_part(name, part)}

    def _expand_part(self, name: str, part: str) -> Iterator[tuple[str, BaseFeature]]:
        use = self.parts[part]
        text = f'{part}(column("{name}"))'
        optional = self.missing is not None
        if part in NUM_VALUES and use.buckets is None:
            size = NUM_VALUES[part]
            yield (
                f"{name}.{part}",
                Identity(
                    kind="identity",
                    num_ids=size + optional,
                    # If the time is required, the part is never missing.
                    missing=size if optional else 0,
                    expression=text,
                    wide=use.wide,
                    embedding=use.embedding,
                ),
            )
        else:
            scale: Literal["none", "z_score"] = "none" if part in NUM_VALUES else "z_score"
            yield (
                f"{name}.{part}",
                Numeric(
                    kind="numeric",
                    scale=scale,
                    buckets=use.buckets,
                    missing="mean",
                    expression=text,
                    wide=use.wide,
                    embedding=use.embedding,
                ),
            )
        if use.cyclical:
            for function in ("sin", "cos"):
                angle = f"{function}({2 * math.pi / NUM_VALUES[part]!r} * {text})"
                yield (
                    f"{name}.{part}.{function}",
                    Numeric(kind="numeric", scale="identity", missing=0.0, expression=angle, wide=use.wide),
                )
