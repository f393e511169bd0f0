"""The plan of a push, made before anything is changed; a clash is rejected and named."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass

from cli.errors import PushError
from serving.registry.protocol import Candidate
from serving.registry.vertex.config import ENDPOINT_ID, MODEL_ID, Deployment
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.names import is_same_resource
from serving.registry.vertex.request_log import describe_change
from serving.registry.vertex.state import (
    CHAMPION,
    FINISHED,
    OWNER_LABEL,
    STATE_LABEL,
    DeployedVersion,
    Endpoint,
    VertexModel,
    VertexVersion,
    format_label,
    list_endpoints,
    list_model_names,
    read_endpoint,
    read_model,
)

_FULL = 100


@dataclass(frozen=True)
class RolloutPlan:
    """Steps of a push.

    Attributes:
      model: Model before the push.
      endpoint: Endpoint before the push.
      version: the number that the pushed version has or will have.
      existing: the version that holds this content already, if one does.
      done: whether nothing is left to do.
      steps: the new version's shares of the traffic, in turn.
      undeploy: the deployments that go, once the last step is passed.
      request_log: the change of the endpoint's request log; empty if there is none.
    """

    model: VertexModel
    endpoint: Endpoint
    version: int
    existing: VertexVersion | None
    done: bool
    steps: tuple[int, ...]
    undeploy: tuple[DeployedVersion, ...]
    request_log: str

    def format_summary(self) -> str:
        """Return the plan in one line."""
        name, endpoint = self.model.resource.rpartition("/")[2], self.endpoint.resource.rpartition("/")[2]
        if self.done:
            return self.format_lines()[0]
        first = self.steps[0]
        share = f"{first} % canary" if first < _FULL else "all traffic"
        gone = ", ".join(str(self._find_number(deployed)) for deployed in self.undeploy) or "none"
        return f"version {self.version} of {name}, {share} on endpoint {endpoint}, undeploy {gone}"

    def format_lines(self) -> list[str]:
        """Return the plan in words, a line each."""
        name = self.model.resource.rpartition("/")[2]
        endpoint = self.endpoint.resource.rpartition("/")[2]
        serving = ", ".join(
            f"version {version.number} with {self.endpoint.compute_share(version.id)} %"
            for version in self.list_serving_versions()
        )
        if self.done:
            return [
                f"nothing to do: version {self.version} of {name} holds this very model already",
                f"endpoint {endpoint} serves {serving or 'nothing'}",
                *filter(None, [self.request_log]),
            ]
        lines = [
            f"continue with version {self.version} of {name}, which an earlier push registered"
            if self.existing
            else f"version {self.version} of {name}" + ("" if self.model.versions else ", a new model")
        ]
        lines.append(
            f"endpoint {endpoint}"
            + (f", which serves {serving or 'nothing'}" if self.endpoint.exists else ", a new one")
        )
        shares = " %, then ".join(str(step) for step in self.steps)
        canary = self.steps[0] < _FULL
        lines.append(f"{shares} % {'canary' if self.steps == self.steps[:1] and canary else 'of the traffic'}")
        numbers = [str(self._find_number(deployed)) for deployed in self.undeploy]
        lines.append(f"undeploy {', '.join(numbers) or 'none'}")
        return [*lines, *filter(None, [self.request_log])]

    def list_serving_versions(self) -> list[VertexVersion]:
        """Return the versions that have traffic now."""
        return [version for version in self.model.versions if self.endpoint.compute_share(version.id)]

    def _find_number(self, deployed: DeployedVersion) -> int:
        version = self.model.find_by_id(deployed.version_id)
        return version.number if version else int(deployed.version_id)


def make_plan(vertex: VertexClient, model_name: str, candidate: Candidate, deployment: Deployment) -> RolloutPlan:
    """Read the state and decide.

    Raises:
      PushError: the name, the version or the endpoint is another's; several could be meant; or the image cannot run the
        model.
    """
    check_image(deployment, candidate.tensorflow or _read_installed_tensorflow())
    # A label of another length than a hash is none that a version holds.
    content = candidate.content_hash if candidate.folder is not None else "not-trained-yet"
    model = _find_own_model(vertex, model_name, candidate.pipeline)
    endpoint = find_own_endpoint(vertex, deployment.endpoint or model_name, model.resource, candidate.pipeline)
    _check_encryption(endpoint, vertex.place.cmek_key)
    existing = next((version for version in reversed(model.versions) if version.has_content(content)), None)
    taken = model.find_by_number(candidate.version) if candidate.version is not None else None
    if taken is not None and not taken.has_content(content):
        raise PushError(
            f"version {candidate.version} of '{model_name}' is taken: it holds other content, pushed by run "
            f"{taken.labels.get('run-id', 'unknown')}; an alias is never moved to another model. Leave out "
            f"push.version to push as {_compute_next_number(model)}"
        )
    if existing is not None and candidate.version not in (None, existing.number):
        raise PushError(
            f"this very model is version {existing.number} of '{model_name}' already; push.version asks for "
            f"{candidate.version}. Leave it out"
        )
    # A finished push stays finished, whatever was done to the version since: a rollback is not undone by a rerun.
    done = existing is not None and existing.labels.get(STATE_LABEL) == FINISHED
    number = _compute_next_number(model) if candidate.version is None else candidate.version
    version = existing.number if existing else number
    others = [d for d in endpoint.deployed if existing is None or d.version_id != existing.id]
    steps = deployment.traffic_steps if others else (_FULL,)
    kept = deployment.keep_deployed - 1 if steps[-1] == _FULL else len(others)
    surplus = find_surplus(others, model, kept)
    request_log = describe_change(deployment.request_log, endpoint.request_log)
    return RolloutPlan(model, endpoint, version, existing, done, steps, surplus, request_log)


def _check_encryption(endpoint: Endpoint, key: str | None) -> None:
    """Reject an endpoint that was made without the configured key, which cannot be added later."""
    if key and endpoint.exists and not is_same_resource(endpoint.cmek_key, key):
        has = f"the key {endpoint.cmek_key}" if endpoint.cmek_key else "no key of yours"
        raise PushError(
            f"push.vertex.endpoint: {endpoint.resource} is encrypted with {has}; vertex.cmek_key asks for {key}, and "
            "an endpoint keeps its key. Choose another endpoint, or delete this one"
        )


def _read_installed_tensorflow() -> tuple[int, int]:
    major, minor, *_ = importlib.metadata.version("tensorflow").split(".")
    return int(major), int(minor)


def find_surplus(others: list[DeployedVersion], model: VertexModel, keep: int) -> tuple[DeployedVersion, ...]:
    """Return all but the last `keep` of the other deployments; the one that serves now counts as the latest."""
    champion = model.find_by_alias(CHAMPION)
    ranked = sorted(
        others, key=lambda d: (champion is not None and d.version_id == champion.id, int(d.version_id), d.created)
    )
    return tuple(ranked[: max(0, len(ranked) - keep)])


def _compute_next_number(model: VertexModel) -> int:
    return max((max(version.number, int(version.id)) for version in model.versions), default=0) + 1


def check_image(deployment: Deployment, tensorflow: tuple[int, int]) -> None:
    """Reject an image whose TensorFlow is older than the one that wrote the model."""
    image = deployment.image_tensorflow
    if image is not None and image < tensorflow:
        raise PushError(
            f"push.vertex.serving_image: {deployment.serving_image} holds TensorFlow {image[0]}.{image[1]}, and the "
            f"model was written by {tensorflow[0]}.{tensorflow[1]}; choose an image with that release or a later one"
        )


def _find_own_model(vertex: VertexClient, model_name: str, pipeline: str) -> VertexModel:
    if not MODEL_ID.fullmatch(model_name):
        raise PushError(
            f"push.model_name: '{model_name}' cannot be a model's id on Vertex AI; expected at most 63 of "
            "lowercase letters, digits, _ and -, a letter first"
        )
    model = read_model(vertex, model_name)
    foreign_models = [
        name for name in list_model_names(vertex, model_name) if not is_same_resource(name, model.resource)
    ]
    if foreign_models:
        raise PushError(
            f"push.model_name: '{model_name}' is the display name of {_join_names(foreign_models)} not made by this "
            "pipeline; rename or delete what is not needed, or choose another name"
        )
    for version in model.versions:
        owner = version.labels.get(OWNER_LABEL)
        if owner != format_label(pipeline):
            raise PushError(
                f"push.model_name: '{model_name}' is taken: version {version.number} of {model.resource} "
                + (f"belongs to the pipeline '{owner}'" if owner else "belongs to another tool")
                + f", not to '{pipeline}'. Choose another name"
            )
    return model


def find_own_endpoint(vertex: VertexClient, display_name: str, model: str, pipeline: str) -> Endpoint:
    """Return the endpoint of a name, or where it would be created.

    Raises:
      PushError: the name is not an endpoint's; two have it; or it is another pipeline's, or serves other models.
    """
    if not ENDPOINT_ID.fullmatch(display_name):
        raise PushError(
            f"push.vertex.endpoint: '{display_name}' cannot be an endpoint's id; expected at most 63 of lowercase "
            "letters, digits and -, a letter first, no - last"
        )
    endpoints = list_endpoints(vertex, display_name)
    if len(endpoints) > 1:
        raise PushError(
            f"push.vertex.endpoint: '{display_name}' is the name of {_join_names([e.resource for e in endpoints])}; "
            "delete or rename what is not meant"
        )
    endpoint = endpoints[0] if endpoints else read_endpoint(vertex, f"{vertex.place.parent}/endpoints/{display_name}")
    owner = endpoint.labels.get(OWNER_LABEL)
    if owner not in (None, format_label(pipeline)):
        raise PushError(
            f"push.vertex.endpoint: {endpoint.resource} belongs to the pipeline '{owner}'; choose another name"
        )
    foreign = sorted({d.model for d in endpoint.deployed if not is_same_resource(d.model, model)})
    if foreign:
        raise PushError(
            f"push.vertex.endpoint: {endpoint.resource} serves {_join_names(foreign)}; a push would take their "
            "traffic. Choose another endpoint"
        )
    return endpoint


def _join_names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} resources ({', '.join(sorted(names))})"


def shift_share(split: Mapping[str, int], deployed_id: str, share: int) -> dict[str, int]:
    """Return a split in which one deployment has `share` percent and the others keep their proportions; sums to 100.

    What rounding leaves goes to the largest remainders (Hamilton's method).
    """
    others = {key: value for key, value in split.items() if key != deployed_id and value}
    total = sum(others.values())
    if not total or share == _FULL:
        return {deployed_id: _FULL}
    exact = {key: value * (_FULL - share) / total for key, value in others.items()}
    shares = {key: int(value) for key, value in exact.items()}
    left = _FULL - share - sum(shares.values())
    for key in sorted(exact, key=lambda k: (shares[k] - exact[k], k))[:left]:
        shares[key] += 1
    return {deployed_id: share, **{key: value for key, value in shares.items() if value}}
