"""`lineage`: what an artifact was made from, and what was made from it, as a tree."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cli.errors import ConfigError
from oncall.graph import Graph, Id, key
from oncall.sources import Source
from oncall.terminal import Answer

# Of a tree: a schema may have been used by thousands of runs.
_SHOWN_BRANCHES = 10
_READ_BRANCHES = 50
_DEPTH = 12
_VERSION = re.compile(r"v(\d{1,9})")


def lineage(evidence: Source, wanted: str, folder: Path | None, model: str | None) -> Answer:
    """Return the tree above and the tree below an artifact."""
    artifact_id = _artifact_id(evidence, wanted, folder, model)
    metadata = evidence.metadata
    if not metadata.artifacts([artifact_id]):
        raise ConfigError(f"{evidence.place}: has no artifact {artifact_id}; `serving` and --json name some")
    up = _Tree(metadata).up(artifact_id)
    down = _Tree(metadata).down(artifact_id)
    document = {"artifact": artifact_id, "made_from": up, "used_by": down}
    shown = [*_lines(up, "made by"), "", f"used by    ({_title(down)})", *_lines(down, "used by")[1:]]
    return Answer(document, shown if down["branches"] else [*shown[:-1], "used by    nothing"])


def _artifact_id(evidence: Source, wanted: str, folder: Path | None, model: str | None) -> Id:
    if found := _VERSION.fullmatch(wanted):
        releases = evidence.releases(folder, model)
        versions = {version.number: version for version in releases.versions()}
        version = versions.get(int(found.group(1)))
        if version is None or version.model is None:
            known = ", ".join(f"v{number}" for number in versions) or "none"
            raise ConfigError(f"{releases.place}: has no version {found.group(1)} of a run; it has {known}")
        if version.model not in {artifact.id for artifact in evidence.metadata.artifacts_of_run(version.run)}:
            # A registry outlives a database, and may be shared: the number is another artifact's there.
            raise ConfigError(f"{releases.place}: {wanted} is of run {version.run}, which the database does not know")
        return version.model
    artifact_id = evidence.artifact_id(wanted)
    if artifact_id is None:
        raise ConfigError(f"'{wanted}': is neither an artifact's number nor a version such as v2")
    return artifact_id


class _Tree:
    """Walks from an artifact; each one is opened once, since most of what runs make meets again."""

    def __init__(self, metadata: Graph) -> None:
        self._metadata = metadata
        self._seen: set[Id] = set()

    def up(self, artifact_id: Id) -> dict[str, Any]:
        return self._up(artifact_id, 0)

    def _up(self, artifact_id: Id, depth: int) -> dict[str, Any]:
        node = self._node(artifact_id)
        if artifact_id in self._seen or depth > _DEPTH:
            return {**node, "again": artifact_id in self._seen}
        self._seen.add(artifact_id)
        maker = self._metadata.makers([artifact_id]).get(artifact_id)
        if maker is None:
            return node
        run, name = self._metadata.place(maker.id)
        events = self._metadata.events_of_executions([maker.id])
        inputs = {event.artifact_id: key(event) for event in events if self._metadata.is_input(event)}
        branches = [{**self._up(id_, depth + 1), "as": inputs[id_]} for id_ in sorted(inputs)]
        return {**node, "run": run, "node": name, "branches": branches}

    def down(self, artifact_id: Id) -> dict[str, Any]:
        return self._down(artifact_id, 0)

    def _down(self, artifact_id: Id, depth: int) -> dict[str, Any]:
        node = self._node(artifact_id)
        if artifact_id in self._seen or depth > _DEPTH:
            return {**node, "again": artifact_id in self._seen}
        self._seen.add(artifact_id)
        events = [e for e in self._metadata.events_of_artifacts([artifact_id]) if self._metadata.is_input(e)]
        # The newest are asked for; what happened thousands of runs ago is not what one is called for.
        used_by = {event.execution_id for event in events}
        newest = self._metadata.newest(used_by, _READ_BRANCHES)
        executions = self._metadata.executions_by_id(newest)
        known = [executions[id_] for id_ in reversed(newest) if id_ in executions]
        users = [execution.id for execution in known if self._metadata.state(execution) == "COMPLETE"]
        outputs: dict[Id, list[Id]] = {}
        for event in self._metadata.events_of_executions(users):
            if self._metadata.is_output(event):
                outputs.setdefault(event.execution_id, []).append(event.artifact_id)
        branches = []
        for user in users[-_SHOWN_BRANCHES:]:
            run, name = self._metadata.place(user)
            for made in outputs.get(user, ()):
                branches.append({**self._down(made, depth + 1), "run": run, "node": name})
        hidden = max(len(users) - _SHOWN_BRANCHES, 0) + len(used_by) - len(newest)
        return {**node, "branches": branches, "not_shown": hidden}

    def _node(self, artifact_id: Id) -> dict[str, Any]:
        found = self._metadata.artifacts([artifact_id])
        artifact = found.get(artifact_id)
        return {
            "artifact": artifact_id,
            "type": artifact.type if artifact else "gone",
            "uri": artifact.uri if artifact else "",
            "deleted": bool(artifact and not self._metadata.is_live(artifact)),
            "run": "",
            "node": "",
            "branches": [],
        }


def _title(node: dict[str, Any]) -> str:
    return f"{node['type']} {node['artifact']}{', deleted' if node['deleted'] else ''}"


def _lines(node: dict[str, Any], verb: str) -> list[str]:
    def described(one: dict[str, Any]) -> str:
        by = f"  {verb} {one['node']} of {one['run'] or 'another run'}" if one["node"] else ""
        role = f"{one['as']}: " if one.get("as") else ""
        return f"{role}{_title(one)}{by}{'  (see above)' if one.get('again') else ''}"

    return [described(node), *_branches(node, described, "")]


def _branches(node: dict[str, Any], described: Any, indent: str) -> Iterable[str]:
    branches: Sequence[dict[str, Any]] = node["branches"]
    hidden = node.get("not_shown", 0)
    for number, one in enumerate(branches):
        is_last = number == len(branches) - 1 and not hidden
        yield f"{indent}{'└─' if is_last else '├─'} {described(one)}"
        yield from _branches(one, described, indent + ("   " if is_last else "│  "))
    if hidden:
        yield f"{indent}└─ and {hidden} earlier executions"
