"""Steps that follow a push: the evaluation in the registry, batch prediction, model monitoring.

Each is looked for before it is made, by a name of the version's own: a push that is repeated makes no second one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.cloud import aiplatform_v1 as v1
from google.protobuf import duration_pb2, struct_pb2

from schemas.features import LabelKind
from schemas.metrics import METRICS, list_metrics
from serving.registry.content import SAMPLE_FILE
from serving.registry.vertex.config import BatchPrediction, Deployment, VertexMonitoring
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.rollout import RolloutResult
from serving.registry.vertex.staging import stage_sample
from serving.registry.vertex.state import read_endpoint

# https://cloud.google.com/vertex-ai/docs/evaluation/import-evaluation: the schema by the kind of the label.
_SCHEMAS = "gs://google-cloud-aiplatform/schema/modelevaluation"
_SCHEMA_FILES = {
    "binary": f"{_SCHEMAS}/classification_metrics_1.0.0.yaml",
    "multiclass": f"{_SCHEMAS}/classification_metrics_1.0.0.yaml",
    "regression": f"{_SCHEMAS}/regression_metrics_1.0.0.yaml",
}


@dataclass(frozen=True)
class VersionTrainingData:
    """Training data and metrics of a version.

    Attributes:
      label_kind: binary, multiclass or regression.
      label: the column.
      features: the columns.
      examples: pattern of the `train` split's records, which are gzipped TFRecords.
      metrics: by slice, `overall` first, then by name; None is an undefined metric.
    """

    label_kind: LabelKind
    label: str
    features: Sequence[str]
    examples: str
    metrics: Mapping[str, Mapping[str, float | None]]


def set_up_extras(
    vertex: VertexClient, deployment: Deployment, pushed: RolloutResult, training: VersionTrainingData
) -> None:
    """Upload the evaluation, and set up the batch prediction and the monitoring of the config.

    Raises:
      PushError: Vertex AI rejects a request. The version serves nevertheless.
    """
    seconds = deployment.deadline_seconds
    vertex.retry(lambda: import_evaluation(vertex, pushed, training), seconds=seconds)
    if deployment.batch_prediction is not None:
        batch_prediction = deployment.batch_prediction
        vertex.retry(lambda: start_batch_prediction(vertex, pushed, batch_prediction), seconds=seconds)
    if deployment.monitoring is not None:
        monitoring = deployment.monitoring
        vertex.retry(lambda: monitor(vertex, pushed, monitoring, training), seconds=seconds)


def import_evaluation(vertex: VertexClient, pushed: RolloutResult, training: VersionTrainingData) -> None:
    """Put Evaluator's metrics beside the version, those of the slices among the metadata."""
    parent, name = f"{pushed.model}@{pushed.version_id}", f"evaluation-v{pushed.version}"
    evaluations = vertex.list_all(vertex.models.list_model_evaluations, v1.ListModelEvaluationsRequest(parent=parent))
    if any(evaluation.display_name == name for evaluation in evaluations):
        return
    schema = _SCHEMA_FILES[training.label_kind]
    overall = next(iter(training.metrics.values()), {})
    measured = struct_pb2.Value()
    measured.struct_value.update(
        {
            METRICS[name].vertex_name: overall[name]
            for name in list_metrics(training.label_kind)
            if METRICS[name].vertex_name and overall.get(name) is not None
        }
    )
    slices = struct_pb2.Value()
    slices.struct_value.update({key: dict(values) for key, values in training.metrics.items()})
    evaluation = v1.ModelEvaluation(display_name=name, metrics_schema_uri=schema, metrics=measured, metadata=slices)
    request = v1.ImportModelEvaluationRequest(parent=parent, model_evaluation=evaluation)
    vertex.call(vertex.models.import_model_evaluation, request)


def start_batch_prediction(vertex: VertexClient, pushed: RolloutResult, settings: BatchPrediction) -> None:
    """Start a batch prediction job of the version."""
    name = f"{pushed.model.rpartition('/')[2]}-v{pushed.version}"
    request = v1.ListBatchPredictionJobsRequest(parent=vertex.place.parent, filter=f'display_name="{name}"')
    if vertex.list_all(vertex.jobs.list_batch_prediction_jobs, request):
        return
    job = v1.BatchPredictionJob(
        display_name=name,
        model=f"{pushed.model}@{pushed.version_id}",
        input_config=v1.BatchPredictionJob.InputConfig(
            instances_format="jsonl", gcs_source=v1.GcsSource(uris=[settings.source])
        ),
        output_config=v1.BatchPredictionJob.OutputConfig(
            predictions_format="jsonl", gcs_destination=v1.GcsDestination(output_uri_prefix=settings.destination)
        ),
        dedicated_resources=v1.BatchDedicatedResources(
            machine_spec=v1.MachineSpec(machine_type=settings.machine_type),
            starting_replica_count=1,
            max_replica_count=settings.max_replicas,
        ),
        manual_batch_tuning_parameters=v1.ManualBatchTuningParameters(batch_size=settings.batch_size),
        service_account=vertex.place.service_account or "",
        encryption_spec=_build_encryption(vertex),
        labels=dict(vertex.place.labels),
    )
    vertex.report(f"starting the batch prediction {name} of {settings.source}")
    created = v1.CreateBatchPredictionJobRequest(parent=vertex.place.parent, batch_prediction_job=job)
    vertex.call(vertex.jobs.create_batch_prediction_job, created)


