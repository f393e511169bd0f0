"""A model of the user's own beside the constant predictor and the challengers, on labels as TFMA reads them.

The config does not declare what such a model predicts. Labels and outputs give it: outputs of several columns are
classes, one output with labels 0 and 1 is a class, and any other is a number. The challengers are fitted to the same
labels, on columns that Transform computes from the raw examples of `train`.
"""

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from numpy.typing import NDArray
from tensorflow_model_analysis import constants as tfma_constants
from tensorflow_model_analysis.api.model_eval_lib import BatchedInputsToExtracts
from tensorflow_model_analysis.api.types import SparseTensorValue, VarLenTensorValue
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
from components.evaluator.challengers import (
    ENCODING_ERRORS,
    LABEL,
    TITLES,
    WEIGHT,
    ChallengerFit,
    EncodedColumns,
    Encoder,
    FittedChallengers,
    describe_failure,
    fit_to_sample,
    list_declared_names,
)
from components.evaluator.constant_predictor import ConstantPredictor, PairedLosses
from components.evaluator.model_outputs import to_probabilities
from components.evaluator.own_columns import find_columns
from components.evaluator.resampling import LABELS, WEIGHTS, Resampling, SliceErrors, from_json, to_json
from components.evaluator.row_sample import MergeSamples
from components.evaluator.sliced_predictions import CANDIDATE, SlicedColumn, SliceKey, slice_rows
from components.model_files import read_bytes
from schemas.bootstrap import number_copies
from schemas.data import TRAIN_SPLIT
from schemas.features import FeatureSet, LabelKind
from schemas.row_sample import RowSample
from schemas.slices import name_slice
from serving.model.network_inputs import IDS, NUMBERS

# In the evaluation's folder, until they are read.
_COMPARISON_FILE, _TRAIN_FILE, _OUTPUTS_FILE = "comparison.json", "train.npz", "outputs.txt"
_MAX_CLASSES = 1000
# Rounding of a softmax's float32.
_SUM_TOLERANCE = 1e-3
# How TFMA holds a sparse column.
_SPARSE = (SparseTensorValue, VarLenTensorValue)
_BY_ROW_STAGES = (unbatch_extractor.UNBATCH_EXTRACTOR_STAGE_NAME, slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME)

Array = NDArray[Any]


