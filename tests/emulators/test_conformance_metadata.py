"""Behaviour of ML Metadata and experiments that google-cloud-aiplatform's system tests assert, by the real client.

The time series of an experiment are in Tensorboard, which is not emulated.
"""

import contextlib
import zlib

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform.metadata.schema.google import artifact_schema as google_artifacts
from google.cloud.aiplatform.metadata.schema.system import artifact_schema as system_artifacts
from google.cloud.aiplatform.metadata.schema.system import execution_schema as system_executions
from google.cloud.aiplatform.utils import rest_utils

from emulators.vertex.server import EmulatorServer
from tests.emulators.conftest import IMAGE, STORE, client
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, PROJECT, REGION

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def metadata(service: EmulatorServer) -> v1.MetadataServiceClient:
    made: v1.MetadataServiceClient = client(service, v1.MetadataServiceClient)
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


@pytest.fixture
def experiment(metadata: v1.MetadataServiceClient, request: pytest.FixtureRequest) -> str:
    """Return a new experiment, which is the current one, without a tensorboard."""
    name = f"experiment-{zlib.crc32(request.node.name.encode())}"
    # Without the project, the SDK goes over to REST.
    aiplatform.init(project=PROJECT, location=REGION, experiment=name, experiment_tensorboard=False)
    return name


def test_experiments_are_read_and_listed_by_filter(experiment: str) -> None:
    assert aiplatform.Experiment(experiment).name == experiment
    assert experiment in {listed.name for listed in aiplatform.Experiment.list()}
    assert [e.name for e in aiplatform.Experiment.list(filter=f"display_name = {experiment}")] == [experiment]
    assert aiplatform.Experiment.list(filter="display_name = not_such_a_name") == []
    assert aiplatform.Experiment(experiment).get_backing_tensorboard_resource() is None


def test_a_run_is_started_resumed_and_ended(experiment: str) -> None:
    assert aiplatform.start_run("run-1").name == "run-1"
    read = aiplatform.ExperimentRun("run-1", experiment=experiment)
    assert (read.name, read.state) == ("run-1", v1.Execution.State.RUNNING)
    aiplatform.start_run("run-1", resume=True)
    aiplatform.log_params({"a": 0.1, "b": 2})
    aiplatform.log_metrics({"auc": 0.8, "loss": 100.0})
    aiplatform.end_run()
    read = aiplatform.ExperimentRun("run-1", experiment=experiment)
    assert read.state == v1.Execution.State.COMPLETE
    assert (read.get_params(), read.get_metrics()) == ({"a": 0.1, "b": 2}, {"auc": 0.8, "loss": 100.0})


def test_runs_of_an_experiment_are_a_table(experiment: str) -> None:
    for name, value in (("run-1", 0.5), ("run-2", 0.7)):
        with aiplatform.start_run(name) as run:
            run.log_params({"rate": value})
            run.log_metrics({"auc": value})
            assert run.state == v1.Execution.State.RUNNING
        assert run.state == v1.Execution.State.COMPLETE
    rows = aiplatform.get_experiment_df(experiment, include_time_series=False).to_dict("records")
    common = {"experiment_name": experiment, "run_type": "system.ExperimentRun", "state": "COMPLETE"}
    assert sorted(rows, key=lambda row: str(row["run_name"])) == [
        {**common, "run_name": "run-1", "param.rate": 0.5, "metric.auc": 0.5},
        {**common, "run_name": "run-2", "param.rate": 0.7, "metric.auc": 0.7},
    ]


def test_classification_metrics_are_an_artifact_of_the_run(experiment: str) -> None:
    aiplatform.start_run("run-1")
    values = {
        "display_name": "confusion",
        "labels": ["cat", "dog"],
        "matrix": [[9, 1], [1, 9]],
        "fpr": [0.1, 0.5, 0.9],
        "tpr": [0.1, 0.7, 0.9],
        "threshold": [0.9, 0.5, 0.1],
    }
    logged = aiplatform.log_classification_metrics(**values)
    assert logged.schema_title == "google.ClassificationMetrics"
    (read,) = aiplatform.ExperimentRun("run-1", experiment=experiment).get_classification_metrics()
    artifact = aiplatform.Artifact(read.pop("id"))
    assert read == values
    artifact.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Artifact(artifact.resource_name)


