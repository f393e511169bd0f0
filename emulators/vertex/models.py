"""ModelService: models, versions, aliases, evaluations.

Quotations are of model.proto, model_service.proto and the comments of ModelService in the client. Status codes are
guesses where a docstring names no source.
"""

import re
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2

from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, ResourceNotFoundError, StatusError
from emulators.vertex.service import Emulator, list_page, register_finisher, register_method
from emulators.vertex.store import check_etag, get_time

_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_LABEL = re.compile(r"[\w-]{0,64}")
_MODEL_FIELDS = ("display_name", "description")
_VERSION_FIELDS = ("version_description",)
DEFAULT = "default"
# Key of the labels of a whole model, after its name.
_MODEL_LABELS = "#labels"


def list_versions(emulator: Emulator, model: str) -> list[Any]:
    """Return all versions of a model, oldest first."""
    return emulator.store.list_below(f"{model}@", "Model")


def find_version(emulator: Emulator, name: str) -> Any:
    """Return a version by `MODEL` (the default one), `MODEL@ID` or `MODEL@ALIAS` (GetModelRequest.name)."""
    model, _, id_or_alias = name.partition("@")
    for version in list_versions(emulator, model):
        if id_or_alias == version.version_id or (id_or_alias or DEFAULT) in version.version_aliases:
            return _set_deployments(emulator, version)
    raise ResourceNotFoundError(name)


def _set_deployments(emulator: Emulator, version: Any) -> Any:
    version.deployed_models = [
        v1.types.DeployedModelRef(endpoint=endpoint.name, deployed_model_id=deployed.id)
        for endpoint in emulator.store.list_below(version.name.split("/models/")[0] + "/endpoints/", "Endpoint")
        for deployed in endpoint.deployed_models
        if deployed.model == version.name and deployed.model_version_id == version.version_id
    ]
    return version


def _save(emulator: Emulator, version: Any) -> Any:
    version.deployed_models = []
    version.version_update_time = get_time()
    return emulator.store.put(version, f"{version.name}@{version.version_id}")


@register_method("ModelService")
def upload_model(emulator: Emulator, request: Any) -> Any:
    """Start the upload of a new model, or of a new version of `parent_model`.

    Model.display_name: "Required. ... up to 128 characters"; ModelContainerSpec.image_uri: "Required"; the formats of
    UploadModelRequest.model_id and Model.version_aliases.
    """
    model = request.model
    if not model.display_name or len(model.display_name) > 128:
        raise InvalidArgumentError("model.display_name must have 1 to 128 characters.")
    if not model.container_spec.image_uri:
        raise InvalidArgumentError("model.container_spec.image_uri is required.")
    _check_labels(model.labels)
    if emulator.iam is not None:
        emulator.iam.check_image(request.service_account)
    for alias in model.version_aliases:
        if not _ALIAS.fullmatch(alias):
            raise InvalidArgumentError(f"Version alias {alias} does not match [a-z][a-zA-Z0-9-]{{0,126}}[a-z0-9].")
    if request.parent_model:
        # A guess: by the protos, both fields are optional; both at once are not mentioned.
        if request.model_id:
            raise InvalidArgumentError("model_id and parent_model cannot be set together.")
        name = request.parent_model.partition("@")[0]
        if not list_versions(emulator, name):
            raise ResourceNotFoundError(name)
    else:
        if request.model_id and not _MODEL_ID.fullmatch(request.model_id):
            raise InvalidArgumentError(f"model_id {request.model_id} does not match [a-z_][a-z0-9_-]{{0,62}}.")
        name = f"{request.parent}/models/{request.model_id or emulator.store.create_id()}"
        if list_versions(emulator, name) or emulator.operations.is_running(name):
            # A guess: the code of a clash.
            raise StatusError("ALREADY_EXISTS", f"Model {name} already exists.")
    return emulator.operations.start("UploadModel", name, {"name": name, "model": type(model).to_json(model)})