@dataclass(frozen=True)
class OwnComparison:
    """Losses of a model of the user's own, of the constant predictor and of the challengers.

    Attributes:
      problem: Reason why they cannot be compared; empty if they are.
      constant: Constant predictor of `train`; None with a problem.
      losses: Losses on the evaluated rows; None with a problem.
      predictions: Meaning of the model's outputs.
      outputs: Number of the model's outputs.
      errors: Standard errors by slice; none with a problem.
      outcomes: Outcomes of the fits of the challengers.
    """

    problem: str
    constant: ConstantPredictor | None = None
    losses: PairedLosses | None = None
    predictions: Predictions = "numbers"
    outputs: int = 1
    errors: Mapping[str, SliceErrors] = field(default_factory=dict)
    outcomes: Sequence[ChallengerFit] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, which are their IDs; none of numbers."""
        return tuple(map(str, range(self.constant.classes))) if self.constant is not None else ()


@dataclass(frozen=True)
class ComparedModel:
    """A model of the user's own, and how it is compared.

    Attributes:
      inputs: Artifacts `examples`, `model` and `schema`; `transform_graph`, too, for the challengers.
      config: TFMA's config, whose first model is the candidate.
      evaluation: Section of the config.
      features: Declaration of the columns; None if it is unknown.
      seed: Seed of the intervals and of the challengers.
    """

    inputs: Mapping[str, list[types.Artifact]]
    config: config_pb2.EvalConfig
    evaluation: Evaluation
    features: FeatureSet | None
    seed: int

    @property
    def declared(self) -> Predictions | None:
        """Declared meaning of the outputs."""
        return self.evaluation.model_spec.predictions

    def find_columns(self) -> tuple[EncodedColumns | None, str]:
        """Return the columns that challengers read, and why others are left out; None with the reason."""
        if self.features is None or not self.inputs.get("transform_graph"):
            return None, "Evaluator has no graph of Transform"
        spec = self.config.model_specs[0]
        targets = {name for name in (spec.label_key, spec.example_weight_key) if name}
        uri = artifact_utils.get_single_uri(self.inputs["transform_graph"])
        columns, left_out = find_columns(self.features, uri, targets)
        if not columns.features.id_columns and not columns.features.number_columns:
            return None, f"Transform gives no dense column of numbers beside the label{left_out and f': {left_out}'}"
        return columns, left_out


def compare(make_pipeline: Callable[[], beam.Pipeline], compared: ComparedModel, folder: str) -> OwnComparison:
    """Compare the candidate with the constant predictor of `train`, and with the challengers.

    Args:
      make_pipeline: Function that makes a Beam pipeline.
      compared: The candidate.
      folder: Folder of the evaluation, for files that are removed again.
    """
    columns, remark = None, ""
    names = list_declared_names(compared.evaluation.challengers)
    if names:
        columns, remark = compared.find_columns()
    train, outputs = _read_train(make_pipeline, compared, columns, folder)
    challengers, outcomes = _fit(compared, train, outputs, columns, remark)
    path = os.path.join(folder, _COMPARISON_FILE)
    min_rows = compared.evaluation.min_rows_per_slice
    with make_pipeline() as pipeline:
        rows = _extract(pipeline, compared, compared.evaluation.split)
        chosen = (
            rows
            | "PairLosses" >> beam.Map(_Forms.from_batch, train=train.labels, declared=compared.declared)
            | "AddLosses" >> beam.CombineGlobally(_Merge(_Forms))
            | "Choose" >> beam.Map(_Forms.choose, declared=compared.declared)
        )
        _ = (
            rows
            | "SampleSlices" >> beam.ParDo(_SampleSlices(compared.evaluation.slice_by, challengers))
            | "SampleSlice" >> beam.CombinePerKey(MergeSamples())
            | "LargeEnough" >> beam.Filter(lambda keyed: not keyed[0] or keyed[1].rows >= min_rows)
            | "Resample"
            >> beam.FlatMap(
                _resample,
                chosen=beam.pvalue.AsSingleton(chosen),
                train=train.labels,
                declared=compared.declared,
                seed=compared.seed,
            )
            | "ListErrors" >> beam.combiners.ToList()
            | "Format" >> beam.Map(_to_json, chosen=beam.pvalue.AsSingleton(chosen))
            | "Write" >> beam.Map(_write, path=path)
        )
    values = json.loads(_take(path))
    if values["problem"]:
        return OwnComparison(values["problem"])
    constant = train.labels.find_constant(values["outputs"], compared.declared)
    assert isinstance(constant, ConstantPredictor)
    losses = PairedLosses.from_json(values["losses"].encode())
    errors = from_json(values["errors"])
    return OwnComparison("", constant, losses, values["predictions"], values["outputs"], errors, outcomes)


def _read_train(
    make_pipeline: Callable[[], beam.Pipeline], compared: ComparedModel, columns: EncodedColumns | None, folder: str
) -> tuple["_Train", int]:
    """Return the labels of `train` and a sample of its rows, and the number of the model's outputs, 0 if unknown."""
    train_path, outputs_path = (os.path.join(folder, name) for name in (_TRAIN_FILE, _OUTPUTS_FILE))
    with make_pipeline() as pipeline:
        train = _extract(pipeline, compared, TRAIN_SPLIT)
        _ = (
            train
            | "ReadTrain" >> beam.ParDo(_ReadTrain(columns, compared.evaluation.challengers.max_rows))
            | "AddTrain" >> beam.CombineGlobally(_Merge(_Train))
            | "FormatTrain" >> beam.Map(_Train.to_bytes)
            | "WriteTrain" >> beam.Map(_write, path=train_path)
        )
        _ = (
            _extract(pipeline, compared, compared.evaluation.split, is_one_batch=True)
            | "CountOutputs" >> beam.Map(_count_outputs)
            | "MostOutputs" >> beam.CombineGlobally(lambda counts: max(counts, default=0))
            | "FormatOutputs" >> beam.Map(str)
            | "WriteOutputs" >> beam.Map(_write, path=outputs_path)
        )
    return _Train.from_bytes(_take(train_path)), int(_take(outputs_path))


