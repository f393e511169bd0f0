"""EndpointService and PredictionService: deployments, traffic, and predictions from the deployed SavedModels.

Quotations are of endpoint.proto, endpoint_service.proto and machine_resources.proto. Status codes are guesses where a
docstring names no source.
"""

import random
import re
import threading
import time
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format, struct_pb2

from emulators.vertex import models, request_log
from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from emulators.vertex.service import Emulator, list_page, register_deletion, register_finisher, register_method
from emulators.vertex.store import check_etag, get_time

_ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
_NEW = "0"
_UPDATABLE = ("traffic_split", "labels", "display_name", "description", "predict_request_response_logging_config")


@register_method("EndpointService")
def create_endpoint(emulator: Emulator, request: Any) -> Any:
    """Start the creation of an endpoint.

    Endpoint.display_name is "Required"; CreateEndpointRequest.endpoint_id: "If the first character is a letter, ... up
    to 63 characters, and valid characters are [a-z0-9-]. The last character must be a letter or number. If the first
    character is a number, ... up to 9 characters, and valid characters are [0-9] with no leading zeros."
    """
    if not request.endpoint.display_name:
        raise InvalidArgumentError("endpoint.display_name is required.")
    if request.endpoint_id and not _ENDPOINT_ID.fullmatch(request.endpoint_id):
        raise InvalidArgumentError(f"endpoint_id {request.endpoint_id} does not match [a-z][a-z0-9-]{{0,61}}[a-z0-9].")
    request_log.check_setting(emulator, request.endpoint)
    name = f"{request.parent}/endpoints/{request.endpoint_id or emulator.store.create_id()}"
    if emulator.store.has_resource(name) or emulator.operations.is_running(name):
        raise StatusError("ALREADY_EXISTS", f"Endpoint {name} already exists.")
    body = type(request.endpoint).to_json(request.endpoint)
    return emulator.operations.start("CreateEndpoint", name, {"name": name, "endpoint": body})


@register_finisher("CreateEndpoint")
def _finish_create(emulator: Emulator, request: dict[str, Any]) -> Any:
    endpoint = v1.types.Endpoint.from_json(request["endpoint"])
    endpoint.name = request["name"]
    return emulator.store.put(endpoint)


@register_method("EndpointService")
def get_endpoint(emulator: Emulator, request: Any) -> Any:
    return _hide_new_deployments(emulator, emulator.store.get(request.name))


def _hide_new_deployments(emulator: Emulator, endpoint: Any) -> Any:
    """Return an endpoint without deployments that are not listed yet. That reads may lag is a guess."""
    listed = get_time().ToNanoseconds() / 1e9 - emulator.read_lag_seconds
    endpoint.deployed_models = [d for d in endpoint.deployed_models if d.create_time.timestamp() <= listed]
    return endpoint


@register_method("EndpointService")
def list_endpoints(emulator: Emulator, request: Any) -> Any:
    endpoints = [
        _hide_new_deployments(emulator, endpoint)
        for endpoint in emulator.store.list_below(f"{request.parent}/endpoints/", "Endpoint")
    ]
    return list_page(v1.types.ListEndpointsResponse, "endpoints", endpoints, request)


@register_method("EndpointService")
def update_endpoint(emulator: Emulator, request: Any) -> Any:
    """Change an endpoint; that other fields are rejected is a guess."""
    endpoint = emulator.store.get(request.endpoint.name)
    check_etag(request.endpoint.etag, endpoint)
    for field in request.update_mask.paths:
        if field not in _UPDATABLE:
            raise InvalidArgumentError(f"{field} of an endpoint cannot be updated.")
        setattr(endpoint, field, getattr(request.endpoint, field))
    _check_split(dict(endpoint.traffic_split), {d.id for d in endpoint.deployed_models})
    request_log.check_setting(emulator, endpoint)
    if "traffic_split" in request.update_mask.paths:
        _begin_warm_up(emulator, endpoint.name)
    return emulator.store.put(endpoint)


def _begin_warm_up(emulator: Emulator, endpoint: str) -> None:
    """Let an endpoint respond with 503 for a while.

    https://cloud.google.com/vertex-ai/docs/predictions/overview says that a new deployment may do so; that a change of
    the split does, and for how long, is a guess.
    """
    emulator.warm_up_ends[endpoint] = time.monotonic() + emulator.warm_up_seconds


