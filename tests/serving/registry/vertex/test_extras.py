"""Steps that follow a push, and Google's own high-level client against the same emulator."""

import json
import shutil
import time
from typing import Any

import pytest
import tensorflow as tf
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from serving.registry.protocol import PushedVersion
from serving.registry.vertex.config import BatchPrediction, VertexMonitoring
from serving.registry.vertex.extras import VersionTrainingData, set_up_extras
from serving.registry.vertex.names import is_same_resource
from tests.vertex_fixtures import BUCKET, PROJECT, REGION, Bench

_TRAINING = VersionTrainingData(
    label_kind="binary",
    label="income",
    features=["age", "hours"],
    examples=f"gs://{BUCKET}/examples/*.gz",
    metrics={"overall": {"auc": 0.91, "log_loss": 0.3, "accuracy": 0.85}, "sex=Male": {"auc": 0.9}},
)


def run_extras(bench: Bench, pushed: PushedVersion, **settings: Any) -> None:
    set_up_extras(bench.vertex(), bench.deployment.model_copy(update=settings), bench.rollout(pushed), _TRAINING)


def test_the_evaluation_is_put_beside_its_version_once(bench: Bench) -> None:
    pushed = bench.push(0.1)
    for _ in range(2):
        run_extras(bench, pushed)
    (evaluation,) = bench.vertex().models.list_model_evaluations(parent=f"{bench.model().resource}@1")
    assert dict(evaluation.metrics) == {"auRoc": 0.91, "logLoss": 0.3}
    assert evaluation.metrics_schema_uri.endswith("/classification_metrics_1.0.0.yaml")
    assert evaluation.metadata["sex=Male"]["auc"] == 0.9
    run_extras(bench, bench.push(0.2, "run-2"))
    (second,) = bench.vertex().models.list_model_evaluations(parent=f"{bench.model().resource}@2")
    assert second.display_name == "evaluation-v2"


def test_a_batch_prediction_of_the_pushed_version_is_run_once(bench: Bench) -> None:
    source = bench.server.emulator.storage / BUCKET / "batch" / "in.jsonl"
    source.parent.mkdir()
    source.write_text("".join(json.dumps({"x": float(x)}) + "\n" for x in (0, 10, 50)))
    settings = BatchPrediction(
        source=f"gs://{BUCKET}/batch/*.jsonl", destination=f"gs://{BUCKET}/answers", batch_size=2
    )
    bench.push(0.1)
    pushed = bench.push(0.2, "run-2")
    for _ in range(2):
        run_extras(bench, pushed, batch_prediction=settings)
    client = bench.vertex().jobs
    (job,) = client.list_batch_prediction_jobs(parent=bench.place.parent)
    assert is_same_resource(job.model, pushed.destination)
    assert job.manual_batch_tuning_parameters.batch_size == 2
    deadline = time.monotonic() + 60
    while job.state != v1.JobState.JOB_STATE_SUCCEEDED:
        assert job.state != v1.JobState.JOB_STATE_FAILED and time.monotonic() < deadline, job
        time.sleep(0.1)
        job = client.get_batch_prediction_job(name=job.name)
    (answers,) = (bench.server.emulator.storage / BUCKET / "answers").rglob("prediction.results-*")
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["instance"] for line in lines] == [{"x": 0.0}, {"x": 10.0}, {"x": 50.0}]
    assert [line["prediction"]["probability"] for line in lines] == pytest.approx([0.2, 0.3, 0.7])


