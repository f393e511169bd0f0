"""Beam's command-line options, from the config."""

from typing import Any

from cli.errors import ConfigError
from pipeline.config.pipeline_config import PipelineConfig
from serving.beam.arguments import build_arguments
from serving.beam.config import BeamOptions


def build_beam_args(config: PipelineConfig, node_id: str | None = None) -> list[str]:
    """Return the options of a component, or those of all where none is named.

    Raises:
      ConfigError: Dataflow without a `vertex` section, which has the project and the bucket, or without its image.
    """
    options = choose_options(config, node_id)
    return build_arguments(options, _build_dataflow_options(config, options) if options.runner == "dataflow" else None)


def choose_options(config: PipelineConfig, node_id: str | None = None) -> BeamOptions:
    """Return the options of a component, or those of all where none is named."""
    return config.beam.override(config.beam.components.get(node_id or "", BeamOptions()))


def _build_dataflow_options(config: PipelineConfig, options: BeamOptions) -> dict[str, Any]:
    vertex = config.vertex
    if vertex is None:
        raise ConfigError("beam.runner: dataflow needs the section `vertex`: its project, region and bucket")
    if not (options.sdk_image or options.setup_file):
        raise ConfigError(
            "beam.sdk_image: dataflow's workers need the image of the Dockerfile's target `dataflow`, or a "
            "beam.setup_file"
        )
    return {
        "project": vertex.project,
        "region": vertex.region,
        "temp_location": f"{vertex.pipeline_root.rstrip('/')}/dataflow-temp",
        "staging_location": f"{vertex.pipeline_root.rstrip('/')}/dataflow-staging",
        "service_account_email": options.service_account or vertex.service_account,
        "dataflow_kms_key": vertex.cmek_key,
        "labels": [f"{key}={value}" for key, value in vertex.labels.items()] or None,
    }