def _check_empty(emulator: Emulator, endpoint: Any, request: Any) -> None:
    """Reject the deletion of an endpoint with deployments; the code is a guess."""
    if endpoint.deployed_models:
        raise FailedPreconditionError(f"{request.name} has deployed models; undeploy them first.")


register_deletion("EndpointService", "Endpoint", _check_empty)


@register_method("EndpointService")
def deploy_model(emulator: Emulator, request: Any) -> Any:
    """Start a deployment.

    DedicatedResources.machine_spec and min_replica_count are "Required"; MachineSpec.machine_type: "For DeployedModel
    this field is optional, and the default value is n1-standard-2"; DeployedModel.id: "1-10 characters, and valid
    characters are /[0-9]/". Other resources than dedicated ones are not emulated.
    """
    endpoint = emulator.store.get(request.endpoint)
    deployed = request.deployed_model
    version = models.find_version(emulator, deployed.model)
    resources = deployed.dedicated_resources
    if not resources:
        raise StatusError("UNIMPLEMENTED", "Only deployments with dedicated_resources are emulated.")
    if resources.min_replica_count < 1:
        raise InvalidArgumentError("deployed_model.dedicated_resources.min_replica_count is required.")
    resources.machine_spec.machine_type = resources.machine_spec.machine_type or "n1-standard-2"
    if deployed.id and not re.fullmatch("[0-9]{1,10}", deployed.id):
        raise InvalidArgumentError(f"deployed_model.id {deployed.id} does not match [0-9]{{1,10}}.")
    if emulator.iam is not None:
        emulator.iam.check_acting(deployed.service_account)
        emulator.iam.check_files(deployed.service_account)
    if deployed.id and deployed.id in {d.id for d in endpoint.deployed_models}:
        raise StatusError("ALREADY_EXISTS", f"DeployedModel {deployed.id} already exists.")
    split = dict(request.traffic_split)
    _check_split(split, {d.id for d in endpoint.deployed_models} | {_NEW})
    deployed.id = deployed.id or emulator.store.create_id()
    deployed.model = version.name
    deployed.model_version_id = version.version_id
    values = {"endpoint": endpoint.name, "deployed_model": type(deployed).to_json(deployed), "split": split}
    return emulator.operations.start("DeployModel", endpoint.name, values)


@register_finisher("DeployModel")
def _finish_deploy(emulator: Emulator, request: dict[str, Any]) -> Any:
    endpoint = emulator.store.get(request["endpoint"])
    deployed = v1.types.DeployedModel.from_json(request["deployed_model"])
    deployed.create_time = get_time()
    endpoint.deployed_models = [*endpoint.deployed_models, deployed]
    if request["split"]:
        split = {deployed.id if key == _NEW else key: share for key, share in request["split"].items()}
        # The deployments that the split names may have been removed since the request.
        _check_split(split, {d.id for d in endpoint.deployed_models})
        endpoint.traffic_split = split
    _begin_warm_up(emulator, endpoint.name)
    emulator.store.put(endpoint)
    return v1.types.DeployModelResponse(deployed_model=deployed)


@register_method("EndpointService")
def undeploy_model(emulator: Emulator, request: Any) -> Any:
    """Start the end of a deployment.

    UndeployModelRequest.traffic_split: "If last DeployedModel is being undeployed from the Endpoint, the
    [Endpoint.traffic_split] will always end up empty when this call returns. A DeployedModel will be successfully
    undeployed only if it doesn't have any traffic assigned to it when this method executes, or if this field unassigns
    any traffic to it."
    """
    endpoint = emulator.store.get(request.endpoint)
    ids = {d.id for d in endpoint.deployed_models}
    if request.deployed_model_id not in ids:
        raise StatusError("NOT_FOUND", f"DeployedModel {request.deployed_model_id} is not on {request.endpoint}.")
    split = dict(request.traffic_split) or dict(endpoint.traffic_split)
    _check_split(split, ids)
    if len(ids) > 1 and split.get(request.deployed_model_id, 0):
        raise FailedPreconditionError(f"DeployedModel {request.deployed_model_id} has traffic; move it first.")
    values = {"endpoint": endpoint.name, "id": request.deployed_model_id, "split": dict(request.traffic_split)}
    return emulator.operations.start("UndeployModel", endpoint.name, values)


