"""The columns of a shard from the requests and responses of Vertex AI, which are JSON. Imports no TensorFlow.

They are those that a server's own log has of the same version: values after the rules of the training table, so that
the rules read them back unchanged.
"""

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cli.counts import format_count
from schemas.tables.log_columns import PREDICTION_PREFIX
from serving.model.inputs import Inputs, RequestError, convert_rows
from serving.registry.content import parse_json
from serving.request_log.input_fields import build_field, find_writer
from serving.request_log.shards import ERROR, ID, KEY, LOG_FIELDS, ROW, TIME, VERSION
from serving.request_log.vertex_table import LoggedRequest

# Of a raw prediction, a payload is the whole body.
_INSTANCES, _PREDICTIONS, _FAILURE = "instances", "predictions", "error"
_NOT_PREDICTED = "the log has no predictions"


class MalformedRequestError(ValueError):
    """A row of the log is not a request and its response. The message shows no value."""


@dataclass(frozen=True)
class Prediction:
    """A request that was answered or rejected.

    Attributes:
      instances: Rows of the request.
      outputs: Outputs by name for each row; empty for a rejected request.
      error: Reason of the rejection; empty for an answered request.
    """

    instances: Sequence[Any]
    outputs: Sequence[Mapping[str, Any]] = ()
    error: str = ""


def parse_request(request: LoggedRequest) -> Prediction:
    """Return a request with its predictions.

    Raises:
      MalformedRequestError: A payload is not JSON, or the payloads do not belong together.
    """
    instances = _parse_payload(request.request, "request_payload", _INSTANCES)
    if not instances:
        raise MalformedRequestError("request_payload is empty")
    outputs = _parse_payload(request.response, "response_payload", _PREDICTIONS)
    if not outputs:
        return Prediction(instances, error=_NOT_PREDICTED)
    if len(outputs) == 1 and isinstance(outputs[0], dict) and outputs[0].keys() == {_FAILURE}:
        return Prediction(instances, error=_read_failure(outputs[0][_FAILURE]))
    if len(outputs) != len(instances):
        raise MalformedRequestError(
            f"request_payload has {format_count(len(instances), 'row')}, response_payload {len(outputs):,}"
        )
    for row, output in enumerate(outputs):
        if not isinstance(output, dict):
            raise MalformedRequestError(f"response_payload[{row}]: expected an object, found {type(output).__name__}")
    return Prediction(instances, outputs)


def _parse_payload(payload: Sequence[str], name: str, body_key: str) -> list[Any]:
    values = []
    for index, text in enumerate(payload):
        try:
            values.append(parse_json(text))
        except ValueError as error:
            raise MalformedRequestError(f"{name}[{index}] is not JSON: {error}") from error
    if len(values) == 1 and isinstance(values[0], dict) and isinstance(values[0].get(body_key), list):
        return list(values[0][body_key])
    return values


def _read_failure(value: Any) -> str:
    message = value.get("message", value) if isinstance(value, dict) else value
    return message if isinstance(message, str) else json.dumps(message)


