"""A model's versions and an endpoint's deployments, read again before each decision."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from serving.registry.content import compute_content_hash
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.names import is_same_resource
from serving.registry.vertex.request_log import RequestLogSetting, read_setting

CHAMPION, PREVIOUS, CANDIDATE, DEFAULT = "champion", "previous", "candidate", "default"
OWNER_LABEL, HASH_LABEL, RUN_LABEL, BLESSED_LABEL = "pipeline", "content-hash", "run-id", "blessed"
# How far a push has come: it may be taken up again, is over, or was rolled back for its answers.
STATE_LABEL, UNFINISHED, FINISHED, REJECTED = "push-state", "unfinished", "finished", "rejected"
LABEL_LENGTH = 63


def format_label(text: str) -> str:
    """Return a text as a label's value: at most 63 of lowercase letters, digits, `_` and `-`."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:LABEL_LENGTH]


@dataclass(frozen=True)
class VertexVersion:
    """One version of a model in the registry."""

    id: str
    aliases: tuple[str, ...]
    labels: Mapping[str, str]
    artifact_uri: str
    created: float
    endpoints: tuple[str, ...]

    @property
    def number(self) -> int:
        """Ours: the N of the alias `vN`; for a version of another's, its id."""
        named = [int(alias[1:]) for alias in self.aliases if re.fullmatch(r"v\d+", alias)]
        return max(named, default=int(self.id))

    def has_content(self, content_hash: str) -> bool:
        return self.labels.get(HASH_LABEL) == format_label(content_hash)

    def is_intact(self, project: str) -> bool | None:
        """Return whether the files are those that were pushed; None if another tool pushed them.

        Args:
          project: Project of the bucket.

        Raises:
          PushError: they cannot be read.
        """
        if HASH_LABEL not in self.labels:
            return None
        # The client of Cloud Storage, which most commands do not need.
        from serving.registry.vertex import staging

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            try:
                staging.fetch(self.artifact_uri, folder, project=project)
            except staging.MissingObjectError:
                return False
            return self.has_content(compute_content_hash(folder))

    def describe_state(self) -> str:
        """Return the state in the words of the local registry, with that of its push if the push has not ended."""
        pushed = self.labels.get(STATE_LABEL)
        if pushed is None:
            return "of another tool"
        state = next((alias for alias in (CHAMPION, PREVIOUS, CANDIDATE) if alias in self.aliases), "retired")
        return state if pushed == FINISHED else f"{state}, {pushed}"


@dataclass(frozen=True)
class VertexModel:
    """A model and its versions, oldest first; none where the name is free."""

    resource: str
    versions: tuple[VertexVersion, ...] = ()

    def find_by_alias(self, alias: str) -> VertexVersion | None:
        return next((version for version in self.versions if alias in version.aliases), None)

    def find_by_number(self, number: int) -> VertexVersion | None:
        return next((version for version in self.versions if version.number == number), None)

    def find_by_id(self, version_id: str) -> VertexVersion | None:
        return next((version for version in self.versions if version.id == version_id), None)


@dataclass(frozen=True)
class DeployedVersion:
    """One deployment on an endpoint."""

    id: str
    model: str
    version_id: str
    created: float
    resources: Any
    service_account: str = ""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint; `resource` is where it would be created if there is none yet."""

    resource: str
    exists: bool = False
    deployed: tuple[DeployedVersion, ...] = ()
    split: Mapping[str, int] = field(default_factory=dict)
    etag: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cmek_key: str = ""
    request_log: RequestLogSetting | None = None

    def find_deployment(self, model: str, version_id: str) -> DeployedVersion | None:
        deployments = [d for d in self.deployed if d.version_id == version_id and is_same_resource(d.model, model)]
        # The one with traffic first: a second deployment of one version is a leftover.
        return max(deployments, key=lambda d: (self.split.get(d.id, 0), d.created), default=None)

    def compute_share(self, version_id: str) -> int:
        """Return the percent of the traffic."""
        return sum(self.split.get(d.id, 0) for d in self.deployed if d.version_id == version_id)


def read_model(vertex: VertexClient, model_id: str) -> VertexModel:
    """Return the model of an id, with all its versions."""
    resource = f"{vertex.place.parent}/models/{model_id}"
    try:
        versions = vertex.list_all(
            vertex.models.list_model_versions, v1.ListModelVersionsRequest(name=resource, page_size=100)
        )
    except exceptions.NotFound:
        return VertexModel(resource)
    return VertexModel(resource, tuple(sorted((_to_version(version) for version in versions), key=lambda v: int(v.id))))


def _to_version(model: Any) -> VertexVersion:
    return VertexVersion(
        id=model.version_id,
        aliases=tuple(model.version_aliases),
        labels=dict(model.labels),
        artifact_uri=model.artifact_uri,
        created=model.version_create_time.timestamp() if model.version_create_time else 0.0,
        endpoints=tuple(reference.endpoint for reference in model.deployed_models),
    )


def list_model_names(vertex: VertexClient, display_name: str) -> list[str]:
    """Return the names of all models of a display name, which is not unique."""
    request = v1.ListModelsRequest(parent=vertex.place.parent, filter=f'display_name="{display_name}"')
    return [model.name for model in vertex.list_all(vertex.models.list_models, request)]


def list_endpoints(vertex: VertexClient, display_name: str) -> list[Endpoint]:
    """Return all endpoints of a display name."""
    request = v1.ListEndpointsRequest(parent=vertex.place.parent, filter=f'display_name="{display_name}"')
    return [_to_endpoint(endpoint) for endpoint in vertex.list_all(vertex.endpoints.list_endpoints, request)]


def read_endpoint(vertex: VertexClient, resource: str) -> Endpoint:
    """Return an endpoint as it is now."""
    try:
        return _to_endpoint(vertex.read(vertex.endpoints.get_endpoint, v1.GetEndpointRequest(name=resource)))
    except exceptions.NotFound:
        return Endpoint(resource)


def _to_endpoint(endpoint: Any) -> Endpoint:
    deployed = [
        DeployedVersion(
            id=d.id,
            model=d.model.partition("@")[0],
            version_id=d.model_version_id,
            created=d.create_time.timestamp() if d.create_time else 0.0,
            resources=d.dedicated_resources,
            service_account=d.service_account,
        )
        for d in endpoint.deployed_models
    ]
    return Endpoint(
        resource=endpoint.name,
        exists=True,
        deployed=tuple(deployed),
        split={key: share for key, share in endpoint.traffic_split.items() if share},
        etag=endpoint.etag,
        labels=dict(endpoint.labels),
        cmek_key=endpoint.encryption_spec.kms_key_name,
        request_log=read_setting(endpoint),
    )
