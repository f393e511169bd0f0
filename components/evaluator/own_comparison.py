"""The constant predictor beside a model of the user's own, on labels and predictions as TFMA reads them.

The config does not declare what such a model predicts. Labels and outputs give it: outputs of several columns are
classes, one output with labels 0 and 1 is a class, and any other is a number.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from numpy.typing import NDArray
from tensorflow_model_analysis import constants as tfma_constants
from tensorflow_model_analysis.api.model_eval_lib import BatchedInputsToExtracts
from tensorflow_model_analysis.extractors import (
    predictions_extractor,
    slice_key_extractor,
    unbatch_extractor,
)
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util
from tfx import types
from tfx.components.util import tfxio_utils
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils
from tfx_bsl.tfxio import tensor_adapter

from components.config import Evaluation, Predictions
from components.evaluator.constant_predictor import ConstantPredictor, PairedLosses
from components.evaluator.model_outputs import to_probabilities
from components.evaluator.resampling import LABELS, WEIGHTS, Gain, measure_gain
from components.evaluator.sliced_predictions import CANDIDATE
from components.model_files import read_bytes
from schemas.bootstrap import number_copies
from schemas.data import TRAIN_SPLIT
from schemas.row_sample import RowSample

# In the evaluation's folder, until it is read.
_FILE = "comparison.json"
_MAX_CLASSES = 1000
# Rounding of a softmax's float32.
_SUM_TOLERANCE = 1e-3
_BY_ROW_STAGES = (unbatch_extractor.UNBATCH_EXTRACTOR_STAGE_NAME, slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME)

Array = NDArray[Any]


@dataclass(frozen=True)
class OwnComparison:
    """Losses of a model of the user's own and of the constant predictor.

    Attributes:
      problem: Reason why they cannot be compared; empty if they are.
      constant: Constant predictor of `train`; None with a problem.
      losses: Losses on the evaluated rows; None with a problem.
      gain: Gain over the constant predictor; None with a problem, or where an output is not finite.
      predictions: Meaning of the model's outputs.
      outputs: Number of the model's outputs.
    """

    problem: str
    constant: ConstantPredictor | None = None
    losses: PairedLosses | None = None
    gain: Gain | None = None
    predictions: Predictions = "numbers"
    outputs: int = 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, which are their IDs; none of numbers."""
        return tuple(map(str, range(self.constant.classes))) if self.constant is not None else ()


def compare_with_constant(
    make_pipeline: Callable[[], beam.Pipeline],
    inputs: Mapping[str, list[types.Artifact]],
    config: config_pb2.EvalConfig,
    evaluation: Evaluation,
    folder: str,
    seed: int,
) -> OwnComparison:
    """Compare the candidate with the constant predictor of `train`.

    Args:
      make_pipeline: Function that makes a Beam pipeline.
      inputs: Artifacts `examples`, `model` and `schema`.
      config: TFMA's config, whose first model is the candidate.
      evaluation: Section of the config.
      folder: Folder of the evaluation, for a file that is removed again.
      seed: Seed of the interval.
    """
    split, declared = evaluation.split, evaluation.model_spec.predictions
    single = config_util.update_eval_config_with_defaults(
        config_pb2.EvalConfig(model_specs=config.model_specs[:1], slicing_specs=[config_pb2.SlicingSpec()])
    )
    path = os.path.join(folder, _FILE)
    with make_pipeline() as pipeline:
        train = (
            _extract(pipeline, inputs, single, TRAIN_SPLIT, predicts=False)
            | "TrainLabels" >> beam.Map(_TrainLabels.of)
            | "AddTrainLabels" >> beam.CombineGlobally(_Merge(_TrainLabels))
        )
        _ = (
            _extract(pipeline, inputs, single, split, predicts=True)
            | "PairLosses" >> beam.Map(_Forms.of, train=beam.pvalue.AsSingleton(train), declared=declared)
            | "AddLosses" >> beam.CombineGlobally(_Merge(_Forms))
            | "Finish" >> beam.Map(_Forms.to_json, train=beam.pvalue.AsSingleton(train), declared=declared, seed=seed)
            | "Write" >> beam.Map(_write, path=path)
        )
    values = json.loads(read_bytes(path))
    tf.io.gfile.remove(path)
    return _choose(values, declared)


