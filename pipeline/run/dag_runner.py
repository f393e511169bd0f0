"""A runner of pipelines on this machine, which runs node by node and stops at the first that fails.

TFX's LocalDagRunner continues after some failures, and does not report how a node ended. This runner drives the same
launcher, reads each node's true state back from ML Metadata, and reports it to an observer.
"""

import errno
import shutil
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import pipeline_pb2
from tfx.utils import import_utils, json_utils

from cli import progress
from cli.errors import PipelineError, RunRootError
from pipeline.config.node_names import NEVER_CACHED
from pipeline.database.database import Database
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import fast_beam, inventory, locks
from schemas.user_code import UserCode

fast_beam.install()

Artifacts = Mapping[str, Sequence[mlmd.Artifact]]

COMPLETE, CACHED, FAILED = "complete", "cached", "failed"
# Custom property of a failed execution in ML Metadata.
ERROR_PROPERTY = "error"
# Custom properties of a run's context: its measures as JSON, and why `pipeline retrain` started it.
MEASURES_PROPERTY, REASON_PROPERTY = "measures", "retrain_reason"
# Packages whose executors are not the user's own.
_OUR_PACKAGES = ("components", "pipeline", "tfx", "trainer")
_EXTRA_COMPONENTS = "extra_components"
# Custom properties that TFX itself sets on outputs.
_TFX_PROPERTIES = {"tfx_version", "name", "state", "is_external"}
_CONTINUES = "the same command continues from the cache"
# An error may quote a whole statement of SQL.
_MAX_SHOWN_CHARS = 160
_STATES = {mlmd.Execution.COMPLETE: COMPLETE, mlmd.Execution.CACHED: CACHED}


@dataclass(frozen=True)
class NodeResult:
    """Result of a node.

    Attributes:
      node_id: Name of the node in the DAG.
      state: COMPLETE, CACHED or FAILED.
      seconds: Wall time in seconds.
      outputs: Output artifacts as ML Metadata has them, by key; empty if it failed.
      error: Error, if it failed.
    """

    node_id: str
    state: str
    seconds: float
    outputs: Artifacts
    error: str = ""


class Observer(Protocol):
    """An observer of every node's start and end."""

    def on_node_start(self, node_id: str) -> None:
        """Handle the start of a node."""

    def on_node_end(self, result: NodeResult) -> None:
        """Handle the end of a node."""


class NodeFailedError(PipelineError):
    """A node failed for a reason that the user cannot fix; the log has the traceback."""


class _Launcher(launcher.Launcher):
    """TFX's launcher, which runs no executor on damaged inputs, and takes no empty output of the user's own component.

    Attributes:
      is_own: Whether the component is of the user's own.
    """

    is_own = False

    def _run_executor(self, execution_info: Any) -> Any:
        inputs = [artifact.id for artifacts in execution_info.input_dict.values() for artifact in artifacts]
        with self._mlmd_connection as handle:
            damaged = inventory.find_damaged(handle.store, inputs)
        if damaged:
            raise RunRootError(
                f"{damaged[0]}: files of it are gone or changed since it was made; the same command makes it again"
            )
        output = super()._run_executor(execution_info)
        if self.is_own:
            for key, artifacts in execution_info.output_dict.items():
                written = output.output_artifacts[key].artifacts
                if any(_is_empty(artifact.uri) for artifact in artifacts) and not any(
                    {*artifact.custom_properties} - _TFX_PROPERTIES for artifact in written
                ):
                    raise _EmptyOutputError(f"the output '{key}' is empty; write to its uri, or set a property of it")
        return output


class _EmptyOutputError(Exception):
    """A component has left an output unset."""


def _is_empty(uri: str) -> bool:
    """Return whether nothing was written: TFX makes a folder for an artifact, or an empty file for a value."""
    path = Path(uri)
    return not (any(path.iterdir()) if path.is_dir() else path.exists() and path.stat().st_size)


def run(
    pipeline: Pipeline,
    database: Database,
    *,
    run_id: str,
    observer: Observer,
    nodes: Collection[str] | None = None,
    on_failure: Callable[[], None] = lambda: None,
) -> None:
    """Run nodes in order.

    Raises:
      PipelineError: the first node's own, or NodeFailedError for any other exception.
      KeyboardInterrupt: after the interrupted execution was marked as failed and its partial output removed.
    """
    intermediate = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        intermediate, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    # Called once: each call warns that no connection was compiled.
    deployment = runner_utils.extract_local_deployment_config(intermediate)
    for node in intermediate.nodes:
        if nodes is not None and node.pipeline_node.node_info.id not in nodes:
            continue
        if node.pipeline_node.node_info.id in NEVER_CACHED:
            node.pipeline_node.execution_options.caching_options.enable_cache = False
        _run_node(intermediate, deployment, node.pipeline_node, database, observer, on_failure)


