"""`lineage`: the artifacts that an artifact was made from, and those that were made from it, as trees."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.errors import ConfigError
from oncall.metadata import Id, Metadata
from oncall.results import CommandResult
from oncall.run_store import RunStore

# Thousands of runs may have used one schema.
_MAX_SHOWN_BRANCHES = 10
_MAX_READ_BRANCHES = 50
_MAX_DEPTH = 12
_VERSION = re.compile(r"v(\d{1,9})")


@dataclass(frozen=True)
class LineageNode:
    """An artifact in a tree.

    Attributes:
      artifact: ID of the artifact.
      type: Type; `gone` if the artifact does not exist any more.
      uri: Place of its files.
      is_deleted: Whether it is marked as deleted.
      run: Run that made it; empty if it is unknown.
      node: Node of that run.
      branches: Artifacts that it was made from, or that were made from it.
      key: Name of the input that it is; None for an output.
      is_repeated: Whether its branches are above; None if they are here.
      hidden: Number of executions that are not shown; None in a tree of inputs.
    """

    artifact: Id
    type: str
    uri: str
    is_deleted: bool
    run: str = ""
    node: str = ""
    branches: Sequence["LineageNode"] = ()
    key: str | None = None
    is_repeated: bool | None = None
    hidden: int | None = None

    def __str__(self) -> str:
        return f"{self.type} {self.artifact}{', deleted' if self.is_deleted else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as a JSON document."""
        optional = {"again": self.is_repeated, "not_shown": self.hidden, "as": self.key}
        return {
            "artifact": self.artifact,
            "type": self.type,
            "uri": self.uri,
            "deleted": self.is_deleted,
            "run": self.run,
            "node": self.node,
            "branches": [branch.to_dict() for branch in self.branches],
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True)
class Lineage:
    """The trees of an artifact: `made_from` above it, and `used_by` below it."""

    made_from: LineageNode
    used_by: LineageNode


def read_lineage(store: RunStore, name: str, folder: Path | None, model: str | None) -> Lineage:
    """Return the tree above and the tree below an artifact.

    Args:
      store: runs.
      name: artifact's ID, or a version such as `v2`.
      folder: folder of the registry; None for the newest run's.
      model: name of the model; None for the newest run's.

    Raises:
      ConfigError: there is no such artifact or version.
    """
    artifact_id = _find_artifact_id(store, name, folder, model)
    metadata = store.metadata
    if not metadata.get_artifacts([artifact_id]):
        raise ConfigError(f"{store.location}: has no artifact {artifact_id}; `serving` and --json name some")
    return Lineage(_TreeReader(metadata).read_made_from(artifact_id), _TreeReader(metadata).read_used_by(artifact_id))


def trace_artifact(store: RunStore, name: str, folder: Path | None, model: str | None) -> CommandResult:
    """Return the trees of `read_lineage`."""
    lineage = read_lineage(store, name, folder, model)
    made_from, used_by = lineage.made_from, lineage.used_by
    document = {"artifact": made_from.artifact, "made_from": made_from.to_dict(), "used_by": used_by.to_dict()}
    lines = [*_format_tree(made_from, "made by"), ""]
    if not used_by.branches:
        return CommandResult(document, [*lines, "used by    nothing"])
    lines += [f"used by    ({used_by})", *_format_tree(used_by, "used by")[1:]]
    return CommandResult(document, lines)


def _find_artifact_id(store: RunStore, name: str, folder: Path | None, model: str | None) -> Id:
    if match := _VERSION.fullmatch(name):
        model_versions = store.find_model_versions(folder, model)
        location = model_versions.location
        versions = {version.number: version for version in model_versions.list_versions()}
        version = versions.get(int(match.group(1)))
        if version is None or version.model is None:
            numbers = ", ".join(f"v{number}" for number in versions) or "none"
            raise ConfigError(f"{location}: has no version {match.group(1)} of a run; it has {numbers}")
        if version.model not in {artifact.id for artifact in store.metadata.get_run_artifacts(version.run)}:
            # A registry outlives a database, and may be shared: there the number is another artifact's.
            raise ConfigError(f"{location}: {name} is of run {version.run}, which is not in the database")
        return version.model
    artifact_id = store.parse_artifact_id(name)
    if artifact_id is None:
        raise ConfigError(f"'{name}': is neither an artifact's number nor a version such as v2")
    return artifact_id