@register_finisher("UploadModel")
def _finish_upload(emulator: Emulator, request: dict[str, Any]) -> Any:
    name = request["name"]
    model = v1.types.Model.from_json(request["model"])
    model.name = name
    model.version_id = str(emulator.store.take_number(name))
    model.version_create_time = get_time()
    model.supported_deployment_resources_types = [v1.types.Model.DeploymentResourcesType.DEDICATED_RESOURCES]
    model.supported_input_storage_formats = ["jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip"]
    model.supported_output_storage_formats = ["jsonl", "bigquery"]
    aliases = list(model.version_aliases)
    if not list_versions(emulator, name):
        aliases = [*dict.fromkeys([*aliases, DEFAULT])]
    model.version_aliases = []
    _save(emulator, model)
    _merge(emulator, model, aliases)
    return v1.types.UploadModelResponse(model=name, model_version_id=model.version_id)


def _merge(emulator: Emulator, version: Any, aliases: list[str]) -> Any:
    """Add aliases, each taken from the version that had it; `-alias` removes one.

    Model.version_aliases: "there must be exactly one default version alias for a model".
    """
    for alias in aliases:
        removed = alias.removeprefix("-")
        if alias == f"-{DEFAULT}":
            raise InvalidArgumentError("The default alias cannot be removed; give it to another version.")
        for other in list_versions(emulator, version.name):
            if removed in other.version_aliases and (other.version_id != version.version_id or alias != removed):
                other.version_aliases = [a for a in other.version_aliases if a != removed]
                _save(emulator, other)
        if alias == removed:
            current = emulator.store.get(f"{version.name}@{version.version_id}")
            if alias not in current.version_aliases:
                current.version_aliases = [*current.version_aliases, alias]
                _save(emulator, current)
    return emulator.store.get(f"{version.name}@{version.version_id}")


@register_method("ModelService")
def get_model(emulator: Emulator, request: Any) -> Any:
    return _merge_labels(emulator, find_version(emulator, request.name))


def _merge_labels(emulator: Emulator, version: Any) -> Any:
    """Return a version with the labels of its model, too: "both are merged when a model is returned" (Model.labels)."""
    key = f"{version.name}{_MODEL_LABELS}"
    if emulator.store.has_resource(key):
        version.labels = {**emulator.store.get(key).labels, **version.labels}
    return version


@register_method("ModelService")
def list_models(emulator: Emulator, request: Any) -> Any:
    every = emulator.store.list_below(f"{request.parent}/models/", "Model")
    default = [
        _merge_labels(emulator, _set_deployments(emulator, version))
        for version in every
        if DEFAULT in version.version_aliases
    ]
    return list_page(v1.types.ListModelsResponse, "models", default, request)


@register_method("ModelService")
def list_model_versions(emulator: Emulator, request: Any) -> Any:
    """Return the versions of a model; the NOT_FOUND for one that does not exist is a guess."""
    model, _, _ = request.name.partition("@")
    versions = [
        _merge_labels(emulator, _set_deployments(emulator, version)) for version in list_versions(emulator, model)
    ]
    if not versions:
        raise ResourceNotFoundError(request.name)
    return list_page(v1.types.ListModelVersionsResponse, "models", versions, request)


@register_method("ModelService")
def update_model(emulator: Emulator, request: Any) -> Any:
    """Change a model or a version, by the rules of UpdateModelRequest.model.

    "model.name with the @ value, e.g. models/123@1, refers to a version specific update"; "without the @ value", and
    "with @-", to "a model update". "A model name or model version name fields update mismatch will cause a precondition
    error." "Labels are supported in both scenarios." Another field's INVALID_ARGUMENT is a guess.
    """
    model_name, _, version = request.model.name.partition("@")
    is_model = version in ("", "-")
    current = find_version(emulator, model_name if is_model else request.model.name)
    check_etag(request.model.etag, current)
    _check_labels(request.model.labels)
    for field in request.update_mask.paths:
        if field not in ("labels", *_MODEL_FIELDS, *_VERSION_FIELDS):
            raise InvalidArgumentError(f"{field} of a model cannot be updated.")
        if field in (_VERSION_FIELDS if is_model else _MODEL_FIELDS):
            raise FailedPreconditionError(f"{field} cannot be updated with the name {request.model.name}.")
    if "labels" in request.update_mask.paths and is_model:
        shared = v1.types.Model(name=current.name, labels=request.model.labels)
        emulator.store.put(shared, f"{current.name}{_MODEL_LABELS}")
        request.update_mask.paths.remove("labels")
    for field in request.update_mask.paths:
        for changed in list_versions(emulator, model_name) if is_model else [current]:
            setattr(changed, field, getattr(request.model, field))
            _save(emulator, changed)
        setattr(current, field, getattr(request.model, field))
    return _merge_labels(emulator, _set_deployments(emulator, _save(emulator, current)))


