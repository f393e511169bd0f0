"""The files that an artifact had when it was made, so that the cache reuses no artifact that has lost some since.

TFX only checks that the folder of an artifact exists.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import ListOptions, OrderByField
from ml_metadata.proto import metadata_store_pb2 as mlmd

# Custom property of an execution, with a digest for each output by URI: artifacts' own properties are in cache keys.
FILES_PROPERTY = "files"
# The cache seldom reuses older ones.
_MAX_EXECUTIONS = 100


def record_files(store: Any, execution: mlmd.Execution, artifacts: Iterable[mlmd.Artifact]) -> None:
    """Keep the digests of the outputs' files with an execution."""
    digests = {artifact.uri: digest(artifact.uri) for artifact in artifacts if _is_local(artifact.uri)}
    execution.custom_properties[FILES_PROPERTY].string_value = json.dumps(digests)
    store.put_executions([execution])


def forget_damaged(store: Any, node_context: str) -> list[str]:
    """Mark the damaged artifacts of a node as deleted, so that neither the cache nor a resolver uses them.

    Args:
      store: Store of ML Metadata.
      node_context: Name of the context, PIPELINE.NODE.

    Returns:
      The URIs.
    """
    context = store.get_context_by_type_and_name("node", node_context)
    if context is None:
        return []
    newest = ListOptions(limit=_MAX_EXECUTIONS, order_by=OrderByField.ID, is_asc=False)
    changed = _find_changed(store.get_executions_by_context(context.id, newest))
    lost = [a for uri in changed for a in store.get_artifacts_by_uri(uri) if a.state == mlmd.Artifact.LIVE]
    for artifact in lost:
        artifact.state = mlmd.Artifact.DELETED
    if lost:
        store.put_artifacts(lost)
    return [artifact.uri for artifact in lost]


def find_damaged(store: Any, artifact_ids: Iterable[int]) -> list[str]:
    """Return the URIs of the artifacts whose files have changed since."""
    artifacts = store.get_artifacts_by_id(sorted(artifact_ids))
    events = store.get_events_by_artifact_ids([artifact.id for artifact in artifacts]) if artifacts else []
    makers = {event.execution_id for event in events if event.type == mlmd.Event.OUTPUT}
    changed = _find_changed(store.get_executions_by_id(sorted(makers))) if makers else []
    return [artifact.uri for artifact in artifacts if artifact.uri in changed]


def _find_changed(executions: Iterable[mlmd.Execution]) -> list[str]:
    """Return the URIs of the executions' outputs whose files have changed since."""
    expected: dict[str, str] = {}
    for execution in executions:
        if execution.last_known_state == mlmd.Execution.COMPLETE and FILES_PROPERTY in execution.custom_properties:
            expected |= json.loads(execution.custom_properties[FILES_PROPERTY].string_value)
    return [uri for uri, expected_digest in expected.items() if digest(uri) != expected_digest]


def digest(uri: str) -> str:
    """Return a digest of the paths and sizes of the files below a folder, or of one file; their content is not read."""
    place = Path(uri)
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    sizes = [f"{path.relative_to(place)}:{path.stat().st_size}" for path in files]
    return f"{len(files)} files, {hashlib.sha256(chr(0).join(sizes).encode()).hexdigest()[:16]}"


def _is_local(uri: str) -> bool:
    return "://" not in uri
