"""Where the boxes and lines of a graph go: layers from top to bottom, few crossings (Sugiyama's method).

K. Sugiyama, S. Tagawa, M. Toda: Methods for Visual Understanding of Hierarchical System Structures, 1981. An edge over
several layers passes each of them by a point of its own, which keeps its place free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

_SWEEPS = 6
_GAP = 16.0
_POINT_WIDTH = 8.0
Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """The centre of each box, the points of each edge from box to box, and the size of it all; in pixels."""

    centres: Mapping[str, Point]
    routes: Sequence[Sequence[Point]]
    width: float
    height: float


def layout(widths: Mapping[str, float], edges: Sequence[tuple[str, str]], *, step: float) -> Layout:
    """Places the nodes of a graph.

    Args:
      widths: widths of the boxes, by node.
      edges: from one node to one further down; those that close a circle are drawn upwards.
      step: from one layer's centre to the next one's.
    """
    level = _levels(list(widths), edges)
    wide = dict(widths)
    chains = [_chain(number, edge, level, wide) for number, edge in enumerate(edges)]
    layers: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for node in wide:
        layers[level[node]].append(node)
    links = [link for chain in chains for link in pairwise(chain)]
    before, after = _neighbours(wide, links, level)
    _order(layers, before, after)
    x = _columns(layers, wide, before, after)
    centres = {node: (x[node], step * (level[node] + 0.5)) for node in wide}
    width = max((x[node] + wide[node] / 2 for node in wide), default=0.0) + _GAP
    routes = [[centres[node] for node in chain] for chain in chains]
    return Layout({node: centres[node] for node in widths}, routes, width, step * len(layers))


def _levels(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: below all that it follows; what follows nothing goes close to what follows it."""
    level = dict.fromkeys(nodes, 0)
    # As often as there are nodes is enough for the longest path, and ends where there is a circle.
    for _ in nodes:
        moved = False
        for one, other in edges:
            if one != other and level[other] <= level[one] < len(nodes):
                level[other], moved = level[one] + 1, True
        if not moved:
            break
    followers = {other for _, other in edges}
    for node in nodes:
        below = [level[other] for one, other in edges if one == node]
        if node not in followers and below:
            level[node] = max(min(below) - 1, 0)
    used = {number: rank for rank, number in enumerate(sorted({*level.values()}))}
    return {node: used[number] for node, number in level.items()}


def _chain(number: int, edge: tuple[str, str], level: dict[str, int], wide: dict[str, float]) -> list[str]:
    """Return the nodes of an edge, with a point in each layer that it passes."""
    one, other = edge
    points = []
    for layer in range(level[one] + 1, level[other]):
        point = f"{number}/{layer}"
        level[point], wide[point] = layer, _POINT_WIDTH
        points.append(point)
    return [one, *points, other]


Neighbours = dict[str, list[str]]


def _neighbours(
    nodes: Mapping[str, float], links: Sequence[tuple[str, str]], level: Mapping[str, int]
) -> tuple[Neighbours, Neighbours]:
    before: Neighbours = {node: [] for node in nodes}
    after: Neighbours = {node: [] for node in nodes}
    for one, other in links:
        if level[one] < level[other]:
            before[other].append(one)
            after[one].append(other)
    return before, after


def _order(layers: Sequence[list[str]], before: Neighbours, after: Neighbours) -> None:
    """Sorts each layer by where its neighbours are, down and up in turn."""
    for sweep in range(_SWEEPS):
        neighbours = after if sweep % 2 else before
        for layer in reversed(layers) if sweep % 2 else layers:
            at = {node: number / max(len(found) - 1, 1) for found in layers for number, node in enumerate(found)}
            wanted = {node: fmean([at[n] for n in neighbours[node]] or [at[node]]) for node in layer}
            layer.sort(key=wanted.__getitem__)


def _columns(
    layers: Sequence[Sequence[str]], wide: Mapping[str, float], before: Neighbours, after: Neighbours
) -> dict[str, float]:
    """Where each node is from left to right: near its neighbours, and beside those of its layer."""
    x = {node: 0.0 for layer in layers for node in layer}
    for sweep in range(2 * _SWEEPS):
        for layer in reversed(layers) if sweep % 2 else layers:
            near = {node: before[node] + after[node] if sweep else before[node] for node in layer}
            wanted = [fmean([x[n] for n in near[node]] or [x[node]]) for node in layer]
            for node, place in zip(layer, _apart(wanted, [wide[node] for node in layer]), strict=True):
                x[node] = place
    left = min((x[node] - wide[node] / 2 for node in x), default=0.0) - _GAP
    return {node: round(place - left, 1) for node, place in x.items()}


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Return the places nearest to those that are wanted at which boxes in this order do not touch.

    Least squares under order, by pooling adjacent violators (Ayer and others, 1955).
    """
    offsets = [0.0]
    for one, other in pairwise(widths):
        offsets.append(offsets[-1] + (one + other) / 2 + _GAP)
    blocks: list[list[float]] = []
    for place, offset in zip(wanted, offsets, strict=False):
        blocks.append([place - offset])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1].extend(last)
    pooled = [fmean(block) for block in blocks for _ in block]
    return [place + offset for place, offset in zip(pooled, offsets, strict=False)]
