"""TFX's Evaluator with an executor that predicts in large batches; its artifacts are those of the stock one.

TFMA still slices, aggregates, judges the thresholds and writes the results. Three things differ.
Each model is called once for thousands of rows. Rows reach TFMA in arrays by slice instead of one by one. Slices of
fewer than `min_rows_per_slice` rows are left out before any threshold is judged on them.

The component takes the arguments of stock Evaluator, too. An EvalConfig, a model of another origin and several or other
examples than tf.Example are handed to the stock executor.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_model_analysis import constants as tfma_constants
from tensorflow_model_analysis.extractors import extractor, slice_key_extractor
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util
from tensorflow_model_analysis.writers import eval_config_writer
from tfx import types
from tfx.components.evaluator import constants, executor
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.orchestration import data_types
from tfx.proto import evaluator_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils, path_utils, proto_utils

from cli.errors import PipelineError
from components.artifact_files import list_files
from components.config import STOCK, Evaluation, Implementation
from components.evaluator.baseline import PIPELINE_PROPERTY
from components.evaluator.challengers import ChallengerFit, FittedChallengers, fit_challengers
from components.evaluator.constant_predictor import ConstantComparison, ConstantPredictor, PairedLosses
from components.evaluator.evaluation import (
    BASELINE,
    EvaluationReport,
    JudgedRows,
    build_eval_config,
    set_decisions,
    summarize,
)
from components.evaluator.golden_requests import (
    GOLDEN_REQUESTS,
    GOLDEN_TOLERANCE,
    write_golden,
    write_tensor_golden,
)
from components.evaluator.resampling import CONSTANT, LABELS, WEIGHTS, Resampling, SliceErrors, from_json, to_json
from components.evaluator.row_sample import MergeSamples
from components.evaluator.sliced_predictions import (
    CANDIDATE,
    CHALLENGERS,
    ROW_IDS,
    LoadedModels,
    PredictAndSlice,
    SliceKey,
)
from components.evaluator.tfma_metrics import ROW_METRIC, find_features, take_rows
from components.example_gen.component import LABELS_PROPERTY, WEIGHTS_PROPERTY
from components.model_files import read_bytes
from components.stock_executor import explain_unreadable, log_handover
from schemas.data import EVAL_SPLIT, TRAIN_SPLIT
from schemas.decision import DecisionThreshold
from schemas.features import FeatureSet, LabelKind
from schemas.row_sample import RowSample
from schemas.slices import OVERALL, name_slice
from serving.model.literal_paths import make_literal_path
from serving.model.signatures import SERVING_DEFAULT, SERVING_EXAMPLES, TRUE_LABEL
from serving.registry import DECLARATION_FILE

# Of the evaluation: what its summary has of the constant predictor, as JSON.
CONSTANT_PROPERTY = "constant_predictor"
# Of the evaluation: what its summary has of the threshold, as JSON; only for a model with declared costs.
DECISION_PROPERTY = "decision"
# Of the evaluation: the column whose weights all metrics have; only with a column of weights.
WEIGHT_PROPERTY = "weight_column"
# Of the evaluation and of the blessing: 95 % intervals of the metrics, and of their differences from the baseline, as
# JSON; and what the summary has of the challengers.
INTERVALS_PROPERTY, CHANGES_PROPERTY, CHALLENGERS_PROPERTY = "intervals", "changes", "challengers"
# Of a property with all slices; a longer one has all rows together alone.
_MAX_PROPERTY_CHARS = 50_000
# In the evaluation's folder, until they are read.
_LOSSES_FILE, _ERRORS_FILE = "losses.json", "errors.json"
# A path in the config, which a search may have varied.
_IMBALANCE = "training.imbalance"


class BatchedEvaluatorExecutor(executor.Executor):
    """Evaluates the candidate, and the baseline where there is one, and blesses the candidate or not.

    A subclass of the stock executor, as only for those TFX on Vertex writes a model into the blessing by its name.
    """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write TFMA's results and golden requests to `evaluation`, and the verdict to `blessing`."""
        reason = _explain_stock(input_dict, exec_properties)
        if reason:
            log_handover("Evaluator", reason)
            super().Do(input_dict, output_dict, exec_properties)
            _complete(input_dict, output_dict, exec_properties)
            return
        self._log_startup(input_dict, output_dict, exec_properties)
        models = {CANDIDATE: artifact_utils.get_single_instance(input_dict["model"])}
        if input_dict.get("baseline_model"):
            models[BASELINE] = artifact_utils.get_single_instance(input_dict["baseline_model"])
            incomparable = _explain_incomparable(models)
            if incomparable and "change_threshold" in exec_properties["eval_config"]:
                raise PipelineError(
                    f"the last blessed model (model {models[BASELINE].id}) cannot be compared: {incomparable}; "
                    "to continue without the comparison this once: --set evaluation.change_thresholds=[]"
                )
            if incomparable:
                del models[BASELINE]
        config = _finalize_config(exec_properties["eval_config"], has_baseline=BASELINE in models)
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        splits = json_utils.loads(exec_properties["example_splits"])
        uris = [artifact_utils.get_split_uri(input_dict["examples"], split) for split in splits]
        paths = {name: path_utils.serving_model_path(model.uri) for name, model in models.items()}
        loaded = LoadedModels(paths, _read_declared(exec_properties))
        features = loaded.read_features(CANDIDATE)
        decisions = {name: loaded.read_decision(name) for name in models}
        _set_decisions(config, decisions)
        requirements = Evaluation.model_validate_json(exec_properties["requirements"])
        seed = exec_properties.get("seed") or 0
        challengers, outcomes = _fit_challengers(input_dict, requirements, features, seed)
        constant = ConstantPredictor.from_train(
            _read_train_labels(artifact_utils.get_single_instance(input_dict["examples"]), features.weight),
            features.label,
            is_balanced=_read_imbalance(exec_properties["imbalance"], input_dict.get("hyperparameters")) != "none",
        )
        output = make_literal_path(evaluation.uri)
        resampling = Resampling(
            features.label.kind,
            _list_batched_metrics(config),
            seed,
            constant,
            {name: decision.threshold for name, decision in decisions.items()},
            decisions[CANDIDATE].costs,
        )
        slicings = [tuple(spec.feature_keys) for spec in config.slicing_specs]
        if exec_properties.get("implementation") == STOCK and all(map(_is_declared, models.values())):
            self._evaluate_by_tfma(
                input_dict, output_dict, {**exec_properties, "eval_config": _build_runnable_config(config)}
            )
            with self._make_beam_pipeline() as pipeline:
                sliced = _predict_slices(pipeline, uris, loaded, slicings, features, challengers=challengers)
                _find_losses(sliced, constant, output)
                _find_errors(_keep_large(sliced, requirements.min_rows_per_slice), resampling, output)
        else:
            with self._make_beam_pipeline() as pipeline:
                columns = find_features(
                    (metric for spec in config.metrics_specs for metric in spec.metrics), features.column_types
                )
                sliced = _predict_slices(pipeline, uris, loaded, slicings, features, columns, challengers)
                _find_losses(sliced, constant, output)
                large = _keep_large(sliced, config.options.min_slice_size.value)
                _find_errors(large, resampling, output)
                _evaluate(large, loaded, config, output)
            _store_runnable_config(evaluation.uri, exec_properties["eval_config"])
        losses = PairedLosses.from_json(_take_file(evaluation.uri, _LOSSES_FILE))
        errors = from_json(_take_file(evaluation.uri, _ERRORS_FILE))
        gain = errors[OVERALL].gains.get(CONSTANT) if OVERALL in errors else None
        rows = JudgedRows(
            features.label.classes,
            losses,
            ConstantComparison.from_losses(constant, losses, None if gain is None else gain.interval),
            decisions[CANDIDATE] if decisions[CANDIDATE].costs is not None else None,
            decisions[BASELINE].threshold if BASELINE in decisions else None,
            errors,
            outcomes,
        )
        summary = summarize(output, requirements, rows, features.weight)
        record(summary, evaluation)
        if not losses.non_finite:
            # Otherwise the model is not blessed and never served, and JSON has no NaN.
            write_golden_of_candidate(evaluation.uri, loaded, uris, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        bless(blessing, models, summary, pipeline=exec_properties.get("pipeline") or "")

    def _evaluate_by_tfma(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the stock executor, whose verdict is not the last word: the constant predictor judges, too."""
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties["eval_config"], config)
        has_baseline = any(spec.is_baseline for spec in config.model_specs)
        inputs = {key: artifacts for key, artifacts in input_dict.items() if key != "baseline_model" or has_baseline}
        super().Do(inputs, output_dict, exec_properties)


def _explain_stock(input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]) -> str:
    """Return why the stock executor has to do the work; empty if this one can."""
    if not exec_properties.get("requirements"):
        return "`evaluation` is not given"
    if len(input_dict["examples"]) > 1:
        return "there are several Examples artifacts"
    if not exec_properties.get("features") and not all(map(_is_declared, input_dict.get("model", []))):
        return "the model is of another origin and `features` is not given"
    return explain_unreadable(input_dict["examples"])


def _read_declared(exec_properties: dict[str, Any]) -> FeatureSet | None:
    """Return the declared features of a model of another origin, if there are any."""
    text = exec_properties.get("features")
    return FeatureSet.model_validate_json(text) if text else None


def write_golden_of_candidate(
    evaluation_uri: str, loaded: LoadedModels, uris: list[str], exec_properties: dict[str, Any]
) -> None:
    """Write the candidate's golden requests beside the evaluation.

    Args:
      evaluation_uri: folder of the evaluation.
      loaded: models, the candidate among them.
      uris: folders of the evaluated examples.
      exec_properties: parameters of Evaluator, with `golden_requests` and `golden_tolerance` if they are set.
    """
    limits = {
        "count": exec_properties.get("golden_requests") or GOLDEN_REQUESTS,
        "tolerance": exec_properties.get("golden_tolerance", GOLDEN_TOLERANCE),
    }
    path = loaded.paths[CANDIDATE]
    if tf.io.gfile.exists(os.path.join(path, DECLARATION_FILE)):
        signature = loaded.load()[CANDIDATE].signatures[SERVING_EXAMPLES]
        write_golden(evaluation_uri, signature, loaded.read_features(CANDIDATE), uris, **limits)
    else:
        write_tensor_golden(evaluation_uri, path, uris, **limits)


def _complete(
    input_dict: dict[str, list[types.Artifact]],
    output_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
) -> None:
    """Write beside the files of the stock executor what InfraValidator and Pusher read."""
    if not input_dict.get("model") or not exec_properties.get("eval_config"):
        return
    evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
    summarize(make_literal_path(evaluation.uri)).write(evaluation.uri)
    write_golden_of_any(input_dict, output_dict, exec_properties)


def write_golden_of_any(
    input_dict: dict[str, list[types.Artifact]],
    output_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
) -> None:
    """Write the golden requests of a model of any origin, if its examples are tf.Example."""
    if explain_unreadable(input_dict["examples"]):
        return
    splits = json_utils.loads(exec_properties.get("example_splits") or "null") or [EVAL_SPLIT]
    uris = [uri for split in splits for uri in artifact_utils.get_split_uris(input_dict["examples"], split)]
    model = artifact_utils.get_single_instance(input_dict["model"])
    evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
    loaded = LoadedModels({CANDIDATE: path_utils.serving_model_path(model.uri)})
    write_golden_of_candidate(evaluation.uri, loaded, uris, exec_properties)


def _is_declared(model: types.Artifact) -> bool:
    """Return whether a model declares its features, as those of this project do."""
    return bool(tf.io.gfile.exists(os.path.join(path_utils.serving_model_path(model.uri), DECLARATION_FILE)))


class EvaluatorSpec(standard_component_specs.EvaluatorSpec):
    """The spec of stock Evaluator, with the optional inputs and parameters of this one."""

    PARAMETERS: ClassVar = {
        **standard_component_specs.EvaluatorSpec.PARAMETERS,
        "requirements": component_spec.ExecutionParameter(type=str, optional=True),
        "implementation": component_spec.ExecutionParameter(type=str, optional=True),
        "features": component_spec.ExecutionParameter(type=str, optional=True),
        "imbalance": component_spec.ExecutionParameter(type=str, optional=True),
        "golden_requests": component_spec.ExecutionParameter(type=int, optional=True),
        "golden_tolerance": component_spec.ExecutionParameter(type=float, optional=True),
        "seed": component_spec.ExecutionParameter(type=int, optional=True),
        "pipeline": component_spec.ExecutionParameter(type=str, optional=True),
        "code_fingerprint": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        **standard_component_specs.EvaluatorSpec.INPUTS,
        "hyperparameters": component_spec.ChannelParameter(type=standard_artifacts.HyperParameters, optional=True),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph, optional=True),
        "transformed_examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Judges `model` against thresholds and against `baseline_model`; a replacement of stock Evaluator.

    With `evaluation` and `label`, a model of this project is judged as in this project's pipeline. Otherwise the stock
    executor does the work, with `eval_config`.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BatchedEvaluatorExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel | None = None,
        baseline_model: types.BaseChannel | None = None,
        feature_slicing_spec: evaluator_pb2.FeatureSlicingSpec | data_types.RuntimeParameter | None = None,
        fairness_indicator_thresholds: list[float] | data_types.RuntimeParameter | None = None,
        example_splits: list[str] | None = None,
        eval_config: config_pb2.EvalConfig | None = None,
        schema: types.BaseChannel | None = None,
        module_file: str | None = None,
        module_path: str | None = None,
        *,
        evaluation: Evaluation | None = None,
        label: LabelKind | None = None,
        features: FeatureSet | None = None,
        has_costs: bool = False,
        weight: str | None = None,
        imbalance: str = "none",
        hyperparameters: types.BaseChannel | None = None,
        transform_graph: types.BaseChannel | None = None,
        transformed_examples: types.BaseChannel | None = None,
        seed: int = 0,
        implementation: Implementation = "fast",
        golden_requests: int = GOLDEN_REQUESTS,
        golden_tolerance: float = GOLDEN_TOLERANCE,
        pipeline: str | None = None,
        code_fingerprint: str | None = None,
    ) -> None:
        """Args:
        examples: raw examples.
        model: the candidate; may be omitted where a column of the examples is the prediction.
        baseline_model: the model to compare with; may resolve to none.
        feature_slicing_spec: deprecated in TFX; slices of a model without `eval_config`.
        fairness_indicator_thresholds: thresholds of TFMA's fairness indicators.
        example_splits: splits to evaluate. If omitted, the split of `evaluation`, or `eval`.
        eval_config: TFMA's config, in the place of `evaluation`.
        schema: schema by which TFMA reads the examples; not used with `evaluation`.
        module_file: file with `custom_eval_shared_model` or `custom_extractors`; not used with `evaluation`.
        module_path: module with these functions, in the place of `module_file`.
        evaluation: metrics, evaluated split of `examples`, and thresholds.
        label: kind of the label; required with `evaluation`.
        features: columns and label of a model of another origin, which declares none.
        has_costs: whether the costs of a binary label's errors are declared.
        weight: column of the rows' weights; None where all weigh alike.
        imbalance: treatment of uneven classes in the candidate's training.
        hyperparameters: values of a search, which may say otherwise.
        transform_graph: graph of Transform, which encodes the rows for the challengers.
        transformed_examples: encoded examples with the split `train`. Without both there are no challengers.
        seed: seed of the intervals and of the challengers.
        implementation: `stock` evaluates by the stock executor; the verdict and the golden requests are added to it.
        golden_requests: number of rows that are kept with their answers in the evaluation's folder.
        golden_tolerance: greatest difference that a serving model may have.
        pipeline: name of the pipeline, which is kept with the blessing.
        code_fingerprint: fingerprint of this code, so that a change of it invalidates the cache.

        Raises:
          ValueError: arguments exclude each other, as in stock Evaluator, or `label` is missing.
        """
        if module_file and module_path:
            raise ValueError("module_file and module_path exclude each other")
        configs = [config for config in (eval_config, feature_slicing_spec, evaluation) if config is not None]
        if len(configs) > 1:
            raise ValueError("eval_config, feature_slicing_spec and evaluation exclude each other")
        if evaluation is not None:
            if label is None:
                raise ValueError("evaluation needs label, the kind of the label: binary, multiclass or regression")
            eval_config = build_eval_config(evaluation, label, has_costs=has_costs, weight=weight)
            example_splits = example_splits or [evaluation.split]
        elif not configs:
            feature_slicing_spec = evaluator_pb2.FeatureSlicingSpec()
        if not isinstance(fairness_indicator_thresholds, data_types.RuntimeParameter):
            fairness_indicator_thresholds = json_utils.dumps(fairness_indicator_thresholds)
        spec = EvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            hyperparameters=hyperparameters,
            transform_graph=transform_graph,
            transformed_examples=transformed_examples,
            feature_slicing_spec=feature_slicing_spec,
            fairness_indicator_thresholds=fairness_indicator_thresholds,
            example_splits=json_utils.dumps(example_splits),
            eval_config=eval_config,
            schema=schema,
            module_file=module_file,
            module_path=module_path,
            requirements=None if evaluation is None else evaluation.without_paths().model_dump_json(),
            implementation=implementation,
            features=None if features is None else features.model_dump_json(),
            imbalance=imbalance,
            golden_requests=golden_requests,
            golden_tolerance=golden_tolerance,
            seed=seed,
            pipeline=pipeline,
            code_fingerprint=code_fingerprint,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)
        if udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(
                self, standard_component_specs.MODULE_FILE_KEY, standard_component_specs.MODULE_PATH_KEY
            )


def _read_train_labels(examples: types.Artifact, weight: str | None) -> dict[str, float]:
    """Return what ExampleGen counted of the labels of `train`, by weight if there is a column of weights.

    Raises:
      PipelineError: it counted nothing.
    """
    name = LABELS_PROPERTY if weight is None else WEIGHTS_PROPERTY
    counts_by_split = json.loads(examples.get_string_custom_property(name) or "{}")
    if not counts_by_split.get(TRAIN_SPLIT):
        raise PipelineError(
            f"examples {examples.id}: no labels of '{TRAIN_SPLIT}' are recorded, which the candidate is compared with; "
            "run this pipeline's ExampleGen again: --no-cache"
        )
    labels: dict[str, float] = counts_by_split[TRAIN_SPLIT]
    return labels


def _read_imbalance(configured: str, hyperparameters: list[types.Artifact] | None) -> str:
    """Return how the training treated uneven classes: as a search found best, or as the config declares."""
    if not hyperparameters:
        return configured
    (file,) = list_files(hyperparameters[0].uri)
    with tf.io.gfile.GFile(file) as opened:
        values = json.loads(opened.read())["values"]
    # Choices are JSON texts: keras-tuner supports no lists.
    return str(json.loads(values[_IMBALANCE])) if _IMBALANCE in values else configured


def _fit_challengers(
    inputs: Mapping[str, list[types.Artifact]], requirements: Evaluation, features: FeatureSet, seed: int
) -> tuple[FittedChallengers | None, list[ChallengerFit]]:
    """Return the challengers, if some are declared and Transform's outputs are given."""
    settings = requirements.challengers
    if not (inputs.get("transform_graph") and inputs.get("transformed_examples")) or not (
        settings.linear or settings.trees
    ):
        return None, []
    graph = artifact_utils.get_single_uri(inputs["transform_graph"])
    train = artifact_utils.get_split_uri(inputs["transformed_examples"], TRAIN_SPLIT)
    challengers, outcomes = fit_challengers(settings, features, graph, train, seed)
    return (challengers if challengers.models else None), outcomes


def _list_batched_metrics(config: config_pb2.EvalConfig) -> tuple[str, ...]:
    """Return the names of this project's metrics in TFMA's config."""
    metrics = (metric for spec in config.metrics_specs for metric in spec.metrics)
    return tuple(json.loads(m.config)["name"] for m in metrics if m.class_name == "BatchedMetric")


def _take_file(evaluation_uri: str, name: str) -> bytes:
    """Read a file that the Beam pipeline wrote, and remove it."""
    path = os.path.join(evaluation_uri, name)
    content = read_bytes(path)
    tf.io.gfile.remove(path)
    return content


def _finalize_config(text: str, *, has_baseline: bool) -> config_pb2.EvalConfig:
    """Return the config with TFMA's defaults; without a baseline, change thresholds are dropped, as stock Evaluator
    does.
    """
    config = config_pb2.EvalConfig()
    proto_utils.json_to_proto(text, config)
    if has_baseline:
        for spec in config.model_specs:
            spec.name = spec.name or CANDIDATE
    config = config_util.update_eval_config_with_defaults(config, has_baseline=has_baseline, rubber_stamp=True)
    for spec in config.model_specs:
        spec.model_type = tfma_constants.MATERIALIZED_PREDICTION
    config_util.verify_eval_config(config)
    return config


def _build_runnable_config(config: config_pb2.EvalConfig) -> str:
    """Return a finished config with models that TFMA itself calls, as JSON."""
    runnable = config_pb2.EvalConfig()
    runnable.CopyFrom(config)
    for spec in runnable.model_specs:
        spec.model_type = tfma_constants.TF_GENERIC
        spec.preprocessing_function_names[:] = [TRUE_LABEL]
    for metric in (metric for spec in runnable.metrics_specs for metric in spec.metrics):
        if metric.class_name == ROW_METRIC:
            metric.config = take_rows(metric.config)
    text: str = proto_utils.proto_to_json(runnable)
    return text


def _store_runnable_config(evaluation_uri: str, text: str) -> None:
    """Replace the stored config's models by ones that `tfma.run_model_analysis` calls: here the rows came predicted."""
    path = os.path.join(evaluation_uri, f"{eval_config_writer.EVAL_CONFIG_FILE}.json")
    stored = json.loads(read_bytes(path))
    for spec in stored["evalConfig"]["modelSpecs"]:
        spec["modelType"] = tfma_constants.TF_GENERIC
        if spec["signatureName"] == SERVING_EXAMPLES:
            spec["preprocessingFunctionNames"] = [TRUE_LABEL]
    for metric in (metric for spec in stored["evalConfig"]["metricsSpecs"] for metric in spec["metrics"]):
        if metric["className"] == ROW_METRIC:
            metric["config"] = take_rows(metric["config"])
    original = config_pb2.EvalConfig()
    proto_utils.json_to_proto(text, original)
    stored["evalConfig"].setdefault("options", {})["minSliceSize"] = original.options.min_slice_size.value
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(stored))


def _set_decisions(config: config_pb2.EvalConfig, decisions: Mapping[str, DecisionThreshold]) -> None:
    """Measure each model at its own threshold, and all by the candidate's costs; both are in the models' folders."""
    if any(decision.costs is not None for decision in decisions.values()):
        # TFMA names a single model with the empty string.
        thresholds = {spec.name: decisions[spec.name or CANDIDATE].threshold for spec in config.model_specs}
        set_decisions(config, thresholds, decisions[CANDIDATE].costs)


def _explain_incomparable(models: Mapping[str, types.Artifact]) -> str:
    """Return why the baseline cannot predict the same rows; empty if it can."""
    if not all(map(_is_declared, models.values())):
        return "" if not any(map(_is_declared, models.values())) else "it is a model of another origin"
    signatures = {name: _read_signatures(path_utils.serving_model_path(model.uri)) for name, model in models.items()}
    candidate, baseline = signatures[CANDIDATE], signatures[BASELINE]
    reasons = [
        f"it reads '{name}', which is not a feature any more"
        for name in sorted({*baseline[SERVING_DEFAULT].inputs} - {*candidate[SERVING_DEFAULT].inputs})
    ]
    if {*baseline[SERVING_EXAMPLES].outputs} != {*candidate[SERVING_EXAMPLES].outputs}:
        reasons.append("it predicts another kind of label")
    return " and ".join(reasons)


def _read_signatures(path: str) -> Mapping[str, Any]:
    """Return the signature definitions of a SavedModel, without loading it."""
    saved = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    signatures: Mapping[str, Any] = saved.meta_graphs[0].signature_def
    return signatures


def record(summary: EvaluationReport, evaluation: types.Artifact) -> None:
    """Write a summary beside TFMA's files, and the properties that others read from ML Metadata to the artifact."""
    summary.write(evaluation.uri)
    if summary.weight_column:
        evaluation.set_string_custom_property(WEIGHT_PROPERTY, summary.weight_column)
    if summary.constant_predictor:
        evaluation.set_string_custom_property(CONSTANT_PROPERTY, json.dumps(summary.constant_predictor))
    if summary.decision:
        evaluation.set_string_custom_property(DECISION_PROPERTY, json.dumps(summary.decision))
    _set_intervals(summary, evaluation)


def _set_intervals(summary: EvaluationReport, artifact: types.Artifact) -> None:
    """Write the intervals, of the metrics and of their changes, and the challengers to an artifact's properties."""
    for name, by_slice in (
        (INTERVALS_PROPERTY, summary.intervals),
        (CHANGES_PROPERTY, summary.changes),
        # Those of the slices are in the summary.
        (CHALLENGERS_PROPERTY, _select_overall(summary.challengers)),
    ):
        text = json.dumps(by_slice)
        if len(text) > _MAX_PROPERTY_CHARS:
            text = json.dumps(_select_overall(by_slice))
        if by_slice:
            artifact.set_string_custom_property(name, text)


def _select_overall(by_slice: Any) -> Any:
    """Return a nested mapping with all rows together in the place of its slices."""
    if not isinstance(by_slice, Mapping):
        return by_slice
    if OVERALL in by_slice:
        return {OVERALL: by_slice[OVERALL]}
    return {key: _select_overall(value) for key, value in by_slice.items()}


def bless(
    blessing: types.Artifact, models: Mapping[str, types.Artifact], summary: EvaluationReport, *, pipeline: str
) -> None:
    """Mark the blessing as stock Evaluator does, in the place of its verdict if there is one.

    Properties name the models, and the name of a file is the verdict.
    """
    blessed = not summary.failures
    _set_intervals(summary, blessing)
    blessing.set_string_custom_property(PIPELINE_PROPERTY, pipeline)
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, models[CANDIDATE].uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, models[CANDIDATE].id)
    if BASELINE in models:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, models[BASELINE].uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, models[BASELINE].id)
    value = constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    for name in (constants.BLESSED_FILE_NAME, constants.NOT_BLESSED_FILE_NAME):
        if tf.io.gfile.exists(os.path.join(blessing.uri, name)):
            tf.io.gfile.remove(os.path.join(blessing.uri, name))
    file = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    with tf.io.gfile.GFile(os.path.join(blessing.uri, file), "w") as marker:
        marker.write("")


