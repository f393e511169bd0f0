"""Positions of the boxes and lines of a graph: layers from top to bottom, few crossings (Sugiyama's method).

K. Sugiyama, S. Tagawa, M. Toda: Methods for Visual Understanding of Hierarchical System Structures, 1981. An edge over
several layers has a point in each, which keeps its place free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

_SWEEPS = 6
_GAP_PIXELS = 16.0
_POINT_PIXELS = 8.0
Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """The centre of each box, the points of each edge from box to box, and the total size; in pixels."""

    centres: Mapping[str, Point]
    routes: Sequence[Sequence[Point]]
    width: float
    height: float


def compute_layout(widths: Mapping[str, float], edges: Sequence[tuple[str, str]], *, step: float) -> Layout:
    """Return the positions of the nodes and edges of a graph.

    Args:
      widths: widths of the boxes, by node.
      edges: pairs of a node and one further down; edges that close a circle are drawn upwards.
      step: distance from one layer's centre to the next one's.
    """
    level = _assign_layers(list(widths), edges)
    wide = dict(widths)
    chains = [_split_edge(number, edge, level, wide) for number, edge in enumerate(edges)]
    layers: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for node in wide:
        layers[level[node]].append(node)
    links = [link for chain in chains for link in pairwise(chain)]
    before, after = _collect_neighbours(wide, links, level)
    _sort_layers(layers, before, after)
    x = _assign_columns(layers, wide, before, after)
    centres = {node: (x[node], step * (level[node] + 0.5)) for node in wide}
    width = max((x[node] + wide[node] / 2 for node in wide), default=0.0) + _GAP_PIXELS
    routes = [[centres[node] for node in chain] for chain in chains]
    return Layout({node: centres[node] for node in widths}, routes, width, step * len(layers))


def _assign_layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: below its predecessors; a node without any is just above its successors."""
    level = dict.fromkeys(nodes, 0)
    # One pass per node is enough for the longest path, and ends if there is a circle.
    for _ in nodes:
        moved = False
        for start, end in edges:
            if start != end and level[end] <= level[start] < len(nodes):
                level[end], moved = level[start] + 1, True
        if not moved:
            break
    followers = {end for _, end in edges}
    for node in nodes:
        below = [level[end] for start, end in edges if start == node]
        if node not in followers and below:
            level[node] = max(min(below) - 1, 0)
    used = {number: rank for rank, number in enumerate(sorted({*level.values()}))}
    return {node: used[number] for node, number in level.items()}


def _split_edge(number: int, edge: tuple[str, str], level: dict[str, int], wide: dict[str, float]) -> list[str]:
    """Return the nodes of an edge, with a point in each layer between them."""
    start, end = edge
    points = []
    for layer in range(level[start] + 1, level[end]):
        point = f"{number}/{layer}"
        level[point], wide[point] = layer, _POINT_PIXELS
        points.append(point)
    return [start, *points, end]


Neighbours = dict[str, list[str]]


def _collect_neighbours(
    nodes: Mapping[str, float], links: Sequence[tuple[str, str]], level: Mapping[str, int]
) -> tuple[Neighbours, Neighbours]:
    before: Neighbours = {node: [] for node in nodes}
    after: Neighbours = {node: [] for node in nodes}
    for start, end in links:
        if level[start] < level[end]:
            before[end].append(start)
            after[start].append(end)
    return before, after


def _sort_layers(layers: Sequence[list[str]], before: Neighbours, after: Neighbours) -> None:
    """Sort each layer by the places of its neighbours, down and up in turn."""
    for sweep in range(_SWEEPS):
        neighbours = after if sweep % 2 else before
        for layer in reversed(layers) if sweep % 2 else layers:
            at = {node: number / max(len(nodes) - 1, 1) for nodes in layers for number, node in enumerate(nodes)}
            targets = {node: fmean([at[n] for n in neighbours[node]] or [at[node]]) for node in layer}
            layer.sort(key=targets.__getitem__)


def _assign_columns(
    layers: Sequence[Sequence[str]], wide: Mapping[str, float], before: Neighbours, after: Neighbours
) -> dict[str, float]:
    """Return the horizontal centre of each node: near its neighbours, and beside those of its layer."""
    x = {node: 0.0 for layer in layers for node in layer}
    for sweep in range(2 * _SWEEPS):
        for layer in reversed(layers) if sweep % 2 else layers:
            near = {node: before[node] + after[node] if sweep else before[node] for node in layer}
            targets = [fmean([x[n] for n in near[node]] or [x[node]]) for node in layer]
            for node, place in zip(layer, _separate(targets, [wide[node] for node in layer]), strict=True):
                x[node] = place
    left = min((x[node] - wide[node] / 2 for node in x), default=0.0) - _GAP_PIXELS
    return {node: round(place - left, 1) for node, place in x.items()}


def _separate(targets: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Return the places nearest to the targets at which boxes in this order do not touch.

    Least squares under order, by pooling adjacent violators (Ayer and others, 1955).
    """
    offsets = [0.0]
    for width, next_width in pairwise(widths):
        offsets.append(offsets[-1] + (width + next_width) / 2 + _GAP_PIXELS)
    blocks: list[list[float]] = []
    for place, offset in zip(targets, offsets, strict=False):
        blocks.append([place - offset])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1].extend(last)
    pooled = [fmean(block) for block in blocks for _ in block]
    return [place + offset for place, offset in zip(pooled, offsets, strict=False)]
