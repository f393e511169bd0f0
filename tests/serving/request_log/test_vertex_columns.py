"""Requests and responses of Vertex AI become the rows that a server's own log has."""

import datetime
import json
from typing import Any

import pytest

from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.model.inputs import build_inputs
from serving.request_log.shards import ERROR, ID, KEY, ROW, VERSION
from serving.request_log.vertex_columns import MalformedRequestError, VersionRows, parse_request
from serving.request_log.vertex_table import LoggedRequest

TIME = datetime.datetime(2026, 11, 30, 2, tzinfo=datetime.UTC)
INPUTS = build_inputs(
    FeatureSet.model_validate(
        {
            "features": {
                "age": {"kind": "numeric", "missing": 0},
                "job": {"kind": "vocabulary", "max_size": 9, "missing": "none", "sensitive": True},
                "zone": {"kind": "identity", "num_ids": 300, "missing": 0},
                "start": {
                    "kind": "timestamp",
                    "format": "%d.%m.%Y %H:%M",
                    "parts": {"hour": {}},
                    "missing": "own_id",
                },
                "tags": {"kind": "list", "tokens": {"kind": "hash", "num_ids": 9}, "missing": "empty"},
            },
            "label": {"kind": "binary", "column": "y", "positive": "1", "negative": "0"},
        }
    ),
    ReadOptions(missing_values=("", "?"), other_columns=("id",)),
)


def build_request(instances: list[Any], outputs: list[Any], identity: str = "1") -> LoggedRequest:
    texts = list(map(json.dumps, instances)), list(map(json.dumps, outputs))
    return LoggedRequest("projects/1/locations/r/endpoints/e", "9", TIME, identity, *texts)


def convert(*requests: LoggedRequest, masked: tuple[str, ...] = (), key: str = "") -> dict[str, list[Any]]:
    rows = VersionRows(3, INPUTS, masked, key)
    rows.waiting += [(request, parse_request(request)) for request in requests]
    for _, problem in rows.convert():
        raise MalformedRequestError(problem)
    return dict(rows.take().to_pydict())


def test_values_are_those_of_the_training_table_and_missing_ones_are_nulls() -> None:
    row = {"age": 39.0, "job": "cook", "zone": 7.0, "start": "30.11.2026 02:05", "tags": ["a", "b"]}
    missing = {"age": None, "job": "?", "tags": ""}
    columns = convert(
        build_request([row, missing], [{"probability": 0.5, "predicted_label": "1"}, {"probability": 1}]), key=""
    )
    assert columns["age"] == [39.0, None]
    assert columns["job"] == ["cook", None]
    assert columns["zone"] == [7, None]
    assert columns["start"] == ["30.11.2026 02:05", None]
    assert columns["tags"] == [["a", "b"], None]
    assert columns["_prediction_probability"] == [0.5, 1.0]
    assert columns["_prediction_predicted_label"] == ["1", None]
    assert (columns[ID], columns[ROW], columns[VERSION]) == (["1", "1"], [0, 1], [3, 3])


def test_a_sensitive_column_is_left_out() -> None:
    columns = convert(build_request([{"job": "cook"}], [{"probability": 0.5}]), masked=("job",))
    assert "job" not in columns and "age" in columns


@pytest.mark.parametrize("key", ["id", "customer"])
def test_the_key_need_not_be_a_column_of_the_model(key: str) -> None:
    rows = [{"age": 1, key: 42.0}, {"age": 2, key: "x-1"}, {"age": 3}]
    columns = convert(build_request(rows, [{"probability": 0.5}] * 3), key=key)
    assert columns[KEY] == ["42", "x-1", None]


def test_the_body_of_a_raw_prediction_is_unpacked() -> None:
    request = build_request([{"instances": [{"age": 1}, {"age": 2}]}], [{"predictions": [{"p": 0.1}, {"p": 0.2}]}])
    assert convert(request)["age"] == [1.0, 2.0]


def test_a_rejected_request_is_one_row_with_the_reason_of_the_model() -> None:
    columns = convert(
        build_request([{"age": 1}, {"age": "old"}], []),
        build_request([{"age": 1}], [{"error": {"message": "deadline exceeded"}}], "2"),
    )
    assert columns[ERROR] == ["instances[1]: age: expected a finite number, found 'old'", "deadline exceeded"]
    assert columns[ID] == ["1", "2"]
    assert (columns[VERSION], columns["age"]) == ([3, 3], [None, None])


def test_a_malformed_request_does_not_take_others_with_it() -> None:
    rows = VersionRows(3, INPUTS, ())
    bad = build_request([{"agee": 1}], [{"p": 0.5}], "2")
    requests = [build_request([{"age": 1}], [{"p": 0.5}]), bad, build_request([{"age": 3}], [{"p": 1}], "3")]
    rows.waiting += [(request, parse_request(request)) for request in requests]
    ((request, problem),) = rows.convert()
    assert (request.id, "'agee' is unknown" in problem) == ("2", True)
    assert rows.take().column("age").to_pylist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("request_payload", "response_payload", "problem"),
    [
        ([], [], "request_payload is empty"),
        (['{"age": 1'], ["{}"], r"request_payload\[0\] is not JSON: "),
        (['{"age": 1}'], ["secret"], r"response_payload\[0\] is not JSON: "),
        (['{"age": 1}'], ["{}", "{}"], "request_payload has 1 row, response_payload 2"),
        (['{"age": 1}'], ["0.5"], r"response_payload\[0\]: expected an object, found float"),
        (['{"age": 1}'], ['{"p": {"a": 1}}'], r"response_payload\[0\]: p: expected a string, a number"),
        (['{"age": 1}'] * 2, ['{"p": 1}', '{"p": "a"}'], r"response_payload\[1\]: p: is string, and float in earlier"),
        (['{"agee": 1}'], ["{}"], r"the model of version 3 does not take it: instances\[0\]: 'agee' is unknown"),
        (['{"job": ["secret", "b"]}'], ["{}"], r"instances\[0\]: job: expected a string, found a list: \S+$"),
    ],
)
def test_a_malformed_request_is_named_without_its_values(
    request_payload: list[str], response_payload: list[str], problem: str
) -> None:
    request = LoggedRequest("e", "9", TIME, "1", request_payload, response_payload)
    with pytest.raises(MalformedRequestError, match=problem) as error:
        convert(request)
    assert "secret" not in str(error.value)
