"""Where the pipeline runs, on Vertex AI and on Beam's runners. Imports no TensorFlow, no Beam and no Google client."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from schemas.declaration import Declaration
from serving.registry.vertex.config import ApiEndpoint, Project, Region

GcsFolder = Annotated[str, Field(pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$")]
RUN_ON_BEAM = ("SourceExampleGen", "ExampleGen", "StatisticsGen", "Transform", "Evaluator")
# https://beam.apache.org/documentation/runners/capability-matrix/. DaskRunner silently loses tagged outputs.
_REFUSED_RUNNERS = {"DaskRunner": "it gives wrong results for outputs with tags, which TFX uses"}


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


class BeamOptions(Declaration):
    """How Beam runs a component."""

    runner: str | None = None
    """`direct` (on this machine, or in the component's container), `dataflow`, or the name of another Beam runner, such
    as `FlinkRunner`, with its `options`. If omitted, `direct`."""
    workers: PositiveInt | None = None
    """direct: processes or threads; dataflow: the most machines. If omitted, 1 and what Dataflow chooses."""
    running_mode: Literal["in_memory", "multi_threading", "multi_processing"] | None = None
    """direct only. If omitted, `in_memory`: on two cores more workers cost more in start-up than they save on a million
    rows. With `multi_processing`, each worker takes the memory of a whole process, 1 to 2 GB."""
    machine_type: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")] | None = None
    """dataflow only, as are the rest up to `options`."""
    disk_gb: PositiveInt | None = None
    subnetwork: str | None = None
    """Such as `regions/europe-west4/subnetworks/default`."""
    service_account: str | None = None
    """Service account of the workers."""
    setup_file: str | None = None
    """Installs this product on the workers, as each of them starts; `sdk_image` is faster."""
    sdk_image: str | None = None
    """The workers' container: the Dockerfile's target `dataflow`."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Any other option of Beam, by its name without dashes."""

    @field_validator("runner")
    @classmethod
    def _check_runner(cls, runner: str | None) -> str | None:
        if runner in _REFUSED_RUNNERS:
            raise ValueError(f"the runner is not offered: {_REFUSED_RUNNERS[runner]}")
        if runner is not None and runner not in ("direct", "dataflow") and not runner.endswith("Runner"):
            raise ValueError(f"expected direct, dataflow or a Beam runner's name such as FlinkRunner, found '{runner}'")
        return runner

    @model_validator(mode="after")
    def _check_options(self) -> "BeamOptions":
        for name in self.options:
            if name.startswith("-") or name in ("runner", "project", "region", "temp_location"):
                raise ValueError(f"options.{name}: is set elsewhere, or has dashes; give Beam's name of the option")
        return self


class Beam(BeamOptions):
    """How Beam runs the components that read data."""

    components: dict[str, BeamOptions] = Field(default_factory=dict)
    """Options of single components, of `extra_components` too, which override those of all."""
