"""Runs a compiled job on this machine as Vertex Pipelines would: task by task, each in its container's own command.

What breaks only in the container breaks here: modules that are not in the package, code that cannot be pickled, wrong
artifact types, components that the image does not have. It runs the compiled spec; it is not a verification on Vertex.

A component on Dataflow has its job graph built and checked as Dataflow would get it; the graph then runs here.

gs://BUCKET/x is STORAGE/BUCKET/x for artifacts and input files. A URI that only Vertex AI reads, such as the folder of
pushed versions, stays a gs:// URI and goes to the storage server of the emulator.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PipelineError
from cli.state_files import write_atomically
from pipeline.vertex import placeholders
from pipeline.vertex.conditions import is_condition_met, is_query_met
from pipeline.vertex.task_starter import TaskStarter
from schemas.tables import bigquery

SUCCEEDED, FAILED, CACHED, SKIPPED, NOT_RUN, CANCELLED = (
    "SUCCEEDED",
    "FAILED",
    "CACHED",
    "SKIPPED",
    "NOT_TRIGGERED",
    "CANCELLED",
)
_DONE = (SUCCEEDED, CACHED)
_VALUES = {f"tfx.{name}" for name in ("String", "Integer", "Float", "Boolean", "JsonValue", "Bytes")}
_PROJECT_NUMBER = "123456789"
# What a container's environment has of this machine's: where programs are, and the emulator's addresses.
_PASSED_ON = (
    *("VERTEX_API_ENDPOINT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "STORAGE_EMULATOR_HOST", "LD_LIBRARY_PATH"),
    *(bigquery.REST_EMULATOR, bigquery.STORAGE_EMULATOR),
)
# TFX's program of a task, with all that it loads.
_LOADED = ("tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",)
_OUTPUT_FILE = "executor_output.json"
_PACKAGE = "package"
_REHEARSED_DATAFLOW = "--runner=pipeline.vertex.dataflow.RehearsedDataflowRunner"
_LAST_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Interrupt|Exit)): (.*)$")


@dataclass(frozen=True)
class TaskResult:
    """How a task ended.

    Attributes:
      task: its name.
      state: SUCCEEDED, CACHED, SKIPPED (its condition did not hold), FAILED, CANCELLED or NOT_TRIGGERED.
      seconds: wall time in seconds.
      error: the last line of its log that names an error; empty unless it failed.
      log: its log file, if it ran.
      inputs: the artifacts that it was given, by key.
      outputs: its artifacts by key, as ExecutorOutput has them, with `name`, `schema_title` and `state`.
    """

    task: str
    state: str
    seconds: float = 0.0
    error: str = ""
    log: str = ""
    inputs: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    outputs: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


class Records:
    """Artifacts of earlier rehearsals, in one file, for resolvers and the cache."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        records = json.loads(file.read_text()) if file.exists() else {"artifacts": [], "cache": {}}
        self.artifacts: list[dict[str, Any]] = records["artifacts"]
        self.cache: dict[str, dict[str, list[dict[str, Any]]]] = records["cache"]

    def add(self, fingerprint: str, outputs: Mapping[str, list[dict[str, Any]]]) -> None:
        with self._lock:
            self.artifacts += [artifact for made in outputs.values() for artifact in made]
            self.cache[fingerprint] = dict(outputs)
            write_atomically(self._file, json.dumps({"artifacts": self.artifacts, "cache": self.cache}, indent=1))


def make_task_starter(folder: Path, environment: Mapping[str, str]) -> TaskStarter:
    """Return the process that the tasks of rehearsals fork from.

    Args:
      folder: Folder of the rehearsals.
      environment: Environment of the tasks, on top of the clean one.
    """
    return TaskStarter(_LOADED, {**_clean_environment(folder / _PACKAGE, folder), **environment}, folder)


