"""Dataflow without a cloud: the job graph is built and checked as Dataflow would get it, then runs on this machine."""

import logging
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, TestOptions, WorkerOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms import environments

from cli.errors import ConfigError

_LOG = logging.getLogger(__name__)
# Larger graphs are rejected: https://cloud.google.com/dataflow/quotas
_MOST_BYTES = 20 * 2**20


class RehearsedDataflowRunner(DataflowRunner):
    """Stands for DataflowRunner in a rehearsal.

    The graph goes through all that Dataflow's own runner does before it sends a job: coders of keys, side inputs,
    overrides, the workers' container. What then runs on this machine is a graph read back from its serialized form, so
    that code that cannot be pickled, or not be read again, fails here.
    """

    def run_pipeline(self, pipeline: Any, options: PipelineOptions, pipeline_proto: Any = None) -> Any:
        """Build the job, check it, and run the same graph with Beam's own local runner.

        Raises:
          ConfigError: Dataflow could not run the job.
        """
        here = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
        options.view_as(TestOptions).dry_run = True
        super().run_pipeline(pipeline, options, pipeline_proto)
        check_graph(self.proto_pipeline, options.view_as(WorkerOptions).sdk_container_image)
        steps = len(self.proto_pipeline.components.transforms)
        _LOG.info("Dataflow's job graph: %d transforms, %d bytes", steps, self.proto_pipeline.ByteSize())
        return FnApiRunner().run_via_runner_api(here, PipelineOptions())


def check_graph(graph: beam_runner_api_pb2.Pipeline, image: str | None) -> None:
    """Reject a graph that Dataflow's workers could not run.

    Raises:
      ConfigError: naming what is wrong.
    """
    problems: list[str] = []
    for environment in graph.components.environments.values():
        if environment.urn != common_urns.environments.DOCKER.urn:
            problems.append(f"a step runs in {environment.urn}; Dataflow's workers are containers")
            continue
        container = beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        if image and container != image:
            problems.append(f"a step runs in {container}, not in {image}")
    if graph.ByteSize() > _MOST_BYTES:
        problems.append(f"the job graph has {graph.ByteSize():,} bytes; Dataflow takes {_MOST_BYTES:,}")
    if problems:
        raise ConfigError("\n".join(f"beam: {problem}" for problem in problems))
