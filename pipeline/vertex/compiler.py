"""From a config to the PipelineJob that Vertex Pipelines runs, and the checks that need no cloud.

TFX compiles a few things that only Vertex would reject, an hour later: it checks none of the rules here.
"""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from cli.errors import ConfigError
from components.evaluator.baseline import PIPELINE_PROPERTY
from pipeline.config.node_names import NEVER_CACHED
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.create_pipeline import create_pipeline
from pipeline.vertex.config import Machine

# What Vertex puts in for it when a task runs: the job's id.
JOB_NAME = "{{$.pipeline_job_name}}"
# https://cloud.google.com/vertex-ai/docs/quotas#pipelines: a request of 4 MB; and a parameter in ML Metadata of 64 kB.
_MAX_SPEC_BYTES = 4_000_000
_MAX_PARAMETER_BYTES = 65_536
# The parameters and artifacts of a task travel in one argument of its container's command, which Linux limits.
_MAX_TASK_BYTES = 131_072
# Kept free for a task's inputs and outputs, which are not known yet.
_ARTIFACT_BYTES = 16_384
_BLESSED_QUERY = "metadata.blessed.number_value=1"
_EXECUTOR_FLAG = "--executor_class_path"
# In place of TFX's own, which names files by size and time.
_DRIVER_MODULE = "components.example_gen.driver"
_TFX_ENTRY = ["python", "-m", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"]
_ENTRY_MODULE = "components.task_entry"
_LOCAL_PATH = re.compile(r"(?:^|[\s\"'=])((?:/(?:home|tmp|root|work|Users|var|mnt|workspace)/|[A-Z]:\\)[^\s\"']*)")


def compile_job(config: PipelineConfig) -> dict[str, Any]:
    """Return the PipelineJob of a config as JSON's values; the same config gives the same job.

    Raises:
      ConfigError: a section is missing, or the job would be rejected or fail on Vertex.
    """
    config.check_vertex_sections()
    assert config.vertex is not None
    vertex = config.vertex
    base = (vertex.input_base or "").rstrip("/")
    remote = config.model_copy(update={"data": config.data.model_copy(update={"base": base})})
    pipeline = create_pipeline(
        remote,
        pipeline_root=vertex.pipeline_root,
        registry=remote.vertex_registry_settings,
        run_id=JOB_NAME,
        enable_cache=True,
        on_vertex=True,
    )
    runner = KubeflowV2DagRunner(
        config=KubeflowV2DagRunnerConfig(
            default_image=vertex.image, display_name=config.name, use_pipeline_spec_2_1=True
        )
    )
    job: dict[str, Any] = runner.run(pipeline, write_out=False)
    _finish(job, config)
    problems = lint(job, config)
    if problems:
        raise ConfigError("\n".join(problems))
    return job


def _finish(job: dict[str, Any], config: PipelineConfig) -> None:
    """Add what TFX's compiler has no option for: our driver, uncached tasks, machines, labels, encryption."""
    vertex = config.vertex
    assert vertex is not None
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    for name in NEVER_CACHED:
        tasks[name]["cachingOptions"] = {"enableCache": False}
    if config.data.example_gen is None:
        container = _get_container(job, "ExampleGen")
        container["lifecycle"]["preCacheCheck"]["command"] = ["python", "-m", _DRIVER_MODULE]
    for executor in _get_executors(job).values():
        if executor.get("container", {}).get("command") == _TFX_ENTRY:
            executor["container"]["command"] = ["python", "-m", _ENTRY_MODULE]
        for query in executor.get("resolver", {}).get("outputArtifactQueries", {}).values():
            # Resolvers of Vertex Pipelines do not ask for the pipeline: another's model would be the baseline.
            if _BLESSED_QUERY in query["filter"]:
                query["filter"] += f' AND metadata.{PIPELINE_PROPERTY}.string_value="{config.name}"'
    for name, machine in vertex.machines.items():
        if name in tasks and machine.replicas == 1:
            _get_container(job, name)["resources"] = _compute_resources(machine)
    job["labels"] = {**job.get("labels", {}), **vertex.labels, "pipeline": config.name[:63]}
    job["runtimeConfig"]["failurePolicy"] = f"PIPELINE_FAILURE_POLICY_FAIL_{vertex.failure_policy.upper()}"
    if vertex.service_account:
        job["serviceAccount"] = vertex.service_account
    if vertex.network:
        job["network"] = vertex.network
    if vertex.cmek_key:
        job["encryptionSpec"] = {"kmsKeyName": vertex.cmek_key}


def _compute_resources(machine: Machine) -> dict[str, Any]:
    """Return the container's resources; Vertex chooses the machine by them.

    Raises:
      ConfigError: the machine type's name does not contain its cores, or its memory is not known here.
    """
    match = re.fullmatch(r"([a-z0-9]+)-(standard|highmem|highcpu|megamem)-(\d+)", machine.machine_type)
    # GB for each core; the first family has a little less: https://cloud.google.com/compute/docs/machine-resource
    memory = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0, "megamem": 14.9}
    if machine.machine_type.startswith("n1-"):
        memory |= {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}
    if match is None:
        raise ConfigError(
            f"vertex.machines: '{machine.machine_type}' does not contain its cores; expected such as n1-standard-8"
        )
    cores = int(match[3])
    resources: dict[str, Any] = {"cpuLimit": float(cores), "memoryLimit": cores * memory[match[2]]}
    if machine.accelerator is not None:
        resources["accelerator"] = {"type": machine.accelerator, "count": str(machine.accelerator_count)}
    return resources


