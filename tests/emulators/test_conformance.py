"""Behaviour of models, endpoints and jobs that google-cloud-aiplatform's own system tests assert, by the real client over gRPC.

`raw_predict` is left out: the SDK sends it to Google's own host, whatever the API endpoint is.
"""

import asyncio
import datetime
import json
import time
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform import model_monitoring
from google.cloud.aiplatform.models import ModelRegistry

from emulators.vertex.server import EmulatorServer
from tests.emulators.conftest import IMAGE, client
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, PROJECT_NUMBER

pytestmark = pytest.mark.integration

# Models and versions.


@pytest.fixture(scope="module")
def model(service: EmulatorServer) -> aiplatform.Model:
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
    service: EmulatorServer, model: aiplatform.Model, second: aiplatform.Model
) -> None:
    models = client(service, v1.ModelServiceClient)
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


def test_an_evaluation_is_imported_and_read(service: EmulatorServer, model: aiplatform.Model) -> None:
    models = client(service, v1.ModelServiceClient)
    schema = "gs://google-cloud-aiplatform/schema/modelevaluation/regression_metrics_1.0.0.yaml"
    evaluation = v1.ModelEvaluation(display_name="e", metrics_schema_uri=schema, metrics={"rootMeanSquaredError": 0.5})
    models.import_model_evaluation(parent=f"{model.resource_name}@1", model_evaluation=evaluation)
    (listed,) = aiplatform.Model(f"{model.resource_name}@1").list_model_evaluations()
    assert listed.metrics["rootMeanSquaredError"] == 0.5
    assert models.get_model_evaluation(name=listed.resource_name).display_name == "e"


@pytest.mark.parametrize("model_id", ["1st", "-a", "A", "a" * 64, "a.b"])
def test_an_id_that_the_proto_does_not_allow_is_rejected(service: EmulatorServer, model_id: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        aiplatform.Model.upload(model_id=model_id, display_name="x", serving_container_image_uri=IMAGE)


@pytest.mark.parametrize("alias", ["1", "A", "a_b", "a"])
def test_an_alias_that_the_proto_does_not_allow_is_rejected(model: aiplatform.Model, alias: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        model.versioning_registry.add_version_aliases([alias], "1")


def test_information_of_a_version_is_that_of_its_model(model: aiplatform.Model, second: aiplatform.Model) -> None:
    assert (second.version_id, second.resource_name) == ("2", model.resource_name)
    registry = ModelRegistry(model)
    described, listed = registry.get_version_info("first"), registry.list_versions()[0]
    read = aiplatform.Model(f"{model.resource_name}@1")
    for info in (described, listed):
        assert (info.version_id, info.version_aliases) == (read.version_id, [*read.version_aliases])
        assert (info.version_description, info.model_display_name) == (read.version_description, read.display_name)
        assert info.version_update_time == read.version_update_time
        assert info.version_create_time == read.version_create_time
    clone = second.versioning_registry.get_model()
    assert (clone.resource_name, clone.version_id, clone.name) == (model.resource_name, "1", model.name)


def test_an_alias_is_added_by_an_alias_and_removed_by_another(service: EmulatorServer) -> None:
    model = aiplatform.Model.upload(
        model_id="aliases", display_name="aliases", serving_container_image_uri=IMAGE, version_aliases=["testing"]
    )
    later = aiplatform.Model.upload(
        parent_model="aliases", display_name="aliases", serving_container_image_uri=IMAGE, is_default_version=False
    )
    assert [*later.version_aliases] == []
    registry = ModelRegistry("aliases")
    registry.add_version_aliases(["new-alias"], "default")
    registry.remove_version_aliases(["testing"], "new-alias")
    assert {*registry.get_model("new-alias").version_aliases} == {"default", "new-alias"}
    registry.delete_version("2")
    assert [version.version_id for version in registry.list_versions()] == ["1"]
    with pytest.raises(exceptions.NotFound):
        registry.get_version_info("2")
    # The numbers of versions are not used again.
    assert (
        aiplatform.Model.upload(
            parent_model="aliases", display_name="aliases", serving_container_image_uri=IMAGE
        ).version_id
        == "3"
    )
    assert "default" not in registry.get_version_info("1").version_aliases
    model.delete()


def test_a_model_file_of_another_framework_is_staged_uploaded_deployed_and_updated(
    service: EmulatorServer, tmp_path: Path
) -> None:
    file = tmp_path / "model.bst"
    file.write_bytes(b"a booster")
    model = aiplatform.Model.upload_xgboost_model_file(model_file_path=str(file))
    assert model.uri.startswith(f"gs://{BUCKET}/")
    assert (service.emulator.find_path(model.uri) / "model.bst").read_bytes() == b"a booster"
    endpoint = model.deploy(machine_type="n1-standard-2")
    assert endpoint.traffic_split == {endpoint.list_models()[0].id: 100}
    model.update(display_name="new", description="changed", labels={"my_label": "updated"})
    assert (model.display_name, model.description, model.labels) == ("new", "changed", {"my_label": "updated"})
    endpoint.deploy(model, traffic_percentage=100)
    split = {deployed.id: 50 for deployed in endpoint.list_models()}
    assert len(split) == 2
    endpoint.update(traffic_split=split)
    assert endpoint.traffic_split == split
    endpoint.undeploy_all()
    assert endpoint.list_models() == []
    endpoint.delete()
    model.delete()


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


def test_a_model_answers_the_asynchronous_client(endpoint: aiplatform.Endpoint) -> None:
    prediction = asyncio.run(endpoint.predict_async(instances=[{"x": 10.0}, {"x": 20.0}]))
    assert [row["probability"] for row in prediction.predictions] == pytest.approx([0.2, 0.3])


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


def test_a_split_that_does_not_sum_to_100_is_rejected(service: EmulatorServer, endpoint: aiplatform.Endpoint) -> None:
    endpoints = client(service, v1.EndpointServiceClient)
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


def test_an_endpoint_of_a_network_is_made_deployed_to_and_listed(model: aiplatform.Model) -> None:
    network = f"projects/{PROJECT_NUMBER}/global/networks/own"
    made = aiplatform.PrivateEndpoint.create(display_name="private", network=network)
    read = aiplatform.PrivateEndpoint(made.resource_name)
    assert (read.resource_name, read.display_name, read.network) == (made.resource_name, "private", network)
    assert [e.resource_name for e in aiplatform.PrivateEndpoint.list()] == [made.resource_name]
    assert made.resource_name not in {e.resource_name for e in aiplatform.Endpoint.list()}
    made.deploy(model, machine_type="n1-standard-2")
    (deployed,) = made.list_models()
    made.undeploy(deployed.id)
    assert made.list_models() == []
    made.delete()


# Batch prediction.


def test_a_batch_prediction_leaves_its_results_and_where_they_are(
    service: EmulatorServer, model: aiplatform.Model
) -> None:
    source = service.emulator.storage / BUCKET / "in.jsonl"
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
    client(service, v1.JobServiceClient).delete_batch_prediction_job(name=job.resource_name).result()
    assert aiplatform.BatchPredictionJob.list(filter='display_name="batch"') == []


def test_a_batch_prediction_names_the_rows_that_failed(service: EmulatorServer, model: aiplatform.Model) -> None:
    (service.emulator.storage / BUCKET / "some.jsonl").write_text('{"x": 0.0}\n{"y": 1.0}\nno json\n{"x": 50.0}\n')
    job = _predict(model, "some", "some.jsonl")
    assert job.state == v1.JobState.JOB_STATE_SUCCEEDED
    assert (job.completion_stats.successful_count, job.completion_stats.failed_count) == (2, 2)
    lines = {blob.name.rpartition("/")[2]: blob.download_as_text().splitlines() for blob in job.iter_outputs()}
    results = [json.loads(line) for line in lines["prediction.results-00000-of-00001"]]
    assert [row["instance"]["x"] for row in results] == [0.0, 50.0]
    errors = [json.loads(line) for line in lines["prediction.errors_stats-00000-of-00001"]]
    assert [error["instance"] for error in errors] == [{"y": 1.0}, "no json"]
    assert all(error["error"]["code"] == 3 and error["error"]["message"] for error in errors)


def test_a_batch_prediction_without_a_good_row_fails(service: EmulatorServer, model: aiplatform.Model) -> None:
    (service.emulator.storage / BUCKET / "none.jsonl").write_text('{"y": 1.0}\n')
    job = _predict(model, "none", "none.jsonl")
    assert job.state == v1.JobState.JOB_STATE_FAILED
    assert job.error is not None and job.error.message


def _predict(model: aiplatform.Model, name: str, file: str) -> aiplatform.BatchPredictionJob:
    job = model.batch_predict(
        job_display_name=name,
        gcs_source=f"gs://{BUCKET}/{file}",
        gcs_destination_prefix=f"gs://{BUCKET}/out",
        machine_type="n1-standard-2",
        sync=False,
    )
    job.wait_for_resource_creation()
    deadline = time.monotonic() + 60
    while job.state not in (v1.JobState.JOB_STATE_SUCCEEDED, v1.JobState.JOB_STATE_FAILED):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job


def test_a_batch_prediction_with_monitoring_keeps_its_objectives(
    service: EmulatorServer, model: aiplatform.Model
) -> None:
    (service.emulator.storage / BUCKET / "watched.jsonl").write_text('{"x": 0.0}\n')
    objectives = model_monitoring.ObjectiveConfig(
        skew_detection_config=model_monitoring.SkewDetectionConfig(
            data_source=f"gs://{BUCKET}/train.csv", target_field="y", skew_thresholds={"x": 0.001}, data_format="csv"
        ),
        drift_detection_config=model_monitoring.DriftDetectionConfig(drift_thresholds={"x": 0.01}),
    )
    job = aiplatform.BatchPredictionJob.create(
        job_display_name="watched",
        model_name=model,
        gcs_source=f"gs://{BUCKET}/watched.jsonl",
        gcs_destination_prefix=f"gs://{BUCKET}/out",
        machine_type="n1-standard-4",
        starting_replica_count=2,
        max_replica_count=12,
        model_monitoring_objective_config=objectives,
        sync=False,
    )
    job.wait_for_resource_creation()
    assert job.gca_resource.model_monitoring_config.objective_configs[0] == objectives.as_proto()
    deadline = time.monotonic() + 60
    while job.state.name != "JOB_STATE_SUCCEEDED":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    job.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.BatchPredictionJob(job.resource_name)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ({"gcs_source": f"gs://{BUCKET}/in.csv", "instances_format": "csv"}, exceptions.MethodNotImplemented),
        ({"bigquery_source": "bq://p.d.t"}, exceptions.MethodNotImplemented),
    ],
)
def test_an_input_that_is_not_emulated_is_unimplemented(
    service: EmulatorServer, model: aiplatform.Model, source: dict[str, str], code: type[Exception]
) -> None:
    with pytest.raises(code):
        model.batch_predict(
            job_display_name="csv", gcs_destination_prefix=f"gs://{BUCKET}/out", machine_type="n1-standard-2", **source
        )


