"""The thresholds of a run's evaluation, each with the value, the margin and the interval."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oncall.evaluations import Interval, MetricValue
from schemas.metrics import find_metric
from schemas.slices import OVERALL

Slices = Mapping[str, Mapping[str, MetricValue]]


@dataclass(frozen=True)
class Bound:
    """One bound on one metric of one slice.

    Attributes:
      metric, slice: metric and slice.
      value: value of the metric; None if it is undefined.
      bound: bound on the value.
      is_lower: whether it is the least value; else it is the greatest.
      origin: derivation of a bound that depends on the baseline; empty for a fixed one.
      noise: interval of the value; None if none was stored.
    """

    metric: str
    slice: str
    value: float | None
    bound: float
    is_lower: bool
    origin: str = ""
    noise: Interval | None = None

    @property
    def margin(self) -> float | None:
        """Distance from the bound; negative if it is missed."""
        if self.value is None:
            return None
        return self.value - self.bound if self.is_lower else self.bound - self.value

    @property
    def text(self) -> str:
        """The bound in words."""
        return f"at {'least' if self.is_lower else 'most'} {self.bound:.4g}"

    @property
    def verdict(self) -> str:
        """`kept` or `missed`, with `within noise` if the interval contains the bound; `undefined` without a value."""
        if self.margin is None:
            return "undefined"
        word = "kept" if self.margin >= 0 else "missed"
        is_close = self.noise is not None and self.noise[0] <= self.bound <= self.noise[1]
        return f"{word}, within noise" if is_close else word


def list_bounds(config: Mapping[str, Any], slices: Slices) -> list[Bound]:
    """Return the bounds of a run's evaluation, those that are missed, or nearly, first; those of all rows before.

    Args:
      config: config of the run.
      slices: metrics by slice.
    """
    evaluation = config.get("evaluation") or {}
    fixed, changes = (_list(evaluation, key) for key in ("thresholds", "change_thresholds"))
    slicings = [*(evaluation.get("slice_by") or []), *(t.get("slice_by") or [] for t in (*fixed, *changes))]
    columns = {name: {*parsed} for name in slices if (parsed := parse_slice(name, slicings)) is not None}

    def select(threshold: Mapping[str, Any]) -> Iterator[tuple[str, MetricValue]]:
        for name, values in slices.items():
            if columns.get(name) == {*(threshold.get("slice_by") or [])} and str(threshold.get("metric")) in values:
                yield name, values[str(threshold["metric"])]

    bounds = [
        b
        for threshold in fixed
        for name, value in select(threshold)
        for b in _list_value_bounds(threshold, name, value)
    ]
    bounds += [
        b
        for threshold in changes
        for name, value in select(threshold)
        for b in _list_change_bounds(threshold, name, value)
    ]
    return sorted(bounds, key=lambda b: (b.slice != OVERALL, b.margin is not None and b.margin >= 0, b.margin or 0.0))


def _list(evaluation: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    thresholds = evaluation.get(key) or []
    return [threshold for threshold in thresholds if isinstance(threshold, Mapping)]


def _list_value_bounds(threshold: Mapping[str, Any], name: str, value: MetricValue) -> Iterator[Bound]:
    for key, is_lower in (("lower_bound", True), ("upper_bound", False)):
        if threshold.get(key) is not None:
            bound = float(threshold[key])
            yield Bound(str(threshold["metric"]), name, value.value, bound, is_lower, noise=value.interval)


def _list_change_bounds(threshold: Mapping[str, Any], name: str, value: MetricValue) -> Iterator[Bound]:
    if value.baseline is None:
        return
    metric, allowed = str(threshold["metric"]), float(threshold.get("max_regression") or 0.0)
    is_lower = find_metric(metric).better != "lower"
    bound = value.baseline - allowed if is_lower else value.baseline + allowed
    origin = f"{value.baseline:.4f} of the baseline {'minus' if is_lower else 'plus'} {allowed:g}"
    change = value.change_interval
    # The paired interval of the difference, moved to the baseline's value.
    noise = (value.baseline + change[0], value.baseline + change[1]) if change is not None else None
    yield Bound(metric, name, value.value, bound, is_lower, origin, noise)


def parse_slice(name: str, slicings: Iterable[Sequence[str]]) -> dict[str, str] | None:
    """Return the values of a slice by column; of all rows there are none. None if no slicing has it.

    Args:
      name: name of the slice.
      slicings: columns of each slicing.
    """
    if name == OVERALL:
        return {}
    # A value may look like the next column of a slicing of more columns, which is the better reading.
    for columns in sorted(slicings, key=len, reverse=True):
        # TFMA may sort the columns of a slice.
        for order in (list(columns), sorted(columns)):
            match = re.fullmatch(" x ".join(f"{re.escape(column)}=(.*)" for column in order), name, re.DOTALL)
            if match is not None and order:
                return dict(zip(order, match.groups(), strict=True))
    return None