def _fit(
    compared: ComparedModel, train: "_Train", outputs: int, columns: EncodedColumns | None, remark: str
) -> tuple[FittedChallengers | None, list[ChallengerFit]]:
    """Return the challengers, fitted to the labels that TFMA reads; or none, with the reasons."""
    settings = compared.evaluation.challengers
    if not outputs:
        return None, []
    constant = train.labels.find_constant(outputs, compared.declared)
    if columns is None or train.problem or isinstance(constant, str):
        reason = train.problem or (constant if isinstance(constant, str) else remark)
        return None, [ChallengerFit(name, reason) for name in list_declared_names(settings)]
    fitted, outcomes = fit_to_sample(settings, columns, train.sample, constant.classes, compared.seed)
    return fitted if fitted.models else None, [replace(outcome, left_out=remark) for outcome in outcomes]


def _resample(
    keyed: tuple[SliceKey, RowSample],
    chosen: Mapping[str, Any],
    train: "_TrainLabels",
    declared: Predictions | None,
    seed: int,
) -> Iterator[tuple[str, SliceErrors]]:
    """Yield the standard errors of a slice with its name, unless the outputs cannot be compared."""
    if chosen["problem"]:
        return
    key, unordered = keyed
    sample, outputs = unordered.in_order(), chosen["outputs"]
    constant = train.find_constant(outputs, declared)
    assert isinstance(constant, ConstantPredictor)
    own = sample.columns[CANDIDATE]
    own = own[:, 0] if outputs == 1 else own
    if chosen["predictions"] == "logits":
        own = to_probabilities(own, outputs)
    challengers = tuple(name for name in sample.columns if name in TITLES)
    kind: LabelKind = "regression" if not constant.classes else "binary" if constant.classes == 2 else "multiclass"
    columns = {**sample.columns, CANDIDATE: own}
    numbered = RowSample(sample.rows, number_copies(sample.ids), columns)
    errors = Resampling(kind, (), seed, constant).resample(tuple(name for name, _ in key), numbered, challengers)
    yield name_slice(key), errors


def _to_json(errors: list[tuple[str, SliceErrors]], chosen: Mapping[str, Any]) -> str:
    return json.dumps({**chosen, "errors": to_json(dict(errors))})


def _write(content: str | bytes, path: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)


def _take(path: str) -> bytes:
    """Read a file that a Beam pipeline wrote, and remove it."""
    content = read_bytes(path)
    tf.io.gfile.remove(path)
    return content


def _extract(pipeline: beam.Pipeline, compared: ComparedModel, split: str, *, is_one_batch: bool = False) -> Any:
    """Return labels, weights, records and, but for `train`, predictions of batches of a split, or of one batch."""
    inputs, evaluation = compared.inputs, compared.evaluation
    config = config_util.update_eval_config_with_defaults(
        config_pb2.EvalConfig(model_specs=compared.config.model_specs[:1], slicing_specs=[config_pb2.SlicingSpec()])
    )
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
    if is_one_batch:
        extracts |= "SampleBatch" >> beam.combiners.Sample.FixedSizeGlobally(1)
        extracts |= "OneBatch" >> beam.FlatMap(lambda batches: batches)
    extracts |= f"ToExtracts[{split}]" >> BatchedInputsToExtracts()
    for extractor in tfma.default_extractors(shared, config, tensor_adapter_config=adapter):
        is_predictor = extractor.stage_name == predictions_extractor.PREDICTIONS_EXTRACTOR_STAGE_NAME
        if extractor.stage_name not in _BY_ROW_STAGES and (split != TRAIN_SPLIT or not is_predictor):
            extracts |= f"{extractor.stage_name}[{split}]" >> extractor.ptransform
    sliced = {name for columns in evaluation.slice_by for name in columns}
    key = config.model_specs[0].prediction_key
    return extracts | f"SelectRows[{split}]" >> beam.Map(_select_rows, key=key, sliced=sliced)


