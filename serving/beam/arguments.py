"""Beam's command line, from the options. Imports no Beam."""

import json
from collections.abc import Mapping
from typing import Any

from serving.beam.config import BeamOptions

# The type check of the Beam graph is for authors of Beam code, and takes seconds in a graph as large as Transform's.
_ALWAYS = ("--no_pipeline_type_check",)
# Beam gives the streams of a job's state and messages this timeout, too: a job that takes longer would fail. Whether
# the job server responds is checked before each job.
_JOB_TIMEOUT_SECONDS = 30 * 24 * 3600
# Names of Beam's runners. DirectRunner would be another engine than FnApiRunner where it can download Prism.
RUNNER_CLASSES = {
    "direct": "FnApiRunner",
    "dataflow": "DataflowRunner",
    "prism": "serving.beam.runners.PrismRunner",
    "flink": "serving.beam.runners.FlinkRunner",
    "spark": "serving.beam.runners.SparkRunner",
    "portable": "serving.beam.runners.PortableRunner",
}


def build_arguments(options: BeamOptions, dataflow: Mapping[str, Any] | None = None) -> list[str]:
    """Return Beam's arguments.

    Args:
      options: options of the job.
      dataflow: arguments of Dataflow that are not among the options.
    """
    runner = options.runner or "direct"
    match runner:
        case "direct":
            arguments: dict[str, Any] = {
                "direct_running_mode": options.running_mode or "in_memory",
                "direct_num_workers": options.workers or 1,
                # Otherwise TFX packs itself again for each component, in a second and 46 MB, for workers that have it.
                "sdk_container_image": "none",
            }
        case "dataflow":
            arguments = {
                "max_num_workers": options.workers,
                "machine_type": options.machine_type,
                "disk_size_gb": options.disk_gb,
                "subnetwork": options.subnetwork,
                "service_account_email": options.service_account,
                "setup_file": options.setup_file,
                "sdk_container_image": options.sdk_image,
                # Workers start in their own Python; a pickled `__main__` of the launcher would not be there.
                "experiments": "use_runner_v2",
                **(dataflow or {}),
            }
        case _:
            arguments = {
                "job_endpoint": options.job_endpoint,
                "job_server_timeout": _JOB_TIMEOUT_SECONDS,
                # At INFO each worker prints a hundred lines of Beam's own as it starts.
                "default_sdk_harness_log_level": "WARNING",
                "prism_location": options.prism_binary,
                "spark_master_url" if runner == "spark" else "flink_master": options.master,
                "parallelism": options.parallelism,
                "sdk_worker_parallelism": options.workers,
                **_build_environment(options),
            }
    arguments = {"runner": RUNNER_CLASSES[runner], **arguments, **options.options}
    flags = [flag for name, value in arguments.items() if value is not None for flag in _format_flags(name, value)]
    return [*flags, *_ALWAYS]


def _build_environment(options: BeamOptions) -> dict[str, str]:
    """Return the arguments of the workers' environment."""
    if options.sdk_image is not None:
        return {
            "environment_type": "DOCKER",
            "environment_config": options.sdk_image,
            "sdk_container_image": options.sdk_image,
        }
    # TFX packs itself and each worker installs that, unless an image is named. These workers have the product's
    # environment, and Beam reads the name for containers only.
    arguments = {"sdk_container_image": "none"}
    if options.worker_pool is not None:
        return {"environment_type": "EXTERNAL", "environment_config": options.worker_pool, **arguments}
    if options.worker_command is not None:
        command = json.dumps({"command": options.worker_command})
        return {"environment_type": "PROCESS", "environment_config": command, **arguments}
    return {"environment_type": "LOOPBACK", **arguments}


def _format_flags(name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [f"--{name}={item}" for item in value]
    return [f"--{name}" if value is True else f"--{name}={value}"]
