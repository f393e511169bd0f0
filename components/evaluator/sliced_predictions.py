"""Evaluator's pass over the rows: each file is read once, predicted by each model in large batches, and sliced."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.utils import shared
from tensorflow_model_analysis.constants import EXAMPLE_WEIGHTS_KEY, FEATURES_KEY

from cli.errors import PipelineError
from components.batch_rows import compute_batch_rows
from components.evaluator.challengers import FittedChallengers
from components.evaluator.model_outputs import predict, read_labels
from components.model_files import read_bytes
from schemas.bootstrap import number_rows
from schemas.decision import DecisionThreshold
from schemas.features import ColumnType, FeatureSet
from serving.model.literal_paths import make_literal_path
from serving.model.signatures import DTYPES
from serving.registry import DECISION_FILE, DECLARATION_FILE

CANDIDATE = "candidate"
# Arrays beside those of TFMA: IDs of the rows, and predictions of the challengers by name.
ROW_IDS, CHALLENGERS = "row_ids", "challengers"
_ROWS_PREDICTED_TOGETHER = 16_384
_READ_BYTES = 1 << 20

# (column, value) pairs, TFMA's name for a slice; empty for all rows.
SliceKey = tuple[tuple[str, Any], ...]


class LoadedModels:
    """SavedModels by name, loaded once in each process however often this is copied into it."""

    def __init__(self, paths: Mapping[str, str], declared: FeatureSet | None = None) -> None:
        """Args:
        paths: folders of the SavedModels by name.
        declared: features of models that declare none.
        """
        self.paths = dict(paths)
        self._declared = declared
        self._shared = shared.Shared()

    def load(self) -> Mapping[str, Any]:
        """Return the models by name; to be held as long as a signature of theirs is called."""
        models: Mapping[str, Any] = self._shared.acquire(lambda: _Models(self.paths))
        return models

    def read_features(self, model: str) -> FeatureSet:
        """Return the declaration that a model was trained on."""
        if self._declared is not None and not tf.io.gfile.exists(os.path.join(self.paths[model], DECLARATION_FILE)):
            return self._declared
        return FeatureSet.model_validate_json(read_bytes(os.path.join(self.paths[model], DECLARATION_FILE)))

    def read_decision(self, model: str) -> DecisionThreshold:
        """Return the threshold that a model decides by.

        Raises:
          PipelineError: its file is damaged.
        """
        file = os.path.join(self.paths[model], DECISION_FILE)
        if not tf.io.gfile.exists(file):
            return DecisionThreshold()
        try:
            return DecisionThreshold.model_validate_json(read_bytes(file))
        except ValueError as error:
            raise PipelineError(f"{file}: is damaged; train the model again: --no-cache") from error


class _Models(dict[str, Any]):
    """Loaded models by name; what Beam shares has to be an object of a class of its own."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        super().__init__({name: tf.saved_model.load(make_literal_path(path)) for name, path in paths.items()})


