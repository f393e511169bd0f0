"""The versions of a model in Vertex AI's registry, and their shares of the endpoint's traffic."""

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import ConfigError, PushError
from cli.terminal import flags
from oncall.evaluations import metrics
from oncall.sources import Version
from serving.registry import content_hash
from serving.registry.vertex import state
from serving.registry.vertex.state import CANDIDATE, CHAMPION, HASH_LABEL, PREVIOUS, RUN_LABEL, STATE_LABEL

if TYPE_CHECKING:
    from oncall.vertex.evidence import VertexEvidence

_OVERALL = "overall: "


class NoModelError(ConfigError):
    """No job says which model is meant."""


def registered(evidence: "VertexEvidence", folder: Path | None, model: str | None) -> "Registered":
    """Return the model that is named, or the one that the newest job pushes to.

    Raises:
      ConfigError: no job says which is meant, there is none with the name that is given, or a folder is named.
      PushError: the model of the newest job is not there.
    """
    if folder is not None:
        raise ConfigError("--registry: names a folder; on Vertex AI give the model's name as --model")
    wanted = model or os.environ.get("VERTEX_MODEL")
    name, endpoint = (wanted, None) if wanted else _pushed_to(evidence)
    found = state.read_model(evidence.vertex, name)
    if not found.versions:
        missing = ConfigError if model else PushError
        raise missing(f"{found.resource}: there is no such model; check --project, --region and --model")
    return Registered(evidence, found, name, endpoint or name)


def _pushed_to(evidence: "VertexEvidence") -> tuple[str, str | None]:
    """Return the model's and the endpoint's name."""
    for run_id in islice(evidence.record_ids, 1):
        record = evidence.record(run_id)
        pusher: dict[str, Any] = record.config.get("Pusher", {}) if record else {}
        registry = pusher.get("registry")
        if isinstance(registry, dict) and "deployment" in registry:
            return str(registry["model_name"]), registry["deployment"].get("endpoint")
    raise NoModelError(f"{evidence.place}: no job says which model is meant; name it with --model")


@dataclass
class Registered:
    """A model and its endpoint, as they are now."""

    evidence: "VertexEvidence"
    model: state.Model
    name: str
    endpoint_name: str

    @property
    def place(self) -> str:
        return self.model.resource

    @property
    def back(self) -> str:
        return f"python -m serving.registry rollback{self.evidence.where.of_project()}{flags(model=self.name)}"

    @cached_property
    def endpoint(self) -> state.Endpoint:
        """The one of the name: by its id as we give it, or else by its display name."""
        vertex = self.evidence.vertex
        found = state.read_endpoint(vertex, f"{vertex.place.parent}/endpoints/{self.endpoint_name}")
        named = [] if found.exists else state.endpoints_named(vertex, self.endpoint_name)
        return next((one for one in named if any(d.model == self.model.resource for d in one.deployed)), found)

    @property
    def champion(self) -> int | None:
        found = self.model.with_alias(CHAMPION)
        return found.number if found else None

    def versions(self) -> list[Version]:
        return [self._version(version) for version in self.model.versions]

    def _version(self, version: state.Version) -> Version:
        run = self._run(version)
        known = self.evidence.metadata.outputs(run).get("Trainer", {}).get("model", []) if run else []
        share = self.endpoint.share_of(version.id)
        return Version(version.number, _state(version), run, known[0].id if known else None, share)

    def _run(self, version: state.Version) -> str:
        """Return the run that pushed a version. A label holds 63 characters, which a job's id may exceed."""
        named = version.labels.get(RUN_LABEL, "")
        if len(named) < state.LABEL_LENGTH:
            return named
        return next(self.evidence.jobs.ids(f'pipeline_job_user_id:"{named}*"'), named)

    def fits(self, version: int) -> bool | None:
        """Whether a deployed version's files in the bucket are those that were pushed. Others are not read: a model may
        be large, and nobody is served by them.

        Raises:
          PushError: they cannot be read.
        """
        found = self.model.numbered(version)
        if found is None or not any(d.version_id == found.id for d in self.endpoint.deployed):
            return None
        expected = found.labels.get(HASH_LABEL)
        if expected is None:
            return None
        from serving.registry.vertex import staging

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            try:
                staging.fetch(found.artifact_uri, folder, project=self.evidence.where.project)
            except staging.NothingThereError:
                return False
            return state.label(content_hash(folder)) == expected

    def differing_files(self, version: int) -> list[str]:
        """Return no files: the labels of a model hold one hash for all of them."""
        return []

    def metrics(self, version: Version) -> Mapping[str, float]:
        """Of the evaluation that the run left in the bucket, over all rows."""
        measured = metrics(self.evidence.metadata.outputs(version.run)) if version.run else {}
        return {
            key.removeprefix(_OVERALL): value
            for key, value in measured.items()
            if key.startswith(_OVERALL) and math.isfinite(value)
        }


def _state(version: state.Version) -> str:
    """Return what a version is, in the words of the local registry; and how far its push has come, unless it is
    over.
    """
    known = next((alias for alias in (CHAMPION, PREVIOUS, CANDIDATE) if alias in version.aliases), "retired")
    pushed = version.labels.get(STATE_LABEL)
    if pushed is None:
        return "of another tool"
    return known if pushed == state.FINISHED else f"{known}, {pushed}"
