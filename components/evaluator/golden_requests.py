"""Golden requests: rows of the evaluated split with the evaluated model's answers, kept beside the evaluation.

Whoever serves the model later is held to them: the server in infra validation and at every start, an endpoint.
"""

import base64
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from cli.errors import DataError
from components.artifact_files import list_files
from schemas.data import ReadOptions
from schemas.features import BaseFeature, FeatureSet, Timestamp, Vector, escape_name
from schemas.sensitive import MASK
from schemas.tables.time_format import TimeFormat
from serving.model.golden_requests import GoldenRequests
from serving.model.inputs import Inputs, RequestError, build_inputs, convert_rows
from serving.model.predictor import to_rows
from serving.model.session_model import ModelError
from serving.model.signatures import MODEL_VERSION, OUTPUT_ORDER
from serving.model.tensor_predictor import TensorPredictor

_LOG = logging.getLogger(__name__)
GOLDEN_REQUESTS, GOLDEN_TOLERANCE = 16, 1e-3
# In the evaluation's folder.
GOLDEN_NAME = "golden.json"
_ROWS_LOOKED_THROUGH = 4096


def write_golden(
    evaluation_uri: str,
    predict: Callable[..., Mapping[str, tf.Tensor]],
    features: FeatureSet,
    uris: Sequence[str],
    *,
    count: int,
    tolerance: float,
) -> None:
    """Write the first rows of a split that can be sent as JSON, with the answers of `predict`.

    `predict` is the evaluated signature.

    Raises:
      DataError: there is no such row.
    """
    # The rows were read with other options: what stood for a missing value is missing by now.
    inputs = build_inputs(features, ReadOptions())
    fitting = (
        record for record in _read_first_records(uris) if _is_accepted(inputs, _build_instance(record, features))
    )
    sensitive = {
        name: _build_placeholder(feature) for name, feature in features.raw_features.items() if feature.sensitive
    }
    records = mask_records(list(itertools.islice(fitting, count)), sensitive)
    if not records:
        raise DataError(
            f"the evaluated split has no row that can be sent as JSON among its first {_ROWS_LOOKED_THROUGH:,}; texts "
            "have to be UTF-8"
        )
    # A push decides the version.
    outputs = {
        name: values.numpy() for name, values in predict(examples=tf.constant(records)).items() if name != MODEL_VERSION
    }
    answers = to_rows({name: outputs[name] for name in OUTPUT_ORDER if name in outputs})
    with tf.io.gfile.GFile(os.path.join(evaluation_uri, GOLDEN_NAME), "wb") as file:
        file.write(
            GoldenRequests([_build_instance(record, features) for record in records], answers, tolerance).to_json()
        )


def write_tensor_golden(
    evaluation_uri: str, model_path: str, uris: Sequence[str], *, count: int, tolerance: float
) -> None:
    """Write the first rows of a split with the answers of a model of another origin, if it can be called with them.

    A model of serialized tf.Example gets the records, and any other model the columns that its inputs name.
    """
    records = list(itertools.islice(_read_first_records(uris), count))
    try:
        predictor = TensorPredictor(model_path)
        instances = [_build_tensor_instance(record, predictor.specs) for record in records]
        golden = GoldenRequests(instances, predictor.predict(instances) if instances else [], tolerance)
    except (ModelError, RequestError) as error:
        _LOG.warning("Evaluator: there are no golden requests: %s", error)
        return
    with tf.io.gfile.GFile(os.path.join(evaluation_uri, GOLDEN_NAME), "wb") as file:
        file.write(golden.to_json())


def _build_tensor_instance(record: bytes, specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    if [spec.dtype for spec in specs.values()] == [tf.string]:
        return {name: {"b64": base64.b64encode(record).decode()} for name in specs}
    columns = tf.train.Example.FromString(record).features.feature
    instance = {}
    for name, spec in specs.items():
        kind = columns[name].WhichOneof("kind") if name in columns else None
        values = list(getattr(columns[name], kind).value) if kind else []
        coded = [{"b64": base64.b64encode(v).decode()} if isinstance(v, bytes) else v for v in values]
        instance[name] = coded[0] if spec.shape.rank == 1 and len(coded) == 1 else coded
    return instance


def _read_first_records(uris: Sequence[str]) -> Iterator[bytes]:
    """Yield the first records of a split."""
    paths = [file for uri in uris for file in list_files(uri)]
    files = itertools.chain.from_iterable(
        tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "").as_numpy_iterator() for path in paths
    )
    return itertools.islice(files, _ROWS_LOOKED_THROUGH)


def _build_placeholder(feature: BaseFeature) -> str:
    """Return a string that a request takes in the place of a sensitive one."""
    return feature.delimiter.join(["0"] * feature.length) if isinstance(feature, Vector) else MASK


def mask_records(records: Sequence[bytes], sensitive: Mapping[str, str]) -> list[bytes]:
    """Return serialized tf.Example with placeholders for the values of sensitive columns.

    The requests go with the model wherever it is served, and its pages show the first of them. A number becomes the
    rounded mean of the rows: far from all others, it would decide on every answer, whatever the other columns are. A
    string becomes that of its column in `sensitive`.
    """
    examples = [tf.train.Example.FromString(record) for record in records]
    for name, text in sensitive.items():
        columns = [example.features.feature[name] for example in examples if name in example.features.feature]
        numbers = [number for column in columns for number in column.float_list.value]
        mean = sum(numbers) / max(len(numbers), 1)
        placeholders = {"bytes_list": text.encode(), "float_list": float(f"{mean:.1g}"), "int64_list": 0}
        for column in columns:
            kind = column.WhichOneof("kind")
            if kind is not None:
                values = getattr(column, kind).value
                values[:] = [placeholders[kind]] * min(len(values), 1)
    return [bytes(example.SerializeToString()) for example in examples]


def _build_instance(record: bytes, features: FeatureSet) -> dict[str, Any]:
    """Return the raw values of a record by the model's input names, without those that are missing."""
    values = tf.train.Example.FromString(record).features.feature
    raw = {name: _read_value(values[name]) for name in features.raw_features}
    for name, feature in features.raw_features.items():
        if isinstance(feature, Timestamp) and raw[name] is not None:
            raw[name] = TimeFormat(feature.format, feature.time_zone).write(raw[name])
    return {escape_name(name): value for name, value in raw.items() if value is not None}


def _read_value(feature: tf.train.Feature) -> Any:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if not values:
        return None
    return values[0].decode("utf-8", errors="surrogateescape") if isinstance(values[0], bytes) else values[0]


def _is_accepted(inputs: Inputs, instance: dict[str, Any]) -> bool:
    """Return whether the server would take a row: a text in another encoding than UTF-8 it would not."""
    try:
        convert_rows(inputs, [instance])
        json.dumps(instance, ensure_ascii=False).encode()
    except (RequestError, UnicodeEncodeError):
        return False
    return True
