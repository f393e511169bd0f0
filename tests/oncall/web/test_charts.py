"""Coordinates of the charts."""

from itertools import pairwise

import pytest

from oncall.web.charts import HEIGHT, WIDTH, ChartValue, Line, Mark, draw_chart


def test_values_are_pixels_between_round_ticks() -> None:
    values = [ChartValue(0, 0.92), ChartValue(1, None), ChartValue(2, 0.93, low=0.925, high=0.936)]
    chart = draw_chart("AUC", [Line("auc", values)], ["a", "b", "c"], [Mark(1.5, "rollback", "to v1")])
    assert chart is not None
    assert [label for _, label in chart.y_ticks] == ["0.920", "0.925", "0.930", "0.935", "0.940"]
    ((name, is_bound, path, dots),) = chart.lines
    assert (name, is_bound) == ("auc", False)
    # A missing value leaves a gap.
    assert path == f"M{dots[0].x:g} {dots[0].y:g}M{dots[1].x:g} {dots[1].y:g}"
    assert dots[0].y == HEIGHT - 26
    assert dots[1].top is not None and dots[1].bottom is not None
    assert dots[1].top < dots[1].y < dots[1].bottom
    ((x, mark, place),) = chart.marks
    assert (x, mark.kind, place) == ((dots[0].x + 3 * dots[1].x) / 4, "rollback", (x, 22.0))
    assert chart.summary == "AUC. auc: 0.92 to 0.93"


def test_a_bound_widens_the_scale_and_is_no_value() -> None:
    bound = Line("at least", [ChartValue(0, 0.5)], is_bound=True)
    chart = draw_chart("AUC", [Line("auc", [ChartValue(0, 0.9)]), bound], ["a"])
    assert chart is not None
    assert [label for _, label in chart.y_ticks] == ["0.5", "0.6", "0.7", "0.8", "0.9"]
    assert draw_chart("AUC", [Line("auc", [ChartValue(0, None)]), bound], ["a"]) is None


@pytest.mark.parametrize("value", [0.0, 0.93, -3.0, 1e-12, 123456789.0])
def test_a_single_value_is_inside(value: float) -> None:
    chart = draw_chart("x", [Line("x", [ChartValue(0, value)])], ["a"])
    assert chart is not None
    (dot,) = chart.lines[0][3]
    assert 0 < dot.x < WIDTH
    assert 0 < dot.y < HEIGHT
    assert len({label for _, label in chart.y_ticks}) == len(chart.y_ticks)


def test_labels_of_marks_do_not_cover_each_other() -> None:
    marks = [Mark(place, "push", f"v{place}", f"push {place}") for place in range(40)]
    chart = draw_chart("AUC", [Line("auc", [ChartValue(n, n) for n in range(40)])], ["x"] * 40, marks)
    assert chart is not None
    assert len(chart.marks) == 40
    centres = [place[0] for _, _, place in chart.marks if place is not None]
    assert 8 <= len(centres) < 40
    assert min(after - before for before, after in pairwise(centres)) >= 20


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 27, 52, 60, 120])
def test_labels_of_places_do_not_cover_each_other(count: int) -> None:
    labels = [f"{2025 + n // 52}-W{n % 52 + 1:02}" for n in range(count)]
    chart = draw_chart("AUC", [Line("auc", [ChartValue(n, n) for n in range(count)])], labels)
    assert chart is not None
    # As chart.html.j2 anchors them: the last one at its end, the others in the middle. DejaVu Sans has 62 pixels.
    width = 62
    ends = [x + width / 2 for x, _ in chart.x_ticks[:-1]]
    starts = [x - width / 2 for x, _ in chart.x_ticks[1:-1]] + [x - width for x, _ in chart.x_ticks[-1:]]
    assert all(start > end for end, start in zip(ends, starts, strict=True))
    assert chart.x_ticks[-1][1] == labels[-1]
    assert len(chart.x_ticks) >= min(count, 2)
