"""Beam's command-line options, from the config."""

from typing import Any

from cli.errors import ConfigError
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.vertex.config import BeamOptions

# The type check of the Beam graph is for authors of Beam code, and takes seconds in a graph as large as Transform's.
_ALWAYS = ("--no_pipeline_type_check",)


def beam_args(config: PipelineConfig, node_id: str | None = None) -> list[str]:
    """Return the options of a component, or those of all where none is named.

    Raises:
      ConfigError: Dataflow without a `vertex` section, which has the project and the bucket, or without its image.
    """
    chosen = _choose_options(config, node_id)
    arguments: dict[str, Any]
    match chosen.runner or "direct":
        case "direct":
            arguments = {
                "runner": "DirectRunner",
                "direct_running_mode": chosen.running_mode or "in_memory",
                "direct_num_workers": chosen.workers or 1,
                # Nothing here reads it. Without a word on where workers get TFX from, each component packs the
                # installed TFX again, in a second and 46 MB, for workers that have it.
                "sdk_container_image": "none",
            }
        case "dataflow":
            arguments = _dataflow(config, chosen)
        case runner:
            arguments = {"runner": runner}
    arguments |= chosen.options
    return [flag for name, value in arguments.items() if value is not None for flag in _flags(name, value)] + [*_ALWAYS]


def _choose_options(config: PipelineConfig, node_id: str | None) -> BeamOptions:
    """Return what is said for all, with what is said for one component over it."""
    general = config.beam.model_dump(exclude={"components"})
    special = config.beam.components.get(node_id or "", BeamOptions()).model_dump()
    options = {**general.pop("options"), **special.pop("options")}
    return BeamOptions(**{**general, **{k: v for k, v in special.items() if v is not None}}, options=options)


def _dataflow(config: PipelineConfig, chosen: BeamOptions) -> dict[str, Any]:
    vertex = config.vertex
    if vertex is None:
        raise ConfigError("beam.runner: dataflow needs the section `vertex`: its project, region and bucket")
    if not (chosen.sdk_image or chosen.setup_file):
        raise ConfigError(
            "beam.sdk_image: dataflow's workers need the image of the Dockerfile's target `dataflow`, or a "
            "beam.setup_file"
        )
    return {
        "runner": "DataflowRunner",
        "project": vertex.project,
        "region": vertex.region,
        "temp_location": f"{vertex.pipeline_root.rstrip('/')}/dataflow-temp",
        "staging_location": f"{vertex.pipeline_root.rstrip('/')}/dataflow-staging",
        "max_num_workers": chosen.workers,
        "machine_type": chosen.machine_type,
        "disk_size_gb": chosen.disk_gb,
        "subnetwork": chosen.subnetwork,
        "service_account_email": chosen.service_account or vertex.service_account,
        "dataflow_kms_key": vertex.cmek_key,
        "setup_file": chosen.setup_file,
        "sdk_container_image": chosen.sdk_image,
        # Workers start in their own Python; a pickled `__main__` of the launcher would not be there.
        "experiments": "use_runner_v2",
        "labels": [f"{key}={value}" for key, value in vertex.labels.items()] or None,
    }


def _flags(name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [f"--{name}={item}" for item in value]
    return [f"--{name}" if value is True else f"--{name}={value}"]
