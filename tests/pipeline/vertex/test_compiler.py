"""Compiled jobs: what Vertex is told, and what is refused before it is."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from pipeline.config.beam_args import build_beam_args
from pipeline.config.nodes import list_nodes
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.vertex import compiler
from serving.beam.option_names import check_beam_args
from tests.conftest import CENSUS_CONFIG, ROOT


@pytest.fixture(scope="module")
def census() -> PipelineConfig:
    return pipeline_config.load(CENSUS_CONFIG)


@pytest.fixture(scope="module")
def census_job(census: PipelineConfig) -> dict[str, Any]:
    return compiler.compile_job(census)


@pytest.fixture
def job(census_job: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(census_job)


def tasks(job: dict[str, Any]) -> dict[str, Any]:
    dag_tasks: dict[str, Any] = job["pipelineSpec"]["root"]["dag"]["tasks"]
    return dag_tasks


def test_the_job_has_the_nodes_of_the_local_dag(census: PipelineConfig, job: dict[str, Any]) -> None:
    # The stock resolver becomes two tasks.
    resolvers = {"Baseline-model-blessing-resolver": "Baseline", "Baseline-model-resolver": "Baseline"}
    assert {resolvers.get(name, name) for name in tasks(job)} == {*list_nodes(census)}


def test_the_evaluator_is_given_what_it_judges_by_and_what_a_search_chose(job: dict[str, Any]) -> None:
    alone = tasks(job)["Evaluator"]["inputs"]
    assert json.loads(alone["parameters"]["requirements"]["runtimeValue"]["constant"])["min_rows"] == 20
    assert "hyperparameters" not in alone["artifacts"]
    search = "training.search={max_trials: 2, parameters: {training.imbalance: {choices: [none, oversample]}}}"
    searching = pipeline_config.load(CENSUS_CONFIG, [search])
    searched = compiler.compile_job(searching)
    assert compiler.lint(searched, searching) == []
    best = tasks(searched)["Evaluator"]["inputs"]["artifacts"]["hyperparameters"]["taskOutputArtifact"]
    assert best == {"producerTask": "Tuner", "outputArtifactKey": "best_hyperparameters"}


def test_the_cache_is_asked_after_our_own_driver(job: dict[str, Any]) -> None:
    container = job["pipelineSpec"]["deploymentSpec"]["executors"]["ExampleGen_executor"]["container"]
    hook = container["lifecycle"]["preCacheCheck"]
    assert hook["command"] == ["python", "-m", "components.example_gen.driver"]
    assert hook["args"][:2] == ["--json_serialized_invocation_args", "{{$}}"]


def test_artifacts_are_in_no_folder_that_looks_like_a_pattern() -> None:
    with pytest.raises(
        ConfigError, match=r"vertex\.pipeline_root: a folder of artifacts cannot have \* \[ \] in its name"
    ):
        pipeline_config.load(CENSUS_CONFIG, ["vertex.pipeline_root=gs://my-bucket/a[b]*"])
    odd = pipeline_config.load(CENSUS_CONFIG, ["vertex.input_base='gs://my-bucket/a [b]*#%20?'"])
    assert odd.vertex is not None
    assert odd.vertex.input_base == "gs://my-bucket/a [b]*#%20?"


def test_the_job_has_the_parameters_of_the_local_dag(census: PipelineConfig, job: dict[str, Any]) -> None:
    from pipeline.create_pipeline import create_pipeline

    local = create_pipeline(
        census, pipeline_root="root", registry=census.build_registry_settings(Path("registry")), run_id="run"
    )
    for node in local.components:
        if node.id in ("Baseline", "History", "Pusher"):
            continue  # which are others on Vertex
        parameters = tasks(job)[node.id]["inputs"].get("parameters", {})
        expected = {key: value for key, value in node.exec_properties.items() if value is not None}
        assert set(parameters) == set(expected), node.id
        for key, value in expected.items():
            if key != "input_base":
                assert parameters[key]["runtimeValue"]["constant"] == value, (node.id, key)
    assert census.vertex is not None
    base = tasks(job)["ExampleGen"]["inputs"]["parameters"]["input_base"]
    assert base["runtimeValue"]["constant"] == census.vertex.input_base


def test_costs_go_to_the_trainer_and_their_metric_to_the_evaluator_and_a_search_does_not_depend_on_them() -> None:
    costs = {"cost_false_positive": 1.0, "cost_false_negative": 5.0}
    search = "training.search={max_trials: 2, parameters: {training.epochs: {low: 1, high: 2}}}"
    settings = [search, *(f"decision.{name}={value}" for name, value in costs.items())]
    plain, costly = (
        compiler.compile_job(pipeline_config.load(CENSUS_CONFIG, chosen)) for chosen in ([search], settings)
    )

    def parameter(job: dict[str, Any], task: str, name: str) -> Any:
        return json.loads(tasks(job)[task]["inputs"]["parameters"][name]["runtimeValue"]["constant"])

    assert json.loads(parameter(costly, "Trainer", "custom_config")["decision"]) == costs
    assert "decision" not in parameter(plain, "Trainer", "custom_config")
    assert parameter(costly, "Tuner", "custom_config") == parameter(plain, "Tuner", "custom_config")

    def metrics(job: dict[str, Any]) -> list[str]:
        specs = parameter(job, "Evaluator", "eval_config")["metrics_specs"]
        return [json.loads(metric["config"])["name"] for metric in specs[0]["metrics"]]

    assert sorted({*metrics(costly)} - {*metrics(plain)}) == ["mean_cost"]


def test_the_same_config_gives_the_same_job(census: PipelineConfig, job: dict[str, Any]) -> None:
    assert compiler.to_text(compiler.compile_job(census)) == compiler.to_text(job)


def test_what_judges_or_acts_is_never_answered_from_the_cache(job: dict[str, Any]) -> None:
    cached = {name: task.get("cachingOptions", {}).get("enableCache") for name, task in tasks(job).items()}
    assert (cached["Pusher"], cached["Gate"], cached["History"]) == (False, False, False)
    assert cached["Trainer"] is True


def test_machines_policy_labels_and_keys_go_into_the_job() -> None:
    settings = [
        "vertex.machines={Trainer: {machine_type: n1-highmem-8, accelerator: NVIDIA_TESLA_T4}, Transform: {machine_type: e2-standard-8}}",
        "vertex.failure_policy=slow",
        "vertex.labels={team: risk}",
        "vertex.service_account=runner@my-project.iam.gserviceaccount.com",
        "vertex.network=projects/1/global/networks/default",
        "vertex.cmek_key=projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k",
    ]
    job = compiler.compile_job(pipeline_config.load(CENSUS_CONFIG, settings))
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["Trainer_executor"]["container"]["resources"] == {
        "cpuLimit": 8.0,
        "memoryLimit": 52.0,
        "accelerator": {"type": "NVIDIA_TESLA_T4", "count": "1"},
    }
    assert executors["Transform_executor"]["container"]["resources"] == {"cpuLimit": 8.0, "memoryLimit": 32.0}
    assert job["runtimeConfig"]["failurePolicy"] == "PIPELINE_FAILURE_POLICY_FAIL_SLOW"
    assert (job["labels"]["team"], job["labels"]["pipeline"]) == ("risk", "census-income")
    assert job["serviceAccount"].startswith("runner@")
    assert job["encryptionSpec"]["kmsKeyName"].endswith("/k")
    place = json.loads(tasks(job)["Pusher"]["inputs"]["parameters"]["registry"]["runtimeValue"]["constant"])["place"]
    assert (place["labels"], place["cmek_key"]) == (
        {"team": "risk"},
        "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k",
    )


def test_dataflow_is_chosen_for_one_component_alone() -> None:
    settings = [
        "beam={components: {Transform: {runner: dataflow, workers: 20, machine_type: n1-standard-4, subnetwork: regions/r/subnetworks/s, sdk_image: i/workers@sha256:1}}}"
    ]
    job = compiler.compile_job(pipeline_config.load(CENSUS_CONFIG, settings))
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    transform = executors["Transform_executor"]["container"]["args"]
    assert {
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west4",
        "--max_num_workers=20",
        "--machine_type=n1-standard-4",
        "--subnetwork=regions/r/subnetworks/s",
        "--sdk_container_image=i/workers@sha256:1",
        "--temp_location=gs://my-project-pipelines/census-income/dataflow-temp",
    } <= {*transform}
    assert "--runner=FnApiRunner" in executors["ExampleGen_executor"]["container"]["args"]


def lint(job: dict[str, Any], census: PipelineConfig) -> str:
    return "\n".join(compiler.lint(job, census))


def test_a_producer_that_is_not_there_is_named(job: dict[str, Any], census: PipelineConfig) -> None:
    tasks(job)["Trainer"]["inputs"]["artifacts"]["schema"]["taskOutputArtifact"]["producerTask"] = "SchemaGen_task"
    assert lint(job, census) == "Trainer.schema: is made by the task 'SchemaGen_task', which is not there"


def test_a_wrong_artifact_type_is_named(job: dict[str, Any], census: PipelineConfig) -> None:
    wired = tasks(job)["Trainer"]["inputs"]["artifacts"]["schema"]["taskOutputArtifact"]
    wired["producerTask"], wired["outputArtifactKey"] = "ExampleGen", "examples"
    assert lint(job, census) == "Trainer.schema: expected tfx.Schema, 'ExampleGen' makes tfx.Examples"


def test_an_executor_in_a_script_is_refused(job: dict[str, Any], census: PipelineConfig) -> None:
    container = job["pipelineSpec"]["deploymentSpec"]["executors"]["Gate_executor"]["container"]
    container["args"][1] = "__main__.Gate_Executor"
    assert "its executor __main__.Gate_Executor is in a script" in lint(job, census)


def test_a_path_of_this_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"holds a path of this machine: /home/me/setup.py"):
        compiler.compile_job(
            pipeline_config.load(CENSUS_CONFIG, ["beam.setup_file=/home/me/setup.py", "beam.runner=dataflow"])
        )


def test_a_parameter_too_large_for_ml_metadata_is_refused(job: dict[str, Any], census: PipelineConfig) -> None:
    tasks(job)["SchemaGen"]["inputs"]["parameters"]["schema_text"]["runtimeValue"]["constant"] = "x" * 70_000
    assert "SchemaGen.schema_text: has 70,002 bytes; ML Metadata takes 65,536" in lint(job, census)


@pytest.mark.parametrize("first", ["data", "beam"])
def test_what_the_page_on_scale_says_to_set_compiles(first: str) -> None:
    blocks = re.findall(r"(?:^ {4}.*\n)+", (ROOT / "docs" / "scale.md").read_text(), flags=re.MULTILINE)
    (block,) = [block for block in blocks if block.startswith(f"    {first}:")]
    values = yaml.safe_load(block)
    settings = [f"data.splits={json.dumps(values['data']['splits'])}"] if "data" in values else []
    settings += [
        f"{key}.{name}={json.dumps(value)}" for key in ("beam", "vertex") for name, value in values[key].items()
    ]
    executors = compiler.compile_job(pipeline_config.load(CENSUS_CONFIG, settings))["pipelineSpec"]["deploymentSpec"][
        "executors"
    ]
    runner = "--runner=DataflowRunner" if values["beam"].get("runner") == "dataflow" else "--direct_num_workers=16"
    assert runner in executors["Transform_executor"]["container"]["args"]
    assert executors["Trainer_executor"]["container"]["resources"] == {"cpuLimit": 16.0, "memoryLimit": 104.0}


def test_a_job_parameter_without_a_value_is_named(job: dict[str, Any], census: PipelineConfig) -> None:
    tasks(job)["Gate"]["inputs"]["parameters"]["policy"] = {"componentInputParameter": "policy"}
    assert lint(job, census) == "Gate.policy: the pipeline has no parameter 'policy'"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("vertex.project=My Project", "vertex.project: "),
        ("vertex.region=mars", "vertex.region: "),
        ("vertex.pipeline_root=/local/root", "vertex.pipeline_root: "),
        ("vertex.image=''", "vertex.image: "),
        ("vertex.machines={Trainor: {}}", "did you mean 'Trainer'?"),
        ("vertex.machines={Transform: {replicas: 2}}", "only Trainer runs on several machines"),
        ("beam.runner=DaskRunner", "beam.runner: input should be 'direct', 'prism', 'flink', 'spark', 'dataflow' or"),
        ("beam.job_endpoint=x", "beam.job_endpoint: expected HOST:PORT, found 'x'"),
        ("beam={runner: flink, machine_type: n1-highmem-2}", "beam: machine_type: is for dataflow, and the runner is"),
        ("beam={runner: portable, worker_pool: 'h:1', sdk_image: i}", "worker_pool and sdk_image: give one of them"),
        ("beam={runner: portable, shared_folder: a/b}", "beam.shared_folder: expected an absolute path"),
        ("beam={runner: flink, options: {parallelism: 2}}", "options.parallelism: is set by the key parallelism"),
        ("beam.options={region: x}", "options.region: is set by the section `vertex`"),
        ("beam.components={Transform: {master: 'h:1'}}", "components.Transform.master: is for flink and spark, and"),
        ("beam.runner=dataflow", "beam.sdk_image: dataflow's workers need the image of the Dockerfile's target"),
        ("beam.components={Trainer: {workers: 2}}", "'Trainer' does not run on Beam"),
        ("beam.components={ExampleValidator: {workers: 2}}", "'ExampleValidator' does not run on Beam"),
        ("push.vertex.traffic_steps=[50, 10]", "must rise"),
        ("push.vertex.serving_tensorflow=null", "give the TensorFlow release of"),
        ("push.vertex.max_replicas=0", "push.vertex.max_replicas: "),
        ("push.model_name=9lives", "cannot be a model's id on Vertex AI"),
        ("name=Bad_Name", "name: "),
        ("vertex=null", None),
    ],
)
def test_mistakes_in_the_config_are_named(setting: str, message: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        compiler.compile_job(pipeline_config.load(CENSUS_CONFIG, [setting]))
    assert (message or "image): missing in the config; write them there") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_option_that_beam_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match=r"beam.options.direct_num_wrokers: .* did you mean 'direct_num_workers'\?"):
        check_beam_args(build_beam_args(pipeline_config.load(CENSUS_CONFIG, ["beam.options={direct_num_wrokers: 2}"])))


def test_what_dataflow_would_refuse_is_refused_here() -> None:
    settings = ["beam={runner: dataflow, sdk_image: i}", "vertex.region=europe-west4"]
    check_beam_args(build_beam_args(pipeline_config.load(CENSUS_CONFIG, settings)))
    with pytest.raises(ConfigError, match="beam: Invalid job_name"):
        check_beam_args(
            build_beam_args(pipeline_config.load(CENSUS_CONFIG, [*settings, "beam.options={job_name: Bad Name}"]))
        )


def test_another_runner_takes_its_options() -> None:
    settings = ["beam={runner: flink, master: 'host:8081', parallelism: 4, worker_pool: 'localhost:5'}"]
    arguments = build_beam_args(pipeline_config.load(CENSUS_CONFIG, settings))
    assert arguments == [
        "--runner=serving.beam.runners.FlinkRunner",
        "--job_server_timeout=2592000",
        "--default_sdk_harness_log_level=WARNING",
        "--flink_master=host:8081",
        "--parallelism=4",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:5",
        "--sdk_container_image=none",
        "--no_pipeline_type_check",
    ]
    check_beam_args(arguments)


def test_an_option_of_another_runner_is_named() -> None:
    config = pipeline_config.load(CENSUS_CONFIG, ["beam={runner: spark, options: {flink_version: '1.19'}}"])
    with pytest.raises(
        ConfigError, match=r"beam.options.flink_version: is an option of the runner flink, and the runn"
    ):
        check_beam_args(build_beam_args(config))


def test_a_component_with_another_runner_inherits_what_that_runner_takes() -> None:
    settings = [
        "beam={runner: flink, master: 'host:8081', parallelism: 4, worker_pool: 'localhost:5', workers: 3}",
        "beam.components={Transform: {runner: direct, running_mode: multi_processing}, Evaluator: {sdk_image: i}}",
    ]
    config = pipeline_config.load(CENSUS_CONFIG, settings)
    assert build_beam_args(config, "Transform")[:3] == [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=3",
    ]
    assert "--environment_config=i" in build_beam_args(config, "Evaluator")
    assert "--environment_config=localhost:5" not in build_beam_args(config, "Evaluator")


def test_files_of_the_users_own_code_are_in_the_job_and_their_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("def preprocessing_fn(inputs, custom_config): ...  # unique text\n")
    (tmp_path / "model.py").write_text("def build_model(features, config): ...\n")
    settings = [f"transform.module={tmp_path / 'features.py'}", f"model.module={tmp_path / 'model.py'}"]
    job = compiler.compile_job(pipeline_config.load(CENSUS_CONFIG, settings))
    custom_config = tasks(job)["Transform"]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    assert "unique text" in json.loads(json.loads(custom_config)["user_code"])["text"]
    assert str(tmp_path) not in compiler.to_text(job)


def test_a_database_server_of_local_runs_is_no_part_of_the_job(census: PipelineConfig) -> None:
    server = {
        "kind": "mysql",
        "host": "db.example.org",
        "database": "mlmd",
        "user": "pipeline",
        "password_env": "SECRET",
    }
    with_server = PipelineConfig.model_validate({**census.model_dump(), "metadata": server})
    assert compiler.to_text(compiler.compile_job(with_server)) == compiler.to_text(compiler.compile_job(census))


def test_a_job_that_reads_bigquery_is_compiled_without_asking_it(
    census: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    query = "SELECT * FROM census.test WHERE age > 16"
    splits = {
        "train": {"table": "census.train"},
        "eval": {"source": "train", "fraction": 0.1},
        "test": {"query": query},
    }
    data = {"format": "bigquery", "bigquery": {"project": "my-project"}, "splits": splits}
    values = census.model_dump()
    vertex = {**values["vertex"], "input_base": None}
    job = compiler.compile_job(PipelineConfig.model_validate({**values, "data": data, "vertex": vertex}))
    parameters = tasks(job)["ExampleGen"]["inputs"]["parameters"]
    assert parameters["input_base"]["runtimeValue"]["constant"] == "bigquery://my-project"
    patterns = json.loads(parameters["input_config"]["runtimeValue"]["constant"])["splits"]
    assert patterns == [{"name": "train", "pattern": "census.train"}, {"name": "test", "pattern": query}]
