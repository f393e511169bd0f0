"""Line charts as SVG coordinates: values over epochs or runs, with intervals, bounds and marks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 340, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 32, 26
# Labels of marks are above the chart, those of rollbacks below those of pushes.
_MARK_ROWS = {"rollback": 22.0}
_FIRST_MARK_ROW = 10.0
_Y_TICKS = 4
# Letters of the widest of the usual fonts, DejaVu Sans.
_LETTER_PIXELS, _LABEL_GAP_PIXELS = 7.8, 10


@dataclass(frozen=True)
class ChartValue:
    """One value of a line.

    Attributes:
      x: place on the axis.
      y: value; None leaves a gap.
      title: text of the tooltip.
      link: address of its page; empty for none.
      low, high: ends of its interval.
      is_reused: whether it is an earlier run's, from the cache.
    """

    x: float
    y: float | None
    title: str = ""
    link: str = ""
    low: float | None = None
    high: float | None = None
    is_reused: bool = False


@dataclass(frozen=True)
class Line:
    """A named line, or one that bounds the values."""

    name: str
    values: Sequence[ChartValue]
    is_bound: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at a place, such as a push; `kind` is `push`, `rollback` or `kept`."""

    x: float
    kind: str
    label: str
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A value in pixels; `top` and `bottom` are the ends of its interval."""

    x: float
    y: float
    value: ChartValue
    top: float | None = None
    bottom: float | None = None


@dataclass(frozen=True)
class Chart:
    """A chart in pixels.

    Attributes:
      title: heading.
      lines: (name, whether it is a bound, SVG path, dots) of each line.
      y_ticks, x_ticks: (pixels, label).
      marks: (pixels, mark, place of its label, or None where there is no room for one).
      rows: the same content as a table: each place's label and values by line, in order.
    """

    title: str
    lines: Sequence[tuple[str, bool, str, Sequence[Dot]]]
    y_ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, Mark, tuple[float, float] | None]] = field(default_factory=tuple)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM

    @property
    def summary(self) -> str:
        """The first and the last value of each line, in words."""
        parts = []
        for name, is_bound, _, dots in self.lines:
            if dots and not is_bound:
                parts.append(f"{name}: {dots[0].value.y:.4g} to {dots[-1].value.y:.4g}")
        return f"{self.title}. {'; '.join(parts)}"


def draw_chart(title: str, lines: Sequence[Line], labels: Sequence[str], marks: Sequence[Mark] = ()) -> Chart | None:
    """Return a chart; None if no line has a value.

    Args:
      title: heading.
      lines: lines, whose places count from 0.
      labels: labels of the places.
      marks: marks at places, also between two.
    """
    values = [value for line in lines for value in line.values if value.y is not None]
    if not any(value.y is not None for line in lines if not line.is_bound for value in line.values):
        return None
    ends = [end for v in values for end in (v.y, v.low, v.high) if end is not None]
    ticks = _choose_ticks(min(ends), max(ends))
    low, high = min(ticks[0], *ends), max(ticks[-1], *ends)
    last = max(len(labels) - 1, 1)
    # A single place is in the middle.
    offset = 0.5 if len(labels) == 1 else 0.0

    def scale_place(place: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (place + offset) / last, 1)

    def scale_value(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)

    drawn = []
    for line in lines:
        dots = [
            Dot(
                scale_place(v.x),
                scale_value(v.y),
                v,
                scale_value(v.high) if v.high is not None else None,
                scale_value(v.low) if v.low is not None else None,
            )
            for v in line.values
            if v.y is not None
        ]
        drawn.append((line.name, line.is_bound, _join_dots(line, dots), dots))
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    # The last label ends at its place, and the one before is centred: they need one and a half.
    widest = 1.5 * _LETTER_PIXELS * max(map(len, labels), default=0) + _LABEL_GAP_PIXELS
    step = max(1, math.ceil(last * widest / (WIDTH - _LEFT - _RIGHT)))
    return Chart(
        title,
        drawn,
        [(scale_value(tick), f"{tick:,.{decimals}f}") for tick in ticks],
        [(scale_place(place), label) for place, label in enumerate(labels) if (len(labels) - 1 - place) % step == 0],
        _fit_labels([(scale_place(mark.x), mark) for mark in marks]),
    )


def _fit_labels(
    marks: Sequence[tuple[float, Mark]],
) -> list[tuple[float, Mark, tuple[float, float] | None]]:
    """Return each mark with the centre of its label, unless that would cover the one before."""
    ends: dict[float, float] = {}
    placed = []
    for x, mark in sorted(marks, key=lambda pair: pair[0]):
        row = _MARK_ROWS.get(mark.kind, _FIRST_MARK_ROW)
        half = _LETTER_PIXELS * len(mark.label) / 2 + _LABEL_GAP_PIXELS / 2
        centre = min(max(x, half), WIDTH - half)
        has_room = centre - half >= ends.get(row, 0.0)
        if has_room:
            ends[row] = centre + half
        placed.append((x, mark, (round(centre, 1), row) if has_room else None))
    return placed


def _join_dots(line: Line, dots: Sequence[Dot]) -> str:
    """Return a path through the dots, with a gap where a value is missing; a bound has none."""
    if line.is_bound:
        return "M" + "L".join(f"{dot.x:g} {dot.y:g}" for dot in dots) if dots else ""
    pixels = {dot.value.x: dot for dot in dots}
    path, has_gap = "", True
    for value in line.values:
        dot = pixels.get(value.x) if value.y is not None else None
        if dot is not None:
            path += f"{'M' if has_gap else 'L'}{dot.x:g} {dot.y:g}"
        has_gap = dot is None
    return path


def _choose_ticks(low: float, high: float) -> list[float]:
    """Return round numbers that enclose the values, in steps of 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = abs(low) * 0.05 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / _Y_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]