def _choose(values: dict[str, Any], declared: Predictions | None) -> OwnComparison:
    """Return the comparison in the declared form; otherwise the outputs are probabilities if all of them can be."""
    if values["problem"] or not values["losses"]:
        return OwnComparison(values["problem"] or "the split has no rows")
    chosen = declared
    if chosen is None:
        forms = [form for form in get_args(Predictions) if form in values["losses"]]
        chosen = forms[0] if values["is_probability"] else forms[-1]
    if chosen not in values["losses"] or (chosen == "probabilities" and not values["is_probability"]):
        return OwnComparison(
            f"the outputs are not {chosen} of the labels of train, as evaluation.model_spec.predictions declares"
        )
    outputs = values["outputs"]
    constant = _TrainLabels(**values["train"]).find_constant(outputs, declared)
    assert isinstance(constant, ConstantPredictor)
    losses = PairedLosses.from_json(values["losses"][chosen].encode())
    gain = values["gains"].get(chosen)
    return OwnComparison("", constant, losses, None if gain is None else Gain(**gain), chosen, outputs)


def _write(text: str, path: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text)


def _extract(
    pipeline: beam.Pipeline,
    inputs: Mapping[str, list[types.Artifact]],
    config: config_pb2.EvalConfig,
    split: str,
    *,
    predicts: bool,
) -> Any:
    """Return TFMA's extracts of batches of a split, with predictions or without."""
    model = artifact_utils.get_single_instance(inputs["model"])
    shared = tfma.default_eval_shared_model(path_utils.serving_model_path(model.uri), eval_config=config)
    schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(inputs["schema"])))
    make_source = tfxio_utils.get_tfxio_factory_from_artifact(
        inputs["examples"],
        telemetry_descriptors=["Evaluator"],
        schema=schema,
        raw_record_column_name=tfma_constants.ARROW_INPUT_COLUMN,
    )
    source = make_source(io_utils.all_files_pattern(artifact_utils.get_split_uri(inputs["examples"], split)))
    adapter = tensor_adapter.TensorAdapterConfig(
        arrow_schema=source.ArrowSchema(), tensor_representations=source.TensorRepresentations()
    )
    extracts = pipeline | f"Read[{split}]" >> source.BeamSource()
    extracts |= f"ToExtracts[{split}]" >> BatchedInputsToExtracts()
    for extractor in tfma.default_extractors(shared, config, tensor_adapter_config=adapter):
        is_predictor = extractor.stage_name == predictions_extractor.PREDICTIONS_EXTRACTOR_STAGE_NAME
        if extractor.stage_name not in _BY_ROW_STAGES and (predicts or not is_predictor):
            extracts |= f"{extractor.stage_name}[{split}]" >> extractor.ptransform
    return extracts | f"SelectPrediction[{split}]" >> beam.Map(_select_rows, key=config.model_specs[0].prediction_key)


