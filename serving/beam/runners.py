"""Beam's runners of other machines, with three differences.

A job server that no longer answers is an error in seconds. A job server that Beam starts is stopped with the run, and
leaves the signal handlers of the process alone. The logs of the workers of a pool come to the log of the run.
"""

import contextlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, PrismRunnerOptions
from apache_beam.runners.portability import flink_runner, portable_runner, prism_runner, spark_runner
from apache_beam.runners.runner import PipelineResult

from cli.errors import PipelineError
from serving.beam.preflight import ANSWER_SECONDS, is_answering
from serving.beam.revision import compute_revision
from serving.beam.servers import start_once
from serving.beam.worker_logs import WorkerLogOptions
from serving.beam.worker_pool import REVISION_SUFFIX

_LOST_WORKER = re.compile(r"SDK worker disconnected|didn't get control connection|beam\.shared_folder: ")
_MAX_DETAIL_CHARS = 200


class _OwnedServers(portable_runner.PortableRunner):
    """Behaviour of all runners here."""

    def create_job_service(self, options: PipelineOptions) -> Any:
        """Connect to the job server.

        Raises:
          PipelineError: it does not answer.
        """
        endpoint = options.view_as(PortableOptions).job_endpoint
        if endpoint and not is_answering(endpoint):
            raise PipelineError(f"the Beam job server {endpoint} does not answer within {ANSWER_SECONDS} s")
        return super().create_job_service(options)

    def run_portable_pipeline(self, pipeline: Any, options: PipelineOptions) -> PipelineResult:
        """Start a job; its result reads the logs of the workers."""
        logs = None
        if options.view_as(PortableOptions).environment_type == "EXTERNAL":
            log_options = options.view_as(WorkerLogOptions)
            logs = Path(log_options.worker_log_folder or tempfile.mkdtemp(prefix="worker-logs-"))
            logs.mkdir(exist_ok=True)
            log_options.worker_log_folder = str(logs)
        with _shorten_errors():
            result = super().run_portable_pipeline(pipeline, options)
        return _LoggedResult(result, logs, options.view_as(PortableOptions).environment_config or "")


class _LoggedResult(PipelineResult):
    """Result of a job whose workers' logs are copied to the standard error of this process, which is the log."""

    def __init__(self, result: PipelineResult, logs: Path | None, pool: str) -> None:
        super().__init__(result.state)
        self._result = result
        self._logs, self._pool = logs, pool

    @property
    def state(self) -> Any:
        return self._result.state

    def metrics(self) -> Any:
        return self._result.metrics()

    def cancel(self) -> Any:
        return self._result.cancel()

    def wait_until_finish(self, duration: int | None = None) -> Any:
        try:
            with _shorten_errors():
                return self._result.wait_until_finish(duration)
        except RuntimeError as error:
            # Prism's words: sdks/go/pkg/beam/runners/prism/internal/worker/worker.go and environments.go of Beam.
            if self._logs is None or not _LOST_WORKER.search(str(error)):
                raise
            # Not a PipelineError, so that the line begins with the component.
            raise RuntimeError(
                f"the Beam worker of the pool at {self._pool} was lost, or could not start; see the pool's output, "
                f"start it again, and run the same command ({_find_details(str(error))})"
            ) from error
        finally:
            if self._logs is not None:
                _take_logs(self._logs)


def _find_details(message: str) -> str:
    """Return what a job server reports of a lost worker, without the text around it."""
    return message[_LOST_WORKER.search(message).start() :].splitlines()[0][:_MAX_DETAIL_CHARS]  # type: ignore[union-attr]


def _take_logs(folder: Path) -> None:
    """Copy the logs of the workers, and remove their folder.

    Raises:
      PipelineError: a worker had other code of this product.
    """
    for file in sorted(folder.glob("*.log")):
        sys.stderr.write(file.read_text(errors="replace"))
    sys.stderr.flush()
    revisions = {file.read_text() for file in folder.glob(f"*{REVISION_SUFFIX}")}
    shutil.rmtree(folder, ignore_errors=True)
    own = compute_revision()
    for revision in revisions - {own}:
        raise PipelineError(
            f"a Beam worker has other code of this product: revision {revision}, and here it is {own}; update it, "
            "start its pool again, and run the same command"
        )


@contextlib.contextmanager
def _shorten_errors() -> Iterator[None]:
    """Raise an error of gRPC, whose text has many lines, as one with its code and details."""
    try:
        yield
    except grpc.RpcError as error:
        code = getattr(error, "code", lambda: None)()
        details = getattr(error, "details", lambda: "")() or "no details"
        name = code.name if code is not None else type(error).__name__
        raise PipelineError(
            f"the Beam job server has failed: {name}: {details.splitlines()[0]}; start it again, and run the same "
            "command"
        ) from error


def _start(options: PipelineOptions, build: Callable[[PipelineOptions], Any]) -> Any:
    """Return a job server that is started for the first job, and serves all jobs of the same options."""

    class Shared:
        def start(self) -> Any:
            key = json.dumps(options.get_all_options(drop_default=True), default=str, sort_keys=True)
            return start_once(f"{build.__name__} {key}", lambda: build(options))

    return Shared()


class PortableRunner(_OwnedServers):
    """Runs jobs on a job server that is running already."""


class PrismRunner(_OwnedServers, prism_runner.PrismRunner):
    """Runs jobs on Prism, which is started from a local program unless an endpoint is given."""

    def default_job_server(self, options: PipelineOptions) -> Any:
        prism_options = options.view_as(PrismRunnerOptions)
        # Beam would download a program that it is not given.
        program = shutil.which(prism_options.prism_location or "prism")
        if program is None:
            raise PipelineError(f"there is no program '{prism_options.prism_location or 'prism'}'")
        prism_options.prism_location = program
        return _start(options, prism_runner.PrismJobServer)


class FlinkRunner(_OwnedServers, flink_runner.FlinkRunner):
    """Runs jobs on Flink."""

    def default_job_server(self, options: PipelineOptions) -> Any:
        server = super().default_job_server(options)
        if isinstance(server, flink_runner.flink_uber_jar_job_server.FlinkUberJarJobServer):
            return server
        return _start(options, flink_runner.FlinkJarJobServer)


class SparkRunner(_OwnedServers, spark_runner.SparkRunner):
    """Runs jobs on Spark."""

    def default_job_server(self, options: PipelineOptions) -> Any:
        server = super().default_job_server(options)
        if isinstance(server, spark_runner.spark_uber_jar_job_server.SparkUberJarJobServer):
            return server
        return _start(options, spark_runner.SparkJarJobServer)
