"""The changes of a model and its endpoint: push, promote, roll back, collect garbage.

Each step reads the current state and makes the missing change, under the model's lease; so it may be repeated.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format, struct_pb2

from cli.errors import PushError
from serving.model.golden_requests import GoldenRequests
from serving.registry.content import GOLDEN_FILE, STATISTICS_FILE, VERSION_FILE, compute_extra_hashes
from serving.registry.protocol import Candidate
from serving.registry.vertex import staging
from serving.registry.vertex.config import Deployment
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.lease import LEASE_SECONDS, Lease, record
from serving.registry.vertex.plan import RolloutPlan, find_surplus, make_plan, shift_share
from serving.registry.vertex.request_log import FIELD, build_message, convert_config, describe_change
from serving.registry.vertex.service_errors import TransientError
from serving.registry.vertex.state import (
    BLESSED_LABEL,
    CANDIDATE,
    CHAMPION,
    DEFAULT,
    FINISHED,
    HASH_LABEL,
    OWNER_LABEL,
    PREVIOUS,
    REJECTED,
    RUN_LABEL,
    STATE_LABEL,
    UNFINISHED,
    Endpoint,
    VertexModel,
    VertexVersion,
    format_label,
    read_endpoint,
    read_model,
)

T = TypeVar("T")
_FULL = 100
# The new version has to return the golden answers so often.
_REQUIRED_ANSWERS = 3
_BETWEEN_REQUESTS_SECONDS = 0.1
# After failed requests the pause doubles, up to this.
_MAX_BETWEEN_REQUESTS_SECONDS = 5.0
_REQUESTS_PER_HEARTBEAT = 10
# Those of `python -m serving`; Google's prebuilt images have routes of their own.
PREDICT_ROUTE, HEALTH_ROUTE = "/predict", "/health"
_PREBUILT_IMAGES = "docker.pkg.dev/vertex-ai/"
# In the record of a push: what a later deployment of the version needs.
PLACE, DEPLOYMENT = "place", "deployment"
# Limit on the wait for a deployment under way that a failed push removes.
_CLEAN_UP_SECONDS = 600.0


@dataclass(frozen=True)
class RolloutResult:
    """Outcome of a push, a promotion or a rollback.

    Attributes:
      pushed: whether it changed anything.
      version: the number, the N of the alias `vN`.
      model, version_id, endpoint, deployed_model_id: Names on Vertex AI.
      traffic_before, traffic_after: percent by deployed-model id.
      serving: percent by version number.
      request_log: setting of the endpoint's request log in words; empty if it logs nothing.
    """

    pushed: bool
    version: int
    model: str
    version_id: str
    endpoint: str
    deployed_model_id: str
    traffic_before: Mapping[str, int]
    traffic_after: Mapping[str, int]
    serving: Mapping[int, int]
    request_log: str = ""


class Rollout:
    """Changes of one model, on one endpoint at a time."""

    def __init__(
        self, vertex: VertexClient, deployment: Deployment, model_name: str, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.vertex = vertex
        self.deployment = deployment
        self.model_name = model_name
        self.resource = f"{vertex.place.parent}/models/{model_name}"
        self._lease_seconds = lease_seconds

    def push(self, candidate: Candidate) -> RolloutResult:
        """Register, deploy, shift traffic, move the aliases, undeploy surplus versions, and record the push.

        Raises:
          PushError: rejected (see `make_plan`); the model has no golden requests; or another push is under way. Or
            the new version failed its golden requests: the traffic is as it was before.
        """
        # Rejects before anything is written, the lease included.
        if not candidate.golden:
            raise PushError(
                f"{self.model_name}: the model has no golden requests, so that its endpoint could not be tested; "
                "Evaluator's log has the reason why it could not be called"
            )
        make_plan(self.vertex, self.model_name, candidate, self.deployment)
        with self._build_lease(candidate.pipeline, candidate.run_id) as lease:
            self._settle(self.vertex.models, self.resource)
            plan = make_plan(self.vertex, self.model_name, candidate, self.deployment)
            for line in plan.format_lines():
                self.vertex.report(line)
            if plan.done:
                assert plan.existing is not None
                self._run_step(lease, partial(self._ensure_request_log, plan.endpoint.resource))
                result = self._build_result(plan.existing, plan.endpoint.resource, plan.endpoint.split, pushed=False)
                if plan.request_log:
                    record(self.vertex, self.model_name, "request log", asdict(result))
                return result
            return self._push(lease, plan, candidate)

    def _push(self, lease: Lease, plan: RolloutPlan, candidate: Candidate) -> RolloutResult:
        uri = staging.build_uri(self.vertex.place.staging, self.model_name, candidate.content_hash)
        extra = dict(candidate.request_files)
        if candidate.statistics:
            extra[STATISTICS_FILE] = candidate.statistics
        if (candidate.trained_folder / VERSION_FILE).exists():
            extra[VERSION_FILE] = f"{plan.version}\n".encode()
        release = {
            "pipeline": candidate.pipeline,
            "run_id": candidate.run_id,
            "model_id": candidate.model_id,
            "content_hash": candidate.content_hash,
            "extra_hashes": compute_extra_hashes(candidate.request_files),
        }
        staging.stage(candidate.trained_folder, uri, project=self.vertex.place.project, release=release, extra=extra)
        version = self._run_step(lease, partial(self._ensure_registered, plan.version, candidate, uri))
        endpoint = self._run_step(lease, partial(self._ensure_endpoint, plan.endpoint.resource, candidate.pipeline))
        self._run_step(lease, partial(self._ensure_request_log, endpoint.resource))
        if lease.journal.get("version_id") != version.id:
            # Written once for a version: a retry must not take its own canary for what was there before.
            lease.note(version_id=version.id, traffic_before=dict(endpoint.split))
        before: dict[str, int] = lease.journal["traffic_before"]
        self._shift(lease, endpoint.resource, version, before, plan.steps, GoldenRequests.from_json(candidate.golden))
        if plan.steps[-1] == _FULL:
            self._make_champion(lease, version)
            self._undeploy(lease, endpoint.resource, [d.id for d in plan.undeploy])
        result = self._build_result(version, endpoint.resource, before, pushed=True)
        values = {
            **asdict(result),
            "run_id": candidate.run_id,
            "content_hash": candidate.content_hash,
            PLACE: self.vertex.place.model_dump(include={"service_account", "cmek_key", "labels"}),
            DEPLOYMENT: self.deployment.model_dump(mode="json"),
            "origin": candidate.origin,
            "data": dict(candidate.data),
        }
        record(self.vertex, self.model_name, "push", values, key=f"v{version.number}-{candidate.run_id}")
        self._run_step(lease, partial(self._set_state, version, FINISHED))
        lease.note(version_id=None, traffic_before=None)
        return result

    def switch(self, target: VertexVersion, *, endpoint: str, action: str, reason: str = "") -> RolloutResult:
        """Give all traffic to a version that is registered: a promotion or a rollback.

        Raises:
          PushError: the version was not blessed, or was rejected; or it fails its golden requests, in which case the
            traffic is as it was before.
        """
        check_switch(target)
        with self._build_lease(target.labels.get(OWNER_LABEL, ""), f"{action}-{time.time_ns()}") as lease:
            owner = target.labels.get(OWNER_LABEL, "")
            before = dict(self._run_step(lease, partial(self._ensure_endpoint, endpoint, owner)).split)
            golden_file = staging.read(f"{target.artifact_uri}/{GOLDEN_FILE}", project=self.vertex.place.project)
            if golden_file is None:
                raise PushError(f"{target.artifact_uri}: holds no {GOLDEN_FILE}; the version cannot be tested")
            self._shift(lease, endpoint, target, before, (_FULL,), GoldenRequests.from_json(golden_file), reject=False)
            self._make_champion(lease, target)
            now, model = read_endpoint(self.vertex, endpoint), read_model(self.vertex, self.model_name)
            others = [d for d in now.deployed if d.version_id != target.id]
            spare = find_surplus(others, model, self.deployment.keep_deployed - 1)
            self._undeploy(lease, endpoint, [d.id for d in spare])
            if target.labels.get(STATE_LABEL) != FINISHED:
                self._run_step(lease, partial(self._set_state, target, FINISHED))
                lease.note(version_id=None, traffic_before=None)
            result = self._build_result(target, endpoint, before, pushed=True)
            record(self.vertex, self.model_name, action, {**asdict(result), **({"reason": reason} if reason else {})})
            return result

    def delete(self, version: VertexVersion) -> None:
        """Delete a version and the folder it was kept in.

        Raises:
          PushError: it serves, or has an alias by which it might.
        """
        with self._build_lease(version.labels.get(OWNER_LABEL, ""), f"gc-{time.time_ns()}") as lease:
            current = read_model(self.vertex, self.model_name).find_by_id(version.id)
            if current is None:
                return
            if not is_garbage(current):
                raise PushError(f"version {version.number} of '{self.model_name}' has come into use; it is kept")
            self._run_step(lease, partial(self._ensure_deleted, version))
            if version.artifact_uri.startswith(f"{self.vertex.place.staging.rstrip('/')}/models/{self.model_name}/"):
                staging.remove(version.artifact_uri, project=self.vertex.place.project)
            record(self.vertex, self.model_name, "delete", {"version": version.number, "version_id": version.id})

    def _build_lease(self, pipeline: str, run_id: str) -> Lease:
        return Lease(self.vertex, self.model_name, pipeline, run_id, self._lease_seconds)

    def _run_step(self, lease: Lease, step: Callable[[], T]) -> T:
        lease.renew()
        self.vertex.heartbeat = lease.renew
        try:
            return self.vertex.retry(step, seconds=self.deployment.deadline_seconds)
        finally:
            self.vertex.heartbeat = None

    def _wait(self, client: Any, operation: Any) -> None:
        self.vertex.wait(client, operation.operation.name, seconds=self.deployment.deadline_seconds)

    def _settle(self, client: Any, resource: str) -> None:
        self.vertex.settle(client, resource, seconds=self.deployment.deadline_seconds)

    def _read_model(self) -> VertexModel:
        return read_model(self.vertex, self.model_name)

    def _ensure_registered(self, number: int, candidate: Candidate, uri: str) -> VertexVersion:
        # An upload whose answer was lost may still be running.
        self._settle(self.vertex.models, self.resource)
        model = self._read_model()
        existing = next((v for v in reversed(model.versions) if v.has_content(candidate.content_hash)), None)
        if existing is not None:
            if existing.labels.get(STATE_LABEL) != UNFINISHED:
                self._set_state(existing, UNFINISHED)
            return self._merge(existing, [f"v{number}", CANDIDATE])
        uploaded = v1.Model(
            display_name=self.model_name,
            version_description=f"run {candidate.run_id} of pipeline {candidate.pipeline}",
            artifact_uri=uri,
            container_spec=self.build_container(),
            version_aliases=[f"v{number}", CANDIDATE],
            labels=self._build_labels(candidate),
            encryption_spec=self._build_encryption(),
        )
        request = v1.UploadModelRequest(
            parent=self.vertex.place.parent,
            model=uploaded,
            model_id="" if model.versions else self.model_name,
            parent_model=self.resource if model.versions else "",
            service_account=self.vertex.place.service_account or "",
        )
        self.vertex.report(f"registering version {number} of {self.model_name}")
        try:
            self._wait(self.vertex.models, self.vertex.call(self.vertex.models.upload_model, request))
        except exceptions.AlreadyExists as error:
            raise TransientError(f"{self.resource} was created meanwhile") from error
        version = next(
            (v for v in reversed(self._read_model().versions) if v.has_content(candidate.content_hash)), None
        )
        if version is None:
            raise TransientError("the registered version is not listed yet")
        return version

    def build_container(self) -> v1.ModelContainerSpec:
        """Return the container; an own image has explicit routes, since the defaults name an endpoint."""
        image = self.deployment.serving_image
        routes = {} if _PREBUILT_IMAGES in image else {"predict_route": PREDICT_ROUTE, "health_route": HEALTH_ROUTE}
        return v1.ModelContainerSpec(image_uri=image, **routes)

    def _build_labels(self, candidate: Candidate) -> dict[str, str]:
        return {
            **self._build_place_labels(),
            OWNER_LABEL: format_label(candidate.pipeline),
            RUN_LABEL: format_label(candidate.run_id),
            HASH_LABEL: format_label(candidate.content_hash),
            BLESSED_LABEL: "true",
            STATE_LABEL: UNFINISHED,
        }

    def _build_place_labels(self) -> dict[str, str]:
        return {key: format_label(value) for key, value in self.vertex.place.labels.items()}

    def _build_encryption(self) -> v1.EncryptionSpec | None:
        key = self.vertex.place.cmek_key
        return v1.EncryptionSpec(kms_key_name=key) if key else None

    def _ensure_endpoint(self, resource: str, pipeline: str) -> Endpoint:
        self._settle(self.vertex.endpoints, resource)
        existing = read_endpoint(self.vertex, resource)
        if existing.exists:
            return existing
        name = resource.rpartition("/")[2]
        labels = {**self._build_place_labels(), OWNER_LABEL: format_label(pipeline)}
        endpoint = v1.Endpoint(display_name=name, labels=labels, encryption_spec=self._build_encryption())
        request = v1.CreateEndpointRequest(parent=self.vertex.place.parent, endpoint=endpoint, endpoint_id=name)
        self.vertex.report(f"creating endpoint {name}")
        try:
            self._wait(self.vertex.endpoints, self.vertex.call(self.vertex.endpoints.create_endpoint, request))
        except exceptions.AlreadyExists as error:
            raise TransientError(f"{resource} was created meanwhile") from error
        return read_endpoint(self.vertex, resource)

    def _ensure_request_log(self, resource: str) -> None:
        """Set the endpoint's request log as the config has it; a config without one leaves it."""
        endpoint = read_endpoint(self.vertex, resource)
        change = describe_change(self.deployment.request_log, endpoint.request_log)
        if not change or not endpoint.exists:
            return
        message = build_message(convert_config(self.deployment.request_log))
        changed = v1.Endpoint(name=resource, etag=endpoint.etag, **{FIELD: message})
        request = v1.UpdateEndpointRequest(endpoint=changed, update_mask={"paths": [FIELD]})
        try:
            self.vertex.call(self.vertex.endpoints.update_endpoint, request)
        except (PushError, exceptions.NotFound) as error:
            raise PushError(f"push.vertex.request_log: {getattr(error, 'message', error)}") from error
        self.vertex.report(f"{change} (endpoint {resource.rpartition('/')[2]})")

    def _shift(
        self,
        lease: Lease,
        endpoint: str,
        version: VertexVersion,
        before: Mapping[str, int],
        steps: Sequence[int],
        golden: GoldenRequests,
        *,
        reject: bool = True,
    ) -> None:
        """Deploy a version and raise its share of the traffic, step by step; restore the split if it fails."""
        was_there = any(d.version_id == version.id for d in read_endpoint(self.vertex, endpoint).deployed)
        try:
            deployed_id = self._run_step(lease, partial(self._ensure_deployed, endpoint, version, steps[0]))
        except PushError:
            if not was_there:
                self._remove_unfinished(lease, endpoint, version, before)
            raise
        try:
            # A step of its own: the deployment is not made again because it is listed late.
            self._run_step(lease, partial(self._await_listing, endpoint, deployed_id))
            for share in steps:
                self._run_step(lease, partial(self._ensure_share, endpoint, deployed_id, share))
                self._run_step(lease, partial(self._test_deployment, endpoint, deployed_id, golden))
                self.vertex.report(f"version {version.number} answers as it should at {share} % of the traffic")
        except PushError as error:
            self.vertex.report(f"version {version.number} fails; the traffic goes back: {error}")
            self._run_step(lease, partial(self._restore, endpoint, before))
            if reject or not was_there:
                self._run_step(lease, partial(self._ensure_undeployed, endpoint, deployed_id, is_listed=False))
            if reject:
                self._run_step(lease, partial(self._set_state, version, REJECTED))
                self._run_step(lease, partial(self._merge, version, [f"-{CANDIDATE}"]))
                lease.note(version_id=None, traffic_before=None)
            values = {"version": version.number, "version_id": version.id, "error": str(error), "traffic": dict(before)}
            record(self.vertex, self.model_name, "refused", values)
            raise PushError(
                f"version {version.number} was taken off again, the traffic is as before: {error}"
            ) from error

    def _remove_unfinished(
        self, lease: Lease, endpoint: str, version: VertexVersion, before: Mapping[str, int]
    ) -> None:
        """Undeploy what a deployment that failed has left; an error is reported, since the first one is raised."""
        try:
            self.vertex.settle(self.vertex.endpoints, endpoint, seconds=_CLEAN_UP_SECONDS)
            left = read_endpoint(self.vertex, endpoint).find_deployment(self.resource, version.id)
            if left is not None:
                self._run_step(lease, partial(self._restore, endpoint, before))
                self._undeploy(lease, endpoint, [left.id])
        except PushError as error:
            self.vertex.report(f"version {version.number} may still be deployed, and was not undeployed: {error}")

    def _ensure_deployed(self, endpoint: str, version: VertexVersion, share: int) -> str:
        """Return the id of the version's deployment."""
        self._settle(self.vertex.endpoints, endpoint)
        now = read_endpoint(self.vertex, endpoint)
        existing = now.find_deployment(self.resource, version.id)
        if existing is not None:
            return existing.id
        # A deployment without an entry in the split would get no traffic; an empty endpoint takes nothing but 100.
        split = shift_share(now.split, "0", share) if now.split else {"0": _FULL}
        deployed = v1.DeployedModel(
            model=f"{self.resource}@{version.id}",
            display_name=f"{self.model_name}-v{version.number}",
            dedicated_resources=self._build_resources(now),
            service_account=self.vertex.place.service_account or "",
        )
        request = v1.DeployModelRequest(endpoint=endpoint, deployed_model=deployed, traffic_split=split)
        self.vertex.report(f"deploying version {version.number} with {split['0']} % of the traffic")
        client = self.vertex.endpoints
        earlier = {operation.name for operation in self.vertex.list_operations(client, endpoint)}
        try:
            name = self.vertex.call(client.deploy_model, request).operation.name
        except TransientError:
            # The answer was lost, perhaps; the operation was not.
            started = [o.name for o in self.vertex.list_operations(client, endpoint) if o.name not in earlier]
            if not started:
                raise
            name = started[-1]
        operation = self.vertex.wait(client, name, seconds=self.deployment.deadline_seconds)
        response = v1.DeployModelResponse.deserialize(operation.response.value)
        return str(response.deployed_model.id)

    def _await_listing(self, endpoint: str, deployed_id: str) -> None:
        if deployed_id not in {d.id for d in read_endpoint(self.vertex, endpoint).deployed}:
            if self.vertex.heartbeat is not None:
                self.vertex.heartbeat()
            raise TransientError(f"deployment {deployed_id} is not listed yet")

    def _build_resources(self, endpoint: Endpoint) -> v1.DedicatedResources:
        settings = self.deployment
        machine = v1.MachineSpec(machine_type=settings.machine_type)
        if settings.accelerator is not None:
            machine.accelerator_type = getattr(v1.AcceleratorType, settings.accelerator)
            machine.accelerator_count = settings.accelerator_count
        return v1.DedicatedResources(
            machine_spec=machine, min_replica_count=settings.min_replicas, max_replica_count=settings.max_replicas
        )

    def _ensure_share(self, endpoint: str, deployed_id: str, share: int) -> None:
        now = read_endpoint(self.vertex, endpoint)
        if now.split.get(deployed_id, 0) < share:
            self._update_split(now, shift_share(now.split, deployed_id, share))

    def _restore(self, endpoint: str, before: Mapping[str, int]) -> None:
        """Restore the recorded split, as far as its deployments still exist."""
        now = read_endpoint(self.vertex, endpoint)
        deployed_ids = {d.id for d in now.deployed}
        split = {key: share for key, share in before.items() if key in deployed_ids and share}
        if split and split != now.split:
            if sum(split.values()) != _FULL:
                first = next(iter(split))
                split = shift_share({k: v for k, v in split.items() if k != first}, first, split[first])
            self._update_split(now, split)

    def _update_split(self, endpoint: Endpoint, split: Mapping[str, int]) -> None:
        # With the etag that was read: a change by somebody else in between is seen, and the step begins again.
        changed = v1.Endpoint(name=endpoint.resource, traffic_split=dict(split), etag=endpoint.etag)
        request = v1.UpdateEndpointRequest(endpoint=changed, update_mask={"paths": ["traffic_split"]})
        self.vertex.report(f"traffic of {endpoint.resource.rpartition('/')[2]}: {dict(split)}")
        self.vertex.call(self.vertex.endpoints.update_endpoint, request)

    def _test_deployment(self, endpoint: str, deployed_id: str, golden: GoldenRequests) -> None:
        """Send the golden requests until the deployment has returned their answers often enough.

        A deployment that is new, or whose share has just changed, may respond with 503 for a while.

        Raises:
          PushError: a wrong answer of the deployment, or no answer of it in time.
        """
        instances = [json_format.ParseDict(dict(instance), struct_pb2.Value()) for instance in golden.instances]
        request = v1.PredictRequest(endpoint=endpoint)
        v1.PredictRequest.pb(request).instances.extend(instances)
        deadline = time.monotonic() + self.deployment.smoke_timeout_seconds
        answered, others, problem, pause = 0, 0, "", _BETWEEN_REQUESTS_SECONDS
        for number in itertools.count(1):
            if time.monotonic() > deadline:
                last = f"; last error: {problem}" if problem else ""
                raise PushError(
                    f"no answer of deployment {deployed_id} to the golden requests within "
                    f"{self.deployment.smoke_timeout_seconds:g} s ({others} answers of other versions{last})"
                )
            if number % _REQUESTS_PER_HEARTBEAT == 0 and self.vertex.heartbeat is not None:
                self.vertex.heartbeat()
            try:
                response = self.vertex.call(self.vertex.predictions.predict, request)
            except (TransientError, exceptions.NotFound) as error:
                if str(error) != problem:
                    problem = str(error)
                    self.vertex.report(f"a golden request failed, and is repeated: {problem}")
                time.sleep(pause)
                pause = min(2 * pause, _MAX_BETWEEN_REQUESTS_SECONDS)
                continue
            pause = _BETWEEN_REQUESTS_SECONDS
            time.sleep(pause)
            if response.deployed_model_id != deployed_id:
                others += 1
                continue
            rows = [json_format.MessageToDict(row) for row in v1.PredictResponse.pb(response).predictions]
            wrong = golden.find_difference(rows)
            if wrong is not None:
                raise PushError(f"wrong answer to a golden request: {wrong}")
            answered += 1
            if answered == _REQUIRED_ANSWERS:
                return

    def _make_champion(self, lease: Lease, version: VertexVersion) -> None:
        """Make a version the champion and the default, and the champion before it `previous`."""

        def move() -> None:
            champion = self._read_model().find_by_alias(CHAMPION)
            if champion is not None and champion.id != version.id:
                self._merge(champion, [PREVIOUS])
            now = self._read_model().find_by_id(version.id)
            assert now is not None
            # An alias in use is taken from its version without a word; here that is what is meant.
            self._merge(now, [a for a in (CHAMPION, DEFAULT) if a not in now.aliases])
            self._merge(now, [f"-{a}" for a in (CANDIDATE, PREVIOUS) if a in now.aliases])

        self._run_step(lease, move)

    def _merge(self, version: VertexVersion, aliases: list[str]) -> VertexVersion:
        if aliases:
            request = v1.MergeVersionAliasesRequest(name=f"{self.resource}@{version.id}", version_aliases=aliases)
            self.vertex.call(self.vertex.models.merge_version_aliases, request)
        merged = self._read_model().find_by_id(version.id)
        if merged is None:
            raise TransientError(f"version {version.id} is not listed")
        return merged

    def _set_state(self, version: VertexVersion, state: str) -> None:
        labels = {**version.labels, STATE_LABEL: state}
        changed = v1.Model(name=f"{self.resource}@{version.id}", labels=labels)
        request = v1.UpdateModelRequest(model=changed, update_mask={"paths": ["labels"]})
        self.vertex.call(self.vertex.models.update_model, request)

    def _undeploy(self, lease: Lease, endpoint: str, ids: Sequence[str]) -> None:
        for deployed_id in ids:
            self._run_step(lease, partial(self._ensure_undeployed, endpoint, deployed_id))

    def _ensure_undeployed(self, endpoint: str, deployed_id: str, *, is_listed: bool = True) -> None:
        """Undeploy a deployment, unless it is gone; one that is new may not be listed yet."""
        self._settle(self.vertex.endpoints, endpoint)
        now = read_endpoint(self.vertex, endpoint)
        if is_listed and deployed_id not in {d.id for d in now.deployed}:
            return
        if now.split.get(deployed_id) and len(now.deployed) > 1:
            raise PushError(f"deployment {deployed_id} has traffic; it is not undeployed")
        self.vertex.report(f"undeploying {deployed_id}")
        request = v1.UndeployModelRequest(endpoint=endpoint, deployed_model_id=deployed_id)
        try:
            self._wait(self.vertex.endpoints, self.vertex.call(self.vertex.endpoints.undeploy_model, request))
        except exceptions.NotFound:
            return

    def _ensure_deleted(self, version: VertexVersion) -> None:
        self._settle(self.vertex.models, self.resource)
        if self._read_model().find_by_id(version.id) is None:
            return
        request = v1.DeleteModelVersionRequest(name=f"{self.resource}@{version.id}")
        self._wait(self.vertex.models, self.vertex.call(self.vertex.models.delete_model_version, request))

    def _build_result(
        self, version: VertexVersion, endpoint: str, before: Mapping[str, int], *, pushed: bool
    ) -> RolloutResult:
        model, now = self._read_model(), read_endpoint(self.vertex, endpoint)
        deployed = now.find_deployment(self.resource, version.id)
        numbers = {v.id: v.number for v in model.versions}
        return RolloutResult(
            pushed=pushed,
            version=version.number,
            model=self.resource,
            version_id=version.id,
            endpoint=endpoint,
            deployed_model_id=deployed.id if deployed else "",
            traffic_before=dict(before),
            traffic_after=dict(now.split),
            serving={
                numbers.get(d.version_id, int(d.version_id)): now.split[d.id]
                for d in now.deployed
                if now.split.get(d.id)
            },
            request_log=str(now.request_log or ""),
        )


def check_switch(target: VertexVersion) -> None:
    """Reject a switch of traffic to a version that was not blessed, or failed its golden requests.

    Raises:
      PushError: with the reason.
    """
    if target.labels.get(BLESSED_LABEL) != "true":
        raise PushError(f"version {target.number} was not blessed by this product's Evaluator; it gets no traffic")
    if target.labels.get(STATE_LABEL) == REJECTED:
        raise PushError(f"version {target.number} failed its golden requests when it was pushed; it gets no traffic")


def is_garbage(version: VertexVersion) -> bool:
    """Return whether nothing needs a version: it is not deployed, and no alias but its number points to it."""
    return not version.endpoints and not {CHAMPION, PREVIOUS, CANDIDATE, DEFAULT} & {*version.aliases}


def find_garbage(model: VertexModel, keep_last: int) -> list[VertexVersion]:
    """Return the versions that may be deleted; the last `keep_last`, one at least (the next run's baseline), are
    kept.
    """
    older = model.versions[: -max(keep_last, 1)]
    return [version for version in older if is_garbage(version)]