def _select_rows(extracts: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return labels, weights and the measured output of a batch."""
    predictions = extracts.get(tfma_constants.PREDICTIONS_KEY)
    if isinstance(predictions, Mapping):
        name = key if key in predictions else next(iter(predictions))
        predictions = predictions[name] if len(predictions) == 1 or key in predictions else None
    return {
        "labels": extracts[tfma_constants.LABELS_KEY],
        "weights": extracts.get(tfma_constants.EXAMPLE_WEIGHTS_KEY),
        "predictions": predictions,
        # Equal rows are told apart by their number.
        "ids": tf.strings.to_hash_bucket_fast(extracts[tfma_constants.INPUT_KEY], np.iinfo(np.int64).max).numpy(),
    }


def _read_labels(batch: Mapping[str, Any]) -> Array | None:
    """Return the labels of a batch as numbers, [rows]; None of other labels than one number a row, or one-hot ones."""
    labels = batch["labels"]
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "biuf" or labels.ndim > 2:
        return None
    if labels.ndim == 2 and labels.shape[1] > 1:
        is_one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        return labels.argmax(axis=1).astype(np.float64) if is_one_hot else None
    return labels.reshape(len(labels)).astype(np.float64)


def _read_weights(batch: Mapping[str, Any], rows: int) -> Array:
    weights = batch["weights"]
    return np.ones(rows) if weights is None else np.asarray(weights, np.float64).reshape(rows)


@dataclass
class _TrainLabels:
    """Labels of `train`.

    Attributes:
      problem: Reason why the labels are no numbers; empty if they are.
      weight: Sum of the weights.
      total: Sum of the labels, by weight.
      counts: Pairs of a label and its sum of weights; empty with more than `_MAX_CLASSES` labels.
      is_countable: Whether there are at most so many.
    """

    problem: str = ""
    weight: float = 0.0
    total: float = 0.0
    counts: list[tuple[float, float]] = field(default_factory=list)
    is_countable: bool = True

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> "_TrainLabels":
        labels = _read_labels(batch)
        if labels is None:
            return cls("the labels are not numbers, one in each row")
        weights = _read_weights(batch, len(labels))
        distinct, places = np.unique(labels, return_inverse=True)
        counts = list(zip(distinct.tolist(), np.bincount(places, weights, len(distinct)).tolist(), strict=True))
        return cls("", float(weights.sum()), float(labels @ weights), counts)._limit()

    def merge(self, other: "_TrainLabels") -> "_TrainLabels":
        counts = dict(self.counts)
        for label, weight in other.counts:
            counts[label] = counts.get(label, 0.0) + weight
        is_countable = self.is_countable and other.is_countable
        problem = self.problem or other.problem
        weight, total = self.weight + other.weight, self.total + other.total
        return _TrainLabels(problem, weight, total, [*counts.items()], is_countable)._limit()

    def _limit(self) -> "_TrainLabels":
        if len(self.counts) > _MAX_CLASSES:
            self.is_countable = False
        if not self.is_countable:
            self.counts = []
        return self

    def find_constant(self, outputs: int, declared: Predictions | None) -> ConstantPredictor | str:
        """Return the constant predictor beside a model of some outputs, or why there is none."""
        if self.problem:
            return self.problem
        if self.weight <= 0:
            return "train has no labels"
        classes = outputs if outputs > 1 else 2
        labels = [label for label, _ in self.counts]
        is_class = self.is_countable and all(label in range(classes) for label in labels)
        if is_class and (outputs > 1 or declared != "numbers"):
            return ConstantPredictor.of_classes(
                np.array([dict(self.counts).get(float(k), 0.0) for k in range(classes)])
            )
        if outputs == 1:
            return ConstantPredictor(0, np.array([self.total / self.weight]))
        return f"the model has {outputs} outputs, and the labels of train are not the numbers from 0 to {outputs - 1}"


@dataclass
class _Forms:
    """Losses by the meaning that the outputs may have.

    Attributes:
      problem: Reason why there are none; empty if there are.
      losses: Losses with the outputs as probabilities, logits or numbers.
      is_probability: Whether all outputs are probabilities.
      outputs: Number of outputs; 0 without a row.
      sample: Labels, weights and outputs of the rows, or of a sample of them.
    """

    problem: str = ""
    losses: dict[str, PairedLosses] = field(default_factory=dict)
    is_probability: bool = True
    outputs: int = 0
    sample: RowSample = field(default_factory=RowSample)

    @classmethod
    def of(cls, batch: Mapping[str, Any], train: _TrainLabels, declared: Predictions | None) -> "_Forms":
        labels, predictions = _read_labels(batch), batch["predictions"]
        if labels is None:
            return cls("the labels are not numbers, one in each row")
        if not isinstance(predictions, np.ndarray) or predictions.dtype.kind != "f" or predictions.ndim > 2:
            return cls(
                "the model's output is not one tensor of numbers; name one in evaluation.model_spec.prediction_key"
            )
        predictions = predictions.reshape(len(labels), -1).astype(np.float64)
        outputs = predictions.shape[1]
        constant = train.find_constant(outputs, declared)
        if isinstance(constant, str):
            return cls(constant)
        if constant.classes and not np.isin(labels, np.arange(constant.classes)).all():
            return cls("the split has labels that train does not have")
        weights = _read_weights(batch, len(labels))
        columns = {LABELS: labels, WEIGHTS: weights, CANDIDATE: predictions}
        sample = RowSample.of(batch["ids"].astype(np.uint64), columns)
        finite = predictions[np.isfinite(predictions).all(axis=1)]
        if outputs == 1:
            predictions = predictions[:, 0]
        if not constant.classes:
            numbers = {"numbers": PairedLosses.of(constant, labels, predictions, weights)}
            return cls("", numbers, outputs=outputs, sample=sample)
        is_probability = bool(((finite >= 0) & (finite <= 1)).all())
        if outputs > 1:
            is_probability &= bool((np.abs(finite.sum(axis=1) - 1) < _SUM_TOLERANCE).all())
        # Of a batch of logits only the losses of logits are read.
        as_probabilities = predictions if is_probability else np.full_like(predictions, 0.5)
        losses = {
            "probabilities": PairedLosses.of(constant, labels, as_probabilities, weights),
            "logits": PairedLosses.of(constant, labels, to_probabilities(predictions, outputs), weights),
        }
        return cls("", losses, is_probability, outputs, sample)

    def merge(self, other: "_Forms") -> "_Forms":
        merged = dict(self.losses)
        for form, losses in other.losses.items():
            if form in merged:
                merged[form].merge(losses)
            else:
                merged[form] = losses
        is_probability = self.is_probability and other.is_probability
        sample = self.sample.merge(other.sample)
        return _Forms(self.problem or other.problem, merged, is_probability, max(self.outputs, other.outputs), sample)

    def _measure_gains(self, train: _TrainLabels, declared: Predictions | None, seed: int) -> dict[str, Any]:
        """Return the gain over the constant predictor by the meaning of the outputs."""
        constant = train.find_constant(self.outputs, declared) if not self.problem and self.sample.rows else ""
        if isinstance(constant, str) or not np.isfinite(self.sample.columns[CANDIDATE]).all():
            return {}
        ordered = self.sample.in_order()
        outputs = ordered.columns[CANDIDATE]
        outputs = outputs[:, 0] if self.outputs == 1 else outputs
        converted = {"logits": to_probabilities(outputs, self.outputs)} if constant.classes else {}
        gains = {}
        for form in self.losses:
            if form == "probabilities" and not self.is_probability:
                continue
            columns = {**ordered.columns, CANDIDATE: converted.get(form, outputs)}
            sample = RowSample(ordered.rows, number_copies(ordered.ids), columns)
            gains[form] = asdict(measure_gain(constant, sample, seed))
        return gains

    def to_json(self, train: _TrainLabels, declared: Predictions | None, seed: int) -> str:
        """Return all that the choice of a form needs."""
        losses = {form: losses.to_json() for form, losses in self.losses.items()}
        return json.dumps(
            {
                "problem": self.problem,
                "losses": losses,
                "gains": self._measure_gains(train, declared, seed),
                "is_probability": self.is_probability,
                "outputs": self.outputs,
                "train": asdict(train),
            }
        )


class _Merge(beam.CombineFn):
    """Merges values of one class, whose constructor makes an empty one."""

    def __init__(self, empty: Callable[[], Any]) -> None:
        self._empty = empty

    def create_accumulator(self) -> Any:
        return self._empty()

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return accumulator.merge(element)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        merged = self._empty()
        for accumulator in accumulators:
            merged = merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator
