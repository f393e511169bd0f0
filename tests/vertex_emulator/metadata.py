"""MetadataService: contexts, executions and artifacts."""

from typing import Any

from google.cloud import aiplatform_v1 as v1

from tests.vertex_emulator.errors import RefusalError, invalid
from tests.vertex_emulator.service import Emulator, finisher, listed, method
from tests.vertex_emulator.store import check_etag


@method("MetadataService")
def create_metadata_store(emulator: Emulator, request: Any) -> Any:
    name = f"{request.parent}/metadataStores/{request.metadata_store_id or 'default'}"
    if emulator.store.has(name):
        raise RefusalError("ALREADY_EXISTS", f"MetadataStore {name} already exists.")
    return emulator.operations.start("CreateMetadataStore", name, {"name": name})


@finisher("CreateMetadataStore")
def _created(emulator: Emulator, request: dict[str, Any]) -> Any:
    return emulator.store.put(v1.types.MetadataStore(name=request["name"]))


@method("MetadataService")
def get_metadata_store(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


def _create(emulator: Emulator, parent: str, folder: str, message: Any, wanted_id: str) -> Any:
    emulator.store.get(parent)
    message.name = f"{parent}/{folder}/{wanted_id or emulator.store.new_id()}"
    if emulator.store.has(message.name):
        raise RefusalError("ALREADY_EXISTS", f"{type(message).__name__} {message.name} already exists.")
    return emulator.store.put(message)


def _update(emulator: Emulator, message: Any, mask: Any, allow_missing: bool) -> Any:
    if allow_missing and not emulator.store.has(message.name):
        return emulator.store.put(message)
    current = emulator.store.get(message.name)
    check_etag(message.etag, current)
    for path in mask.paths or ("metadata", "display_name", "description", "labels", "state"):
        if path in type(current).meta.fields:
            setattr(current, path, getattr(message, path))
        else:
            raise invalid(f"update_mask: {path} is no field of {type(current).__name__}.")
    return emulator.store.put(current)


@method("MetadataService")
def create_context(emulator: Emulator, request: Any) -> Any:
    return _create(emulator, request.parent, "contexts", request.context, request.context_id)


@method("MetadataService")
def create_execution(emulator: Emulator, request: Any) -> Any:
    return _create(emulator, request.parent, "executions", request.execution, request.execution_id)


@method("MetadataService")
def create_artifact(emulator: Emulator, request: Any) -> Any:
    return _create(emulator, request.parent, "artifacts", request.artifact, request.artifact_id)


@method("MetadataService")
def update_context(emulator: Emulator, request: Any) -> Any:
    return _update(emulator, request.context, request.update_mask, request.allow_missing)


@method("MetadataService")
def update_execution(emulator: Emulator, request: Any) -> Any:
    return _update(emulator, request.execution, request.update_mask, request.allow_missing)


@method("MetadataService")
def update_artifact(emulator: Emulator, request: Any) -> Any:
    return _update(emulator, request.artifact, request.update_mask, request.allow_missing)


@method("MetadataService")
def get_context(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("MetadataService")
def get_execution(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("MetadataService")
def get_artifact(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("MetadataService")
def list_contexts(emulator: Emulator, request: Any) -> Any:
    found = emulator.store.below(f"{request.parent}/contexts/", "Context")
    return listed(v1.types.ListContextsResponse, "contexts", found, request)


@method("MetadataService")
def list_executions(emulator: Emulator, request: Any) -> Any:
    found = emulator.store.below(f"{request.parent}/executions/", "Execution")
    return listed(v1.types.ListExecutionsResponse, "executions", found, request)


@method("MetadataService")
def list_artifacts(emulator: Emulator, request: Any) -> Any:
    found = emulator.store.below(f"{request.parent}/artifacts/", "Artifact")
    return listed(v1.types.ListArtifactsResponse, "artifacts", found, request)