def _evaluate(large: Any, models: LoadedModels, config: config_pb2.EvalConfig, output: str) -> None:
    """Add TFMA's evaluation of the rows of slices that are large enough to a Beam pipeline."""
    names = {spec.name for spec in config.model_specs}
    evaluated = [
        tfma.EvalSharedModel(
            model_path=path,
            # TFMA names a single model with the empty string.
            model_name=name if name in names else "",
            model_type=tfma_constants.MATERIALIZED_PREDICTION,
            is_baseline=name == BASELINE,
        )
        for name, path in models.paths.items()
    ]
    # Small slices were left out here; TFMA itself would fail thresholds on them for want of metrics.
    config.options.min_slice_size.value = 1
    _ = (
        large
        | "AsExtracts" >> beam.Map(_as_extracts)
        | "Evaluate"
        >> tfma.ExtractAndEvaluate(
            # The slice keys exist already; the evaluators expect an extractor of this name.
            extractors=[extractor.Extractor(slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME, beam.Map(_drop_input))],
            evaluators=tfma.default_evaluators(eval_config=config, eval_shared_model=evaluated),
        )
        | "Write" >> tfma.WriteResults(tfma.default_writers(output, eval_config=config, eval_shared_model=evaluated))
    )


def _predict_slices(
    pipeline: beam.Pipeline,
    uris: list[str],
    models: LoadedModels,
    slicings: Sequence[tuple[str, ...]],
    features: FeatureSet,
    columns: Sequence[str] = (),
    challengers: FittedChallengers | None = None,
) -> Any:
    """Return (slice key, arrays) of each batch of rows; `columns` are those that metrics ask for."""
    return (
        pipeline
        | "Files" >> beam.Create([file for uri in uris for file in list_files(uri)])
        | "PredictAndSlice"
        >> beam.ParDo(PredictAndSlice(models, slicings, features.column_types, features.weight, columns, challengers))
    )