@register_method("ModelService")
def merge_version_aliases(emulator: Emulator, request: Any) -> Any:
    """Add and remove aliases (MergeVersionAliasesRequest.version_aliases has the format)."""
    version = find_version(emulator, request.name)
    for alias in request.version_aliases:
        if not _ALIAS.fullmatch(alias.removeprefix("-")):
            raise InvalidArgumentError(f"Version alias {alias} does not match [a-z][a-zA-Z0-9-]{{0,126}}[a-z0-9].")
    return _merge(emulator, version, list(request.version_aliases))


@register_method("ModelService")
def delete_model_version(emulator: Emulator, request: Any) -> Any:
    """Delete a version, by the rules of ModelService.DeleteModelVersion.

    "Model version can only be deleted if there are no DeployedModels created from it. Deleting the only version in the
    Model is not allowed." That the default version is kept follows from "exactly one default version alias"; the codes
    are guesses.
    """
    version = find_version(emulator, request.name)
    if version.deployed_models:
        raise FailedPreconditionError(
            f"{request.name} is deployed to {version.deployed_models[0].endpoint}; undeploy it first."
        )
    if len(list_versions(emulator, version.name)) == 1:
        raise FailedPreconditionError(f"{request.name} is the only version; delete the model.")
    if DEFAULT in version.version_aliases:
        raise FailedPreconditionError(
            f"{request.name} is the default version; give the alias to another version first."
        )
    values = {"name": f"{version.name}@{version.version_id}"}
    return emulator.operations.start("DeleteModelVersion", version.name, values)


@register_method("ModelService")
def delete_model(emulator: Emulator, request: Any) -> Any:
    """Delete a model with its versions, by the rules of ModelService.DeleteModel; the code is a guess.

    "A model cannot be deleted if any Endpoint resource has a DeployedModel based on the model".
    """
    versions = list_versions(emulator, request.name)
    if not versions:
        raise ResourceNotFoundError(request.name)
    if any(_set_deployments(emulator, version).deployed_models for version in versions):
        raise FailedPreconditionError(f"{request.name} is deployed; undeploy it first.")
    return emulator.operations.start("DeleteModel", request.name, {"name": request.name})


@register_finisher("DeleteModelVersion")
def _finish_delete_version(emulator: Emulator, request: dict[str, Any]) -> Any:
    emulator.store.delete(request["name"])
    return empty_pb2.Empty()


@register_finisher("DeleteModel")
def _finish_delete(emulator: Emulator, request: dict[str, Any]) -> Any:
    for version in list_versions(emulator, request["name"]):
        emulator.store.delete(f"{version.name}@{version.version_id}")
    emulator.store.delete(f"{request['name']}{_MODEL_LABELS}")
    return empty_pb2.Empty()


@register_method("ModelService")
def import_model_evaluation(emulator: Emulator, request: Any) -> Any:
    version = find_version(emulator, request.parent)
    evaluation = request.model_evaluation
    evaluation.name = f"{version.name}@{version.version_id}/evaluations/{emulator.store.create_id()}"
    return emulator.store.put(evaluation)


@register_method("ModelService")
def get_model_evaluation(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("ModelService")
def list_model_evaluations(emulator: Emulator, request: Any) -> Any:
    version = find_version(emulator, request.parent)
    prefix = f"{version.name}@{version.version_id}/evaluations/"
    evaluations = emulator.store.list_below(prefix, "ModelEvaluation")
    return list_page(v1.types.ListModelEvaluationsResponse, "model_evaluations", evaluations, request)


def _check_labels(labels: Any) -> None:
    """Check labels.

    Model.labels: "keys and values can be no longer than 64 characters (Unicode codepoints), can only contain lowercase
    letters, numeric characters, underscores and dashes. International characters are allowed."
    """
    for text in (text for label in labels.items() for text in label):
        if not _LABEL.fullmatch(text) or text != text.lower():
            raise InvalidArgumentError(f"Label {text}: at most 64 of lowercase letters, digits, _ and -.")