@dataclass
class VersionRows:
    """Rows of one version that are not written yet.

    Attributes:
      number: Number of the version.
      inputs: Inputs of its model.
      masked: Sensitive input columns that are left out.
      key: Column that `_request_key` comes from; empty for none.
      waiting: Requests that are not converted yet; the values of many are converted at once.
    """

    number: int
    inputs: Inputs
    masked: Sequence[str]
    key: str = ""
    waiting: list[tuple[LoggedRequest, Prediction]] = field(default_factory=list)
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _output_types: dict[str, pa.DataType] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of converted rows."""
        return len(self._rows)

    @property
    def has_key_column(self) -> bool:
        """Whether a request may have the key's column, though the model does not use it."""
        return self.key in self.inputs.own_columns or self.key in self.inputs.other_columns

    def convert(self) -> list[tuple[LoggedRequest, str]]:
        """Convert the requests that wait; return the malformed ones, each with its problem.

        Malformed is an answered request that does not fit the model, or whose outputs have other types than those of
        earlier requests.
        """
        waiting, self.waiting = self.waiting, []
        try:
            self._rows += self._convert(waiting)
        except MalformedRequestError:
            malformed = []
            for request, prediction in waiting:
                try:
                    self._rows += self._convert([(request, prediction)])
                except MalformedRequestError as error:
                    malformed.append((request, str(error)))
            return malformed
        return []

    def _convert(self, group: Sequence[tuple[LoggedRequest, Prediction]]) -> list[dict[str, Any]]:
        """Return the rows of requests.

        Raises:
          MalformedRequestError: One of them is malformed.
        """
        rows = [
            {TIME: request.time, ID: request.id, ROW: 0, VERSION: self.number, ERROR: self._explain(prediction)}
            for request, prediction in group
            if prediction.error
        ]
        answered = [
            (request, row, instance, prediction.outputs[row])
            for request, prediction in group
            if not prediction.error
            for row, instance in enumerate(prediction.instances)
        ]
        try:
            columns = convert_rows(self.inputs, [self._drop_key(instance) for _, _, instance, _ in answered])
        except RequestError as error:
            raise MalformedRequestError(f"the model of version {self.number} does not take it: {error}") from error
        types = dict(self._output_types)
        for _, row, _, outputs in answered:
            for name, value in outputs.items():
                _check_type(types, name, value, row)
        inputs = [
            (column.column, find_writer(column)(columns[name]).to_pylist())
            for name, column in self.inputs.items()
            if column.column not in self.masked
        ]
        for index, (request, row, instance, outputs) in enumerate(answered):
            log = {TIME: request.time, ID: request.id, ROW: row, KEY: self._read_key(instance), VERSION: self.number}
            values = {name: written[index] for name, written in inputs}
            rows.append({**log, **values, **{f"{PREDICTION_PREFIX}{name}": _decode(v) for name, v in outputs.items()}})
        self._output_types = types
        return rows

    def _explain(self, prediction: Prediction) -> str:
        """Return the reason of a rejection in the words of the model server, as far as it can be found."""
        try:
            convert_rows(self.inputs, list(map(self._drop_key, prediction.instances)))
        except RequestError as error:
            return str(error)
        return prediction.error

    def _drop_key(self, instance: Any) -> Any:
        if not self.key or self.has_key_column or not isinstance(instance, Mapping):
            return instance
        return {name: value for name, value in instance.items() if name != self.key}

    def _read_key(self, instance: Any) -> str | None:
        value = instance.get(self.key) if self.key else None
        if isinstance(value, float) and value.is_integer():
            # Vertex AI keeps numbers as doubles.
            value = int(value)
        return None if value is None or value == "" else str(value)

    def take(self) -> pa.Table:
        """Return the rows in the order of time, and forget them."""
        rows = sorted(self._rows, key=lambda row: (row[TIME], row[ID], row[ROW]))
        self._rows = []
        fields = [
            *LOG_FIELDS,
            *(build_field(column) for column in self.inputs.values() if column.column not in self.masked),
            *(pa.field(f"{PREDICTION_PREFIX}{name}", type_) for name, type_ in sorted(self._output_types.items())),
        ]
        schema = pa.schema(fields)
        return pa.table({name: [row.get(name) for row in rows] for name in schema.names}, schema=schema)


def _check_type(types: dict[str, pa.DataType], name: str, value: Any, row: int) -> None:
    """Note the type of an output, or compare it with the one that is noted."""
    if value is None:
        return
    type_ = _find_type(value)
    if type_ is None:
        raise MalformedRequestError(f"response_payload[{row}]: {name}: expected a string, a number or a list of them")
    if types.setdefault(name, type_) != type_:
        raise MalformedRequestError(f"response_payload[{row}]: {name}: is {type_}, and {types[name]} in earlier rows")


_PLAIN_TYPES: Mapping[type, Callable[[], pa.DataType]] = {
    str: pa.string,
    bool: pa.bool_,
    int: pa.float32,
    float: pa.float32,
}


def _find_type(value: Any) -> pa.DataType | None:
    if isinstance(value, list):
        types: Collection[Any] = {_find_type(item) for item in value}
        return pa.list_(*types) if len(types) == 1 and None not in types else None
    if isinstance(value, dict):
        return pa.binary() if value.keys() == {"b64"} else None
    plain = _PLAIN_TYPES.get(type(value))
    return plain() if plain is not None else None


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (TypeError, ValueError) as error:
            raise MalformedRequestError("response_payload: b64 is not base64") from error
    # A whole number that float32 cannot hold is one that it rounds.
    return float(value) if type(value) is int else value
