"""Request-response logging of endpoints: each logged prediction is a row of a table of the emulated BigQuery.

PredictRequestResponseLoggingConfig.bigquery_destination: "If only given a project, a new dataset will be created with
name `logging_<endpoint-display-name>_<endpoint-id>`". "If no table name is given, a new table will be created with name
`request_response_logging`". BigQueryDestination.output_uri: "the Dataset must exist".

https://cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging has the columns. These are guesses: the
name in `endpoint`, the codes of rejected settings, and that a failed prediction is not logged.
"""

import datetime
import json
import random
import re
import threading
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from emulators.vertex.errors import InvalidArgumentError
from emulators.vertex.service import Emulator

_URI = re.compile(r"bq://([^./]+)(?:\.(\w+)(?:\.([\w-]+))?)?")
_DEFAULT_TABLE = "request_response_logging"
_SCHEMA = pa.schema(
    [
        pa.field("endpoint", pa.string()),
        pa.field("deployed_model_id", pa.string()),
        pa.field("logging_time", pa.timestamp("us", "UTC")),
        pa.field("request_id", pa.decimal128(38, 9)),
        pa.field("request_payload", pa.list_(pa.string())),
        pa.field("response_payload", pa.list_(pa.string())),
    ]
)
_LOCK = threading.Lock()
_RANDOM = random.Random(0)


def check_setting(emulator: Emulator, endpoint: Any) -> None:
    """Reject a setting that cannot be.

    PredictRequestResponseLoggingConfig.sampling_rate: "expressed as a fraction in range(0,1]".
    """
    setting = endpoint.predict_request_response_logging_config
    if not setting.enabled:
        return
    uri = setting.bigquery_destination.output_uri
    match = _URI.fullmatch(uri)
    if match is None:
        raise InvalidArgumentError(
            f"bigquery_destination.output_uri {uri!r} does not match bq://PROJECT.DATASET.TABLE."
        )
    if not 0 < setting.sampling_rate <= 1:
        raise InvalidArgumentError(f"sampling_rate {setting.sampling_rate:g} is not in (0, 1].")
    project, dataset, _ = match.groups()
    if dataset and not (emulator.bigquery / project / dataset).is_dir():
        raise InvalidArgumentError(f"Not found: Dataset {project}:{dataset}. The dataset must exist.")


def log_prediction(
    emulator: Emulator, endpoint: Any, deployed_model_id: str, instances: Sequence[Any], predictions: Sequence[Any]
) -> None:
    """Append a request and its response to the table of an endpoint, if it logs and the request is drawn."""
    setting = endpoint.predict_request_response_logging_config
    with _LOCK:
        if not setting.enabled or _RANDOM.random() >= setting.sampling_rate:
            return
        row = {
            "endpoint": endpoint.name,
            "deployed_model_id": deployed_model_id,
            "logging_time": datetime.datetime.now(datetime.UTC),
            # Of any start of the emulator, another one.
            "request_id": Decimal(uuid.uuid4().int >> 66),
            "request_payload": [json.dumps(instance) for instance in instances],
            "response_payload": [json.dumps(prediction) for prediction in predictions],
        }
        _append(_find_file(emulator, endpoint), row)


def _find_file(emulator: Emulator, endpoint: Any) -> Path:
    match = _URI.fullmatch(endpoint.predict_request_response_logging_config.bigquery_destination.output_uri)
    assert match is not None
    project, dataset, table = match.groups()
    display_name = re.sub(r"\W", "_", endpoint.display_name)
    dataset = dataset or f"logging_{display_name}_{endpoint.name.rpartition('/')[2].replace('-', '_')}"
    return emulator.bigquery / project / dataset / f"{table or _DEFAULT_TABLE}.arrows"


def _append(file: Path, row: dict[str, Any]) -> None:
    """Append a row to an Arrow stream, which needs no end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    start = b"" if file.exists() else _SCHEMA.serialize().to_pybytes()
    batch = pa.RecordBatch.from_pylist([row], _SCHEMA)
    with file.open("ab") as stream:
        stream.write(start + batch.serialize().to_pybytes())
