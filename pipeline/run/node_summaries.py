"""The class of each node's summary, by the node's name. Imports TensorFlow."""

from cli.node_summary import NodeSummary
from components.evaluator.summary import BaselineSummary, EvaluatorSummary, WarmStartSummary
from components.example_gen.summary import ExampleGenSummary, SourceExampleGenSummary
from components.example_validator.summary import ExampleValidatorSummary
from components.gate.summary import GateSummary
from components.history.summary import HistorySummary
from components.infra_validator.summary import InfraValidatorSummary
from components.pusher.summary import PusherSummary
from components.schema_gen.summary import SchemaGenSummary
from components.statistics_gen.summary import StatisticsGenSummary
from components.transform.summary import TransformSummary
from pipeline.run.dag_runner import FAILED, NodeResult
from trainer.summary import TrainerSummary, TunerSummary

_SUMMARIES: dict[str, type[NodeSummary]] = {
    "SourceExampleGen": SourceExampleGenSummary,
    "ExampleGen": ExampleGenSummary,
    "StatisticsGen": StatisticsGenSummary,
    "SchemaGen": SchemaGenSummary,
    "ExampleValidator": ExampleValidatorSummary,
    "History": HistorySummary,
    "Gate": GateSummary,
    "Transform": TransformSummary,
    "Tuner": TunerSummary,
    "WarmStart": WarmStartSummary,
    "Trainer": TrainerSummary,
    "Baseline": BaselineSummary,
    "Evaluator": EvaluatorSummary,
    "InfraValidator": InfraValidatorSummary,
    "Pusher": PusherSummary,
}


def read_summary(result: NodeResult) -> NodeSummary | None:
    """Return the summary of a finished node; None if it failed or reports none."""
    summary = _SUMMARIES.get(result.node_id)
    return summary.read(result.outputs) if summary is not None and result.state != FAILED else None