def _keep_large(sliced: Any, min_rows: int) -> Any:
    """Return the rows of the slices that are large enough to be judged."""
    large = (
        sliced
        | "SizeOfBatch" >> beam.Map(lambda keyed: (keyed[0], len(keyed[1]["labels"])))
        | "SizeOfSlice" >> beam.CombinePerKey(sum)
        | "LargeEnough" >> beam.Filter(_is_large, min_examples=min_rows)
    )
    return sliced | "KeepLarge" >> beam.Filter(lambda keyed, large: keyed[0] in large, beam.pvalue.AsDict(large))


def _find_errors(large: Any, resampling: Resampling, output: str) -> None:
    """Add the standard errors of the metrics of each slice to a Beam pipeline."""
    _ = (
        large
        | "SampleBatch" >> beam.Map(_sample_batch)
        | "SampleSlice" >> beam.CombinePerKey(MergeSamples())
        | "Resample" >> beam.Map(_resample, resampling=resampling)
        | "ListErrors" >> beam.combiners.ToList()
        | "WriteErrors" >> beam.Map(_write_errors, path=os.path.join(output, _ERRORS_FILE))
    )


def _sample_batch(keyed: tuple[SliceKey, dict[str, Any]]) -> tuple[SliceKey, RowSample]:
    """Return a sample of the rows of a batch, with the predictions of models and challengers by name."""
    key, arrays = keyed
    predictions = arrays["predictions"]
    weights = arrays.get(tfma_constants.EXAMPLE_WEIGHTS_KEY)
    columns = {
        LABELS: arrays["labels"],
        WEIGHTS: np.ones(len(arrays["labels"])) if weights is None else weights,
        **(predictions if isinstance(predictions, dict) else {CANDIDATE: predictions}),
        **{f"{CHALLENGERS}.{name}": values for name, values in arrays[CHALLENGERS].items()},
    }
    return key, RowSample.from_rows(arrays[ROW_IDS], columns)


