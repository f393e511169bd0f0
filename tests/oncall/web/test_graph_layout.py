"""Where the boxes of a graph go."""

import random
from itertools import combinations, pairwise

from oncall.web.graph_layout import compute_layout


def test_a_chain_goes_straight_down() -> None:
    positions = compute_layout({"a": 100, "b": 60, "c": 80}, [("a", "b"), ("b", "c")], step=50)
    assert [positions.centres[node][1] for node in "abc"] == [25, 75, 125]
    assert len({positions.centres[node][0] for node in "abc"}) == 1
    assert (positions.height, positions.routes[0]) == (150, [positions.centres["a"], positions.centres["b"]])


def test_a_long_edge_passes_each_layer_beside_its_boxes() -> None:
    positions = compute_layout(dict.fromkeys("abc", 100.0), [("a", "b"), ("b", "c"), ("a", "c")], step=50)
    (_, point, _) = positions.routes[2]
    assert point[1] == positions.centres["b"][1]
    assert abs(point[0] - positions.centres["b"][0]) >= 50


def test_boxes_that_follow_each_other_are_not_crossed() -> None:
    positions = compute_layout(dict.fromkeys("abxy", 100.0), [("a", "y"), ("b", "x")], step=50)
    left = {name: positions.centres[name][0] for name in "abxy"}
    assert (left["a"] < left["b"]) == (left["y"] < left["x"])


def test_boxes_of_a_layer_never_touch_and_edges_go_down_and_stay_inside() -> None:
    chosen = random.Random(5)
    for _ in range(50):
        names = [f"n{number}" for number in range(chosen.randint(1, 30))]
        widths = {name: chosen.choice([60.0, 100.0, 240.0]) for name in names}
        pairs = list(combinations(names, 2))
        edges = chosen.sample(pairs, min(len(pairs), chosen.randint(0, 50)))
        positions = compute_layout(widths, edges, step=50)
        for node, other in edges:
            assert positions.centres[node][1] < positions.centres[other][1]
        for node, other in pairs:
            (x, y), (to_x, to_y) = positions.centres[node], positions.centres[other]
            assert y != to_y or abs(x - to_x) >= (widths[node] + widths[other]) / 2
        for name, (x, y) in positions.centres.items():
            assert widths[name] / 2 <= x <= positions.width - widths[name] / 2
            assert 0 < y < positions.height
        for route in positions.routes:
            assert all(to_y - y == 50 for (_, y), (_, to_y) in pairwise(route))


def test_a_circle_comes_to_an_end() -> None:
    positions = compute_layout(dict.fromkeys("abc", 10.0), [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")], step=50)
    assert len({*positions.centres.values()}) == 3
    assert len(positions.routes) == 4


def test_nothing_is_laid_out_as_nothing() -> None:
    assert compute_layout({}, [], step=50).height == 0