class PredictAndSlice(beam.DoFn):
    """From a file of tf.Example records to (slice key, {labels, predictions, row_ids}) arrays for each batch.

    An ID is that of the file and the place in it. With challengers there are their predictions. With a column of
    weights there are `example_weights`, too, and `features` if metrics ask for some.
    """

    def __init__(
        self,
        models: LoadedModels,
        slicings: Sequence[tuple[str, ...]],
        kinds: Mapping[str, ColumnType],
        weight: str | None = None,
        columns: Sequence[str] = (),
        challengers: FittedChallengers | None = None,
    ) -> None:
        """Args:
        models: models that predict.
        slicings: the columns of each slicing; none for all rows.
        kinds: the types of those columns.
        weight: column of the rows' weights; None where all weigh alike.
        columns: columns that metrics ask for.
        challengers: models that are compared with the candidate; None for none.
        """
        self._challengers = challengers
        self._columns = {name: tf.io.VarLenFeature(DTYPES[kinds[name]]) for name in columns}
        self._models = models
        self._slicings = slicings
        self._weight = weight
        self._spec = {c: tf.io.VarLenFeature(DTYPES[kinds[c]]) for slicing in slicings for c in slicing}

    def setup(self) -> None:
        self._encoder = self._challengers.load() if self._challengers is not None else None
        # In this order: Beam keeps the last, and the golden requests need the candidate again.
        self._loaded = self._models.load()
        self._features = self._models.read_features(CANDIDATE)
        self._rows = compute_batch_rows(len(self._features.features), _ROWS_PREDICTED_TOGETHER)

    def process(self, file: str) -> Iterator[tuple[SliceKey, dict[str, Any]]]:
        features = self._features
        compression = "GZIP" if file.endswith(".gz") else ""
        records = tf.data.TFRecordDataset(file, compression, buffer_size=_READ_BYTES)
        # The folder is that of the split.
        name, first = "/".join(file.split("/")[-2:]), 0
        for batch in records.batch(self._rows).prefetch(1):
            predictions = {name: predict(model, batch, features.label.kind) for name, model in self._loaded.items()}
            labels = read_labels(self._loaded[CANDIDATE], batch, features)
            by_row = {"labels": labels, ROW_IDS: number_rows(name, first, len(batch)), **self._read_weights(batch)}
            first += len(batch)
            challengers = self._challenge(batch)
            features_by_row = self._read_raw_values(batch)
            for key, rows in self._find_slices(batch):
                chosen = {name: values[rows] for name, values in predictions.items()}
                # TFMA keys predictions by model only where there are two.
                yield (
                    key,
                    {
                        **{name: values[rows] for name, values in by_row.items()},
                        "predictions": chosen if len(chosen) > 1 else chosen[CANDIDATE],
                        CHALLENGERS: {name: values[rows] for name, values in challengers.items()},
                        **(
                            {FEATURES_KEY: {name: values[rows] for name, values in features_by_row.items()}}
                            if self._columns
                            else {}
                        ),
                    },
                )

    def _challenge(self, records: tf.Tensor) -> dict[str, Any]:
        """Return the predictions of the challengers by name."""
        if self._challengers is None or self._encoder is None:
            return {}
        return self._challengers.predict(self._encoder, records)

    def _read_raw_values(self, records: tf.Tensor) -> dict[str, Any]:
        """Return the raw values of each row as an array, empty where they are missing."""
        if not self._columns:
            return {}
        columns = {}
        for name, values in tf.io.parse_example(records, self._columns).items():
            counts = np.bincount(values.indices[:, 0], minlength=len(records))
            by_row = np.empty(len(records), object)
            for row, part in enumerate(np.split(values.values.numpy(), np.cumsum(counts)[:-1])):
                by_row[row] = part
            columns[name] = by_row
        return columns

    def _read_weights(self, records: tf.Tensor) -> dict[str, Any]:
        if self._weight is None:
            return {}
        parsed = tf.io.parse_example(records, {self._weight: tf.io.FixedLenFeature([], tf.float32)})
        return {EXAMPLE_WEIGHTS_KEY: parsed[self._weight].numpy()}

    def _find_slices(self, records: tf.Tensor) -> Iterator[tuple[SliceKey, Any]]:
        """Yield each slice key of a batch with the indices of its rows."""
        parsed = tf.io.parse_example(records, self._spec) if self._spec else {}
        columns = {name: SlicedColumn.from_sparse(values, len(records)) for name, values in parsed.items()}
        return slice_rows(self._slicings, columns)


@dataclass(frozen=True)
class SlicedColumn:
    """The values of a batch's column: the distinct ones, and the place of each row's among them; -1 for none."""

    distinct: list[Any]
    places: Any

    @classmethod
    def from_sparse(cls, values: Any, rows: int) -> "SlicedColumn":
        """Return the first value of each row of a sparse column; strings decoded."""
        first = values.indices[:, 1] == 0
        distinct, places = tf.unique(values.values[first])
        of_rows = np.full(rows, -1)
        of_rows[values.indices[:, 0][first]] = places
        return cls([_decode(value) for value in distinct.numpy().tolist()], of_rows)


def slice_rows(
    slicings: Sequence[tuple[str, ...]], columns: Mapping[str, SlicedColumn]
) -> Iterator[tuple[SliceKey, Any]]:
    """Yield each slice key of a batch with the indices of its rows."""
    for slicing in slicings:
        if not slicing:
            yield (), slice(None)
            continue
        places = np.stack([columns[name].places for name in slicing])
        present = np.flatnonzero((places >= 0).all(axis=0))
        present = present[np.lexsort(places[:, present])]
        starts = np.flatnonzero(np.diff(places[:, present]).any(axis=0)) + 1
        for rows in np.split(present, starts) if len(present) else ():
            yield tuple((name, columns[name].distinct[columns[name].places[rows[0]]]) for name in slicing), rows


def _decode(value: Any) -> Any:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
