"""Where the pipeline runs, on Vertex AI and on Beam's runners. Imports no TensorFlow, no Beam and no Google client."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from schemas.declaration import Declaration
from serving.beam.config import BeamOptions
from serving.registry.vertex.config import ApiEndpoint, Project, Region

GcsFolder = Annotated[str, Field(pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$")]
RUN_ON_BEAM = ("SourceExampleGen", "ExampleGen", "StatisticsGen", "Transform", "Evaluator")
# Options of Beam that the section `vertex` sets.
_SET_BY_VERTEX = ("project", "region", "temp_location", "staging_location", "dataflow_kms_key", "labels")


class Machine(Declaration):
    """Machine of one component."""

    machine_type: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")] = "e2-standard-4"
    accelerator: Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")] | None = None
    """Such as `NVIDIA_TESLA_T4`."""
    accelerator_count: PositiveInt = 1
    replicas: PositiveInt = 1
    """Machines that train together; for Trainer only, with `training.distribution: multi_worker`."""


class Vertex(Declaration):
    """Project, storage and identity of runs on Vertex AI."""

    project: Project
    region: Region
    """Such as `europe-west4`."""
    pipeline_root: GcsFolder
    """The folder of artifacts and of pushed versions. Without `[`, `]`, `*`, `?` and `\\`, which TensorFlow and Beam
    take for a pattern in the names of what they write."""
    input_base: GcsFolder | None = None
    """Replaces `data.base` on Vertex AI; the same files are below it. Required if the rows are in files."""
    image: Annotated[str, Field(min_length=1)]
    """The container image that every component runs in, best by digest; docs/vertex.md builds it."""
    service_account: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    """If omitted, the project's default account, which has far more permissions than a run needs."""
    network: Annotated[str, Field(pattern=r"^projects/[^/]+/global/networks/[^/]+$")] | None = None
    cmek_key: Annotated[str, Field(pattern=r"^projects/.+/cryptoKeys/[^/]+$")] | None = None
    """Encrypts jobs, models and endpoints."""
    labels: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")], Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,63}$")]
    ] = Field(default_factory=dict)
    """On jobs, models and endpoints, for the bill."""
    failure_policy: Literal["fast", "slow"] = "fast"
    """`fast` starts nothing more once a task has failed; `slow` finishes what does not depend on it."""
    machines: dict[str, Machine] = Field(default_factory=dict)
    """Machines by component. If omitted, Vertex's own choice (e2-standard-4)."""
    api_endpoint: ApiEndpoint | None = None
    """Host and port of the API, for private access or an emulator. If omitted, the region's."""

    @field_validator("pipeline_root")
    @classmethod
    def _check_no_pattern(cls, value: str) -> str:
        special = sorted({*value} & {*"[]*?\\"})
        if special:
            raise ValueError(
                f"a folder of artifacts cannot have {' '.join(special)} in its name: TensorFlow and Beam take it for a "
                "pattern"
            )
        return value

    @field_validator("machines")
    @classmethod
    def _check_replicas(cls, machines: dict[str, Machine]) -> dict[str, Machine]:
        for name, machine in machines.items():
            if machine.replicas > 1 and name != "Trainer":
                raise ValueError(f"{name}: only Trainer runs on several machines; Beam's workers are under `beam`")
        return machines


class Beam(BeamOptions):
    """How Beam runs the components that read data."""

    components: dict[str, BeamOptions] = Field(default_factory=dict)
    """Options of single components, of `extra_components` too, which override those of all."""

    @model_validator(mode="after")
    def _check_runners(self) -> "Beam":
        """Reject keys and options that no runner in use takes."""
        general = self.runner or "direct"
        runners = {name: options.runner or general for name, options in self.components.items()}
        problems = [self.find_foreign_key(dict.fromkeys([general, *runners.values()]))]
        for name, options in self.components.items():
            foreign = options.find_foreign_key([runners[name]])
            problems.append(foreign and f"components.{name}.{foreign}")
            # Rejects two environments of workers.
            self.override(options)
        for place, options in (("", self), *((f"components.{name}.", own) for name, own in self.components.items())):
            problems += [
                f"{place}options.{name}: is set by the section `vertex`"
                for name in options.options
                if name in _SET_BY_VERTEX
            ]
        problem = next(filter(None, problems), None)
        if problem is not None:
            raise ValueError(problem)
        return self