def test_executions_and_artifacts_belong_to_the_run(experiment: str, service: EmulatorServer) -> None:
    rows = aiplatform.Artifact.create(schema_title="system.Dataset", resource_id=f"{experiment}-rows", uri="gs://b/r")
    assert aiplatform.Artifact.get_with_uri(uri="gs://b/r").name == rows.name == f"{experiment}-rows"
    model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=IMAGE)
    aiplatform.start_run("run-1")
    with aiplatform.start_execution(
        schema_title="system.ContainerExecution", resource_id=f"{experiment}-train"
    ) as execution:
        execution.assign_input_artifacts([aiplatform.Artifact(rows.name)])
        trained = aiplatform.Artifact.create(schema_title="system.Model")
        execution.assign_output_artifacts([trained, model])
    assert [artifact.name for artifact in execution.get_input_artifacts()] == [rows.name]
    outputs = {artifact.schema_title: artifact for artifact in execution.get_output_artifacts()}
    assert (outputs["system.Model"].name, outputs["google.VertexModel"].uri) == (
        trained.name,
        rest_utils.make_gcp_resource_rest_url(resource=model),
    )
    run = aiplatform.ExperimentRun("run-1", experiment=experiment)
    assert [e.name for e in run.get_executions()] == [execution.name]
    assert {artifact.name for artifact in run.get_artifacts()} == {rows.name, trained.name} | {
        outputs["google.VertexModel"].name
    }


def test_a_run_is_deleted_and_its_name_used_again(experiment: str) -> None:
    for _ in range(2):
        aiplatform.start_run("run-1")
        aiplatform.end_run()
        run = aiplatform.ExperimentRun("run-1", experiment=experiment)
        assert run.name == "run-1"
        run.delete()
        with pytest.raises(exceptions.NotFound):
            aiplatform.ExperimentRun("run-1", experiment=experiment)


def test_an_experiment_is_deleted_with_its_runs(experiment: str) -> None:
    aiplatform.start_run("run-1")
    aiplatform.end_run()
    aiplatform.Experiment(experiment).delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Experiment(experiment)


def test_a_model_is_logged_with_its_information_and_registered(experiment: str) -> None:
    import sklearn
    from sklearn.linear_model import LinearRegression

    rows, labels = [[1, 1], [1, 2], [2, 2], [2, 3]], [6, 8, 9, 11]
    aiplatform.start_run("run-1")
    aiplatform.log_model(
        LinearRegression().fit(rows, labels), artifact_id=f"{experiment}-model", uri=f"gs://{BUCKET}/sklearn-model"
    )
    (logged,) = aiplatform.ExperimentRun("run-1", experiment=experiment).get_experiment_models()
    assert (logged.name, logged.uri) == (f"{experiment}-model", f"gs://{BUCKET}/sklearn-model")
    assert logged.get_model_info() == {
        "model_class": "sklearn.linear_model._base.LinearRegression",
        "framework_name": "sklearn",
        "framework_version": sklearn.__version__,
    }
    assert logged.load_model().predict(rows) == pytest.approx(labels)
    registered = aiplatform.get_experiment_model(logged.name).register_model(serving_container_image_uri=IMAGE)
    assert registered.display_name.startswith("sklearn model")
    logged.delete()


def test_artifacts_and_executions_are_made_by_the_classes_of_their_schemas(metadata: v1.MetadataServiceClient) -> None:
    values = {"display_name": "rows", "metadata": {"property": "value"}, "description": "d"}
    rows = system_artifacts.Dataset(uri="gs://b/rows", **values).create()
    assert (rows.display_name, rows.metadata, rows.description) == ("rows", {"property": "value"}, "d")
    assert rows.schema_title == "system.Dataset"
    assert rows.resource_name.startswith(f"{STORE}/artifacts/")

    # A name in metadata stays as it was written.
    dataset_name = f"projects/{PROJECT}/locations/{REGION}/datasets/dataset"
    dataset = google_artifacts.VertexDataset(vertex_dataset_name=dataset_name, **values).create()
    assert (dataset.schema_title, dataset.display_name, dataset.description) == ("google.VertexDataset", "rows", "d")
    assert dataset.metadata == {"property": "value", "resourceName": dataset_name}
    assert dataset.uri == f"https://{REGION}-aiplatform.googleapis.com/v1/{dataset_name}"

    execution = system_executions.CustomJobExecution(display_name="train", description="e").create()
    assert (execution.schema_title, execution.display_name) == ("system.CustomJobExecution", "train")
    assert execution.description == "e"
    assert execution.resource_name.startswith(f"{STORE}/executions/")


def test_time_series_of_experiments_are_unimplemented(service: EmulatorServer) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        aiplatform.Tensorboard.create(display_name="t", project=PROJECT, location=REGION)
