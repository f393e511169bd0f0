"""A run whose workers of Beam cannot work is rejected before it starts, with the key that is wrong."""

import json
import re
from pathlib import Path

import pytest
import yaml

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from pipeline.config.beam_args import build_beam_args
from pipeline.run.beam_workers import check_beam_workers
from pipeline.run.run_root import RunRoot
from serving.beam.arguments import RUNNER_CLASSES
from serving.beam.option_names import check_beam_args
from tests.conftest import CENSUS_CONFIG, ROOT
from tests.serving.beam.test_preflight import open_flink

FLINK = {"runner": "flink", "worker_pool": "localhost:1", "options": {"job_server_java_launcher": "true"}}


def reject(run_root: Path, *settings: str) -> str:
    """Return the message of the error."""
    with pytest.raises(ConfigError) as error:
        check_beam_workers(pipeline_config.load(CENSUS_CONFIG, settings), RunRoot(run_root))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_paths_of_remote_workers_are_named_by_their_keys(tmp_path: Path) -> None:
    with open_flink(200) as master:
        flink = {**FLINK, "master": master, "shared_folder": str(tmp_path)}
        inside = tmp_path / "run"
        beam = f"beam={json.dumps(flink)}"
        assert reject(Path("/elsewhere"), beam).startswith(
            "--run-root: the workers of beam.runner flink are on other ma"
        )
        assert reject(inside, beam).startswith(
            "data.base: the workers of beam.runner flink are on other machines and ca"
        )
        check_beam_workers(pipeline_config.load(CENSUS_CONFIG, [beam, f"data.base={tmp_path}/data"]), RunRoot(inside))
        # The others read no file of the input.
        single = f"beam={json.dumps({'components': {'Transform': flink}})}"
        assert reject(Path("/elsewhere"), single).startswith(
            "--run-root: the workers of beam.components.Transform.runner flink are on other machines and cannot see /els"
        )
        check_beam_workers(pipeline_config.load(CENSUS_CONFIG, [single]), RunRoot(inside))


def test_a_key_of_one_component_is_named_with_it(tmp_path: Path) -> None:
    wrong = "beam={components: {Evaluator: {runner: prism, prism_binary: /no/prism}}}"
    assert reject(tmp_path, wrong).startswith("beam.components.Evaluator.prism_binary: there is no program '/no/prism'")
    unknown = "beam={components: {Transform: {options: {direct_num_wrokers: 2}}}}"
    assert reject(tmp_path, unknown).startswith(
        "beam.components.Transform.options.direct_num_wrokers: is not an option of Beam; did you mean"
    )


def test_the_default_runner_is_the_one_that_the_tests_run() -> None:
    assert build_beam_args(pipeline_config.load(CENSUS_CONFIG))[0] == "--runner=FnApiRunner"


def test_the_value_of_a_wrong_address_is_named_once() -> None:
    with pytest.raises(ConfigError) as error:
        pipeline_config.load(CENSUS_CONFIG, ["beam.job_endpoint=x"])
    assert str(error.value).endswith("beam.job_endpoint: expected HOST:PORT, found 'x'")


@pytest.mark.parametrize("runner", ["flink", "spark", "Transform"])
def test_the_sections_of_the_page_on_scale_are_valid(runner: str) -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    (block,) = re.findall(rf"^    # (?:only )?{runner}.*\n((?: {{4}}.*\n)+)", page, flags=re.MULTILINE | re.IGNORECASE)
    beam = json.dumps(yaml.safe_load(block)["beam"])
    arguments = build_beam_args(pipeline_config.load(CENSUS_CONFIG, [f"beam={beam}"]), "Transform")
    name = "flink" if runner == "Transform" else runner
    assert arguments[0] == f"--runner={RUNNER_CLASSES[name]}"
    check_beam_args(arguments)
