"""Rules of the service that a compiled job, a schedule or a config has to keep."""

import datetime
import time
from typing import Any

import pytest
from click.testing import CliRunner
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from pipeline.vertex import compiler, jobs
from pipeline.vertex.conditions import is_query_met
from tests.conftest import CENSUS_CONFIG, ROOT
from tests.pipeline.vertex.test_rehearsal import job as small_job
from tests.pipeline.vertex.test_rehearsal import task
from tests.vertex_fixtures import ANSWERED_PARENT, PROJECT, REGION, Bench
from vertex_runner import main


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return compiler.compile_job(pipeline_config.load(CENSUS_CONFIG))


def test_the_baseline_is_a_model_that_this_pipeline_blessed(job: dict[str, Any]) -> None:
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    queries = executors["Baseline-model-blessing-resolver_executor"]["resolver"]["outputArtifactQueries"]
    query = queries["model_blessing"]["filter"]
    blessing = {"schema_title": "tfx.ModelBlessing", "state": "LIVE"}
    own = {**blessing, "metadata": {"blessed": 1, "pipeline": "census-income"}}
    assert is_query_met(query, own, {})
    assert not is_query_met(query, {**blessing, "metadata": {"blessed": 1, "pipeline": "other"}}, {})
    assert not is_query_met(query, {**blessing, "metadata": {"blessed": 0, "pipeline": "census-income"}}, {})


def test_the_parameters_of_a_task_fit_into_one_argument(job: dict[str, Any]) -> None:
    config = pipeline_config.load(CENSUS_CONFIG)
    parameters = job["pipelineSpec"]["root"]["dag"]["tasks"]["Gate"]["inputs"]["parameters"]
    for number in range(2):
        parameters[f"more_{number}"] = {"runtimeValue": {"constant": "x" * 60_000}}
    try:
        (problem,) = [line for line in compiler.lint(job, config) if line.startswith("Gate: its parameters")]
    finally:
        for number in range(2):
            del parameters[f"more_{number}"]
    assert "of at most 131,072 bytes" in problem
    assert compiler.lint(job, config) == []


@pytest.mark.parametrize("name", ["census", "census_search", "flights", "income_kdd"])
def test_every_config_compiles_and_is_parsed_strictly(name: str) -> None:
    shared = pipeline_config.read_vertex_settings(ROOT / "configs" / "vertex.yaml")
    config = pipeline_config.load(ROOT / "configs" / f"{name}.yaml", shared)
    message = v1.PipelineJob.pb(v1.PipelineJob())
    json_format.ParseDict(compiler.compile_job(config), message)


def test_a_shared_file_has_no_other_sections(tmp_path: Any) -> None:
    file = tmp_path / "vertex.yaml"
    file.write_text("vertex: {project: my-project}\nseed: 1\n")
    with pytest.raises(ConfigError, match="expected the sections vertex and push.vertex alone, found seed"):
        pipeline_config.read_vertex_settings(file)


def test_a_job_with_an_unknown_field_is_rejected(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="no field named"):
        jobs.submit(bench.vertex(), {"displayName": "x", "serviceAcount": "typo"}, "job-1")


def test_a_job_id_is_shorter_than_128() -> None:
    jobs.check_job_id("a" * 127)
    with pytest.raises(ConfigError, match="does not match"):
        jobs.check_job_id("a" * 128)
    jobs.check_job_id(jobs.generate_job_id("a" * 128))


def test_a_pipeline_on_vertex_starts_with_a_letter() -> None:
    with pytest.raises(ConfigError, match="name: '9-lives' starts with a digit"):
        pipeline_config.load(CENSUS_CONFIG, ["name=9-lives"])


@pytest.mark.parametrize("cron", ["CRON_TZ=Europe/Berlin 0 3 * * *", "TZ=Europe/Berlin 0 3 * * *", "0 3 * * *"])
def test_both_prefixes_of_a_time_zone_are_accepted(cron: str) -> None:
    jobs.check_cron(cron)
    with pytest.raises(ConfigError, match="is not a time zone"):
        jobs.check_cron("CRON_TZ=Mars/Base 0 3 * * *")


def test_a_schedule_is_listed_paused_resumed_and_deleted(bench: Bench) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["schedules", *arguments, "--project", PROJECT, "--region", REGION])
        assert result.exit_code == code, result.output
        return result.output

    assert run("pause", code=2).startswith("error: projects/my-project/locations/europe-west4: has no schedule")
    network = f"projects/{PROJECT}/global/networks/vpc"
    job = {
        "displayName": "census-income",
        "network": network,
        "pipelineSpec": {"pipelineInfo": {"name": "census-income"}, "root": {"dag": {"tasks": {"a": {}}}}},
        "runtimeConfig": {"gcsOutputDirectory": "gs://my-bucket/root"},
    }
    name, is_new = jobs.submit_schedule(
        bench.vertex(), job, cron="CRON_TZ=Europe/Berlin 0 3 * * *", name="census-income"
    )
    assert (is_new, name.startswith(f"{ANSWERED_PARENT}/schedules/")) == (True, True)
    assert run() == run("list")
    assert run().split() == ["ACTIVE", "CRON_TZ=Europe/Berlin", "0", "3", "*", "*", "*", name]
    for action, state in (("pause", "PAUSED"), ("pause", "PAUSED"), ("resume", "ACTIVE"), ("resume", "ACTIVE")):
        assert run(action).startswith(state)
    assert run("delete") == "no schedule of census-income in projects/my-project/locations/europe-west4\n"


def test_a_schedule_runs_its_job_by_the_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_clock(time_: str) -> None:
        moment = datetime.datetime.fromisoformat(f"2027-03-01T{time_}+01:00").timestamp()
        monkeypatch.setattr(bench.server.emulator, "clock", lambda: moment)

    resolver = {"resolver": {"outputArtifactQueries": {"model": {"filter": 'schema_title="tfx.Model"'}}}}
    scheduled = small_job(task("find", executor=resolver))
    set_clock("02:59:00")
    jobs.submit_schedule(bench.vertex(), scheduled, cron="TZ=Europe/Berlin 0 3 * * *", name="small")
    assert jobs.list_latest(bench.vertex(), 10, "small") == []
    set_clock("03:00:00")
    (latest,) = jobs.list_latest(bench.vertex(), 10, "small")
    deadline = time.monotonic() + 120
    while jobs.read_status(bench.vertex(), latest.name).state != "SUCCEEDED":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    jobs.update_schedules(bench.vertex(), "small", "pause")
    set_clock("04:00:00")
    assert len(jobs.list_latest(bench.vertex(), 10, "small")) == 1