def _resample(keyed: tuple[SliceKey, RowSample], resampling: Resampling) -> tuple[str, SliceErrors]:
    """Return the standard errors of a slice with its name."""
    key, sample = keyed
    prefix = f"{CHALLENGERS}."
    challengers = tuple(name.removeprefix(prefix) for name in sample.columns if name.startswith(prefix))
    columns = {name.removeprefix(prefix): values for name, values in sample.columns.items()}
    renamed = RowSample(sample.rows, sample.ids, columns, sample.limit)
    return name_slice(key), resampling.resample(tuple(column for column, _ in key), renamed, challengers)


def _write_errors(errors: list[tuple[str, SliceErrors]], path: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(to_json(dict(errors)))


def _find_losses(sliced: Any, constant: ConstantPredictor, output: str) -> None:
    """Add the comparison with the constant predictor to a Beam pipeline."""
    _ = (
        sliced
        | "AllRows" >> beam.Filter(lambda keyed: not keyed[0])
        | "PairLosses" >> beam.Map(_compute_paired_losses, constant=constant)
        | "AddLosses" >> beam.CombineGlobally(CombinePairedLosses(constant))
        | "WriteLosses" >> beam.Map(_write_losses, path=os.path.join(output, _LOSSES_FILE))
    )


def _compute_paired_losses(keyed: tuple[SliceKey, dict[str, Any]], constant: ConstantPredictor) -> PairedLosses:
    """Return the losses of a batch of all rows."""
    _, arrays = keyed
    predictions = arrays["predictions"]
    # By model only where there are two.
    own = predictions[CANDIDATE] if isinstance(predictions, dict) else predictions
    return PairedLosses.from_batch(constant, arrays["labels"], own, arrays.get(tfma_constants.EXAMPLE_WEIGHTS_KEY))


def _write_losses(losses: PairedLosses, path: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(losses.to_json())


def _is_large(sized: tuple[SliceKey, int], min_examples: int) -> bool:
    """Return whether a slice has enough rows to be judged; all rows together always have."""
    key, rows = sized
    return not key or rows >= min_examples


class CombinePairedLosses(beam.CombineFn):
    """Adds up the `PairedLosses` of batches."""

    def __init__(self, constant: ConstantPredictor) -> None:
        self._constant = constant

    def create_accumulator(self) -> PairedLosses:
        return PairedLosses.create_empty(self._constant)

    def add_input(self, accumulator: PairedLosses, element: PairedLosses) -> PairedLosses:
        accumulator.merge(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[PairedLosses]) -> PairedLosses:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: PairedLosses) -> PairedLosses:
        return accumulator


def _drop_input(extracts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extracts.items() if name != tfma_constants.INPUT_KEY}


def _as_extracts(keyed: tuple[SliceKey, dict[str, Any]]) -> dict[str, Any]:
    key, arrays = keyed
    # TFMA counts the bytes of the input, and warns for each batch that has none. Evaluators do not get it.
    extracts = {name: values for name, values in arrays.items() if name not in (ROW_IDS, CHALLENGERS)}
    return {**extracts, tfma_constants.SLICE_KEY_TYPES_KEY: [key], tfma_constants.INPUT_KEY: b""}