class _TreeReader:
    """Reads the tree of an artifact; an artifact that occurs again has no branches the second time."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._seen: set[Id] = set()

    def read_made_from(self, artifact_id: Id, depth: int = 0) -> LineageNode:
        """Return the artifact with the artifacts that it was made from."""
        node = self._read_node(artifact_id)
        if artifact_id in self._seen or depth > _MAX_DEPTH:
            return replace(node, is_repeated=artifact_id in self._seen)
        self._seen.add(artifact_id)
        maker = self._metadata.find_makers([artifact_id]).get(artifact_id)
        if maker is None:
            return node
        run, name = self._metadata.get_run_and_node(maker.id)
        events = self._metadata.get_execution_events([maker.id])
        inputs = {event.artifact_id: event.key for event in events if not event.is_output}
        branches = [replace(self.read_made_from(id_, depth + 1), key=inputs[id_]) for id_ in sorted(inputs)]
        return replace(node, run=run, node=name, branches=branches)

    def read_used_by(self, artifact_id: Id, depth: int = 0) -> LineageNode:
        """Return the artifact with the artifacts that were made from it."""
        node = self._read_node(artifact_id)
        if artifact_id in self._seen or depth > _MAX_DEPTH:
            return replace(node, is_repeated=artifact_id in self._seen)
        self._seen.add(artifact_id)
        events = [event for event in self._metadata.get_artifact_events([artifact_id]) if not event.is_output]
        # An incident is about the newest executions, not about those of thousands of runs ago.
        used_by = {event.execution_id for event in events}
        newest = self._metadata.select_newest(used_by, _MAX_READ_BRANCHES)
        executions = self._metadata.get_executions(newest)
        existing = [executions[id_] for id_ in reversed(newest) if id_ in executions]
        users = [execution.id for execution in existing if execution.state == "COMPLETE"]
        outputs: dict[Id, list[Id]] = {}
        for event in self._metadata.get_execution_events(users):
            if event.is_output:
                outputs.setdefault(event.execution_id, []).append(event.artifact_id)
        branches = []
        for user in users[-_MAX_SHOWN_BRANCHES:]:
            run, name = self._metadata.get_run_and_node(user)
            for output in outputs.get(user, ()):
                branches.append(replace(self.read_used_by(output, depth + 1), run=run, node=name))
        hidden = max(len(users) - _MAX_SHOWN_BRANCHES, 0) + len(used_by) - len(newest)
        return replace(node, branches=branches, hidden=hidden)

    def _read_node(self, artifact_id: Id) -> LineageNode:
        artifact = self._metadata.get_artifacts([artifact_id]).get(artifact_id)
        if artifact is None:
            return LineageNode(artifact_id, "gone", "", is_deleted=False)
        return LineageNode(artifact_id, artifact.type, artifact.uri, is_deleted=not artifact.is_live)


def _format_tree(node: LineageNode, verb: str) -> list[str]:
    def format_node(node: LineageNode) -> str:
        by = f"  {verb} {node.node} of {node.run or 'another run'}" if node.node else ""
        role = f"{node.key}: " if node.key else ""
        return f"{role}{node}{by}{'  (see above)' if node.is_repeated else ''}"

    return [format_node(node), *_format_branches(node, format_node, "")]


def _format_branches(node: LineageNode, format_node: Callable[[LineageNode], str], indent: str) -> Iterable[str]:
    for number, branch in enumerate(node.branches):
        is_last = number == len(node.branches) - 1 and not node.hidden
        yield f"{indent}{'└─' if is_last else '├─'} {format_node(branch)}"
        yield from _format_branches(branch, format_node, indent + ("   " if is_last else "│  "))
    if node.hidden:
        yield f"{indent}└─ and {node.hidden} earlier executions"