def install_package(folder: Path) -> Path:
    """Copy what setup.py packages, and no more, into a folder: what an image would hold of this product.

    Of an installed product, the folder is empty.

    Raises:
      PipelineError: setup.py fails; with its last line.
    """
    root = Path(__file__).resolve().parent.parent.parent
    built = folder / _PACKAGE
    if not (root / "setup.py").exists():
        # The product is installed, and so this environment has what was packaged.
        built.mkdir(parents=True, exist_ok=True)
        return built
    egg_info = folder / "egg-info"
    egg_info.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(egg_info)]
    command += ["build_py", "--build-lib", str(built), "--force"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"setup.py: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    # This environment has the checkout itself on its path, as an editable install; an image has not.
    hidden = f"import sys\n\nsys.path[:] = [path for path in sys.path if path != {str(root)!r}]\n"
    (built / "sitecustomize.py").write_text(hidden)
    return built


class Rehearsal:
    """One run of a compiled job."""

    def __init__(
        self,
        job: Mapping[str, Any],
        folder: Path,
        *,
        job_id: str,
        storage: Path | None = None,
        environment: Mapping[str, str] | None = None,
        run_as: int | None = None,
        starter: TaskStarter | None = None,
        started: Callable[[str], None] = lambda task: None,
        finished: Callable[[TaskResult], None] = lambda result: None,
    ) -> None:
        """Args:
        job: the PipelineJob, as JSON's values.
        folder: for logs, and what is remembered from rehearsal to rehearsal.
        job_id: names the run.
        storage: the folder that stands for Cloud Storage; `folder/storage` if left out.
        environment: environment of the tasks, on top of the clean one.
        run_as: ID of the image's user, its build argument RUN_AS. 0 may write `/gcs`, others may not. The tasks run as
          this process's own user if it is omitted or 0.
        starter: process that the tasks of several rehearsals in the folder fork from; one of its own if omitted.
        started, finished: are called for every task.
        """
        self._spec = job["pipelineSpec"]
        self._job = job
        self._folder = folder
        self._job_id = job_id
        self._storage = storage or folder / "storage"
        self._environment = dict(environment or {})
        self._run_as = run_as
        self._started, self._finished = started, finished
        self._starter = starter or make_task_starter(folder, self._environment)
        self._owns_starter = starter is None
        self._pid: int | None = None
        self._cancelled = threading.Event()
        (folder / "logs" / job_id).mkdir(parents=True, exist_ok=True)
        # Stands for `/gcs`: Vertex does not document that users other than root may write it.
        self._mount = folder / ("gcs-root" if run_as == 0 else "gcs")
        if run_as == 0 and not self._mount.is_symlink():
            self._storage.mkdir(parents=True, exist_ok=True)
            self._mount.symlink_to(self._storage)
        self._mount.mkdir(mode=0o555, exist_ok=True)
        self._records = Records(folder / "records.json")
        self.results: dict[str, TaskResult] = {}

    def run(self) -> dict[str, TaskResult]:
        """Run all tasks in order; after a failure, under the `slow` policy, those that do not depend on it.

        Raises:
          ConfigError: the tasks are to run as another user, which takes root.
        """
        if self._run_as and os.geteuid() not in (0, self._run_as):
            raise ConfigError(
                f"--run-as {self._run_as}: only root can run tasks as another user; found user {os.geteuid()}; "
                "leave it out"
            )
        package = install_package(self._folder)
        try:
            self._run_all(package)
        finally:
            if self._owns_starter:
                self._starter.close()
        return self.results

    def _run_all(self, package: Path) -> None:
        fast = not str(self._job["runtimeConfig"].get("failurePolicy", "")).endswith("SLOW")
        for name in self.sort_tasks():
            task = self._tasks[name]
            blocked = any(self.results[up].state not in _DONE for up in self._find_upstream(task))
            broken = any(result.state in (FAILED, CANCELLED) for result in self.results.values())
            if self._cancelled.is_set():
                result = TaskResult(name, CANCELLED)
            elif blocked or (fast and broken):
                result = TaskResult(name, NOT_RUN)
            else:
                self._started(name)
                result = self._run(name, task, package)
            self.results[name] = result
            self._finished(result)

    def locate_log(self, task: str) -> Path:
        """Return the file of a task's output."""
        return self._folder / "logs" / self._job_id / f"{task}.log"

    def cancel(self) -> None:
        """End the task that runs, and start no more."""
        self._cancelled.set()
        pid = self._pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)

    @property
    def _tasks(self) -> dict[str, Any]:
        tasks: dict[str, Any] = self._spec["root"]["dag"]["tasks"]
        return tasks

    def _find_upstream(self, task: Mapping[str, Any]) -> set[str]:
        sources = task.get("inputs", {}).get("artifacts", {}).values()
        return {*task.get("dependentTasks", ()), *(source["taskOutputArtifact"]["producerTask"] for source in sources)}

    def sort_tasks(self) -> Iterator[str]:
        """Return the tasks, each after those it depends on, else by name."""
        left = dict(sorted(self._tasks.items()))
        while left:
            ready = [name for name, task in left.items() if not self._find_upstream(task) & set(left)]
            if not ready:
                raise PipelineError(f"the job's tasks wait for each other: {', '.join(left)}")
            for name in ready:
                del left[name]
                yield name

    def _run(self, name: str, task: Mapping[str, Any], package: Path) -> TaskResult:
        started = time.monotonic()
        component = self._spec["components"][task["componentRef"]["name"]]
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        log = self.locate_log(name)
        artifacts: Mapping[str, list[dict[str, Any]]] = {}

        def finish(
            state: str, error: str = "", outputs: Mapping[str, list[dict[str, Any]]] | None = None
        ) -> TaskResult:
            written = str(log) if log.exists() else ""
            return TaskResult(name, state, time.monotonic() - started, error, written, artifacts, outputs or {})

        try:
            inputs = self._build_inputs(task, component)
            artifacts = {key: source["artifacts"] for key, source in inputs["artifacts"].items()}
            if "resolver" in executor:
                return finish(SUCCEEDED, outputs=self._resolve(executor["resolver"], inputs))
            if "container" not in executor:
                raise PipelineError(f"{name}: {', '.join(executor)} cannot be rehearsed")
            condition = task.get("triggerPolicy", {}).get("condition")
            if condition and not is_condition_met(condition, inputs):
                return finish(SKIPPED)
            state, made = self._run_container(name, task, component, executor["container"], inputs, package, log)
        except PipelineError as error:
            return finish(CANCELLED if self._cancelled.is_set() else FAILED, str(error))
        return finish(state, outputs=made)

    def _build_inputs(self, task: Mapping[str, Any], component: Mapping[str, Any]) -> dict[str, Any]:
        artifacts: dict[str, Any] = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            made = source["taskOutputArtifact"]
            upstream = self.results[made["producerTask"]].outputs.get(made["outputArtifactKey"], [])
            kind = component["inputDefinitions"]["artifacts"][key]["artifactType"]
            artifacts[key] = {"artifacts": [{**_convert_artifact(artifact), "type": kind} for artifact in upstream]}
        parameters: dict[str, Any] = {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            if "runtimeValue" in source:
                value = source["runtimeValue"]["constant"]
            elif "componentInputParameter" in source:
                value = self._read_job_parameter(source["componentInputParameter"])
            else:
                made = source["taskOutputParameter"]
                raise PipelineError(f"{key}: a parameter made by {made['producerTask']} cannot be rehearsed")
            parameters[key] = self._convert_parameter(value)
        for key, value in list_defaults(component).items():
            parameters.setdefault(key, self._convert_parameter(value))
        return {"artifacts": artifacts, "parameterValues": parameters}

    def _read_job_parameter(self, name: str) -> Any:
        """Return the value of a parameter of the job, or else its default."""
        values = {**list_defaults(self._spec["root"]), **self._job["runtimeConfig"].get("parameterValues", {})}
        if name not in values:
            raise PipelineError(f"{name}: a parameter of the job has no value")
        return values[name]

    def _convert_parameter(self, value: Any) -> Any:
        """Return a parameter as the task gets it: the job's name filled in, and a whole URI as a path of this
        machine.
        """
        if not isinstance(value, str):
            return value
        return self._to_local_path(value.replace("{{$.pipeline_job_name}}", self._job_id))

    def _to_local_path(self, uri: str) -> str:
        return f"{self._storage}/{uri.removeprefix('gs://')}" if uri.startswith("gs://") else uri

    def _resolve(self, resolver: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        outputs = {}
        for key, query in resolver["outputArtifactQueries"].items():
            fitting = [a for a in self._records.artifacts if is_query_met(query["filter"], a, inputs)]
            outputs[key] = fitting[-1:]
        return outputs

    def _run_container(
        self,
        name: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        container: Mapping[str, Any],
        inputs: dict[str, Any],
        package: Path,
        log: Path,
    ) -> tuple[str, Mapping[str, list[dict[str, Any]]]]:
        """Driver, cache, container; returns the state and the outputs."""
        task_id = f"{name}_{uuid.uuid4().int % 10**18}"
        root = self._to_local_path(f"{self._job['runtimeConfig']['gcsOutputDirectory'].rstrip('/')}")
        folder = Path(root) / _PROJECT_NUMBER / self._job_id / task_id
        self._make_folder(folder)
        definitions = component.get("outputDefinitions", {}).get("artifacts", {})
        outputs = {key: self._create_output(folder / key, kind["artifactType"]) for key, kind in definitions.items()}
        output_file = folder / _OUTPUT_FILE
        mounted_file = self._mount / folder.relative_to(self._storage) / _OUTPUT_FILE
        request = {
            "inputs": inputs,
            "outputs": {
                "artifacts": {key: {"artifacts": [artifact]} for key, artifact in outputs.items()},
                "outputFile": str(mounted_file),
            },
        }
        driver = container.get("lifecycle", {}).get("preCacheCheck")
        if driver is not None:
            self._execute(name, [*driver["command"], *driver.get("args", [])], request, package, log)
            executor_output = json.loads(output_file.read_text())
            request["inputs"]["parameterValues"] |= executor_output.get("parameterValues", {})
            # The driver's output stays where it is: the executor reads it too.
            for key, made in executor_output.get("artifacts", {}).items():
                outputs[key]["metadata"] = made["artifacts"][0].get("metadata", {})
        fingerprint = _compute_cache_key(task["componentRef"]["name"], container, request["inputs"])
        if task.get("cachingOptions", {}).get("enableCache") and self._is_reusable(fingerprint):
            return CACHED, self._records.cache[fingerprint]
        self._execute(name, [*container["command"], *_replace_dataflow(container["args"])], request, package, log)
        if definitions and not output_file.exists():
            raise PipelineError(f"{name}: wrote no executor_output.json")
        executor_output = json.loads(output_file.read_text()) if output_file.exists() else {}
        done = {key: [_to_record(outputs[key], executor_output.get("artifacts", {}).get(key, {}))] for key in outputs}
        self._records.add(fingerprint, done)
        return SUCCEEDED, done

    def _make_folder(self, folder: Path) -> None:
        """Make a folder that the task's user may write."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._run_as:
            os.chown(folder, self._run_as, self._run_as)

    def _create_output(self, path: Path, kind: Mapping[str, Any]) -> dict[str, Any]:
        # In Cloud Storage a folder is there as soon as something is written into it. Values are files.
        self._make_folder(path.parent if _get_title(kind) in _VALUES else path)
        store = f"projects/{_PROJECT_NUMBER}/locations/local/metadataStores/default"
        name = f"{store}/artifacts/{uuid.uuid4().int % 10**18}"
        return {"name": name, "uri": str(path), "type": dict(kind), "metadata": {}}

    def _is_reusable(self, fingerprint: str) -> bool:
        """Return whether the result is recorded and its artifacts still exist."""
        outputs = self._records.cache.get(fingerprint)
        return outputs is not None and all(Path(a["uri"]).exists() for made in outputs.values() for a in made)

    def _execute(self, name: str, command: list[str], request: Mapping[str, Any], package: Path, log: Path) -> None:
        """Run a container's command; its output goes to the log.

        Raises:
          PipelineError: it ended with another code than 0; with the last error in its log.
        """
        command = placeholders.fill(command, request)
        work = self._folder / "work" / name
        self._make_folder(work)
        environment = self._build_environment(package, work)
        # A process that has loaded TFX as this user could not load the rest as another one.
        is_forked = not self._run_as
        code = self._starter.run(command, environment, work, log, self._handle_start) if is_forked else None
        if code is None:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable if command[0] == "python" else command[0], *command[1:]],
                    cwd=work,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=self._run_as or None,
                    group=self._run_as or None,
                    extra_groups=[] if self._run_as else None,
                )
            self._handle_start(process.pid)
            code = process.wait()
        self._pid = None
        if code:
            raise PipelineError(f"{name}: {_find_last_error(log) or f'ended with exit code {code}'}")
        if self._run_as != 0 and any(self._mount.iterdir()):
            shutil.rmtree(self._mount)
            self._mount.mkdir(mode=0o555)
            raise PipelineError(f"{name}: wrote below /gcs, which only root may do; write to the gs:// URI instead")

    def _handle_start(self, pid: int) -> None:
        self._pid = pid
        if self._cancelled.is_set():
            self.cancel()

    def _build_environment(self, package: Path, work: Path) -> dict[str, str]:
        """Return the environment of a task."""
        return {
            **_clean_environment(package, work),
            "CLOUD_ML_JOB_ID": self._job_id,
            "REHEARSED_GCS_MOUNT": f"{self._mount}/",
            "REHEARSED_GCS_BUCKETS": f"{self._storage}/",
            **self._environment,
        }


def _clean_environment(package: Path, work: Path) -> dict[str, str]:
    """Return what a container would have, and nothing of the shell that started this."""
    passed = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    return {
        **passed,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(package),
        # As this checkout's own runs, and no noise from a GPU that is not there.
        "TF_CPP_MIN_LOG_LEVEL": "1",
    }


def list_defaults(component: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default values of the parameters of a component, or of the job's root."""
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: entry["defaultValue"] for name, entry in declared.items() if "defaultValue" in entry}


def _replace_dataflow(arguments: list[str]) -> list[str]:
    """Return a container's arguments, with the runner of `pipeline.vertex.dataflow` in place of Dataflow."""
    if "--runner=DataflowRunner" not in arguments:
        return arguments
    # Beam asks the bucket for its retention as soon as a pipeline begins, unless it is a dry run.
    return [*(part for part in arguments if part != "--runner=DataflowRunner"), _REHEARSED_DATAFLOW, "--dry_run=True"]


def _convert_artifact(artifact: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": artifact["name"], "uri": artifact["uri"], "metadata": artifact.get("metadata", {})}


def _to_record(output: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an output as it is remembered; the values of the executor go first."""
    made = (answer.get("artifacts") or [{}])[0]
    return {
        "name": output["name"],
        "uri": made.get("uri") or output["uri"],
        "metadata": {**output["metadata"], **made.get("metadata", {})},
        "schema_title": _get_title(output["type"]),
        "state": "LIVE",
    }


def _get_title(kind: Mapping[str, Any]) -> str:
    """Return the name of an artifact's type, such as tfx.Model."""
    match = re.search(r"title: ([\w.]+)", kind.get("instanceSchema", ""))
    return str(kind.get("schemaTitle") or (match[1] if match else "system.Artifact"))


def _compute_cache_key(component: str, container: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return Vertex's cache key: the component, its container, the parameters, the artifacts that go in."""
    artifacts = {key: [a["name"] for a in source["artifacts"]] for key, source in inputs["artifacts"].items()}
    content = [
        component,
        container["image"],
        container["command"],
        container["args"],
        inputs["parameterValues"],
        artifacts,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _find_last_error(log: Path) -> str:
    """Return the last line of a log that names an error, as `Kind: text`."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        error_match = _LAST_ERROR.match(line.strip())
        if error_match is not None:
            return f"{error_match[1]}: {error_match[2]}"
    return ""