def _run_node(
    pipeline: pipeline_pb2.Pipeline,
    deployment: Any,
    node: pipeline_pb2.PipelineNode,
    database: Database,
    observer: Observer,
    on_failure: Callable[[], None],
) -> None:
    node_id = node.node_info.id
    observer.on_node_start(node_id)
    started = time.monotonic()
    try:
        _forget_damaged(pipeline, node_id, database)
        state, outputs = _read_result(database, _launch(pipeline, deployment, node, database))
        if state == FAILED:
            raise NodeFailedError(f"{node_id}: did not run: its inputs could not be resolved")
    except BaseException as error:
        on_failure()
        failure = _translate_error(node_id, error, database)
        if isinstance(failure, NodeFailedError):
            failure = NodeFailedError(f"{failure}{_name_user_code(node, deployment, error)}")
        try:
            if not isinstance(failure, locks.LockedError):
                _settle(pipeline, database, str(failure) or type(error).__name__)
        except (RuntimeError, OSError, errors.StatusError, PipelineError):
            # A full disk, a locked database: the first error is the one to report. The next run settles the executions.
            traceback.print_exc()
        observer.on_node_end(NodeResult(node_id, FAILED, time.monotonic() - started, {}, str(failure)))
        if failure is error:
            raise
        raise failure from error
    observer.on_node_end(NodeResult(node_id, state, time.monotonic() - started, outputs))


def _translate_error(node_id: str, error: BaseException, database: Database) -> BaseException:
    """Return the error that is reported: one that the user can fix, an interrupt, or NodeFailedError."""
    if not isinstance(error, Exception | SystemExit):
        return error
    # The first error may be hidden behind that of a database to which it could not be written.
    fixable = next((cause for cause in _list_causes(error) if isinstance(cause, PipelineError)), None)
    if fixable is not None:
        return fixable
    full = next((cause for cause in _list_causes(error) if _is_disk_full(cause)), None)
    if full is not None:
        line = _summarize_error(full)[:_MAX_SHOWN_CHARS]
        return RunRootError(f"{node_id}: no space left on the disk: {line}; free some, and {_CONTINUES}")
    if isinstance(error, errors.StatusError | RuntimeError):
        try:
            # ML Metadata's own error of a connection names no cause.
            database.check()
        except PipelineError as cause:
            return RunRootError(f"{node_id}: {cause}")
    return NodeFailedError(f"{node_id}: {_describe(error)}")


def _describe(error: BaseException) -> str:
    text = _summarize_error(error)[:_MAX_SHOWN_CHARS]
    return text if isinstance(error, _EmptyOutputError) else f"{type(error).__name__}: {text}"


def _name_user_code(node: pipeline_pb2.PipelineNode, deployment: Any, error: BaseException) -> str:
    """Return the place in code of the user's own that an error is of; empty if the node runs none."""
    code = _find_user_code(node, deployment)
    if code is None:
        return ""
    executor = import_utils.import_class_by_path(_read_class_path(node, deployment))
    causes = [*_list_causes(error)]
    lines = [code.find_line(cause) for cause in causes]
    places = [line for line in lines if line != code.module]
    places += [line for cause in causes if (line := code.find_line_in(str(cause))) is not None]
    # The executor that `@component` makes of a function has it as an attribute.
    place = places[-1] if places else code.locate(getattr(executor, "_FUNCTION", executor.Do))
    return f" ({code.key}: {place}); correct it there, or the data"


def _find_user_code(node: pipeline_pb2.PipelineNode, deployment: Any) -> UserCode | None:
    parameters = node.parameters.parameters
    if "custom_config" in parameters:
        values = json_utils.loads(parameters["custom_config"].field_value.string_value) or {}
        return UserCode.from_json(values["user_code"]) if "user_code" in values else None
    class_path = _read_class_path(node, deployment)
    if not class_path or class_path.partition(".")[0] in _OUR_PACKAGES:
        return None
    return UserCode(_EXTRA_COMPONENTS, class_path.rpartition(".")[0], "", None, "")


def _read_class_path(node: pipeline_pb2.PipelineNode, deployment: Any) -> str:
    return str(getattr(runner_utils.extract_executor_spec(deployment, node.node_info.id), "class_path", ""))


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    while isinstance(error, Exception | SystemExit):
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException) -> bool:
    """Return whether the disk, or the user's quota, is full.

    The errors of TensorFlow and SQLite have no number for it.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("No space left on device", "database or disk is full"))


def _summarize_error(error: BaseException) -> str:
    """Return the main line of an error: the last, if TensorFlow or Beam put a heading first ("in user code:")."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return lines[-1] if lines[0].endswith(":") else lines[0]