def _select_rows(extracts: Mapping[str, Any], key: str, sliced: Iterable[str]) -> dict[str, Any]:
    """Return labels, weights, the measured output, the records and the sliced columns of a batch."""
    predictions = extracts.get(tfma_constants.PREDICTIONS_KEY)
    if isinstance(predictions, Mapping):
        name = key if key in predictions else next(iter(predictions))
        predictions = predictions[name] if len(predictions) == 1 or key in predictions else None
    records = extracts[tfma_constants.INPUT_KEY]
    # As TFMA slices: a transformed column hides the raw one of its name.
    columns = {**extracts[tfma_constants.FEATURES_KEY], **(extracts.get(tfma_constants.TRANSFORMED_FEATURES_KEY) or {})}
    return {
        "labels": extracts[tfma_constants.LABELS_KEY],
        "weights": extracts.get(tfma_constants.EXAMPLE_WEIGHTS_KEY),
        "predictions": predictions,
        "records": records,
        # Equal rows differ in their number.
        "ids": tf.strings.to_hash_bucket_fast(records, np.iinfo(np.int64).max).numpy().astype(np.uint64),
        "columns": {name: columns[name] for name in sliced if name in columns},
    }


def _read_outputs(batch: Mapping[str, Any]) -> Array | None:
    """Return the measured output of a batch, [rows, outputs]; None if it is not one tensor of numbers."""
    outputs = batch["predictions"]
    if not isinstance(outputs, np.ndarray) or outputs.dtype.kind != "f" or outputs.ndim > 2:
        return None
    return outputs.reshape(len(batch["ids"]), -1).astype(np.float64)


def _count_outputs(batch: Mapping[str, Any]) -> int:
    outputs = _read_outputs(batch)
    return 0 if outputs is None else int(outputs.shape[1])


def _read_labels(batch: Mapping[str, Any]) -> Array | None:
    """Return the labels of a batch as numbers, [rows]; None of other labels than one number a row, or one-hot ones."""
    labels = _read_single_values(batch["labels"], len(batch["ids"]))
    if labels is None or labels.dtype.kind not in "biuf" or labels.ndim > 2:
        return None
    if labels.ndim == 2 and labels.shape[1] > 1:
        is_one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        return labels.argmax(axis=1).astype(np.float64) if is_one_hot else None
    return labels.reshape(len(labels)).astype(np.float64)


def _read_weights(batch: Mapping[str, Any], rows: int) -> Array:
    weights = _read_single_values(batch["weights"], rows)
    return np.ones(rows) if weights is None else np.asarray(weights, np.float64).reshape(rows)


def _read_single_values(values: Any, rows: int) -> Array | None:
    """Return a column as TFMA holds it as an array; None of a sparse column without exactly one value in each row."""
    if isinstance(values, _SPARSE):
        return values.values if np.array_equal(values.indices, _list_first_places(rows)) else None
    return values if isinstance(values, np.ndarray) else None


def _list_first_places(rows: int) -> Array:
    """Return the indices of a column with one value in each row."""
    return np.stack([np.arange(rows), np.zeros(rows, np.int64)], axis=1)


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
    def from_batch(cls, batch: Mapping[str, Any]) -> "_TrainLabels":
        labels = _read_labels(batch)
        if labels is None:
            return cls("the labels are not numbers, one in each row")
        weights = _read_weights(batch, len(labels))
        distinct, places = np.unique(labels, return_inverse=True)
        counts = list(zip(distinct.tolist(), np.bincount(places, weights, len(distinct)).tolist(), strict=True))
        return cls("", float(weights.sum()), float(labels @ weights), counts)._limit_classes()

    def merge(self, other: "_TrainLabels") -> "_TrainLabels":
        counts = dict(self.counts)
        for label, weight in other.counts:
            counts[label] = counts.get(label, 0.0) + weight
        is_countable = self.is_countable and other.is_countable
        problem = self.problem or other.problem
        weight, total = self.weight + other.weight, self.total + other.total
        return _TrainLabels(problem, weight, total, [*counts.items()], is_countable)._limit_classes()

    def _limit_classes(self) -> "_TrainLabels":
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
            return ConstantPredictor.from_class_rows(
                np.array([dict(self.counts).get(float(k), 0.0) for k in range(classes)])
            )
        if outputs == 1:
            return ConstantPredictor(0, np.array([self.total / self.weight]))
        return f"the model has {outputs} outputs, and the labels of train are not the numbers from 0 to {outputs - 1}"


