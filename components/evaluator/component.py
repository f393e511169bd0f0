"""TFX's Evaluator with an executor that predicts in large batches; its artifacts are those of the stock one.

TFMA still slices, aggregates, judges the thresholds and writes the results. Three things differ.
Each model is called once for thousands of rows. Rows reach TFMA in arrays by slice instead of one by one. Slices of
fewer than `min_rows_per_slice` rows are left out before any threshold is judged on them.
"""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_model_analysis import constants as tfma_constants
from tensorflow_model_analysis.extractors import extractor, slice_key_extractor
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util
from tfx import types
from tfx.components.evaluator import constants, executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import json_utils, path_utils, proto_utils

from cli.errors import PipelineError
from components.artifact_files import files_in
from components.config import Evaluation
from components.evaluator.baseline import PIPELINE_PROPERTY
from components.evaluator.constant_predictor import ConstantComparison, ConstantPredictor, PairedLosses
from components.evaluator.evaluation import BASELINE, JudgedRows, eval_config, set_decisions, summarize
from components.evaluator.golden_requests import write_golden
from components.evaluator.sliced_predictions import CANDIDATE, LoadedModels, PredictAndSlice, SliceKey
from components.example_gen.component import LABELS_PROPERTY, WEIGHTS_PROPERTY
from components.model_files import read_bytes
from schemas.data import TRAIN_SPLIT
from schemas.decision import DecisionThreshold
from schemas.features import FeatureSet, LabelKind
from serving.model.literal_paths import literal_path
from serving.model.signatures import SERVING_DEFAULT, SERVING_EXAMPLES

# Of the evaluation: what its summary has of the constant predictor, as JSON.
CONSTANT_PROPERTY = "constant_predictor"
# Of the evaluation: what its summary has of the threshold, as JSON; only for a model with declared costs.
DECISION_PROPERTY = "decision"
# Of the evaluation: the column whose weights all metrics have; only with a column of weights.
WEIGHT_PROPERTY = "weight_column"
# In the evaluation's folder, until they are read.
_LOSSES_FILE = "losses.json"
# A path in the config, which a search may have varied.
_IMBALANCE = "training.imbalance"


class BatchedExecutor(executor.Executor):
    """Evaluates the candidate, and the baseline where there is one, and blesses the candidate or not.

    A subclass of the stock executor, by which TFX knows on Vertex to write a model into the blessing by its name.
    """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write TFMA's results and golden requests to `evaluation`, and the verdict to `blessing`."""
        self._log_startup(input_dict, output_dict, exec_properties)
        models = {CANDIDATE: artifact_utils.get_single_instance(input_dict["model"])}
        if input_dict.get("baseline_model"):
            models[BASELINE] = artifact_utils.get_single_instance(input_dict["baseline_model"])
            incomparable = _incomparable(models)
            if incomparable and "change_threshold" in exec_properties["eval_config"]:
                raise PipelineError(
                    f"the last blessed model (model {models[BASELINE].id}) cannot be compared: {incomparable}; "
                    "to continue without the comparison this once: --set evaluation.change_thresholds=[]"
                )
            if incomparable:
                del models[BASELINE]
        config = _finished_config(exec_properties["eval_config"], has_baseline=BASELINE in models)
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        splits = json_utils.loads(exec_properties["example_splits"])
        uris = [artifact_utils.get_split_uri(input_dict["examples"], split) for split in splits]
        loaded = LoadedModels({name: path_utils.serving_model_path(m.uri) for name, m in models.items()})
        features = loaded.features(CANDIDATE)
        decisions = {name: loaded.decision(name) for name in models}
        _set_decisions(config, decisions)
        constant = ConstantPredictor.of(
            _train_labels(artifact_utils.get_single_instance(input_dict["examples"]), features.weight),
            features.label,
            is_balanced=_imbalance(exec_properties["imbalance"], input_dict.get("hyperparameters")) != "none",
        )
        with self._make_beam_pipeline() as pipeline:
            _evaluate(pipeline, uris, loaded, features, config, constant, literal_path(evaluation.uri))
        losses = _take_losses(evaluation.uri)
        rows = JudgedRows(
            features.label,
            losses,
            ConstantComparison.of(constant, losses),
            decisions[CANDIDATE] if decisions[CANDIDATE].costs is not None else None,
            decisions[BASELINE].threshold if BASELINE in decisions else None,
        )
        summary = summarize(
            literal_path(evaluation.uri),
            rows,
            Evaluation.model_validate_json(exec_properties["requirements"]),
            features.weight,
        )
        summary.write(evaluation.uri)
        if features.weight is not None:
            evaluation.set_string_custom_property(WEIGHT_PROPERTY, features.weight)
        evaluation.set_string_custom_property(CONSTANT_PROPERTY, json.dumps(summary.constant_predictor))
        if summary.decision:
            evaluation.set_string_custom_property(DECISION_PROPERTY, json.dumps(summary.decision))
        if not losses.non_finite:
            # Otherwise the model is not blessed and never served, and JSON has no NaN.
            write_golden(
                evaluation.uri,
                loaded.here()[CANDIDATE].signatures[SERVING_EXAMPLES],
                features,
                uris,
                count=exec_properties["golden_requests"],
                tolerance=exec_properties["golden_tolerance"],
            )
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        _bless(blessing, models, pipeline=exec_properties["pipeline"], blessed=not summary.failures)


class EvaluatorSpec(types.ComponentSpec):
    """The inputs and outputs of the stock Evaluator, and the parameters that are used here."""

    PARAMETERS: ClassVar = {
        "eval_config": component_spec.ExecutionParameter(type=str),
        "requirements": component_spec.ExecutionParameter(type=str),
        "imbalance": component_spec.ExecutionParameter(type=str),
        "example_splits": component_spec.ExecutionParameter(type=str),
        "golden_requests": component_spec.ExecutionParameter(type=int),
        "golden_tolerance": component_spec.ExecutionParameter(type=float),
        "pipeline": component_spec.ExecutionParameter(type=str),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "hyperparameters": component_spec.ChannelParameter(type=standard_artifacts.HyperParameters, optional=True),
    }
    OUTPUTS: ClassVar = {
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Judges `model` on one split, against thresholds and against `baseline_model`."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BatchedExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        evaluation: Evaluation,
        label: LabelKind,
        has_costs: bool,
        weight: str | None,
        imbalance: str,
        hyperparameters: types.BaseChannel | None = None,
        golden_requests: int,
        golden_tolerance: float,
        pipeline: str,
        code_fingerprint: str,
    ) -> None:
        """Args:
        examples: raw examples, in gzipped TFRecord.
        model: the candidate.
        baseline_model: the model to compare with; may resolve to none.
        evaluation: metrics, evaluated split of `examples`, and thresholds.
        label: kind of the label.
        has_costs: whether the costs of a binary label's errors are declared.
        weight: column of the rows' weights; None where all weigh alike.
        imbalance: treatment of uneven classes in the candidate's training.
        hyperparameters: values of a search, which may say otherwise.
        golden_requests: number of rows that are kept with their answers in the evaluation's folder.
        golden_tolerance: greatest difference that a serving model may have.
        pipeline: name of the pipeline, which is kept with the blessing.
        code_fingerprint: fingerprint of this code, so that a change of it invalidates the cache.
        """
        spec = EvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            hyperparameters=hyperparameters,
            eval_config=proto_utils.proto_to_json(eval_config(evaluation, label, has_costs=has_costs, weight=weight)),
            requirements=evaluation.without_paths().model_dump_json(),
            imbalance=imbalance,
            example_splits=json_utils.dumps([evaluation.split]),
            golden_requests=golden_requests,
            golden_tolerance=golden_tolerance,
            pipeline=pipeline,
            code_fingerprint=code_fingerprint,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)


def _train_labels(examples: types.Artifact, weight: str | None) -> dict[str, float]:
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


def _imbalance(configured: str, hyperparameters: list[types.Artifact] | None) -> str:
    """Return how the training treated uneven classes: as a search found best, or as the config says."""
    if not hyperparameters:
        return configured
    (file,) = files_in(hyperparameters[0].uri)
    with tf.io.gfile.GFile(file) as opened:
        values = json.loads(opened.read())["values"]
    # Choices are JSON texts: keras-tuner knows no lists.
    return str(json.loads(values[_IMBALANCE])) if _IMBALANCE in values else configured


def _take_losses(evaluation_uri: str) -> PairedLosses:
    """Read what the Beam pipeline found of the losses, and remove its file."""
    path = os.path.join(evaluation_uri, _LOSSES_FILE)
    losses = PairedLosses.from_json(read_bytes(path))
    tf.io.gfile.remove(path)
    return losses


def _finished_config(text: str, *, has_baseline: bool) -> config_pb2.EvalConfig:
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


def _set_decisions(config: config_pb2.EvalConfig, decisions: Mapping[str, DecisionThreshold]) -> None:
    """Measure each model at its own threshold, and all by the candidate's costs; both are in the models' folders."""
    if any(decision.costs is not None for decision in decisions.values()):
        # TFMA knows a single model by the empty name.
        thresholds = {spec.name: decisions[spec.name or CANDIDATE].threshold for spec in config.model_specs}
        set_decisions(config, thresholds, decisions[CANDIDATE].costs)


def _incomparable(models: Mapping[str, types.Artifact]) -> str:
    """Why the baseline cannot predict the same rows; empty if it can."""
    signatures = {name: _signatures(path_utils.serving_model_path(model.uri)) for name, model in models.items()}
    candidate, baseline = signatures[CANDIDATE], signatures[BASELINE]
    reasons = [
        f"it reads '{name}', which is not a feature any more"
        for name in sorted({*baseline[SERVING_DEFAULT].inputs} - {*candidate[SERVING_DEFAULT].inputs})
    ]
    if {*baseline[SERVING_EXAMPLES].outputs} != {*candidate[SERVING_EXAMPLES].outputs}:
        reasons.append("it predicts another kind of label")
    return " and ".join(reasons)


