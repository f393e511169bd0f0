"""Options of Beam, for components and batch predictions. Imports no Beam.

A runner that uses another machine needs its address and the environment of its workers. Every key names the runners
that it is for; a key of another runner is an error.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from schemas.declaration import Declaration

Runner = Literal["direct", "prism", "flink", "spark", "dataflow", "portable"]
# Runners that are given jobs through Beam's job API.
PORTABLE_RUNNERS: tuple[Runner, ...] = ("prism", "flink", "spark", "portable")
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
# Masters that Beam's job server starts itself: Flink's [auto] and [local], Spark's local and local[4].
_LOCAL_MASTER = re.compile(r"\[(auto|local|collection)\]|local(\[.+\])?")
_DATAFLOW_ONLY = ("machine_type", "disk_gb", "subnetwork", "service_account", "setup_file")
_RUNNERS_OF_KEY: Mapping[str, tuple[Runner, ...]] = {
    "workers": ("direct", "dataflow", "flink", "spark", "portable"),
    "running_mode": ("direct",),
    "job_endpoint": PORTABLE_RUNNERS,
    "prism_binary": ("prism",),
    "master": ("flink", "spark"),
    "parallelism": ("flink", "portable"),
    "worker_pool": PORTABLE_RUNNERS,
    "worker_command": PORTABLE_RUNNERS,
    "sdk_image": ("dataflow", *PORTABLE_RUNNERS),
    "shared_folder": PORTABLE_RUNNERS,
    **dict.fromkeys(_DATAFLOW_ONLY, ("dataflow",)),
}
_ENVIRONMENTS = ("worker_pool", "sdk_image", "worker_command")
# Beam's names of options, and the keys that set them.
_KEYS_OF_OPTIONS: Mapping[str, str] = {
    "runner": "runner",
    "job_endpoint": "job_endpoint",
    "prism_location": "prism_binary",
    "flink_master": "master",
    "spark_master_url": "master",
    "parallelism": "parallelism",
    "environment_type": "worker_pool, sdk_image or worker_command",
    "environment_config": "worker_pool, sdk_image or worker_command",
    "environment_options": "worker_pool, sdk_image or worker_command",
    "sdk_container_image": "sdk_image",
    "sdk_worker_parallelism": "workers",
    "max_num_workers": "workers",
    "machine_type": "machine_type",
    "disk_size_gb": "disk_gb",
    "subnetwork": "subnetwork",
    "service_account_email": "service_account",
    "setup_file": "setup_file",
}


def _check_endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or "/" in value or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"expected HOST:PORT, found '{value}'")
    return value


def _check_absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"expected an absolute path, which is the same on all machines, found '{value}'")
    return value.rstrip("/") or "/"


Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
AbsoluteFolder = Annotated[str, AfterValidator(_check_absolute)]


class BeamOptions(Declaration):
    """How Beam runs a component."""

    runner: Runner | None = None
    """`direct` (in the process of the run; on Vertex, in the component's container), `prism`, `flink`, `spark`,
    `dataflow`, or `portable` for any other job server of Beam. If omitted, `direct`. docs/scale.md explains each."""
    workers: PositiveInt | None = None
    """direct: processes or threads; dataflow: the most machines; flink, spark, portable: worker processes of each
    machine. If omitted, 1 and what Dataflow chooses."""
    running_mode: Literal["in_memory", "multi_threading", "multi_processing"] | None = None
    """direct only. If omitted, `in_memory`: on two cores more workers cost more in start-up than they save on a million
    rows. With `multi_processing`, each worker takes the memory of a whole process, 1 to 2 GB."""
    job_endpoint: Endpoint | None = None
    """HOST:PORT of a Beam job server that is already running; portable needs it. If omitted, prism, flink and spark
    start one on this machine."""
    prism_binary: str | None = None
    """prism only: the program to start, without a `job_endpoint`. If omitted, `prism` on PATH."""
    master: str | None = None
    """flink, spark: the cluster, such as `jobmanager:8081` or `spark://master:7077`. If omitted, the job server runs
    the job on its own machine."""
    parallelism: PositiveInt | None = None
    """flink, portable: number of parallel tasks."""
    worker_pool: Endpoint | None = None
    """HOST:PORT of a pool that `python -m pipeline beam-worker` has started, as the job server reaches it: for Flink
    `localhost:50000`, beside each TaskManager. Workers on other machines need this, `sdk_image` or `worker_command`."""
    sdk_image: str | None = None
    """The container image of the workers: the Dockerfile's target `dataflow`."""
    worker_command: str | None = None
    """Program on the workers' machines that starts a worker: Beam's `boot`."""
    shared_folder: AbsoluteFolder | None = None
    """Folder that this machine and all workers have under one path, such as an NFS mount. Local paths below it are
    accepted where workers are on other machines; others are rejected."""
    machine_type: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")] | None = None
    """dataflow only, as are the rest up to `options`."""
    disk_gb: PositiveInt | None = None
    subnetwork: str | None = None
    """Such as `regions/europe-west4/subnetworks/default`."""
    service_account: str | None = None
    """Service account of the workers."""
    setup_file: str | None = None
    """Installs this product on the workers, as each of them starts; `sdk_image` is faster."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Any other option of Beam that the runner has, by its name without dashes."""

    @model_validator(mode="after")
    def _check_keys(self) -> "BeamOptions":
        environments = [key for key in _ENVIRONMENTS if getattr(self, key) is not None]
        if len(environments) > 1:
            raise ValueError(f"{' and '.join(environments)}: give one of them, the environment of the workers")
        if self.prism_binary is not None and self.job_endpoint is not None:
            raise ValueError("prism_binary: is started only without a job_endpoint; remove one of them")
        for name in self.options:
            if name.startswith("-"):
                raise ValueError(f"options.{name}: has dashes; give Beam's name of the option")
            if name in _KEYS_OF_OPTIONS:
                raise ValueError(f"options.{name}: is set by the key {_KEYS_OF_OPTIONS[name]}")
        return self

    def find_foreign_key(self, runners: Iterable[str]) -> str:
        """Return what is wrong with the first key that none of the runners takes; empty if there is none."""
        names = [*runners]
        for key, takers in _RUNNERS_OF_KEY.items():
            if getattr(self, key) is not None and not {*takers} & {*names}:
                return f"{key}: is for {' and '.join(takers)}, and the runner is {' and '.join(names)}; remove it"
        return ""

    def override(self, special: "BeamOptions") -> "BeamOptions":
        """Return these options with those of one component over them.

        Keys that the component's runner does not take, and the `options` of another runner, are dropped.
        """
        runner = special.runner or self.runner or "direct"
        own = special.model_dump(exclude_none=True, exclude={"options"})
        environment = next((key for key in _ENVIRONMENTS if key in own), None)
        inherited: dict[str, Any] = {
            key: value
            for key, value in self.model_dump(exclude_none=True, exclude={"options", "components"}).items()
            if runner in _RUNNERS_OF_KEY.get(key, (runner,)) and not (environment and key in _ENVIRONMENTS)
        }
        options = self.options if runner == (self.runner or "direct") else {}
        return BeamOptions(**{**inherited, **own, "runner": runner}, options={**options, **special.options})

    @property
    def has_local_server(self) -> bool:
        """Whether the job server is on this machine, and runs its jobs there."""
        if self.master is not None and not _LOCAL_MASTER.fullmatch(self.master):
            return False
        return self.job_endpoint is None or is_loopback(self.job_endpoint)

    @property
    def has_remote_workers(self) -> bool:
        """Whether the workers do not see the files of this machine."""
        match self.runner or "direct":
            case "direct":
                return False
            case "dataflow":
                return True
        if not self.has_local_server or self.sdk_image is not None:
            return True
        return self.worker_pool is not None and not is_loopback(self.worker_pool)

    @property
    def needs_java(self) -> bool:
        """Whether Beam starts a job server of Java on this machine."""
        submits_jar = bool(self.options.get(f"{self.runner}_submit_uber_jar"))
        return self.runner in ("flink", "spark") and self.job_endpoint is None and not submits_jar


def is_loopback(endpoint: str) -> bool:
    """Return whether an endpoint is one of this machine."""
    return endpoint.rpartition(":")[0] in _LOOPBACK_HOSTS
