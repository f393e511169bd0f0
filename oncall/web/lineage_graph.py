"""The lineage of a run: its executions and their artifacts, with the runs that others came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from oncall.local.artifact_folders import is_missing
from oncall.local.metadata import LocalMetadata
from oncall.metadata import LineageEvent
from oncall.text_format import shorten
from oncall.web.graph_layout import Point, compute_layout

_MIN_WIDTH_PIXELS, _LETTER_PIXELS, _PADDING_PIXELS = 104.0, 7.3, 22.0
BOX_HEIGHT_PIXELS, _LAYER_PIXELS = 38.0, 72.0
_MAX_LINE_CHARS = 30
# A larger drawing cannot be read; the table has all of them.
_MAX_BOXES = 120


@dataclass
class Box:
    """An execution or an artifact.

    Attributes:
      kind: `execution`, `artifact`, or `elsewhere` for an execution of another run.
      id: ID in ML Metadata.
      title, note: first and second line.
      state: state of an execution in ML Metadata; for an artifact `gone`, `deleted` or empty.
      run: other run that it belongs to, or was reused from.
      uri: URI of an artifact.
      name: name of an artifact among the outputs of its component, such as `transformed_examples`.
    """

    kind: str
    id: Any
    title: str
    note: str = ""
    state: str = ""
    run: str = ""
    uri: str = ""
    name: str = ""

    @property
    def lines(self) -> list[str]:
        """Name or title, and note or title, cut to the box."""
        texts = (self.name.replace("_", " "), self.note or self.title) if self.name else (self.title, self.note)
        return [shorten(text, _MAX_LINE_CHARS) for text in texts if text]

    @property
    def width(self) -> float:
        """Width in pixels."""
        return max(
            _MIN_WIDTH_PIXELS, _LETTER_PIXELS * max((len(line) for line in self.lines), default=0) + _PADDING_PIXELS
        )


@dataclass(frozen=True)
class Drawing:
    """The boxes with their centres, the lines as (SVG path, key of the event), and the size; in pixels."""

    boxes: Sequence[tuple[Box, float, float]]
    paths: Sequence[tuple[str, str]]
    width: float
    height: float


@dataclass
class LineageGraph:
    """The boxes by name, and the lines between them as (from, to, key of the event)."""

    boxes: dict[str, Box] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def artifacts(self) -> list[Box]:
        """Boxes of the artifacts, in the order of the events."""
        return [box for box in self.boxes.values() if box.kind == "artifact"]

    def find_makers(self, artifact: Box) -> list[Box]:
        """Return the executions that made or reused an artifact."""
        return [self.boxes[start] for start, end, _ in self.edges if end == f"a{artifact.id}"]

    def list_users(self, artifact: Box) -> list[str]:
        """Return the names of the components that read an artifact."""
        return list(dict.fromkeys(self.boxes[end].title for start, end, _ in self.edges if start == f"a{artifact.id}"))

    @property
    def drawing(self) -> Drawing | None:
        """Positions of the boxes and lines; None if there are none, or too many."""
        connected = {name for start, end, _ in self.edges for name in (start, end)}
        if not 0 < len(connected) <= _MAX_BOXES:
            return None
        boxes = {name: box for name, box in self.boxes.items() if name in connected}
        widths = {name: box.width for name, box in boxes.items()}
        layout = compute_layout(widths, [(start, end) for start, end, _ in self.edges], step=_LAYER_PIXELS)
        return Drawing(
            [(box, *layout.centres[name]) for name, box in boxes.items()],
            [(_format_path(route), edge[2]) for edge, route in zip(self.edges, layout.routes, strict=True)],
            layout.width,
            layout.height,
        )


def _format_path(route: Sequence[Point]) -> str:
    """Return a smooth line from the lower edge of the first box to the upper edge of the last."""
    points = [*route]
    points[0] = (points[0][0], points[0][1] + BOX_HEIGHT_PIXELS / 2)
    points[-1] = (points[-1][0], points[-1][1] - BOX_HEIGHT_PIXELS / 2)
    text = f"M{points[0][0]:g} {points[0][1]:g}"
    for (x, y), (to_x, to_y) in pairwise(points):
        half = (y + to_y) / 2
        text += f"C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {to_y:g}"
    return text


def read_graph(metadata: LocalMetadata, run_id: str, *, is_running: bool) -> LineageGraph:
    """Return the graph of one run; empty if ML Metadata has no such run.

    Args:
      metadata: ML Metadata.
      run_id: ID of the run.
      is_running: whether the run is active; ML Metadata keeps killed executions as RUNNING.
    """
    graph = LineageGraph()
    executions = {execution.id: execution for execution in metadata.get_run_executions(run_id)}
    for id_, execution in executions.items():
        state = execution.state
        note, state = ("cut off", "FAILED") if state == "RUNNING" and not is_running else (state.lower(), state)
        title = metadata.get_run_and_node(id_)[1] or str(id_)
        graph.boxes[f"e{id_}"] = Box("execution", id_, title, note, state)
    _add_events(graph, metadata.get_execution_events(executions), {id_: f"e{id_}" for id_ in executions})
    _add_origins(metadata, graph, executions)
    _describe_artifacts(metadata, graph)
    # A component may read the same artifact as two inputs.
    graph.edges = list(dict.fromkeys(graph.edges))
    return graph


def _add_events(graph: LineageGraph, events: Sequence[LineageEvent], box_names: Mapping[Any, str]) -> None:
    """Add a line for each event; `box_names` has the box of each execution."""
    for event in events:
        box, artifact = box_names[event.execution_id], f"a{event.artifact_id}"
        start, end = (box, artifact) if event.is_output else (artifact, box)
        graph.edges.append((start, end, event.key))
        drawn = graph.boxes.setdefault(artifact, Box("artifact", event.artifact_id, f"artifact {event.artifact_id}"))
        # An output's name is clearer than an input's, such as the `model` of every component.
        drawn.name = event.key if event.is_output or not drawn.name else drawn.name


def _add_origins(metadata: LocalMetadata, graph: LineageGraph, executions: Mapping[Any, Any]) -> None:
    """Add the executions of other runs that made artifacts; a cached component gets the inputs of the original."""
    makers = metadata.find_makers(box.id for box in graph.artifacts)
    reusers = {end: start for start, end, _ in graph.edges if graph.boxes[end].kind == "artifact"}
    boxes_of_originals: dict[Any, str] = {}
    for artifact, maker in makers.items():
        if maker.id in executions:
            continue
        run, node = metadata.get_run_and_node(maker.id)
        name = reusers.get(f"a{artifact}")
        if name is not None:
            graph.boxes[name].run, graph.boxes[name].note = run, f"cached, of {_cut_run_id(run)}"
            boxes_of_originals[maker.id] = name
        else:
            name = f"e{maker.id}"
            note = f"of {_cut_run_id(run)}"
            graph.boxes[name] = Box("elsewhere", maker.id, node or str(maker.id), note, "COMPLETE", run)
            graph.edges.append((name, f"a{artifact}", ""))
    inputs = [event for event in metadata.get_execution_events(boxes_of_originals) if not event.is_output]
    _add_events(graph, inputs, boxes_of_originals)


def _describe_artifacts(metadata: LocalMetadata, graph: LineageGraph) -> None:
    artifacts = metadata.get_artifacts(box.id for box in graph.artifacts)
    for box in graph.artifacts:
        artifact = artifacts.get(box.id)
        if artifact is None:
            box.note, box.state = "not in ML Metadata", "gone"
            continue
        box.title, box.uri = f"{artifact.type or 'artifact'} {box.id}", artifact.uri
        if not artifact.is_live:
            box.note = box.state = "deleted"
        elif is_missing(artifact.uri):
            box.note, box.state = "its files are gone", "gone"


def _cut_run_id(run: str) -> str:
    """Return a run's ID to the second, without its microseconds."""
    return run.partition(".")[0] or "no run"