def test_monitoring_is_made_once_and_follows_what_is_deployed(bench: Bench) -> None:
    examples = bench.server.emulator.storage / BUCKET / "examples"
    examples.mkdir()
    for number in range(2):
        with tf.io.TFRecordWriter(str(examples / f"data-{number}.gz"), options="GZIP") as writer:
            writer.write(f"row {number}".encode())
            writer.write(b"another")
    run_extras(
        bench, bench.push(0.1), monitoring=VertexMonitoring(skew_threshold=0.2, drift_threshold=None, interval_hours=6)
    )
    client = bench.vertex().jobs
    (job,) = client.list_model_deployment_monitoring_jobs(parent=bench.place.parent)
    assert job.model_deployment_monitoring_schedule_config.monitor_interval.total_seconds() == 6 * 3600
    (objective,) = job.model_deployment_monitoring_objective_configs
    skew = objective.objective_config.training_prediction_skew_detection_config
    assert {name: limit.value for name, limit in skew.skew_thresholds.items()} == {"age": 0.2, "hours": 0.2}
    training = objective.objective_config.training_dataset
    assert (training.target_field, training.data_format) == ("income", "tf-record")
    # The service reads plain records.
    sample = str(bench.server.emulator.find_path(training.gcs_source.uris[0]))
    assert [record.numpy() for record in tf.data.TFRecordDataset(sample)] == [b"row 0", b"another"]
    assert "prediction_drift_detection_config" not in objective.objective_config

    run_extras(bench, bench.push(0.2, "run-2"), monitoring=VertexMonitoring(emails=("on-call@example.com",)))
    (changed,) = client.list_model_deployment_monitoring_jobs(parent=bench.place.parent)
    assert changed.name == job.name
    watched = {config.deployed_model_id for config in changed.model_deployment_monitoring_objective_configs}
    assert watched == {deployed.id for deployed in bench.endpoint().deployed}
    assert len(watched) == 2
    assert list(changed.model_monitoring_alert_config.email_alert_config.user_emails) == ["on-call@example.com"]


def test_extras_that_are_refused_name_the_role_and_leave_the_version_serving(bench: Bench) -> None:
    pushed = bench.push(0.1)
    bench.fault(method="ImportModelEvaluation", code="PERMISSION_DENIED", times=9)
    with pytest.raises(PushError, match="roles/aiplatform"):
        run_extras(bench, pushed)
    assert bench.serving() == {1: 100}


def test_googles_own_client_finds_the_emulator_to_be_vertex(bench: Bench) -> None:
    """Model.upload, deploy and predict of the SDK, as a user's notebook calls them."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform, storage

    # `predict` of the SDK does not repeat a 503, and this test is about the calls.
    bench.server.emulator.warm_up_seconds = 0.0
    aiplatform.init(
        project=PROJECT,
        location=REGION,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        api_endpoint=bench.server.endpoint,
    )
    shutil.copytree(bench.make_model(0.1), bench.server.emulator.storage / BUCKET / "one")
    shutil.copytree(bench.make_model(0.2), bench.server.emulator.storage / BUCKET / "two")
    shared = {"display_name": "sdk", "serving_container_image_uri": "x/y:1"}
    first = aiplatform.Model.upload(model_id="sdk", artifact_uri=f"gs://{BUCKET}/one", version_aliases=["v1"], **shared)
    second = aiplatform.Model.upload(
        parent_model=first.resource_name,
        artifact_uri=f"gs://{BUCKET}/two",
        version_aliases=["v2"],
        is_default_version=False,
        **shared,
    )
    versions = {v.version_id: list(v.version_aliases) for v in first.versioning_registry.list_versions()}
    assert versions == {"1": ["v1", "default"], "2": ["v2"]}
    endpoint = aiplatform.Endpoint.create(display_name="sdk")
    endpoint.deploy(first, machine_type="n1-standard-2", traffic_percentage=100)
    endpoint.deploy(second, machine_type="n1-standard-2", traffic_percentage=100)
    live = {deployed.model_version_id for deployed in endpoint.list_models() if endpoint.traffic_split.get(deployed.id)}
    assert live == {"2"}
    (answer,) = endpoint.predict(instances=[{"x": 10.0}]).predictions
    assert answer["probability"] == pytest.approx(0.3)
    with pytest.raises(exceptions.AlreadyExists):
        aiplatform.Model.upload(model_id="sdk", **shared)
    client = storage.Client(project=PROJECT, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    client.bucket(BUCKET).blob("notes/hello.txt").upload_from_string("hello")
    assert (bench.server.emulator.storage / BUCKET / "notes" / "hello.txt").read_text() == "hello"
    assert [blob.name for blob in client.list_blobs(BUCKET, prefix="notes/")] == ["notes/hello.txt"]


def test_what_is_not_emulated_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    request = v1.PurgeContextsRequest(parent=f"{bench.place.parent}/metadataStores/default", filter="x")
    with pytest.raises(exceptions.MethodNotImplemented):
        bench.vertex().metadata.purge_contexts(request=request)
    assert "not emulated: /google.cloud.aiplatform.v1.MetadataService/PurgeContexts" in caplog.text