@dataclass
class _Train:
    """Labels of `train`, and a sample of its rows.

    Attributes:
      labels: The labels.
      problem: Reason why there is no sample; empty if there is one.
      sample: Encoded columns, labels and weights.
    """

    labels: _TrainLabels = field(default_factory=_TrainLabels)
    problem: str = ""
    sample: RowSample = field(default_factory=RowSample)

    def merge(self, other: "_Train") -> "_Train":
        labels, sample = self.labels.merge(other.labels), self.sample.merge(other.sample)
        return _Train(labels, self.problem or other.problem, sample)

    def to_bytes(self) -> bytes:
        buffer, ordered = io.BytesIO(), self.sample.in_order()
        about = {"labels": asdict(self.labels), "problem": self.problem, "rows": ordered.rows}
        np.savez(buffer, about=np.array(json.dumps(about)), ids=ordered.ids, **_add_prefix(ordered.columns))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "_Train":
        arrays = np.load(io.BytesIO(content), allow_pickle=False)
        about = json.loads(str(arrays["about"]))
        columns = {name.removeprefix("column."): arrays[name] for name in arrays if name.startswith("column.")}
        sample = RowSample(about["rows"], arrays["ids"], columns)
        return cls(_TrainLabels(**about["labels"]), about["problem"], sample)


def _add_prefix(columns: Mapping[str, Array]) -> dict[str, Any]:
    return {f"column.{name}": values for name, values in columns.items()}


class _ReadTrain(beam.DoFn):
    """Reads labels of batches, and encodes their rows for the challengers."""

    def __init__(self, columns: EncodedColumns | None, limit: int) -> None:
        """Args:
        columns: Columns that challengers read; None without challengers.
        limit: Number of rows that they are fitted to at most.
        """
        self._columns, self._limit = columns, limit
        self._encoder: Encoder | None = None

    def process(self, batch: Mapping[str, Any]) -> Iterator[_Train]:
        labels, counted = _read_labels(batch), _TrainLabels.from_batch(batch)
        if labels is None or self._columns is None:
            yield _Train(counted)
            return
        try:
            self._encoder = self._encoder or Encoder(self._columns)
            ids, numbers = self._encoder.encode(tf.constant(batch["records"]))
        except ENCODING_ERRORS as error:
            yield _Train(counted, f"Transform does not encode rows without the label: {describe_failure(error)}")
            return
        weights = _read_weights(batch, len(labels))
        columns = {IDS: ids.astype(np.int32), NUMBERS: numbers, LABEL: labels, WEIGHT: weights}
        yield _Train(counted, "", RowSample.of(batch["ids"], columns, self._limit))


class _SampleSlices(beam.DoFn):
    """From batches to (slice key, sample of the rows with their outputs and the predictions of the challengers)."""

    def __init__(self, slicings: Sequence[tuple[str, ...]], challengers: FittedChallengers | None) -> None:
        """Args:
        slicings: Columns of each slicing.
        challengers: Fitted challengers; None for none.
        """
        self._slicings, self._challengers = slicings, challengers

    def setup(self) -> None:
        self._encoder = self._challengers.load() if self._challengers is not None else None

    def process(self, batch: Mapping[str, Any]) -> Iterator[tuple[SliceKey, RowSample]]:
        labels, outputs = _read_labels(batch), _read_outputs(batch)
        if labels is None or outputs is None:
            return
        columns = {LABELS: labels, WEIGHTS: _read_weights(batch, len(labels)), CANDIDATE: outputs}
        if self._challengers is not None and self._encoder is not None:
            columns |= self._challengers.predict(self._encoder, tf.constant(batch["records"]))
        values = {name: _read_column(column, len(labels)) for name, column in batch["columns"].items()}
        sliced = {name: column for name, column in values.items() if column is not None}
        # TFMA names the columns of a slice in this order.
        slicings = [tuple(sorted(slicing)) for slicing in ((), *self._slicings) if {*slicing} <= {*sliced}]
        for key, rows in slice_rows(slicings, sliced):
            yield key, RowSample.of(batch["ids"][rows], {name: column[rows] for name, column in columns.items()})


