"""TFX's Evaluator for a model that a `run_fn` of the user's own has exported.

TFMA calls the signature that `evaluation.model_spec` names. The verdict, the summary and the plots are those of the
built-in model.
"""

from dataclasses import replace
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.config import Challengers, Evaluation, TfmaMetric
from components.evaluator import component
from components.evaluator.challengers import list_declared_names
from components.evaluator.constant_predictor import ConstantComparison
from components.evaluator.evaluation import BASELINE, JudgedRows, add_thresholds, build_slicing_specs, summarize
from components.evaluator.own_comparison import ComparedModel, OwnComparison, compare
from components.evaluator.resampling import CONSTANT
from components.evaluator.sliced_predictions import CANDIDATE
from components.evaluator.tfma_metrics import PLOTS, build_metric_config
from schemas.features import FeatureSet
from schemas.slices import OVERALL
from serving.model.literal_paths import make_literal_path

_ROWS = TfmaMetric(class_name="ExampleCount")


class JudgingExecutor(executor.Executor):
    """Evaluates as stock Evaluator does, and judges as that of the built-in model."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write TFMA's results, the summary and golden requests to `evaluation`, and the verdict to `blessing`."""
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        folder = make_literal_path(evaluation.uri)
        requirements = Evaluation.model_validate_json(exec_properties["requirements"])
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties["eval_config"], config)
        seed = exec_properties.get("seed") or 0
        declared = exec_properties.get("features")
        features = FeatureSet.model_validate_json(declared) if declared else None
        compared = ComparedModel(input_dict, config, requirements, features, seed)
        comparison = compare(self._make_beam_pipeline, compared, folder)
        if requirements.plots:
            config.metrics_specs[0].metrics.extend(_list_plots(comparison))
        super().Do(input_dict, output_dict, {**exec_properties, "eval_config": proto_utils.proto_to_json(config)})
        constant, losses = comparison.constant, comparison.losses
        rows = None
        if constant is not None and losses is not None:
            gain = comparison.errors[OVERALL].gains.get(CONSTANT) if OVERALL in comparison.errors else None
            rows = JudgedRows(
                comparison.classes,
                losses,
                ConstantComparison.from_losses(constant, losses, None if gain is None else gain.interval),
                errors=comparison.errors,
                outcomes=comparison.outcomes,
                is_own=True,
            )
        summary = summarize(folder, requirements, rows, requirements.model_spec.example_weight_key)
        if comparison.problem:
            challengers = _explain_challengers(requirements.challengers, comparison.problem)
            summary = replace(summary, challengers=challengers)
            summary = summary.with_warning(f"constant predictor: not compared: {comparison.problem}")
        component.record(summary, evaluation)
        if losses is None or not losses.non_finite:
            component.write_golden_of_any(input_dict, output_dict, exec_properties)
        models = {CANDIDATE: artifact_utils.get_single_instance(input_dict["model"])}
        if input_dict.get("baseline_model"):
            models[BASELINE] = artifact_utils.get_single_instance(input_dict["baseline_model"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        component.bless(blessing, models, summary, pipeline=exec_properties["pipeline"])


def _explain_challengers(settings: Challengers, problem: str) -> dict[str, dict[str, str]]:
    """Return why there are no challengers, an entry for each that is declared."""
    return {name: {"text": f"not compared: {problem}", "problem": problem} for name in list_declared_names(settings)}


def _list_plots(comparison: OwnComparison) -> list[config_pb2.MetricConfig]:
    """Return the plots of the outputs: none of numbers, and none of outputs that cannot be compared."""
    if not comparison.classes:
        return []
    plots = PLOTS["binary" if comparison.outputs == 1 else "multiclass"]
    return [build_metric_config(plot, is_batched=False, is_logits=comparison.predictions == "logits") for plot in plots]


class OwnModelEvaluator(base_beam_component.BaseBeamComponent):
    """Evaluator of a model of which the config declares no features and no kind of label."""

    SPEC_CLASS = component.EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(JudgingExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        schema: types.BaseChannel,
        *,
        evaluation: Evaluation,
        label: str,
        features: FeatureSet | None = None,
        transform_graph: types.BaseChannel | None = None,
        golden_requests: int,
        golden_tolerance: float,
        seed: int,
        pipeline: str,
        code_fingerprint: str,
    ) -> None:
        """Args:
        examples: Raw examples.
        model: The candidate.
        baseline_model: The model to compare with; may resolve to none.
        schema: Schema by which TFMA reads the examples.
        evaluation: Section of the config.
        label: Column of the label, unless `evaluation.model_spec` names another.
        features: Declaration of the raw columns.
        transform_graph: Graph of Transform, which encodes the rows for the challengers. Without both there are none.
        golden_requests, golden_tolerance, seed, pipeline, code_fingerprint: As `component.Evaluator` has them.
        """
        super().__init__(
            spec=component.EvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                schema=schema,
                transform_graph=transform_graph,
                features=None if features is None else features.to_model_json(),
                example_splits=json_utils.dumps([evaluation.split]),
                fairness_indicator_thresholds="null",
                eval_config=build_own_eval_config(evaluation, label),
                requirements=evaluation.without_paths().model_dump_json(),
                golden_requests=golden_requests,
                golden_tolerance=golden_tolerance,
                seed=seed,
                pipeline=pipeline,
                code_fingerprint=code_fingerprint,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )


def build_own_eval_config(evaluation: Evaluation, label: str) -> config_pb2.EvalConfig:
    """Return TFMA's config for a model of the user's own.

    TFMA would fail all thresholds on slices that are too small; the summary leaves these out.

    Args:
      evaluation: Section of the config.
      label: Column of the label, unless `evaluation.model_spec` names another.
    """
    spec = evaluation.model_spec
    fields = {**spec.model_dump(exclude_none=True, exclude={"predictions"}), "label_key": spec.label_key or label}
    metrics = []
    for metric in evaluation.tfma_metrics:
        metrics.append(build_metric_config(metric, is_batched=False))
        add_thresholds(metrics[-1], metric.name, evaluation)
    return config_pb2.EvalConfig(
        # TFMA adds the baseline where there is one, and names both.
        model_specs=[config_pb2.ModelSpec(**fields)],
        slicing_specs=build_slicing_specs(evaluation),
        metrics_specs=[
            config_pb2.MetricsSpec(metrics=metrics),
            # Rows, not their weights, make a slice large enough.
            config_pb2.MetricsSpec(
                metrics=[build_metric_config(_ROWS, is_batched=False)],
                example_weights=config_pb2.ExampleWeightOptions(unweighted=True),
            ),
        ],
    )
