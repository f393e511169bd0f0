"""MetadataService: contexts, executions, artifacts, and the events between them."""

import datetime
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import yaml
from google.cloud import aiplatform_v1 as v1

from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from emulators.vertex.service import Emulator, list_page, register_deletion, register_finisher, register_method
from emulators.vertex.store import check_etag, get_time

# "may error with FAILED_PRECONDITION if the number ... exceeds 1000"
MAX_GRAPH = 1000
_ID = re.compile(r"[a-z0-9-]{4,128}")
_TITLE = re.compile(r"[a-z][a-z0-9]{1,19}\.[A-Z][a-zA-Z0-9]{1,48}")
# Without a mask.
_UPDATED = ("metadata", "display_name", "description", "labels", "state")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
# "System schemas live under the namespace system" (docs/ml-metadata/system-schemas). Those of Google's own resources
# and TFX's artifacts come with Vertex Pipelines; that they may be used without registration is a guess.
_OWN_NAMESPACES = ("system.", "google.", "tfx.")


@register_method("MetadataService")
def create_metadata_store(emulator: Emulator, request: Any) -> Any:
    """Start the creation of a store; its ID follows CreateMetadataStoreRequest.metadata_store_id."""
    _check_id(request.metadata_store_id)
    name = f"{request.parent}/metadataStores/{request.metadata_store_id or emulator.store.create_id()}"
    if emulator.store.has_resource(name):
        raise StatusError("ALREADY_EXISTS", f"MetadataStore {name} already exists.")
    return emulator.operations.start("CreateMetadataStore", name, {"name": name})


@register_finisher("CreateMetadataStore")
def _finish_create_store(emulator: Emulator, request: dict[str, Any]) -> Any:
    return emulator.store.put(v1.types.MetadataStore(name=request["name"]))


