"""What files an artifact had when it was made, so that the cache does not answer with what somebody has emptied since.

TFX asks no more than whether an artifact's folder is there.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import ListOptions, OrderByField
from ml_metadata.proto import metadata_store_pb2 as mlmd

# Of an execution: a digest for each of its outputs, by URI. An artifact's own properties are part of the cache's keys.
FILES_PROPERTY = "files"
# Older ones are seldom what the cache answers with.
_EXECUTIONS = 100


def note(store: Any, execution: mlmd.Execution, artifacts: Iterable[mlmd.Artifact]) -> None:
    """Keep with an execution what files its outputs have."""
    found = {artifact.uri: digest(artifact.uri) for artifact in artifacts if _is_here(artifact.uri)}
    execution.custom_properties[FILES_PROPERTY].string_value = json.dumps(found)
    store.put_executions([execution])


def forget_damaged(store: Any, node_context: str) -> list[str]:
    """Mark as deleted what a node has made and what is no longer whole, so that neither cache nor resolver finds it.

    Args:
      store: store of ML Metadata.
      node_context: PIPELINE.NODE.

    Returns:
      The URIs.
    """
    context = store.get_context_by_type_and_name("node", node_context)
    if context is None:
        return []
    newest = ListOptions(limit=_EXECUTIONS, order_by=OrderByField.ID, is_asc=False)
    changed = _changed(store.get_executions_by_context(context.id, newest))
    lost = [a for uri in changed for a in store.get_artifacts_by_uri(uri) if a.state == mlmd.Artifact.LIVE]
    for artifact in lost:
        artifact.state = mlmd.Artifact.DELETED
    if lost:
        store.put_artifacts(lost)
    return [artifact.uri for artifact in lost]


def damaged(store: Any, artifact_ids: Iterable[int]) -> list[str]:
    """Return the URIs of those artifacts that are no longer as they were made."""
    artifacts = store.get_artifacts_by_id(sorted(artifact_ids))
    events = store.get_events_by_artifact_ids([artifact.id for artifact in artifacts]) if artifacts else []
    makers = {event.execution_id for event in events if event.type == mlmd.Event.OUTPUT}
    changed = _changed(store.get_executions_by_id(sorted(makers))) if makers else []
    return [artifact.uri for artifact in artifacts if artifact.uri in changed]


def _changed(executions: Iterable[mlmd.Execution]) -> list[str]:
    """Return the URIs of what executions have made and what is no longer as it was."""
    expected: dict[str, str] = {}
    for execution in executions:
        if execution.last_known_state == mlmd.Execution.COMPLETE and FILES_PROPERTY in execution.custom_properties:
            expected |= json.loads(execution.custom_properties[FILES_PROPERTY].string_value)
    return [uri for uri, known in expected.items() if digest(uri) != known]


def digest(uri: str) -> str:
    """Names the files below a folder, or one file, by their paths and sizes; their content is not read."""
    place = Path(uri)
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    known = [f"{path.relative_to(place)}:{path.stat().st_size}" for path in files]
    return f"{len(files)} files, {hashlib.sha256(chr(0).join(known).encode()).hexdigest()[:16]}"


def _is_here(uri: str) -> bool:
    return "://" not in uri
