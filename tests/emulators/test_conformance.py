"""Behaviour that google-cloud-aiplatform's own system tests assert, in the words of this project: the real client, gRPC.

`raw_predict` is left out: the SDK sends it to Google's own host, whatever the API endpoint is.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as v1

from emulators.vertex.server import EmulatorServer
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, PROJECT, PROJECT_NUMBER, REGION

pytestmark = pytest.mark.integration

IMAGE = "europe-west4-docker.pkg.dev/my-project/pipelines/serving:v1"
STORE = f"{ANSWERED_PARENT}/metadataStores/default"


@pytest.fixture(scope="module")
def server(
    tls: Path, tmp_path_factory: pytest.TempPathFactory, make_model: Callable[[float], Path]
) -> Iterator[EmulatorServer]:
    folder = tmp_path_factory.mktemp("vertex")
    numbers = {PROJECT: PROJECT_NUMBER}
    with EmulatorServer(folder, tls=tls, operation_seconds=0.01, project_numbers=numbers) as running:
        before = dict(os.environ)
        os.environ.update(running.environment())
        aiplatform.init(
            project=PROJECT,
            location=REGION,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            api_endpoint=running.endpoint,
            staging_bucket=f"gs://{BUCKET}",
        )
        for name, offset in (("one", 0.1), ("two", 0.2)):
            shutil.copytree(make_model(offset), running.emulator.storage / BUCKET / name)
        yield running
        os.environ.clear()
        os.environ.update(before)


def client(server: EmulatorServer, kind: Any) -> Any:
    return kind(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": server.endpoint},
    )


# Models and versions.


@pytest.fixture(scope="module")
def model(server: EmulatorServer) -> aiplatform.Model:
    return aiplatform.Model.upload(
        model_id="conformance",
        display_name="conformance",
        artifact_uri=f"gs://{BUCKET}/one",
        serving_container_image_uri=IMAGE,
        serving_container_predict_route="/predict",
        serving_container_health_route="/health",
        labels={"team": "risk"},
        version_aliases=["first"],
        version_description="the first",
    )


@pytest.fixture(scope="module")
def second(model: aiplatform.Model) -> aiplatform.Model:
    return aiplatform.Model.upload(
        parent_model=model.resource_name,
        display_name="conformance",
        artifact_uri=f"gs://{BUCKET}/two",
        serving_container_image_uri=IMAGE,
        is_default_version=False,
        version_aliases=["second"],
    )


def test_a_model_is_named_by_its_id_and_the_projects_number(model: aiplatform.Model) -> None:
    assert model.resource_name == f"{ANSWERED_PARENT}/models/conformance"
    assert (model.name, model.version_id, model.display_name) == ("conformance", "1", "conformance")


def test_a_model_keeps_what_it_was_uploaded_with(model: aiplatform.Model) -> None:
    assert model.container_spec.image_uri == IMAGE
    assert (model.container_spec.predict_route, model.container_spec.health_route) == ("/predict", "/health")
    assert (model.uri, model.labels) == (f"gs://{BUCKET}/one", {"team": "risk"})
    assert (model.version_description, model.create_time is not None) == ("the first", True)


def test_the_first_version_is_the_default(model: aiplatform.Model) -> None:
    assert set(model.version_aliases) >= {"first", "default"}


def test_a_version_is_found_by_its_id_and_its_alias(model: aiplatform.Model, second: aiplatform.Model) -> None:
    assert aiplatform.Model(f"{model.resource_name}@2").version_id == "2"
    assert aiplatform.Model(f"{model.resource_name}@second").version_id == "2"
    assert aiplatform.Model("conformance", version="second").version_id == "2"
    assert aiplatform.Model(model.resource_name).version_id == "1"
    with pytest.raises(exceptions.NotFound):
        aiplatform.Model(f"{model.resource_name}@third")


def test_the_registry_lists_its_versions(model: aiplatform.Model, second: aiplatform.Model) -> None:
    versions = model.versioning_registry.list_versions()
    assert [version.version_id for version in versions] == ["1", "2"]
    assert all(version.model_resource_name == model.resource_name for version in versions)
    info = model.versioning_registry.get_version_info("second")
    assert (info.version_id, info.version_aliases) == ("2", ["second"])


def test_aliases_are_added_and_removed_and_move(model: aiplatform.Model, second: aiplatform.Model) -> None:
    registry = model.versioning_registry
    registry.add_version_aliases(["blue", "green"], "1")
    assert {"blue", "green"} <= {*registry.get_version_info("1").version_aliases}
    registry.add_version_aliases(["green"], "2")
    assert "green" not in registry.get_version_info("1").version_aliases
    registry.remove_version_aliases(["green"], "2")
    registry.remove_version_aliases(["blue"], "1")
    assert registry.get_version_info("2").version_aliases == ["second"]


def test_models_are_listed_by_filter(model: aiplatform.Model) -> None:
    assert [m.name for m in aiplatform.Model.list(filter='display_name="conformance"')] == ["conformance"]
    assert [m.name for m in aiplatform.Model.list(filter="labels.team=risk")] == ["conformance"]
    both = 'display_name="nothing" OR display_name="conformance"'
    assert [m.name for m in aiplatform.Model.list(filter=both)] == ["conformance"]
    assert aiplatform.Model.list(filter=f'({both}) AND NOT labels.team="risk"') == []


def test_a_model_is_updated(model: aiplatform.Model) -> None:
    aiplatform.Model("conformance").update(display_name="conformance-2", description="changed", labels={"team": "risk"})
    again = aiplatform.Model("conformance")
    assert (again.display_name, again.description) == ("conformance-2", "changed")
    assert again.labels["team"] == "risk"
    again.update(display_name="conformance")


def test_labels_of_a_model_are_on_all_versions_and_those_of_a_version_on_one(
    server: EmulatorServer, model: aiplatform.Model, second: aiplatform.Model
) -> None:
    models = client(server, v1.ModelServiceClient)
    for name, labels in ((model.resource_name, {"shared": "yes"}), (f"{model.resource_name}@2", {"own": "2"})):
        models.update_model(model=v1.Model(name=name, labels=labels), update_mask={"paths": ["labels"]})
    versions = {version.version_id: version.labels for version in models.list_model_versions(name=model.resource_name)}
    assert versions["1"]["shared"] == versions["2"]["shared"] == "yes"
    assert ("own" in versions["1"], versions["2"]["own"]) == (False, "2")


def test_a_version_is_deleted_and_the_default_is_not(model: aiplatform.Model, second: aiplatform.Model) -> None:
    third = aiplatform.Model.upload(
        parent_model=model.resource_name,
        display_name="conformance",
        serving_container_image_uri=IMAGE,
        is_default_version=False,
    )
    model.versioning_registry.delete_version(third.version_id)
    assert [v.version_id for v in model.versioning_registry.list_versions()] == ["1", "2"]
    with pytest.raises(exceptions.FailedPrecondition):
        model.versioning_registry.delete_version("1")


def test_a_model_without_files_is_taken_and_deleted() -> None:
    empty = aiplatform.Model.upload(
        display_name="empty", serving_container_image_uri=IMAGE, artifact_uri=f"gs://{BUCKET}/nothing"
    )
    assert empty.name.isdecimal()
    empty.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Model(empty.resource_name)


def test_an_evaluation_is_imported_and_read(server: EmulatorServer, model: aiplatform.Model) -> None:
    models = client(server, v1.ModelServiceClient)
    schema = "gs://google-cloud-aiplatform/schema/modelevaluation/regression_metrics_1.0.0.yaml"
    evaluation = v1.ModelEvaluation(display_name="e", metrics_schema_uri=schema, metrics={"rootMeanSquaredError": 0.5})
    models.import_model_evaluation(parent=f"{model.resource_name}@1", model_evaluation=evaluation)
    (listed,) = aiplatform.Model(f"{model.resource_name}@1").list_model_evaluations()
    assert listed.metrics["rootMeanSquaredError"] == 0.5
    assert models.get_model_evaluation(name=listed.resource_name).display_name == "e"


@pytest.mark.parametrize("model_id", ["1st", "-a", "A", "a" * 64, "a.b"])
def test_an_id_that_the_proto_does_not_allow_is_rejected(server: EmulatorServer, model_id: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        aiplatform.Model.upload(model_id=model_id, display_name="x", serving_container_image_uri=IMAGE)


@pytest.mark.parametrize("alias", ["1", "A", "a_b", "a"])
def test_an_alias_that_the_proto_does_not_allow_is_rejected(model: aiplatform.Model, alias: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        model.versioning_registry.add_version_aliases([alias], "1")


# Endpoints.


@pytest.fixture(scope="module")
def endpoint(model: aiplatform.Model) -> aiplatform.Endpoint:
    made = aiplatform.Endpoint.create(display_name="conformance", labels={"team": "risk"}, description="d")
    made.deploy(model, deployed_model_display_name="first", machine_type="n1-standard-2", traffic_percentage=100)
    return made


def test_an_endpoint_keeps_what_it_was_made_with(endpoint: aiplatform.Endpoint) -> None:
    assert endpoint.resource_name.startswith(f"{ANSWERED_PARENT}/endpoints/")
    assert (endpoint.display_name, endpoint.labels) == ("conformance", {"team": "risk"})
    assert endpoint.gca_resource.description == "d"
    assert aiplatform.Endpoint(endpoint.name).display_name == "conformance"
    assert [e.name for e in aiplatform.Endpoint.list(filter='display_name="conformance"')] == [endpoint.name]


def test_a_model_answers(endpoint: aiplatform.Endpoint, model: aiplatform.Model) -> None:
    prediction = endpoint.predict(instances=[{"x": 10.0}])
    assert prediction.predictions[0]["probability"] == pytest.approx(0.2)
    assert (prediction.model_resource_name, prediction.model_version_id) == (model.resource_name, "1")
    assert prediction.deployed_model_id == endpoint.list_models()[0].id


def test_a_deployment_has_its_machine_and_is_named_by_its_model(
    endpoint: aiplatform.Endpoint, model: aiplatform.Model
) -> None:
    deployed = endpoint.list_models()[0]
    assert deployed.dedicated_resources.machine_spec.machine_type == "n1-standard-2"
    assert (deployed.model, deployed.model_version_id) == (model.resource_name, "1")
    reference = aiplatform.Model(model.resource_name).gca_resource.deployed_models[0]
    assert (reference.endpoint, reference.deployed_model_id) == (endpoint.resource_name, deployed.id)


def test_a_second_deployment_takes_its_share_and_goes(endpoint: aiplatform.Endpoint, second: aiplatform.Model) -> None:
    first = endpoint.list_models()[0].id
    endpoint.deploy(second, machine_type="n1-standard-2", traffic_percentage=30)
    (new,) = [d.id for d in endpoint.list_models() if d.id != first]
    assert endpoint.traffic_split == {first: 70, new: 30}
    endpoint.update(traffic_split={first: 100, new: 0})
    assert {key: share for key, share in endpoint.traffic_split.items() if share} == {first: 100}
    endpoint.undeploy(new)
    assert [d.id for d in endpoint.list_models()] == [first]


def test_a_split_that_does_not_sum_to_100_is_rejected(server: EmulatorServer, endpoint: aiplatform.Endpoint) -> None:
    endpoints = client(server, v1.EndpointServiceClient)
    split = {endpoint.list_models()[0].id: 90}
    changed = v1.Endpoint(name=endpoint.resource_name, traffic_split=split)
    with pytest.raises(exceptions.InvalidArgument):
        endpoints.update_endpoint(endpoint=changed, update_mask={"paths": ["traffic_split"]})


def test_a_deployed_model_and_its_endpoint_are_not_deleted(
    endpoint: aiplatform.Endpoint, model: aiplatform.Model
) -> None:
    for resource in (endpoint, model):
        with pytest.raises(exceptions.FailedPrecondition):
            resource.delete()


def test_an_endpoint_is_updated_and_deleted() -> None:
    made = aiplatform.Endpoint.create(display_name="short", endpoint_id="short-lived")
    made.update(display_name="shorter", labels={"a": "b"})
    again = aiplatform.Endpoint("short-lived")
    assert (again.display_name, again.labels) == ("shorter", {"a": "b"})
    made.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Endpoint("short-lived").list_models()


# Batch prediction.


def test_a_batch_prediction_leaves_its_results_and_where_they_are(
    server: EmulatorServer, model: aiplatform.Model
) -> None:
    source = server.emulator.storage / BUCKET / "in.jsonl"
    source.write_text('{"x": 0.0}\n{"x": 50.0}\n')
    job = model.batch_predict(
        job_display_name="batch",
        gcs_source=f"gs://{BUCKET}/in.jsonl",
        gcs_destination_prefix=f"gs://{BUCKET}/out",
        machine_type="n1-standard-2",
        sync=False,
    )
    job.wait_for_resource_creation()
    deadline = time.monotonic() + 60
    while job.state != v1.JobState.JOB_STATE_SUCCEEDED:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert job.output_info.gcs_output_directory.startswith(f"gs://{BUCKET}/out/prediction-")
    assert job.completion_stats.successful_count == 2
    blobs = {blob.name.rpartition("/")[2]: blob for blob in job.iter_outputs()}
    results = [json.loads(line) for line in blobs["prediction.results-00000-of-00001"].download_as_text().splitlines()]
    assert [row["prediction"]["probability"] for row in results] == pytest.approx([0.1, 0.6])
    assert [j.name for j in aiplatform.BatchPredictionJob.list(filter='display_name="batch"')] == [job.name]
    client(server, v1.JobServiceClient).delete_batch_prediction_job(name=job.resource_name).result()
    assert aiplatform.BatchPredictionJob.list(filter='display_name="batch"') == []


# Schedules and pipeline jobs.


def _job(name: str = "conformance-pipeline") -> v1.PipelineJob:
    spec = {
        "pipelineInfo": {"name": name},
        "components": {"none": {"executorLabel": "none"}},
        "deploymentSpec": {"executors": {"none": {"resolver": {"outputArtifactQueries": {}}}}},
        "root": {
            "dag": {"tasks": {"none": {"componentRef": {"name": "none"}}}},
            "inputDefinitions": {"parameters": {"epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3}}},
        },
    }
    runtime = {"gcs_output_directory": f"gs://{BUCKET}/root", "parameter_values": {"rate": 0.5}}
    return v1.PipelineJob(display_name="conformance", pipeline_spec=spec, runtime_config=runtime, labels={"a": "b"})


def test_a_schedule_is_made_paused_resumed_changed_and_deleted(server: EmulatorServer) -> None:
    schedules = client(server, v1.ScheduleServiceClient)
    request = v1.CreatePipelineJobRequest(parent=ANSWERED_PARENT, pipeline_job=_job())
    schedule = v1.Schedule(display_name="daily", cron="TZ=Europe/Berlin 0 3 * * *", create_pipeline_job_request=request)
    made = schedules.create_schedule(parent=ANSWERED_PARENT, schedule=schedule)
    read = aiplatform.PipelineJobSchedule.get(made.name)
    assert (read.state.name, read.cron) == ("ACTIVE", "TZ=Europe/Berlin 0 3 * * *")
    read.pause()
    assert aiplatform.PipelineJobSchedule.get(made.name).state.name == "PAUSED"
    read.resume(catch_up=False)
    assert aiplatform.PipelineJobSchedule.get(made.name).state.name == "ACTIVE"
    changed = v1.Schedule(name=made.name, cron="CRON_TZ=Europe/Berlin 0 4 * * *")
    schedules.update_schedule(schedule=changed, update_mask={"paths": ["cron"]})
    assert aiplatform.PipelineJobSchedule.list(filter='display_name="daily"')[0].cron.endswith("0 4 * * *")
    schedules.delete_schedule(name=made.name).result()
    with pytest.raises(exceptions.NotFound):
        schedules.get_schedule(name=made.name)


def test_a_pipeline_job_is_run_listed_and_deleted(server: EmulatorServer) -> None:
    pipelines = client(server, v1.PipelineServiceClient)
    made = pipelines.create_pipeline_job(
        parent=f"projects/{PROJECT}/locations/{REGION}", pipeline_job=_job(), pipeline_job_id="conformance-1"
    )
    assert made.name == f"{ANSWERED_PARENT}/pipelineJobs/conformance-1"
    deadline = time.monotonic() + 60
    while pipelines.get_pipeline_job(name=made.name).state != v1.PipelineState.PIPELINE_STATE_SUCCEEDED:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    job = aiplatform.PipelineJob.get(made.name)
    assert (job.display_name, job.has_failed, job.labels) == ("conformance", False, {"a": "b"})
    assert {detail.task_name for detail in job.task_details} == {"none", "conformance-1"}

    by_name = aiplatform.PipelineJob.list(filter='pipeline_name="conformance-pipeline"')
    assert [listed.name for listed in by_name] == ["conformance-1"]
    assert aiplatform.PipelineJob.list(filter='pipeline_name="other"') == []
    mask = {"paths": ["name", "runtime_config.gcs_output_directory", "pipeline_spec.pipelineInfo"]}
    (masked,) = pipelines.list_pipeline_jobs({"parent": ANSWERED_PARENT, "read_mask": mask})
    assert masked.runtime_config.gcs_output_directory == f"gs://{BUCKET}/root"
    assert (masked.display_name, dict(masked.runtime_config.parameter_values)) == ("", {})
    assert set(masked.pipeline_spec) == {"pipelineInfo"}

    with pytest.raises(exceptions.AlreadyExists):
        pipelines.create_pipeline_job(parent=ANSWERED_PARENT, pipeline_job=_job(), pipeline_job_id="conformance-1")
    job.delete()
    with pytest.raises(exceptions.NotFound):
        pipelines.get_pipeline_job(name=made.name)


@pytest.mark.parametrize("job_id", ["1a", "A", "a_b", "a" * 128])
def test_a_job_id_that_is_not_allowed_is_rejected(server: EmulatorServer, job_id: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        client(server, v1.PipelineServiceClient).create_pipeline_job(
            parent=ANSWERED_PARENT, pipeline_job=_job(), pipeline_job_id=job_id
        )


# ML Metadata.


@pytest.fixture(scope="module")
def metadata(server: EmulatorServer) -> v1.MetadataServiceClient:
    made: v1.MetadataServiceClient = client(server, v1.MetadataServiceClient)
    with contextlib.suppress(exceptions.AlreadyExists):
        made.create_metadata_store(
            parent=ANSWERED_PARENT, metadata_store=v1.MetadataStore(), metadata_store_id="default"
        ).result()
    return made


def test_artifacts_are_made_read_listed_updated_and_deleted(metadata: v1.MetadataServiceClient) -> None:
    made = aiplatform.Artifact.create(
        schema_title="system.Dataset", uri="gs://b/data", display_name="rows", metadata={"rows": 3, "split": "train"}
    )
    assert made.resource_name.startswith(f"{STORE}/artifacts/")
    assert (made.uri, made.schema_title, made.metadata) == (
        "gs://b/data",
        "system.Dataset",
        {"rows": 3, "split": "train"},
    )
    query = 'schema_title="system.Dataset" AND metadata.rows.number_value=3'
    assert [a.name for a in aiplatform.Artifact.list(filter=query)] == [made.name]
    assert [a.name for a in aiplatform.Artifact.list(filter=f'{query} OR uri="none"')] == [made.name]
    made.update({"rows": 4})
    assert aiplatform.Artifact.get(made.resource_name).metadata["rows"] == 4
    made.delete()
    assert aiplatform.Artifact.list(filter='schema_title="system.Dataset"') == []


def test_executions_have_inputs_and_outputs(metadata: v1.MetadataServiceClient) -> None:
    rows = aiplatform.Artifact.create(schema_title="system.Dataset", display_name="rows")
    trained = aiplatform.Artifact.create(schema_title="system.Model", display_name="trained")
    with aiplatform.start_execution(schema_title="system.ContainerExecution", display_name="train") as execution:
        execution.assign_input_artifacts([rows])
        execution.assign_output_artifacts([trained])
    assert execution.state == v1.Execution.State.COMPLETE
    assert [a.name for a in execution.get_input_artifacts()] == [rows.name]
    assert [a.name for a in execution.get_output_artifacts()] == [trained.name]
    graph = metadata.query_artifact_lineage_subgraph({"artifact": trained.resource_name, "max_hops": 1})
    assert {e.name for e in graph.executions} >= {execution.resource_name}


def test_contexts_hold_executions_and_children(metadata: v1.MetadataServiceClient) -> None:
    parent = metadata.create_context(parent=STORE, context=v1.Context(display_name="p"), context_id="parent")
    child = metadata.create_context(parent=STORE, context=v1.Context(display_name="c"), context_id="child")
    metadata.add_context_children(context=parent.name, child_contexts=[child.name])
    assert [*metadata.get_context(name=child.name).parent_contexts] == [parent.name]
    with pytest.raises(exceptions.InvalidArgument):
        metadata.add_context_children(context=child.name, child_contexts=[parent.name])
    execution = metadata.create_execution(parent=STORE, execution=v1.Execution(display_name="e"))
    metadata.add_context_artifacts_and_executions(context=child.name, executions=[execution.name])
    graph = metadata.query_context_lineage_subgraph(context=child.name)
    assert [e.name for e in graph.executions] == [execution.name]
    with pytest.raises(exceptions.FailedPrecondition):
        metadata.delete_context(name=parent.name).result()
    metadata.delete_context(name=child.name).result()
    metadata.delete_context(name=parent.name).result()
    with pytest.raises(exceptions.NotFound):
        metadata.get_context(name=child.name)
    metadata.delete_execution(name=execution.name).result()


@pytest.mark.parametrize("context_id", ["abc", "a_b_c", "ABCD", "a" * 129])
def test_an_id_of_metadata_has_4_to_128_letters_digits_and_hyphens(
    metadata: v1.MetadataServiceClient, context_id: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        metadata.create_context(parent=STORE, context=v1.Context(), context_id=context_id)


def test_a_schema_is_registered_once_and_its_title_has_a_namespace(metadata: v1.MetadataServiceClient) -> None:
    kind = v1.MetadataSchema.MetadataSchemaType.ARTIFACT_TYPE
    schema = v1.MetadataSchema(schema="title: tests.Rows\ntype: object\n", schema_version="0.0.1", schema_type=kind)
    with pytest.raises(exceptions.InvalidArgument):
        aiplatform.Artifact.create(schema_title="tests.Rows", schema_version="0.0.1")
    metadata.create_metadata_schema(parent=STORE, metadata_schema=schema, metadata_schema_id="tests-rows")
    assert aiplatform.Artifact.create(schema_title="tests.Rows", schema_version="0.0.1").schema_title == "tests.Rows"
    with pytest.raises(exceptions.AlreadyExists):
        metadata.create_metadata_schema(parent=STORE, metadata_schema=schema, metadata_schema_id="tests-rows-2")
    for title in ("rows", "my_tests.Rows", "tests.rows"):
        wrong = v1.MetadataSchema(schema=f"title: {title}\n", schema_version="0.0.1", schema_type=kind)
        with pytest.raises(exceptions.InvalidArgument):
            metadata.create_metadata_schema(parent=STORE, metadata_schema=wrong)


def test_an_experiment_is_made_and_its_runs_are_read(metadata: v1.MetadataServiceClient) -> None:
    aiplatform.Experiment.create("conformance-experiment")
    run = aiplatform.ExperimentRun.create("run-1", experiment="conformance-experiment")
    run.log_params({"epochs": 3})
    run.log_metrics({"auc": 0.9})
    read = aiplatform.ExperimentRun("run-1", experiment="conformance-experiment")
    assert (read.get_params(), read.get_metrics()) == ({"epochs": 3}, {"auc": 0.9})
    assert [r.name for r in aiplatform.ExperimentRun.list(experiment="conformance-experiment")] == ["run-1"]


# Monitoring, and what is not emulated.


def test_monitoring_is_paused_resumed_and_deleted(server: EmulatorServer, endpoint: aiplatform.Endpoint) -> None:
    jobs = client(server, v1.JobServiceClient)
    job = v1.ModelDeploymentMonitoringJob(display_name="watch", endpoint=endpoint.resource_name)
    made = jobs.create_model_deployment_monitoring_job(parent=ANSWERED_PARENT, model_deployment_monitoring_job=job)
    jobs.pause_model_deployment_monitoring_job(name=made.name)
    assert jobs.get_model_deployment_monitoring_job(name=made.name).state == v1.JobState.JOB_STATE_PAUSED
    jobs.resume_model_deployment_monitoring_job(name=made.name)
    assert jobs.get_model_deployment_monitoring_job(name=made.name).state == v1.JobState.JOB_STATE_RUNNING
    jobs.delete_model_deployment_monitoring_job(name=made.name).result()
    assert not [*jobs.list_model_deployment_monitoring_jobs(parent=ANSWERED_PARENT)]


def test_what_is_not_emulated_is_unimplemented(server: EmulatorServer, model: aiplatform.Model) -> None:
    models = client(server, v1.ModelServiceClient)
    with pytest.raises(exceptions.MethodNotImplemented):
        models.copy_model(parent=ANSWERED_PARENT, source_model=model.resource_name)
    with pytest.raises(exceptions.MethodNotImplemented):
        client(server, v1.DatasetServiceClient).list_datasets(parent=ANSWERED_PARENT).pages.__next__()
