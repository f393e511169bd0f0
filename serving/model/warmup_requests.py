"""Warm-up requests of a version, in TF Serving's file: a push writes it, and the server sends them at load.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, session_service_pb2

from cli.errors import PushError
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.model.golden_requests import GoldenRequests
from serving.model.inference import read_input
from serving.model.inputs import build_inputs, convert_rows
from serving.model.literal_paths import make_literal_path
from serving.model.predictor import Predictor
from serving.model.signatures import DTYPES, SERVING_DEFAULT
from serving.model.tensor_predictor import TensorPredictor
from serving.model.tensors import read_column, read_tensor, write_tensor
from serving.registry import DECLARATION_FILE, READ_OPTIONS_FILE, WARMUP_FILE

# TF Serving's own limit.
_MAX_RECORDS = 1000
_MAX_BYTES = 64 << 20
_MAX_ROWS = 4096


def build_warmup(folder: Path, golden: bytes) -> bytes:
    """Return the file for a model: its first golden request by itself, then all of them; empty if it has none.

    The model's name is not in the requests: TF Serving does not read it here, and a candidate has another name.

    Args:
      folder: folder of the SavedModel.
      golden: golden requests, as JSON; empty for none.

    Raises:
      RequestError: a golden request does not fit the model.
      ModelError: a model of another origin cannot be loaded.
    """
    instances = GoldenRequests.from_json(golden).instances if golden else []
    logs = [_build_log(_build_tensors(folder, rows)) for rows in (instances[:1], instances) if rows]
    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            for log in logs:
                writer.write(log.SerializeToString())
        return Path(file.name).read_bytes()


def _build_tensors(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the inputs of a model; a declared one need not be loaded for it."""
    if not (folder / DECLARATION_FILE).is_file():
        predictor = TensorPredictor(folder)
        columns = predictor.convert_rows(rows)
        return {name: np.stack(columns[name]) for name in predictor.specs}
    features = FeatureSet.model_validate_json((folder / DECLARATION_FILE).read_text())
    options = ReadOptions.model_validate_json((folder / READ_OPTIONS_FILE).read_text())
    inputs = build_inputs(features, options)
    columns = convert_rows(inputs, rows)
    return {
        name: np.array(columns[name], DTYPES[field.kind].as_numpy_dtype).reshape(len(rows))
        for name, field in inputs.items()
    }


def _build_log(tensors: Mapping[str, Any]) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest(inputs={name: write_tensor(array) for name, array in tensors.items()})
    request.model_spec.signature_name = SERVING_DEFAULT
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def run_warmup(folder: Path, predictor: Predictor | TensorPredictor) -> int:
    """Send a version its warm-up requests, if it has any; return their number.

    Raises:
      PushError: the file is damaged or too large, or the model rejects a request. TF Serving would not serve the
        version, either.
    """
    file = folder / WARMUP_FILE
    if not file.is_file():
        return 0
    if file.stat().st_size > _MAX_BYTES:
        raise PushError(f"{file}: has more than {_MAX_BYTES:,} bytes; write fewer requests into it")
    number = 0
    try:
        for record in tf.data.TFRecordDataset(make_literal_path(file)).as_numpy_iterator():
            if number == _MAX_RECORDS:
                raise PushError(f"{file}: has more than {_MAX_RECORDS:,} requests; write fewer into it")
            _send(prediction_log_pb2.PredictionLog.FromString(record), predictor)
            number += 1
    except (ValueError, DecodeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise PushError(f"{file}: request {number}: {reason}; write the file again, or remove it") from error
    if not number and file.stat().st_size:
        # TensorFlow takes a file that is cut off within its first header for an empty one.
        raise PushError(f"{file}: holds no request; write the file again, or remove it")
    return number


def _send(log: prediction_log_pb2.PredictionLog, predictor: Predictor | TensorPredictor) -> None:
    kind = log.WhichOneof("log_type")
    match kind:
        case "predict_log":
            _predict(log.predict_log.request, predictor)
        case "classify_log" | "regress_log":
            request = getattr(log, kind).request
            _predict_examples(read_input(request.input, _MAX_ROWS), request.model_spec.signature_name, predictor)
        case "multi_inference_log":
            request = log.multi_inference_log.request
            for task in request.tasks:
                _predict_examples(read_input(request.input, _MAX_ROWS), task.model_spec.signature_name, predictor)
        case "session_run_log":
            _run_session(log.session_run_log.request, predictor)
        case _:
            raise ValueError(f"expected a request of PredictionService or SessionService, found {kind}")


def _predict(request: predict_pb2.PredictRequest, predictor: Predictor | TensorPredictor) -> None:
    signature = request.model_spec.signature_name or SERVING_DEFAULT
    if signature not in predictor.signatures:
        raise ValueError(f"there is no signature '{signature[:80]}'")
    if isinstance(predictor, TensorPredictor):
        selected = predictor.select(signature)
        tensors = {name: read_tensor(name, tensor, _MAX_BYTES).tolist() for name, tensor in request.inputs.items()}
        selected.predict_columns(selected.convert_columns(tensors))
    elif signature == SERVING_DEFAULT:
        # As TF Serving does, without a conversion: missing values are already those of the graph.
        if request.inputs.keys() != predictor.inputs.keys():
            raise ValueError(f"expected the inputs {', '.join(predictor.inputs)}")
        predictor.predict_columns({n: read_column(n, tensor, _MAX_ROWS) for n, tensor in request.inputs.items()})
    else:
        predictor.predict_examples(read_column("examples", request.inputs["examples"], _MAX_ROWS))


def _run_session(request: session_service_pb2.SessionRunRequest, predictor: Predictor | TensorPredictor) -> None:
    if request.tensor_name_is_alias:
        raise ValueError("SessionRun: expected the graph's names of tensors, found aliases")
    feed = {entry.name: read_tensor(entry.name, entry.tensor, _MAX_BYTES) for entry in request.feed}
    predictor.run_tensors(feed, request.fetch, request.target)


def _predict_examples(records: list[bytes], signature: str, predictor: Predictor | TensorPredictor) -> None:
    if isinstance(predictor, Predictor):
        predictor.predict_examples(records)
        return
    signature = signature or SERVING_DEFAULT
    if signature not in predictor.signatures:
        raise ValueError(f"there is no signature '{signature[:80]}'")
    selected = predictor.select(signature)
    selected.predict_columns(selected.convert_examples(records))