def _signatures(path: str) -> Mapping[str, Any]:
    """Return the signature definitions of a SavedModel, without loading it."""
    saved = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    signatures: Mapping[str, Any] = saved.meta_graphs[0].signature_def
    return signatures


def _bless(blessing: types.Artifact, models: Mapping[str, types.Artifact], *, pipeline: str, blessed: bool) -> None:
    """Mark the blessing as stock Evaluator does: properties that name the models, and a file that says the verdict."""
    blessing.set_string_custom_property(PIPELINE_PROPERTY, pipeline)
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, models[CANDIDATE].uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, models[CANDIDATE].id)
    if BASELINE in models:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, models[BASELINE].uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, models[BASELINE].id)
    value = constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    file = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    with tf.io.gfile.GFile(os.path.join(blessing.uri, file), "w") as marker:
        marker.write("")


def _evaluate(
    pipeline: beam.Pipeline,
    uris: list[str],
    models: LoadedModels,
    features: FeatureSet,
    config: config_pb2.EvalConfig,
    constant: ConstantPredictor,
    output: str,
) -> None:
    """Add the whole evaluation to a Beam pipeline; `features` are those of the candidate."""
    names = {spec.name for spec in config.model_specs}
    evaluated = [
        tfma.EvalSharedModel(
            model_path=path,
            # TFMA knows a single model by the empty name.
            model_name=name if name in names else "",
            model_type=tfma_constants.MATERIALIZED_PREDICTION,
            is_baseline=name == BASELINE,
        )
        for name, path in models.paths.items()
    ]
    slicings = [tuple(spec.feature_keys) for spec in config.slicing_specs]
    files = [file for uri in uris for file in files_in(uri)]
    sliced = (
        pipeline
        | "Files" >> beam.Create(files)
        | "PredictAndSlice"
        >> beam.ParDo(
            PredictAndSlice(
                models, config.model_specs[0].prediction_key, slicings, features.column_types, features.weight
            )
        )
    )
    _ = (
        sliced
        | "AllRows" >> beam.Filter(lambda keyed: not keyed[0])
        | "PairLosses" >> beam.Map(_paired_losses, constant=constant)
        | "AddLosses" >> beam.CombineGlobally(CombinePairedLosses(constant))
        | "WriteLosses" >> beam.Map(_write_losses, path=os.path.join(output, _LOSSES_FILE))
    )
    large = (
        sliced
        | "SizeOfBatch" >> beam.Map(lambda keyed: (keyed[0], len(keyed[1]["labels"])))
        | "SizeOfSlice" >> beam.CombinePerKey(sum)
        | "LargeEnough" >> beam.Filter(_is_large, min_examples=config.options.min_slice_size.value)
    )
    # Small slices were left out here; TFMA itself would fail thresholds on them for want of metrics.
    config.options.min_slice_size.value = 1
    _ = (
        sliced
        | "KeepLarge" >> beam.Filter(lambda keyed, large: keyed[0] in large, beam.pvalue.AsDict(large))
        | "AsExtracts" >> beam.Map(_as_extracts)
        | "Evaluate"
        >> tfma.ExtractAndEvaluate(
            # The slice keys are there already; the name tells the evaluators so.
            extractors=[extractor.Extractor(slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME, beam.Map(lambda e: e))],
            evaluators=tfma.default_evaluators(eval_config=config, eval_shared_model=evaluated),
        )
        | "Write" >> tfma.WriteResults(tfma.default_writers(output, eval_config=config, eval_shared_model=evaluated))
    )


def _paired_losses(keyed: tuple[SliceKey, dict[str, Any]], constant: ConstantPredictor) -> PairedLosses:
    """Return the losses of a batch of all rows."""
    _, arrays = keyed
    predictions = arrays["predictions"]
    # By model only where there are two.
    own = predictions[CANDIDATE] if isinstance(predictions, dict) else predictions
    return PairedLosses.of(constant, arrays["labels"], own, arrays.get(tfma_constants.EXAMPLE_WEIGHTS_KEY))


def _write_losses(losses: PairedLosses, path: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(losses.to_json())


def _is_large(sized: tuple[SliceKey, int], min_examples: int) -> bool:
    """Whether a slice has enough rows to be judged; all rows together always have."""
    key, rows = sized
    return not key or rows >= min_examples


class CombinePairedLosses(beam.CombineFn):
    """Adds up the `PairedLosses` of batches."""

    def __init__(self, constant: ConstantPredictor) -> None:
        self._constant = constant

    def create_accumulator(self) -> PairedLosses:
        return PairedLosses.none(self._constant)

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


def _as_extracts(keyed: tuple[SliceKey, dict[str, Any]]) -> dict[str, Any]:
    key, arrays = keyed
    return {**arrays, tfma_constants.SLICE_KEY_TYPES_KEY: [key]}
