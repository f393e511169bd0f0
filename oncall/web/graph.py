"""What a run made and from what: its executions and their artifacts, with the runs that others came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from oncall.folders import is_gone
from oncall.metadata import Metadata, key
from oncall.terminal import short
from oncall.web.layout import Point, layout

_MIN_WIDTH, _LETTER, _PADDING = 104.0, 7.3, 22.0
BOX_HEIGHT, _STEP = 38.0, 72.0
_MAX_LETTERS = 30
# More cannot be read; the table has all of them.
_MAX_BOXES = 120


@dataclass
class Box:
    """An execution or an artifact.

    Attributes:
      kind: `execution`, `artifact`, or `elsewhere` for an execution of another run.
      id: in ML Metadata.
      title, note: its two lines.
      state: state of an execution, as in ML Metadata; of an artifact `gone`, `deleted` or empty.
      run: another run that it belongs to, or was taken from.
      uri: URI of an artifact.
    """

    kind: str
    id: Any
    title: str
    note: str = ""
    state: str = ""
    run: str = ""
    uri: str = ""

    @property
    def lines(self) -> list[str]:
        return [short(text, _MAX_LETTERS) for text in (self.title, self.note) if text]

    @property
    def width(self) -> float:
        return max(_MIN_WIDTH, _LETTER * max((len(line) for line in self.lines), default=0) + _PADDING)


@dataclass(frozen=True)
class Drawing:
    """The boxes with their centres, the lines as (SVG's path, what it is), and the size; in pixels."""

    boxes: Sequence[tuple[Box, float, float]]
    paths: Sequence[tuple[str, str]]
    width: float
    height: float


@dataclass
class Graph:
    """The boxes by name, and the lines between them as (from, to, the name of the input or output)."""

    boxes: dict[str, Box] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def artifacts(self) -> list[Box]:
        """In the order in which they were met."""
        return [box for box in self.boxes.values() if box.kind == "artifact"]

    def makers(self, artifact: Box) -> list[Box]:
        """Return the execution that gave it out."""
        return [self.boxes[one] for one, other, _ in self.edges if other == f"a{artifact.id}"]

    def users(self, artifact: Box) -> list[str]:
        """Return the components that were given it."""
        return list(dict.fromkeys(self.boxes[to].title for one, to, _ in self.edges if one == f"a{artifact.id}"))

    @property
    def drawing(self) -> Drawing | None:
        """None where there is nothing to draw, or too much."""
        joined = {name for one, other, _ in self.edges for name in (one, other)}
        if not 0 < len(joined) <= _MAX_BOXES:
            return None
        boxes = {name: box for name, box in self.boxes.items() if name in joined}
        placed = layout(
            {name: box.width for name, box in boxes.items()}, [(one, other) for one, other, _ in self.edges], step=_STEP
        )
        return Drawing(
            [(box, *placed.centres[name]) for name, box in boxes.items()],
            [(_path(route), edge[2]) for edge, route in zip(self.edges, placed.routes, strict=True)],
            placed.width,
            placed.height,
        )


def _path(route: Sequence[Point]) -> str:
    """Return a smooth line from the lower edge of the first box to the upper edge of the last."""
    points = [*route]
    points[0] = (points[0][0], points[0][1] + BOX_HEIGHT / 2)
    points[-1] = (points[-1][0], points[-1][1] - BOX_HEIGHT / 2)
    text = f"M{points[0][0]:g} {points[0][1]:g}"
    for (x, y), (to_x, to_y) in pairwise(points):
        half = (y + to_y) / 2
        text += f"C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {to_y:g}"
    return text


def graph(metadata: Metadata, run_id: str, *, goes_on: bool) -> Graph:
    """Return the graph of one run; empty where ML Metadata does not know it.

    Args:
      metadata: where it is.
      run_id: ID of the run.
      goes_on: whether it runs; ML Metadata does not notice if a run is killed.
    """
    found = Graph()
    executions = {execution.id: execution for execution in metadata.executions(run_id)}
    for id_, execution in executions.items():
        state = metadata.state(execution)
        note, state = ("cut off", "FAILED") if state == "RUNNING" and not goes_on else (state.lower(), state)
        found.boxes[f"e{id_}"] = Box("execution", id_, metadata.place(id_)[1] or str(id_), note, state)
    _add_events(metadata, found, metadata.events_of_executions(executions), {id_: f"e{id_}" for id_ in executions})
    _add_origins(metadata, found, executions)
    _describe_artifacts(metadata, found)
    # An artifact may be given to a component twice, as two things.
    found.edges = list(dict.fromkeys(found.edges))
    return found


def _add_events(metadata: Metadata, found: Graph, events: Sequence[Any], box_of: Mapping[Any, str]) -> None:
    """Add a line for each event; `box_of` names the box of each execution."""
    for event in events:
        box, artifact = box_of[event.execution_id], f"a{event.artifact_id}"
        if metadata.is_input(event):
            found.edges.append((artifact, box, key(event)))
        elif metadata.is_output(event):
            found.edges.append((box, artifact, key(event)))
        else:
            continue
        found.boxes.setdefault(artifact, Box("artifact", event.artifact_id, f"artifact {event.artifact_id}"))


def _add_origins(metadata: Metadata, found: Graph, executions: Mapping[Any, Any]) -> None:
    """Where what this run did not make is from: a cached component was given another run's inputs, and names it."""
    makers = metadata.makers(box.id for box in found.artifacts)
    given = {other: one for one, other, _ in found.edges if found.boxes[other].kind == "artifact"}
    stands_for: dict[Any, str] = {}
    for artifact, maker in makers.items():
        if maker.id in executions:
            continue
        run, node = metadata.place(maker.id)
        box = given.get(f"a{artifact}")
        if box is not None:
            found.boxes[box].run, found.boxes[box].note = run, f"cached, of {_short(run)}"
            stands_for[maker.id] = box
        else:
            name = f"e{maker.id}"
            found.boxes[name] = Box("elsewhere", maker.id, node or str(maker.id), f"of {_short(run)}", "COMPLETE", run)
            found.edges.append((name, f"a{artifact}", ""))
    inputs = [event for event in metadata.events_of_executions(stands_for) if metadata.is_input(event)]
    _add_events(metadata, found, inputs, stands_for)


def _describe_artifacts(metadata: Metadata, found: Graph) -> None:
    known = metadata.artifacts(box.id for box in found.artifacts)
    for box in found.artifacts:
        artifact = known.get(box.id)
        if artifact is None:
            box.note, box.state = "not in ML Metadata", "gone"
            continue
        box.title, box.uri = f"{artifact.type or 'artifact'} {box.id}", artifact.uri
        if not metadata.is_live(artifact):
            box.note = box.state = "deleted"
        elif is_gone(artifact.uri):
            box.note, box.state = "its files are gone", "gone"


def _short(run: str) -> str:
    """Return a run's id to the second; its microseconds are for machines."""
    return run.partition(".")[0] or "no run"