def _get_executors(job: Mapping[str, Any]) -> dict[str, Any]:
    executors: dict[str, Any] = job["pipelineSpec"]["deploymentSpec"]["executors"]
    return executors


def _get_container(job: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return the container of a task's executor."""
    component = job["pipelineSpec"]["root"]["dag"]["tasks"][task]["componentRef"]["name"]
    container: dict[str, Any] = _get_executors(job)[f"{component}_executor"]["container"]
    return container


def lint(job: Mapping[str, Any], config: PipelineConfig) -> list[str]:
    """Return the reasons why Vertex would reject the job, or why it would fail there only, one line each."""
    return [
        *_find_wrong_wiring(job),
        *_find_wrong_executors(job),
        *_find_wrong_parameters(job),
        *_find_local_paths(job, config),
    ]


def _find_wrong_wiring(job: Mapping[str, Any]) -> Iterator[str]:
    spec = job["pipelineSpec"]
    tasks, components = spec["root"]["dag"]["tasks"], spec["components"]
    declared = set(spec["root"].get("inputDefinitions", {}).get("parameters", {}))
    for name, task in tasks.items():
        takes = components[task["componentRef"]["name"]].get("inputDefinitions", {})
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            producer = source["taskOutputArtifact"]["producerTask"]
            if producer not in tasks:
                yield f"{name}.{key}: is made by the task '{producer}', which is not there"
                continue
            gives = components[tasks[producer]["componentRef"]["name"]]["outputDefinitions"]["artifacts"]
            out = gives.get(source["taskOutputArtifact"]["outputArtifactKey"])
            if out is None:
                yield f"{name}.{key}: '{producer}' has no such output"
            elif (title := _get_title(out)) != (expected := _get_title(takes["artifacts"][key])):
                yield f"{name}.{key}: expected {expected}, '{producer}' makes {title}"
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            producer = source.get("taskOutputParameter", {}).get("producerTask")
            if producer is not None and producer not in tasks:
                yield f"{name}.{key}: is made by the task '{producer}', which is not there"
            parameter = source.get("componentInputParameter")
            if parameter is not None and parameter not in declared:
                yield f"{name}.{key}: the pipeline has no parameter '{parameter}'"
        for upstream in task.get("dependentTasks", ()):
            if upstream not in tasks:
                yield f"{name}: comes after '{upstream}', which is not there"


def _get_title(definition: Mapping[str, Any]) -> str:
    schema = definition["artifactType"]
    named = re.search(r"title: ([\w.]+)", schema.get("instanceSchema", ""))
    return str(schema.get("schemaTitle") or (named[1] if named else "any"))


def _find_wrong_executors(job: Mapping[str, Any]) -> Iterator[str]:
    for label, executor in _get_executors(job).items():
        container = executor.get("container")
        if container is None:
            continue
        if not container.get("image"):
            yield f"{label}: has no image; set vertex.image"
        arguments = container.get("args", [])
        path = arguments[arguments.index(_EXECUTOR_FLAG) + 1] if _EXECUTOR_FLAG in arguments else None
        if path is None:
            continue
        module, _, name = path.rpartition(".")
        if module == "__main__":
            yield f"{label}: its executor {path} is in a script; Vertex cannot import it. Move it into a package"
        elif not hasattr(importlib.import_module(module), name):
            yield f"{label}: {module} has no {name}"


def _find_wrong_parameters(job: Mapping[str, Any]) -> Iterator[str]:
    for name, task in job["pipelineSpec"]["root"]["dag"]["tasks"].items():
        parameters = task.get("inputs", {}).get("parameters", {})
        sizes = {
            key: len(json.dumps(source.get("runtimeValue", {}).get("constant", "")).encode())
            for key, source in parameters.items()
        }
        for key, size in sizes.items():
            if size > _MAX_PARAMETER_BYTES:
                yield f"{name}.{key}: has {size:,} bytes; ML Metadata takes {_MAX_PARAMETER_BYTES:,}"
        total = sum(len(key) + size for key, size in sizes.items())
        if total > _MAX_TASK_BYTES - _ARTIFACT_BYTES:
            largest = max(sizes, key=sizes.__getitem__)
            yield (
                f"{name}: its parameters have {total:,} bytes, most of them in '{largest}'; all travel in one argument "
                f"of a command, of at most {_MAX_TASK_BYTES:,} bytes, with {_ARTIFACT_BYTES:,} for artifacts"
            )
    size = len(json.dumps(job).encode())
    if size > _MAX_SPEC_BYTES:
        yield f"the job has {size:,} bytes; Vertex takes {_MAX_SPEC_BYTES:,}. Long vocabularies are better learned"


def _find_local_paths(job: Mapping[str, Any], config: PipelineConfig) -> Iterator[str]:
    for where, text in _list_texts(job, ""):
        match = _LOCAL_PATH.search(text)
        if match is not None and not where.endswith(("values", "description")):
            yield f"{where.lstrip('.')}: holds a path of this machine: {match[1]}"


def _list_texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield every text in JSON's values, with its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _list_texts(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _list_texts(inner, f"{where}.{index}")


def to_text(job: Mapping[str, Any]) -> str:
    """Return the job as a file holds it."""
    return json.dumps(job, indent=2, sort_keys=True) + "\n"