def monitor(
    vertex: VertexClient, pushed: RolloutResult, settings: VertexMonitoring, training: VersionTrainingData
) -> None:
    """Monitor all versions that are deployed: the job is made once for an endpoint, and then kept up with it."""
    sample = ""
    if settings.skew_threshold is not None:
        # With the version, so that it is deleted with it.
        version = vertex.call(vertex.models.get_model, v1.GetModelRequest(name=f"{pushed.model}@{pushed.version_id}"))
        sample = f"{version.artifact_uri.rstrip('/')}/{SAMPLE_FILE}"
        stage_sample(training.examples, sample, project=vertex.place.project)
    name = f"monitor-{pushed.endpoint.rpartition('/')[2]}"
    job = v1.ModelDeploymentMonitoringJob(
        display_name=name,
        endpoint=pushed.endpoint,
        model_deployment_monitoring_objective_configs=[
            v1.ModelDeploymentMonitoringObjectiveConfig(
                deployed_model_id=deployed.id, objective_config=_build_objective(settings, training, sample)
            )
            for deployed in read_endpoint(vertex, pushed.endpoint).deployed
        ],
        model_deployment_monitoring_schedule_config=v1.ModelDeploymentMonitoringScheduleConfig(
            monitor_interval=duration_pb2.Duration(seconds=settings.interval_hours * 3600)
        ),
        logging_sampling_strategy=v1.SamplingStrategy(
            random_sample_config=v1.SamplingStrategy.RandomSampleConfig(sample_rate=settings.sampling_rate)
        ),
        model_monitoring_alert_config=v1.ModelMonitoringAlertConfig(
            email_alert_config=v1.ModelMonitoringAlertConfig.EmailAlertConfig(user_emails=list(settings.emails))
        ),
        encryption_spec=_build_encryption(vertex),
        labels=dict(vertex.place.labels),
    )
    parent = vertex.place.parent
    search = v1.ListModelDeploymentMonitoringJobsRequest(parent=parent, filter=f'display_name="{name}"')
    jobs = vertex.list_all(vertex.jobs.list_model_deployment_monitoring_jobs, search)
    if not jobs:
        created = v1.CreateModelDeploymentMonitoringJobRequest(parent=parent, model_deployment_monitoring_job=job)
        vertex.call(vertex.jobs.create_model_deployment_monitoring_job, created)
        return
    job.name = jobs[0].name
    paths = [
        "model_deployment_monitoring_objective_configs",
        "model_deployment_monitoring_schedule_config",
        "logging_sampling_strategy",
        "model_monitoring_alert_config",
    ]
    request = v1.UpdateModelDeploymentMonitoringJobRequest(
        model_deployment_monitoring_job=job, update_mask={"paths": paths}
    )
    started = vertex.call(vertex.jobs.update_model_deployment_monitoring_job, request)
    vertex.wait(vertex.jobs, started.operation.name, seconds=600)


def _build_objective(
    settings: VertexMonitoring, training: VersionTrainingData, sample: str
) -> v1.ModelMonitoringObjectiveConfig:
    config = v1.ModelMonitoringObjectiveConfig()
    kind = v1.ModelMonitoringObjectiveConfig
    if settings.skew_threshold is not None:
        config.training_dataset = kind.TrainingDataset(
            # "The possible formats are" tf-record, csv and jsonl: ExampleGen's own files are compressed.
            data_format="tf-record",
            gcs_source=v1.GcsSource(uris=[sample]),
            target_field=training.label,
        )
        config.training_prediction_skew_detection_config = kind.TrainingPredictionSkewDetectionConfig(
            skew_thresholds={name: v1.ThresholdConfig(value=settings.skew_threshold) for name in training.features}
        )
    if settings.drift_threshold is not None:
        config.prediction_drift_detection_config = kind.PredictionDriftDetectionConfig(
            drift_thresholds={name: v1.ThresholdConfig(value=settings.drift_threshold) for name in training.features}
        )
    return config


def _build_encryption(vertex: VertexClient) -> v1.EncryptionSpec | None:
    key = vertex.place.cmek_key
    return v1.EncryptionSpec(kms_key_name=key) if key else None