@register_method("MetadataService")
def get_metadata_store(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


def _create(emulator: Emulator, parent: str, folder: str, message: Any, resource_id: str) -> Any:
    """Create a resource.

    "Otherwise the request will fail with ALREADY_EXISTS" (CreateArtifactRequest.artifact_id, and the others').
    """
    emulator.store.get(parent)
    _check_id(resource_id)
    if not isinstance(message, v1.MetadataSchema):
        _check_schema(emulator, parent, message)
    message.name = f"{parent}/{folder}/{resource_id or emulator.store.create_id()}"
    if emulator.store.has_resource(message.name):
        raise StatusError("ALREADY_EXISTS", f"{type(message).__name__} {message.name} already exists.")
    return emulator.store.put(message)


def _check_id(resource_id: str) -> None:
    """Check an id: "4-128 characters in length. Valid characters are /[a-z][0-9]-/" (metadata_service.proto)."""
    if resource_id and not _ID.fullmatch(resource_id):
        raise InvalidArgumentError(f"The id {resource_id} must have 4 to 128 of the characters a-z, 0-9 and -.")


def _check_schema(emulator: Emulator, parent: str, message: Any) -> None:
    """Check that the schema of a context, an execution or an artifact is registered.

    "schema_title and schema_version ... expected to be registered in earlier Create Schema calls" (context.proto,
    execution.proto, artifact.proto). The code of the error is a guess.
    """
    if not message.schema_title or message.schema_title.startswith(_OWN_NAMESPACES):
        return
    for schema in emulator.store.list_below(f"{parent}/metadataSchemas/", "MetadataSchema"):
        if _read_title(schema) == message.schema_title and schema.schema_version == message.schema_version:
            return
    raise InvalidArgumentError(
        f"MetadataSchema {message.schema_title} of version {message.schema_version} is not registered."
    )


def _read_title(schema: Any) -> str:
    parsed = yaml.safe_load(schema.schema)
    return str(parsed.get("title", "")) if isinstance(parsed, dict) else ""


@register_method("MetadataService")
def create_metadata_schema(emulator: Emulator, request: Any) -> Any:
    """Register a schema; its title: https://cloud.google.com/vertex-ai/docs/ml-metadata/custom-schemas."""
    schema = request.metadata_schema
    title = _read_title(schema)
    if not _TITLE.fullmatch(title):
        raise InvalidArgumentError(f"The title '{title}' of the schema does not match namespace.Name.")
    if not _VERSION.fullmatch(schema.schema_version):
        raise InvalidArgumentError(f"schema_version {schema.schema_version} does not match [0-9]+.[0-9]+.[0-9]+.")
    # "The combination of version and title must be unique within a MetadataStore" (metadata_schema.proto).
    for other in emulator.store.list_below(f"{request.parent}/metadataSchemas/", "MetadataSchema"):
        if _read_title(other) == title and other.schema_version == schema.schema_version:
            raise StatusError("ALREADY_EXISTS", f"MetadataSchema {title} {schema.schema_version} already exists.")
    return _create(emulator, request.parent, "metadataSchemas", schema, request.metadata_schema_id)


@register_method("MetadataService")
def get_metadata_schema(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("MetadataService")
def list_metadata_schemas(emulator: Emulator, request: Any) -> Any:
    schemas = emulator.store.list_below(f"{request.parent}/metadataSchemas/", "MetadataSchema")
    return list_page(
        v1.types.ListMetadataSchemasResponse,
        "metadata_schemas",
        schemas,
        request,
        lambda schema: {"schema_title": _read_title(schema)},
    )


def _update(emulator: Emulator, message: Any, mask: Any, allow_missing: bool) -> Any:
    """Change a resource: UpdateArtifactRequest.allow_missing may create it. The code for a wrong mask is a guess."""
    if allow_missing and not emulator.store.has_resource(message.name):
        return emulator.store.put(message)
    current = emulator.store.get(message.name)
    check_etag(message.etag, current)
    fields = [path for path in _UPDATED if path in type(current).meta.fields]
    for path in mask.paths or fields:
        if path in type(current).meta.fields:
            setattr(current, path, getattr(message, path))
        else:
            raise InvalidArgumentError(f"update_mask: {path} is not a field of {type(current).__name__}.")
    return emulator.store.put(current)


@register_method("MetadataService")
def create_context(emulator: Emulator, request: Any) -> Any:
    return _create(emulator, request.parent, "contexts", request.context, request.context_id)


@register_method("MetadataService")
def create_execution(emulator: Emulator, request: Any) -> Any:
    return _create(emulator, request.parent, "executions", request.execution, request.execution_id)


@register_method("MetadataService")
def create_artifact(emulator: Emulator, request: Any) -> Any:
    return _create(emulator, request.parent, "artifacts", request.artifact, request.artifact_id)


@register_method("MetadataService")
def update_context(emulator: Emulator, request: Any) -> Any:
    return _update(emulator, request.context, request.update_mask, request.allow_missing)


@register_method("MetadataService")
def update_execution(emulator: Emulator, request: Any) -> Any:
    return _update(emulator, request.execution, request.update_mask, request.allow_missing)


@register_method("MetadataService")
def update_artifact(emulator: Emulator, request: Any) -> Any:
    return _update(emulator, request.artifact, request.update_mask, request.allow_missing)


@register_method("MetadataService")
def get_context(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("MetadataService")
def get_execution(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("MetadataService")
def get_artifact(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("MetadataService")
def list_contexts(emulator: Emulator, request: Any) -> Any:
    contexts = emulator.store.list_below(f"{request.parent}/contexts/", "Context")
    return list_page(v1.types.ListContextsResponse, "contexts", contexts, request)


@register_method("MetadataService")
def list_executions(emulator: Emulator, request: Any) -> Any:
    executions = emulator.store.list_below(f"{request.parent}/executions/", "Execution")
    return list_page(
        v1.types.ListExecutionsResponse, "executions", executions, request, partial(find_contexts, emulator)
    )


@register_method("MetadataService")
def list_artifacts(emulator: Emulator, request: Any) -> Any:
    artifacts = emulator.store.list_below(f"{request.parent}/artifacts/", "Artifact")
    return list_page(v1.types.ListArtifactsResponse, "artifacts", artifacts, request, partial(find_contexts, emulator))


def find_contexts(emulator: Emulator, resource: Any) -> dict[str, Any]:
    """Return the contexts that an execution or an artifact belongs to, for filters."""
    rows = emulator.store.execute("SELECT context FROM member WHERE name = ?", (resource.name,))
    return {"in_context": [context for (context,) in rows]}


@register_method("MetadataService")
def add_context_artifacts_and_executions(emulator: Emulator, request: Any) -> Any:
    emulator.store.get(request.context)
    for name in (*request.artifacts, *request.executions):
        emulator.store.get(name)
        emulator.store.execute("INSERT OR IGNORE INTO member VALUES (?, ?)", (request.context, name))
    return v1.types.AddContextArtifactsAndExecutionsResponse()


@register_method("MetadataService")
def add_context_children(emulator: Emulator, request: Any) -> Any:
    """Add children; a cycle is rejected (AddContextChildren: "If any of the child Contexts ... cycle ... error")."""
    ancestors = {request.context, *_find_ancestors(emulator, request.context)}
    for name in request.child_contexts:
        child = emulator.store.get(name)
        if name in ancestors:
            raise InvalidArgumentError(f"{name} is an ancestor of {request.context}.")
        child.parent_contexts = [*dict.fromkeys([*child.parent_contexts, request.context])]
        # A guess from the SDK: its experiments update a run by the etag from before it became a child.
        emulator.store.put(child, keeps_etag=True)
    return v1.types.AddContextChildrenResponse()


def _find_ancestors(emulator: Emulator, name: str) -> set[str]:
    parents = set(emulator.store.get(name).parent_contexts)
    return parents.union(*(_find_ancestors(emulator, parent) for parent in parents))


@register_method("MetadataService")
def remove_context_children(emulator: Emulator, request: Any) -> Any:
    for name in request.child_contexts:
        child = emulator.store.get(name)
        child.parent_contexts = [parent for parent in child.parent_contexts if parent != request.context]
        emulator.store.put(child, keeps_etag=True)
    return v1.types.RemoveContextChildrenResponse()


def _check_deleted_etag(emulator: Emulator, resource: Any, request: Any) -> None:
    check_etag(request.etag, resource)


def _check_children(emulator: Emulator, resource: Any, request: Any) -> None:
    """Reject the deletion of a context with children.

    "The force deletion semantics is still undefined" (DeleteContextRequest.force). The code is a guess.
    """
    children = [
        context.name
        for context in emulator.store.list_below(request.name.rpartition("/")[0], "Context")
        if request.name in context.parent_contexts
    ]
    if children and not request.force:
        raise FailedPreconditionError(f"{request.name} has child contexts.")
    check_etag(request.etag, resource)


register_deletion("MetadataService", "Context", _check_children)
register_deletion("MetadataService", "Execution", _check_deleted_etag)
register_deletion("MetadataService", "Artifact", _check_deleted_etag)


@register_method("MetadataService")
def add_execution_events(emulator: Emulator, request: Any) -> Any:
    emulator.store.get(request.execution)
    for event in request.events:
        emulator.store.get(event.artifact)
        values = (request.execution, event.artifact, int(event.type_), get_time().ToNanoseconds() / 1e9)
        emulator.store.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?)", values)
    return v1.types.AddExecutionEventsResponse()


@register_method("MetadataService")
def query_execution_inputs_and_outputs(emulator: Emulator, request: Any) -> Any:
    emulator.store.get(request.execution)
    return _read_subgraph(emulator, {request.execution}, set(), 1)


@register_method("MetadataService")
def query_artifact_lineage_subgraph(emulator: Emulator, request: Any) -> Any:
    """Return the executions and artifacts at most `max_hops` away from an artifact.

    A hop leads from an artifact to an execution, or back: a guess, since the protos do not define one.
    """
    emulator.store.get(request.artifact)
    if request.max_hops < 0:
        raise InvalidArgumentError("max_hops must not be negative.")
    return _read_subgraph(emulator, set(), {request.artifact}, request.max_hops)


@register_method("MetadataService")
def query_context_lineage_subgraph(emulator: Emulator, request: Any) -> Any:
    emulator.store.get(request.context)
    rows = emulator.store.execute("SELECT name FROM member WHERE context = ?", (request.context,))
    names = {name for (name,) in rows}
    executions = {name for name in names if "/executions/" in name}
    return _build_graph(emulator, executions, names - executions, _read_events(emulator, "execution", executions))


def _read_subgraph(emulator: Emulator, executions: set[str], artifacts: set[str], hops: int) -> Any:
    """Return the executions and artifacts at most `hops` away."""
    events: set[tuple[Any, ...]] = set()
    new_executions, new_artifacts = set(executions), set(artifacts)
    for _ in range(hops):
        rows = _read_events(emulator, "artifact", new_artifacts) | _read_events(emulator, "execution", new_executions)
        new_executions, new_artifacts = {row[0] for row in rows} - executions, {row[1] for row in rows} - artifacts
        executions, artifacts, events = executions | new_executions, artifacts | new_artifacts, events | rows
    return _build_graph(emulator, executions, artifacts, events)


def _read_events(emulator: Emulator, column: str, names: Iterable[str]) -> set[tuple[Any, ...]]:
    events: set[tuple[Any, ...]] = set()
    for name in names:
        query = f"SELECT execution, artifact, kind, at FROM event WHERE {column} = ?"
        events.update(emulator.store.execute(query, (name,)))
    return events


def _build_graph(emulator: Emulator, executions: set[str], artifacts: set[str], events: set[tuple[Any, ...]]) -> Any:
    """Return a subgraph, whose size QueryArtifactLineageSubgraphRequest.artifact limits to 1000."""
    if max(len(executions), len(artifacts), len(events)) > MAX_GRAPH:
        raise FailedPreconditionError(
            f"The lineage subgraph has more than {MAX_GRAPH} artifacts, executions or events."
        )
    described = [
        v1.Event(
            execution=execution,
            artifact=artifact,
            type_=v1.Event.Type(kind),
            event_time=datetime.datetime.fromtimestamp(at, datetime.UTC),
        )
        for execution, artifact, kind, at in sorted(events)
    ]
    return v1.types.LineageSubgraph(
        artifacts=[emulator.store.get(name) for name in sorted(artifacts)],
        executions=[emulator.store.get(name) for name in sorted(executions)],
        events=described,
    )
