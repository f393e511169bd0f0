"""Vertex AI's Model Registry and an endpoint as a registry: reads them, and carries out changes under a lease."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cli.errors import PushError
from cli.terminal import format_flags
from schemas.features import FeatureSet, escape_name
from serving.registry.content import DECLARATION_FILE
from serving.registry.protocol import (
    SHORT_HASH_CHARS,
    Candidate,
    GarbageCollection,
    PushedVersion,
    PushPlan,
    RegisteredVersion,
    ServingState,
    ServingSwitch,
)
from serving.registry.stamps import get_timestamp
from serving.registry.vertex import lease
from serving.registry.vertex.config import Deployment
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.extras import VersionTrainingData, set_up_extras
from serving.registry.vertex.plan import find_own_endpoint, make_plan
from serving.registry.vertex.request_log import RequestLogSetting
from serving.registry.vertex.rollout import DEPLOYMENT, PLACE, Rollout, check_switch, find_garbage
from serving.registry.vertex.state import (
    BLESSED_LABEL,
    CANDIDATE,
    CHAMPION,
    HASH_LABEL,
    OWNER_LABEL,
    PREVIOUS,
    RUN_LABEL,
    STATE_LABEL,
    Endpoint,
    VertexModel,
    VertexVersion,
    read_model,
)

VERTEX_PROPERTY = "vertex"
_FULL = 100


@dataclass(frozen=True)
class EndpointDeployments:
    """An endpoint and the versions behind its deployments, past ones among them.

    Attributes:
      endpoint: Resource name of the endpoint.
      request_log: Setting of its request log; None if it logs nothing.
      versions: Version number by the ID of the deployment.
      folders: Folder in the bucket by the number of a version that still exists.
    """

    endpoint: str
    request_log: RequestLogSetting | None
    versions: Mapping[str, int]
    folders: Mapping[int, str]


class VertexRegistry:
    """The versions of a model in the Model Registry, and their shares of an endpoint's traffic."""

    is_remote = True

    def __init__(
        self,
        vertex: VertexClient,
        deployment: Deployment,
        model_name: str,
        *,
        lease_seconds: float = lease.LEASE_SECONDS,
    ) -> None:
        self._vertex = vertex
        self._deployment = deployment
        self._rollout = Rollout(vertex, deployment, model_name, lease_seconds=lease_seconds)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._rollout.model_name

    @property
    def resource(self) -> str:
        """Resource name of the model."""
        return self._rollout.resource

    def plan(self, candidate: Candidate) -> PushPlan:
        """Return the effect of a push.

        Raises:
          PushError: the name, the version or the endpoint is another's; or the image cannot run the model.
        """
        plan = make_plan(self._vertex, self.name, candidate, self._deployment)
        return PushPlan(plan.version, plan.done, plan.format_summary(), plan.format_lines())

    def push(self, candidate: Candidate) -> PushedVersion:
        """Register a version, deploy it, shift the traffic, and upload its evaluation.

        Raises:
          PushError: as `plan`; another push is under way; or the version failed its golden requests, in which case
            the traffic is as it was before.
        """
        self._reject_undoing(candidate)
        result = self._rollout.push(candidate)
        if candidate.examples:
            # Each of these is made once: a push that was cut off after its version served is finished here.
            set_up_extras(self._vertex, self._deployment, result, _read_training_data(candidate))
        return PushedVersion(
            version=result.version,
            destination=f"{result.model}@{result.version_id}",
            pushed=result.pushed,
            content_hash=candidate.content_hash,
            traffic=result.serving,
            properties={VERTEX_PROPERTY: json.dumps({**asdict(result), "at": get_timestamp()})},
        )

    def _reject_undoing(self, candidate: Candidate) -> None:
        """Reject a model of the same data, code and config as one that was rolled back: its push would undo that.

        Raises:
          PushError: it names the rollback, its user and its reason, and the command that undoes it.
        """
        rollback = find_rollback_of(candidate.origin, self.read_history())
        if rollback is None or self.plan(candidate).is_done:
            # Of the very model that was rolled back, a push finds the version and changes nothing.
            return
        place, (rejected, event) = self._vertex.place, rollback
        reason = f": {event['reason']}" if event.get("reason") else ", without a reason"
        undo = format_flags(project=place.project, region=place.region, model=self.name, version=rejected)
        raise PushError(
            f"{self.name}: the model is made of the same data, code and config as version {rejected}, which "
            f"{event['by']} rolled back at {event['at']}{reason}; nothing was pushed. To undo that: python -m "
            f"serving.registry promote{undo} --yes"
        )

    def _read(self) -> tuple[VertexModel, Endpoint]:
        """Return the model and its endpoint.

        Raises:
          PushError: there is no such model; or the endpoint is another pipeline's.
        """
        model = read_model(self._vertex, self.name)
        if not model.versions:
            raise PushError(f"{self.resource}: there is no such model; check --project, --region and --model")
        return model, self._find_endpoint(model)

    def _find_endpoint(self, model: VertexModel) -> Endpoint:
        owners = [version.labels[OWNER_LABEL] for version in model.versions if OWNER_LABEL in version.labels]
        name = self._deployment.endpoint or self.name
        return find_own_endpoint(self._vertex, name, model.resource, owners[0] if owners else "")

    def list_versions(self) -> list[RegisteredVersion]:
        """Return all versions, the oldest first, with their traffic."""
        model, endpoint = self._read()
        return [_describe_version(version, endpoint) for version in model.versions]

    def read_serving(self) -> ServingState:
        """Return the versions that share the traffic."""
        model = read_model(self._vertex, self.name)
        endpoint = self._find_endpoint(model)
        traffic = _compute_traffic(model, endpoint)
        shares = " and ".join(f"version {number} with {share} %" for number, share in traffic.items())
        champion = model.find_by_alias(CHAMPION)
        text = f"{shares or 'nothing'} of {self.name} on endpoint {endpoint.resource.rpartition('/')[2]}"
        return ServingState(champion.number if champion else None, traffic, text)

    def list_deployments(self) -> EndpointDeployments:
        """Return the endpoint with the version of each deployment, those that were undeployed among them.

        Raises:
          PushError: there is no such model; or the endpoint is another pipeline's.
        """
        model, endpoint = self._read()
        numbers = {version.id: version.number for version in model.versions}
        past = {e["deployed_model_id"]: int(e["version"]) for e in self.read_history() if e.get("deployed_model_id")}
        present = {d.id: numbers[d.version_id] for d in endpoint.deployed if d.version_id in numbers}
        folders = {version.number: version.artifact_uri for version in model.versions}
        return EndpointDeployments(endpoint.resource, endpoint.request_log, {**past, **present}, folders)

    def read_history(self) -> list[dict[str, Any]]:
        """Return the changes, the oldest first."""
        return lease.read_history(self._vertex, self.name)

    def inspect(self, version: int | None = None) -> dict[str, Any]:
        """Return the details of a version, by default of the champion, and compare its files with the pushed ones.

        Raises:
          PushError: it does not exist, no version serves, or its files cannot be read.
        """
        model, endpoint = self._read()
        target = self._find_version(model, version, CHAMPION, "no version serves; name one with --version")
        return {
            **_describe_version(target, endpoint).to_dict(),
            "path": target.artifact_uri,
            "content_fits": target.is_intact(self._vertex.place.project),
        }

    def promote(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> ServingSwitch:
        """Give all traffic to a version, by default to the candidate.

        Raises:
          PushError: it does not exist, was not blessed, or fails its golden requests.
        """
        return self._switch("promote", version, CANDIDATE, "no version waits for its promotion", reason, dry_run)

    def roll_back(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> ServingSwitch:
        """Give all traffic to an earlier version, by default to the previous one.

        Raises:
          PushError: as `promote`.
        """
        return self._switch("rollback", version, PREVIOUS, "there is no earlier version that served", reason, dry_run)

    def _switch(
        self, action: str, number: int | None, alias: str, problem: str, reason: str, dry_run: bool
    ) -> ServingSwitch:
        model, endpoint = self._read()
        version = self._find_version(model, number, alias, f"{problem}; name one with --version")
        check_switch(version)
        champion, traffic = model.find_by_alias(CHAMPION), _compute_traffic(model, endpoint)
        before = champion.number if champion else None
        changed = traffic != {version.number: _FULL} or before != version.number
        if changed and not dry_run:
            rollout = self._build_rollout(version, endpoint)
            rollout.switch(version, endpoint=endpoint.resource, action=action, reason=reason)
        return ServingSwitch(action, version.number, before, changed, traffic)

    def _build_rollout(self, version: VertexVersion, endpoint: Endpoint) -> Rollout:
        """Return the changes of a version with the settings of its push, in case it is deployed again."""
        pushes = [
            event for event in self.read_history() if event["action"] == "push" and event["version_id"] == version.id
        ]
        place, deployment = self._vertex.place, self._deployment
        if pushes and DEPLOYMENT in pushes[-1]:
            place = place.model_copy(update=json.loads(pushes[-1][PLACE]))
            deployment = Deployment.model_validate_json(pushes[-1][DEPLOYMENT])
        else:
            deployed = next(iter(endpoint.deployed[::-1]), None)
            place = place.model_copy(
                update={
                    "service_account": (deployed and deployed.service_account) or place.service_account,
                    "cmek_key": endpoint.cmek_key or place.cmek_key,
                }
            )
            deployment = _with_machines_of(deployment, endpoint)
        return Rollout(self._vertex.with_place(place), deployment, self.name)

    def _find_version(self, model: VertexModel, number: int | None, alias: str, problem: str) -> VertexVersion:
        version = model.find_by_alias(alias) if number is None else model.find_by_number(number)
        if version is not None:
            return version
        if number is None:
            raise PushError(f"{self.name}: {problem}")
        numbers = ", ".join(str(version.number) for version in model.versions)
        raise PushError(f"{self.name}: has no version {number}; it has {numbers}")

    def gc(self, *, keep_last: int, dry_run: bool = False) -> GarbageCollection:
        """Delete versions that are neither deployed nor have an alias, and their folders in the bucket.

        Args:
          keep_last: Number of the latest versions that are kept anyway; at least 1.
          dry_run: Whether nothing is deleted.
        """
        model, _ = self._read()
        versions = find_garbage(model, keep_last)
        if not dry_run:
            for version in versions:
                self._rollout.delete(version)
        return GarbageCollection([version.number for version in versions], deleted=not dry_run)

    def list_next_commands(self, version: int) -> list[str]:
        """Return the command that lists the versions."""
        del version
        place = self._vertex.place
        return [f"-m serving.registry list{format_flags(project=place.project, region=place.region, model=self.name)}"]


def open_deployed(vertex: VertexClient, model_name: str, endpoint: str | None) -> VertexRegistry:
    """Return the registry of a model that is deployed already; a version brings its own image.

    Args:
      vertex: Connection.
      model_name: Name of the model.
      endpoint: Name of the endpoint; None for the model's.
    """
    deployment = Deployment(serving_image="registered", serving_tensorflow="999.0", endpoint=endpoint)
    return VertexRegistry(vertex, deployment, model_name)


def find_rollback_of(origin: str, history: Sequence[Mapping[str, Any]]) -> tuple[int, Mapping[str, Any]] | None:
    """Return the version of an origin that was rolled back, and the rollback; None if there is none.

    Args:
      origin: hash of the data, code and config; empty if unknown.
      history: changes, the oldest first.
    """
    champion: int | None = None
    origins: dict[int, str] = {}
    rejected: dict[int, Mapping[str, Any]] = {}
    for event in history:
        if event["action"] not in ("push", "promote", "rollback"):
            continue
        version = int(event["version"])
        origins.setdefault(version, str(event.get("origin", "")))
        if event["action"] == "rollback" and champion is not None:
            rejected[champion] = event
        if event["action"] != "push":
            rejected.pop(version, None)
        champion = version
    matches = [version for version in rejected if origins.get(version) == origin]
    return (matches[-1], rejected[matches[-1]]) if origin and matches else None


def _with_machines_of(deployment: Deployment, endpoint: Endpoint) -> Deployment:
    """Return a deployment with the machines of the latest deployed version, for one that is deployed again."""
    deployed = [d.resources for d in endpoint.deployed if d.resources.machine_spec.machine_type]
    if not deployed:
        return deployment
    machine = deployed[-1].machine_spec
    values: dict[str, Any] = {
        "machine_type": machine.machine_type,
        "min_replicas": deployed[-1].min_replica_count,
        "max_replicas": deployed[-1].max_replica_count or deployed[-1].min_replica_count,
    }
    if machine.accelerator_count:
        values |= {"accelerator": machine.accelerator_type.name, "accelerator_count": machine.accelerator_count}
    return deployment.model_copy(update=values)


def _compute_traffic(model: VertexModel, endpoint: Endpoint) -> dict[int, int]:
    shares = {version.number: endpoint.compute_share(version.id) for version in model.versions}
    return {number: share for number, share in shares.items() if share}


def _describe_version(version: VertexVersion, endpoint: Endpoint) -> RegisteredVersion:
    details: dict[str, Any] = {
        "version_id": version.id,
        "aliases": sorted(version.aliases),
        "traffic_percent": endpoint.compute_share(version.id),
        "deployed": any(d.version_id == version.id for d in endpoint.deployed),
        "run_id": version.labels.get(RUN_LABEL),
        "content_hash": version.labels.get(HASH_LABEL),
        "blessed": version.labels.get(BLESSED_LABEL) == "true",
        "push_state": version.labels.get(STATE_LABEL),
        "created": time.strftime("%Y-%m-%d %H:%M", time.gmtime(version.created)),
    }
    cells = {
        "version": str(version.number),
        "aliases": ", ".join(details["aliases"]),
        "traffic": f"{details['traffic_percent']} %",
        "deployed": "yes" if details["deployed"] else "",
        "run": details["run_id"] or "",
        "content": (details["content_hash"] or "")[:SHORT_HASH_CHARS],
        "push": details["push_state"] or "",
        "created (UTC)": details["created"],
    }
    return RegisteredVersion(version.number, version.describe_state(), details, cells)


def _read_training_data(candidate: Candidate) -> VersionTrainingData:
    features = FeatureSet.model_validate_json((candidate.trained_folder / DECLARATION_FILE).read_text())
    return VersionTrainingData(
        label_kind=features.label.kind,
        label=features.label.column,
        features=[escape_name(name) for name in features.raw_features],
        examples=candidate.examples,
        metrics=candidate.metrics,
    )
