"""Check that the workers of Beam can be reached and see the files of a run. Imports no Beam for the default runner."""

import importlib

from cli.terminal import quiet_stderr
from pipeline.config.beam_args import build_beam_args, choose_options
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.run_root import RunRoot
from pipeline.vertex.config import RUN_ON_BEAM
from serving.beam.config import BeamOptions
from serving.beam.preflight import check_beam

_DEFAULT = BeamOptions(runner="direct")


def check_beam_workers(config: PipelineConfig, run_root: RunRoot) -> None:
    """Check the options of every component that runs on Beam.

    Raises:
      ConfigError: an option is unknown, an address does not answer, a program is missing, or workers cannot see a path.
    """
    checked: dict[str, BeamOptions] = {}
    for node in (node for node in config.node_names if node in RUN_ON_BEAM):
        options = choose_options(config, node)
        prefix = f"beam.components.{node}." if node in config.beam.components else "beam."
        paths = _find_paths(config, run_root, node)
        if options == _DEFAULT:
            continue
        # Each address is asked once; each component has its paths.
        is_checked = options in checked.values()
        check_beam(options, paths, prefix, asks=not is_checked)
        if not is_checked:
            checked[node] = options
            _check_names(config, node, prefix)


def _check_names(config: PipelineConfig, node: str, prefix: str) -> None:
    with quiet_stderr():
        check_beam_args = importlib.import_module("serving.beam.option_names").check_beam_args
    check_beam_args(build_beam_args(config, node), f"{prefix}options.")


def _find_paths(config: PipelineConfig, run_root: RunRoot, node: str) -> dict[str, str]:
    """Return what the workers of a component read and write, by the key or flag that names it."""
    paths = {"--run-root": str(run_root.artifacts)}
    source = config.data.example_gen
    if node == "ExampleGen" and config.data.reads_files:
        paths["data.base"] = config.data.base
    if node == "SourceExampleGen" and source is not None and isinstance(source.arguments.get("input_base"), str):
        paths["data.example_gen.arguments.input_base"] = source.arguments["input_base"]
    return paths