# Monitoring, and what is not emulated.


def test_monitoring_is_paused_resumed_and_deleted(service: EmulatorServer, endpoint: aiplatform.Endpoint) -> None:
    jobs = client(service, v1.JobServiceClient)
    job = v1.ModelDeploymentMonitoringJob(display_name="watch", endpoint=endpoint.resource_name)
    made = jobs.create_model_deployment_monitoring_job(parent=ANSWERED_PARENT, model_deployment_monitoring_job=job)
    jobs.pause_model_deployment_monitoring_job(name=made.name)
    assert jobs.get_model_deployment_monitoring_job(name=made.name).state == v1.JobState.JOB_STATE_PAUSED
    jobs.resume_model_deployment_monitoring_job(name=made.name)
    assert jobs.get_model_deployment_monitoring_job(name=made.name).state == v1.JobState.JOB_STATE_RUNNING
    jobs.delete_model_deployment_monitoring_job(name=made.name).result()
    assert not [*jobs.list_model_deployment_monitoring_jobs(parent=ANSWERED_PARENT)]


def test_monitoring_of_two_deployments_keeps_its_settings(service: EmulatorServer, model: aiplatform.Model) -> None:
    endpoint = aiplatform.Endpoint.create(display_name="watched")
    for share in (100, 50):
        endpoint.deploy(model, machine_type="n1-standard-2", traffic_percentage=share)
    first, second = (deployed.id for deployed in endpoint.list_models())
    skew = model_monitoring.SkewDetectionConfig(
        data_source="bq://project.data.train", skew_thresholds={"x": 0.001}, target_field="y"
    )
    drifts = [model_monitoring.DriftDetectionConfig(drift_thresholds={"x": share}) for share in (0.1, 0.2)]
    objectives = {
        key: model_monitoring.ObjectiveConfig(skew, drift) for key, drift in zip((first, second), drifts, strict=True)
    }
    job = aiplatform.ModelDeploymentMonitoringJob.create(
        display_name="watch",
        logging_sampling_strategy=model_monitoring.RandomSampleConfig(sample_rate=0.8),
        schedule_config=model_monitoring.ScheduleConfig(monitor_interval=1),
        alert_config=model_monitoring.EmailAlertConfig(user_emails=["ada@example.com"], enable_logging=True),
        objective_configs=objectives,
        endpoint=endpoint,
    )
    resource = job.gca_resource
    assert resource.logging_sampling_strategy.random_sample_config.sample_rate == 0.8
    assert resource.model_deployment_monitoring_schedule_config.monitor_interval == datetime.timedelta(hours=1)
    assert [*resource.model_monitoring_alert_config.email_alert_config.user_emails] == ["ada@example.com"]
    assert resource.model_monitoring_alert_config.enable_logging
    configs = {c.deployed_model_id: c.objective_config for c in resource.model_deployment_monitoring_objective_configs}
    assert set(configs) == {first, second}
    for key, config in configs.items():
        assert config.training_dataset.bigquery_source.input_uri == "bq://project.data.train"
        assert config.training_dataset.target_field == "y"
        assert config.training_prediction_skew_detection_config == skew.as_proto()
        assert config.prediction_drift_detection_config == objectives[key].drift_detection_config.as_proto()

    changed = model_monitoring.ObjectiveConfig(drift_detection_config=drifts[1])
    job.update(objective_configs=changed)
    (config, _) = job.gca_resource.model_deployment_monitoring_objective_configs
    assert config.objective_config.prediction_drift_detection_config == drifts[1].as_proto()
    job.pause()
    assert job.state == v1.JobState.JOB_STATE_PAUSED
    # `job.delete()` does not wait for the operation that it starts.
    job.api_client.delete_model_deployment_monitoring_job(name=job.resource_name).result()
    with pytest.raises(exceptions.NotFound):
        aiplatform.ModelDeploymentMonitoringJob(job.resource_name)
    endpoint.undeploy_all()
    endpoint.delete()


def test_what_is_not_emulated_is_unimplemented(service: EmulatorServer, model: aiplatform.Model) -> None:
    models = client(service, v1.ModelServiceClient)
    with pytest.raises(exceptions.MethodNotImplemented):
        models.copy_model(parent=ANSWERED_PARENT, source_model=model.resource_name)
    with pytest.raises(exceptions.MethodNotImplemented):
        client(service, v1.DatasetServiceClient).list_datasets(parent=ANSWERED_PARENT).pages.__next__()