def _forget_damaged(pipeline: pipeline_pb2.Pipeline, node_id: str, database: Database) -> None:
    with _Metadata(database) as handle:
        for uri in inventory.forget_damaged(handle.store, f"{pipeline.pipeline_info.id}.{node_id}"):
            progress.report(f"does not use {uri}: files of it are gone or changed")


def _launch(
    pipeline: pipeline_pb2.Pipeline, deployment: Any, node: pipeline_pb2.PipelineNode, database: Database
) -> int:
    """Drive, execute and publish one node; return the ID of its execution, 0 if there is none."""
    component = _Launcher(
        pipeline_node=node,
        mlmd_connection=_Metadata(database),
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node.node_info.id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node.node_info.id),
    )
    code = _find_user_code(node, deployment)
    component.is_own = code is not None and code.key == _EXTRA_COMPONENTS
    info = component.launch()
    return int(info.execution_id or 0) if info else 0


class _Metadata(metadata.Metadata):
    """TFX's handle of a database, opened once no other process holds it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.build_connection(writable=True))
        self._database = database

    def __enter__(self) -> metadata.Metadata:
        self._database.wait(progress.report)
        super().__enter__()
        self._database.adapt(self.store)
        if isinstance(self._database, SQLiteFile):
            locks.make_patient(self.store, self._database.file, progress.report)
        return self


def _read_result(database: Database, execution_id: int) -> tuple[str, Artifacts]:
    """Return the state and the outputs of an execution, from ML Metadata: the launcher returns neither."""
    if not execution_id:
        return FAILED, {}
    with _Metadata(database) as handle:
        (execution,) = handle.store.get_executions_by_id([execution_id])
        state = _STATES.get(execution.last_known_state, FAILED)
        keys = {
            event.artifact_id: event.path.steps[0].key
            for event in handle.store.get_events_by_execution_ids([execution_id])
            if event.type in (mlmd.Event.OUTPUT, mlmd.Event.INTERNAL_OUTPUT)
        }
        outputs: dict[str, list[mlmd.Artifact]] = {}
        for artifact in handle.store.get_artifacts_by_id(sorted(keys)):
            outputs.setdefault(keys[artifact.id], []).append(artifact)
        if state == COMPLETE:
            inventory.record_files(
                handle.store, execution, [artifact for artifacts in outputs.values() for artifact in artifacts]
            )
        return state, outputs


def _settle(pipeline: pipeline_pb2.Pipeline, database: Database, error: str) -> None:
    """Mark executions that TFX has left RUNNING after a failure as FAILED, and remove their partial output."""
    run_id = pipeline.runtime_spec.pipeline_run_id.field_value.string_value
    root = pipeline.runtime_spec.pipeline_root.field_value.string_value
    settle_run(database, run_id, Path(root), error)


def describe_run(database: Database, run_id: str, properties: Mapping[str, str]) -> None:
    """Set custom properties of a run in ML Metadata, on the context of its executions.

    Args:
      database: Database of ML Metadata.
      run_id: ID of the run.
      properties: Values by name.
    """
    with _Metadata(database) as handle:
        context = context_lib.register_context_if_not_exists(handle, "pipeline_run", run_id)
        for name, value in properties.items():
            context.custom_properties[name].string_value = value
        handle.store.put_contexts([context])


def settle_run(database: Database, run_id: str, artifacts: Path, error: str) -> None:
    """End the executions that a run has left open in ML Metadata.

    Args:
      database: Database of ML Metadata.
      run_id: ID of the run, which must not be running.
      artifacts: Folder below which its partial output is removed.
      error: Error that ended it, which is kept with each failed execution.
    """
    with _Metadata(database) as handle:
        context = handle.store.get_context_by_type_and_name("pipeline_run", run_id)
        for execution in handle.store.get_executions_by_context(context.id) if context else ():
            if execution.last_known_state in (mlmd.Execution.RUNNING, mlmd.Execution.NEW):
                execution.last_known_state = mlmd.Execution.FAILED
                for folder in artifacts.glob(f"*/*/{execution.id}"):
                    shutil.rmtree(folder, ignore_errors=True)
            if (
                execution.last_known_state == mlmd.Execution.FAILED
                and ERROR_PROPERTY not in execution.custom_properties
            ):
                execution.custom_properties[ERROR_PROPERTY].string_value = error
                handle.store.put_executions([execution])