def _read_column(values: Any, rows: int) -> SlicedColumn | None:
    """Return a column of a batch as TFMA holds it; None of a column with several values in a row."""
    if isinstance(values, np.ndarray) and values.size == rows:
        values = VarLenTensorValue(values.reshape(rows), _list_first_places(rows), np.array([rows, 1]))
    if not isinstance(values, _SPARSE) or np.any(values.indices[:, 1:]):
        return None
    return SlicedColumn.from_sparse(values, rows)


@dataclass
class _Forms:
    """Losses by the meaning that the outputs may have.

    Attributes:
      problem: Reason why there are none; empty if there are.
      losses: Losses with the outputs as probabilities, logits or numbers.
      is_probability: Whether all outputs are probabilities.
      outputs: Number of outputs; 0 without a row.
    """

    problem: str = ""
    losses: dict[str, PairedLosses] = field(default_factory=dict)
    is_probability: bool = True
    outputs: int = 0

    @classmethod
    def from_batch(cls, batch: Mapping[str, Any], train: _TrainLabels, declared: Predictions | None) -> "_Forms":
        labels, predictions = _read_labels(batch), _read_outputs(batch)
        if labels is None:
            return cls("the labels are not numbers, one in each row")
        if predictions is None:
            return cls(
                "the model's output is not one tensor of numbers; name one in evaluation.model_spec.prediction_key"
            )
        outputs = predictions.shape[1]
        constant = train.find_constant(outputs, declared)
        if isinstance(constant, str):
            return cls(constant)
        if constant.classes and not np.isin(labels, np.arange(constant.classes)).all():
            return cls("the split has labels that train does not have")
        weights = _read_weights(batch, len(labels))
        finite = predictions[np.isfinite(predictions).all(axis=1)]
        if outputs == 1:
            predictions = predictions[:, 0]
        if not constant.classes:
            numbers = {"numbers": PairedLosses.from_batch(constant, labels, predictions, weights)}
            return cls("", numbers, outputs=outputs)
        is_probability = bool(((finite >= 0) & (finite <= 1)).all())
        if outputs > 1:
            is_probability &= bool((np.abs(finite.sum(axis=1) - 1) < _SUM_TOLERANCE).all())
        # Of a batch of logits only the losses of logits are read.
        as_probabilities = predictions if is_probability else np.full_like(predictions, 0.5)
        losses = {
            "probabilities": PairedLosses.from_batch(constant, labels, as_probabilities, weights),
            "logits": PairedLosses.from_batch(constant, labels, to_probabilities(predictions, outputs), weights),
        }
        return cls("", losses, is_probability, outputs)

    def merge(self, other: "_Forms") -> "_Forms":
        merged = dict(self.losses)
        for form, losses in other.losses.items():
            if form in merged:
                merged[form].merge(losses)
            else:
                merged[form] = losses
        is_probability = self.is_probability and other.is_probability
        return _Forms(self.problem or other.problem, merged, is_probability, max(self.outputs, other.outputs))

    def choose(self, declared: Predictions | None) -> dict[str, Any]:
        """Return the losses in the declared form; otherwise the outputs are probabilities if all of them can be."""
        if self.problem or not self.losses:
            return {"problem": self.problem or "the split has no rows"}
        form = declared
        if form is None:
            forms = [name for name in get_args(Predictions) if name in self.losses]
            form = forms[0] if self.is_probability else forms[-1]
        if form not in self.losses or (form == "probabilities" and not self.is_probability):
            whose = "the labels of train, as evaluation.model_spec.predictions declares"
            return {"problem": f"the outputs are not {form} of {whose}"}
        losses = self.losses[form].to_json()
        return {"problem": "", "predictions": form, "losses": losses, "outputs": self.outputs}


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