@register_finisher("UndeployModel")
def _finish_undeploy(emulator: Emulator, request: dict[str, Any]) -> Any:
    endpoint = emulator.store.get(request["endpoint"])
    endpoint.deployed_models = [d for d in endpoint.deployed_models if d.id != request["id"]]
    split = request["split"] or dict(endpoint.traffic_split)
    split.pop(request["id"], None)
    endpoint.traffic_split = split if endpoint.deployed_models else {}
    emulator.store.put(endpoint)
    return v1.types.UndeployModelResponse()


def _check_split(split: dict[str, int], ids: set[str]) -> None:
    """Check a split.

    Endpoint.traffic_split: "A map from a DeployedModel's ID to the percentage", "must add up to 100, or map must be
    empty". DeployModelRequest.traffic_split: ""0" should be used" for the model that is being deployed.
    """
    unknown = set(split) - ids
    if unknown:
        raise InvalidArgumentError(
            f"traffic_split names DeployedModels that do not exist: {', '.join(sorted(unknown))}."
        )
    if split and sum(split.values()) != 100:
        raise InvalidArgumentError(f"traffic_split must sum to 100; it sums to {sum(split.values())}.")
    if any(share < 0 for share in split.values()):
        raise InvalidArgumentError("traffic_split has a negative share.")


class _LoadedModels:
    """SavedModels, each loaded once, and the draw of the one that predicts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, Any] = {}
        self._random = random.Random(0)

    def get_predictor(self, folder: str) -> Any:
        with self._lock:
            if folder not in self._models:
                # TensorFlow takes seconds to load, and most emulators never predict.
                from serving.model.predictor import Predictor

                self._models[folder] = Predictor(folder)
            return self._models[folder]

    def draw(self, split: dict[str, int]) -> str:
        with self._lock:
            return self._random.choices(list(split), weights=list(split.values()))[0]


_MODELS = _LoadedModels()


@register_method("PredictionService")
def predict(emulator: Emulator, request: Any) -> Any:
    """Return predictions of one of the deployed models, drawn by the traffic split.

    The codes of an endpoint without traffic and of a model that fails are guesses.
    """
    with emulator.store.lock:
        endpoint = emulator.store.get(request.endpoint)
        if not endpoint.deployed_models:
            raise FailedPreconditionError(f"{request.endpoint} has no deployed model.")
        if not any(endpoint.traffic_split.values()):
            raise FailedPreconditionError(f"{request.endpoint} sends no traffic to any model.")
        if time.monotonic() < emulator.warm_up_ends.get(request.endpoint, 0.0):
            raise StatusError("UNAVAILABLE", "503: the model server is not ready yet.")
        drawn_id = _MODELS.draw({key: share for key, share in endpoint.traffic_split.items() if share})
        (deployed,) = [d for d in endpoint.deployed_models if d.id == drawn_id]
        version = emulator.store.get(f"{deployed.model}@{deployed.model_version_id}")
    pb = type(request).pb(request)
    instances = [json_format.MessageToDict(instance) for instance in pb.instances]
    try:
        rows = predict_rows(str(emulator.find_path(version.artifact_uri)), instances)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise StatusError("INTERNAL", f"The model failed: {type(error).__name__}: {error}") from error
    response = v1.types.PredictResponse(
        deployed_model_id=deployed.id,
        model=deployed.model,
        model_version_id=deployed.model_version_id,
        model_display_name=version.display_name,
    )
    for row in rows:
        type(response).pb(response).predictions.append(json_format.ParseDict(row, struct_pb2.Value()))
    request_log.log_prediction(emulator, endpoint, deployed.id, instances, rows)
    return response


def predict_rows(folder: str, instances: list[Any]) -> list[dict[str, Any]]:
    """Return the predictions that the container of a deployed model would return."""
    from serving.model.session_model import ModelError

    try:
        rows: list[dict[str, Any]] = _MODELS.get_predictor(folder).predict(instances)
    except ModelError as error:
        raise ValueError(str(error)) from error
    return rows
