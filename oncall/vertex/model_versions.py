"""The versions of a model in Vertex AI's registry, and their shares of the endpoint's traffic."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PushError
from cli.terminal import format_flags
from oncall.evaluations import read_candidate_metrics
from oncall.model_versions import ModelVersion, RollbackInForce
from oncall.vertex.jobs import Jobs
from oncall.vertex.location import VertexLocation
from oncall.vertex.metadata import VertexMetadata
from serving.registry.data_time import DataTime, find_data_time
from serving.registry.vertex import lease, state
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.names import is_same_resource
from serving.registry.vertex.state import CHAMPION, OWNER_LABEL, RUN_LABEL

_OVERALL = "overall: "


class NoModelError(ConfigError):
    """No job names a model, and no flag does."""


def find_model_versions(
    vertex: VertexClient,
    jobs: Jobs,
    metadata: VertexMetadata,
    location: VertexLocation,
    folder: Path | None,
    model: str | None,
) -> "VertexModelVersions":
    """Return the versions of the named model, or of the model that the newest job pushes to.

    Args:
      vertex: connection.
      jobs: jobs of the location.
      metadata: ML Metadata of the jobs.
      location: flags of the command.
      folder: folder of a registry; an error on Vertex AI.
      model: name of the model; None for the newest job's.

    Raises:
      ConfigError: no job names a model, there is none of the given name, or a folder is named.
      PushError: the model of the newest job does not exist.
    """
    if folder is not None:
        raise ConfigError("--registry: names a folder; on Vertex AI give the model's name as --model")
    model_name = model or os.environ.get("VERTEX_MODEL")
    name, endpoint = (model_name, None) if model_name else _read_push_target(vertex, jobs)
    registered = state.read_model(vertex, name)
    if not registered.versions:
        error_class = ConfigError if model else PushError
        raise error_class(f"{registered.resource}: does not exist; check --project, --region and --model")
    return VertexModelVersions(vertex, jobs, metadata, location, registered, name, endpoint or name)


def _read_push_target(vertex: VertexClient, jobs: Jobs) -> tuple[str, str | None]:
    """Return the names of the newest job's model and endpoint."""
    for run_id in islice(jobs.list_ids(), 1):
        record = jobs.read_record(run_id)
        pusher: dict[str, Any] = record.config.get("Pusher", {}) if record else {}
        registry = pusher.get("registry")
        if isinstance(registry, dict) and "deployment" in registry:
            return str(registry["model_name"]), registry["deployment"].get("endpoint")
    raise NoModelError(f"{vertex.place.parent}: no job names a model; name it with --model")


@dataclass
class VertexModelVersions:
    """The versions of a model and its endpoint, as they are now."""

    vertex: VertexClient
    jobs: Jobs
    metadata: VertexMetadata
    command_flags: VertexLocation
    model: state.VertexModel
    name: str
    endpoint_name: str

    @property
    def location(self) -> str:
        """Resource name of the model."""
        return self.model.resource

    @property
    def rollback_command(self) -> str:
        """Command that gives the previous version all traffic."""
        command_flags = self.command_flags.format_project_flags() + format_flags(model=self.name)
        return f"python -m serving.registry rollback{command_flags}"

    @cached_property
    def endpoint(self) -> state.Endpoint:
        """The endpoint whose ID is the name; or else one with this display name that serves the model."""
        endpoint = state.read_endpoint(self.vertex, f"{self.vertex.place.parent}/endpoints/{self.endpoint_name}")
        others = [] if endpoint.exists else state.list_endpoints(self.vertex, self.endpoint_name)
        model = self.model.resource
        serving = (e for e in others if any(is_same_resource(deployed.model, model) for deployed in e.deployed))
        return next(serving, endpoint)

    @property
    def champion(self) -> int | None:
        """Number of the version that should serve."""
        version = self.model.find_by_alias(CHAMPION)
        return version.number if version else None

    @property
    def traffic_command(self) -> str:
        """Command that gives the champion all traffic."""
        command_flags = self.command_flags.format_project_flags() + format_flags(model=self.name, version=self.champion)
        return f"python -m serving.registry promote{command_flags}    # add --yes to do it"

    @property
    def quarantine_command(self) -> str:
        """Command that takes the traffic from another tool's version."""
        return self.rollback_command

    @property
    def rollback(self) -> RollbackInForce | None:
        """The rollback that is in force; None if there is none."""
        switches = [
            e for e in lease.read_history(self.vertex, self.name) if e["action"] in ("push", "promote", "rollback")
        ]
        last = switches[-1] if switches else None
        if last is None or last["action"] != "rollback" or last.get("version") != self.champion:
            return None
        rejected = int(switches[-2]["version"]) if len(switches) > 1 else None
        return RollbackInForce(
            int(last["version"]), rejected, str(last.get("by", "")), str(last["at"]), str(last.get("reason", ""))
        )

    def list_unexplained(self) -> dict[int, str]:
        """Return the versions of other tools that get traffic; a push of this product labels its own at first."""
        others = (version for version in self.model.versions if OWNER_LABEL not in version.labels)
        serving = (version for version in others if self.endpoint.compute_share(version.id))
        return {version.number: f"it has no label {OWNER_LABEL}: another tool made it" for version in serving}

    def find_conflict(self) -> tuple[str, str] | None:
        """Return None: the alias of a model is in one place alone."""
        return None

    def get_content_hash(self, version: int) -> str:
        """Return no hash: its server is the endpoint's, which reports none."""
        del version
        return ""

    def list_versions(self) -> list[ModelVersion]:
        """Return the versions, the oldest first."""
        return [self._convert_version(version) for version in self.model.versions]

    def _convert_version(self, version: state.VertexVersion) -> ModelVersion:
        run = self._find_run(version)
        models = self.metadata.get_run_outputs(run).get("Trainer", {}).get("model", []) if run else []
        share = self.endpoint.compute_share(version.id)
        return ModelVersion(version.number, version.describe_state(), run, models[0].id if models else None, share)

    def _find_run(self, version: state.VertexVersion) -> str:
        """Return the run that pushed a version. A label holds 63 characters, and a job's ID may be longer."""
        label = version.labels.get(RUN_LABEL, "")
        if len(label) < state.LABEL_LENGTH:
            return label
        return next(self.jobs.list_ids(f'pipeline_job_user_id:"{label}*"'), label)

    def is_intact(self, version: int) -> bool | None:
        """Check that a deployed version's files in the bucket are those that were pushed.

        The files of other versions are not read: a model may be large, and these serve nobody.

        Raises:
          PushError: they cannot be read.
        """
        registered = self.model.find_by_number(version)
        if registered is None or not any(d.version_id == registered.id for d in self.endpoint.deployed):
            return None
        return registered.is_intact(self.command_flags.project)

    def list_changed_files(self, version: int) -> list[str]:
        """Return no files: the labels of a model hold one hash for all of them."""
        return []

    def read_metrics(self, version: ModelVersion) -> Mapping[str, float]:
        """Return the metrics over all rows of the evaluation that the run left in the bucket."""
        if not version.run:
            return {}
        metrics = read_candidate_metrics(self.metadata.get_run_outputs(version.run)).metrics
        return {
            key.removeprefix(_OVERALL): value
            for key, value in metrics.items()
            if key.startswith(_OVERALL) and math.isfinite(value)
        }

    def read_data_time(self, version: int) -> DataTime | None:
        """Return the newest time of the rows that a version was trained on; None if its push did not record it."""
        return find_data_time(lease.read_history(self.vertex, self.name), version)
