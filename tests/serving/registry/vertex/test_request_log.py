"""The request log of an endpoint: a push sets it, says what it replaces, and leaves it without the key."""

import pytest
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from serving.registry.vertex.config import VertexRequestLog
from serving.registry.vertex.request_log import FIELD, RequestLogSetting
from tests.vertex_fixtures import PROJECT, Bench

TABLE = f"{PROJECT}.logs.requests"
SETTING = RequestLogSetting(TABLE, 0.5)


@pytest.fixture
def logging_bench(bench: Bench) -> Bench:
    (bench.server.emulator.bigquery / PROJECT / "logs").mkdir(parents=True)
    configure(bench, VertexRequestLog(table=TABLE, sampling_rate=0.5))
    return bench


def configure(bench: Bench, request_log: VertexRequestLog | None) -> None:
    bench.deployment = bench.deployment.model_copy(update={"request_log": request_log})


def push(bench: Bench, offset: float, run: str) -> list[str]:
    """Push a model; return what the push prints."""
    lines: list[str] = []
    bench.registry(lines.append).push(bench.candidate(offset, run))
    return lines


def set_by_hand(bench: Bench, message: v1.PredictRequestResponseLoggingConfig) -> None:
    changed = v1.Endpoint(name=bench.endpoint().resource, **{FIELD: message})
    bench.vertex().endpoints.update_endpoint(v1.UpdateEndpointRequest(endpoint=changed, update_mask={"paths": [FIELD]}))


def test_a_push_sets_the_request_log_once(logging_bench: Bench) -> None:
    line = f"request log: 50 % of the requests to {TABLE}; before: off"
    assert line in logging_bench.registry().plan(logging_bench.candidate(0.1)).lines
    assert f"{line} (endpoint census-income)" in push(logging_bench, 0.1, "run-1")
    assert logging_bench.endpoint().request_log == SETTING
    assert not [text for text in push(logging_bench, 0.2, "run-2") if text.startswith("request log")]
    assert logging_bench.rollout(logging_bench.push(0.2, "run-3")).request_log == str(SETTING)


def test_the_key_takes_effect_though_the_model_is_pushed_already(logging_bench: Bench) -> None:
    push(logging_bench, 0.1, "run-1")
    configure(logging_bench, VertexRequestLog(table=TABLE, sampling_rate=1))
    plan = logging_bench.registry().plan(logging_bench.candidate(0.1))
    assert plan.is_done
    assert plan.lines[-1] == (f"request log: 100 % of the requests to {TABLE}; before: 50 % of the requests to {TABLE}")
    push(logging_bench, 0.1, "run-2")
    assert logging_bench.endpoint().request_log == RequestLogSetting(TABLE, 1.0)


def test_a_setting_made_by_hand_is_named_before_and_when_it_is_replaced(logging_bench: Bench) -> None:
    push(logging_bench, 0.1, "run-1")
    destination = v1.BigQueryDestination(output_uri=f"bq://{PROJECT}")
    set_by_hand(
        logging_bench,
        v1.PredictRequestResponseLoggingConfig(enabled=True, sampling_rate=1, bigquery_destination=destination),
    )
    line = f"request log: 50 % of the requests to {TABLE}; before: 100 % of the requests to {PROJECT}"
    assert line in logging_bench.registry().plan(logging_bench.candidate(0.2)).lines
    assert logging_bench.endpoint().request_log == RequestLogSetting(PROJECT, 1.0)
    assert f"{line} (endpoint census-income)" in push(logging_bench, 0.2, "run-2")


def test_without_the_key_a_setting_stays_and_a_rate_of_0_turns_it_off(logging_bench: Bench) -> None:
    push(logging_bench, 0.1, "run-1")
    configure(logging_bench, None)
    push(logging_bench, 0.2, "run-2")
    assert logging_bench.endpoint().request_log == SETTING
    configure(logging_bench, VertexRequestLog(table=TABLE, sampling_rate=0))
    assert f"request log: off; before: {SETTING} (endpoint census-income)" in push(logging_bench, 0.3, "run-3")
    assert logging_bench.endpoint().request_log is None


def test_a_dataset_that_does_not_exist_ends_the_push_before_any_traffic_moves(bench: Bench) -> None:
    configure(bench, VertexRequestLog(table=TABLE))
    with pytest.raises(PushError, match=r"^push\.vertex\.request_log: .*Not found: Dataset my-project:logs"):
        bench.push(0.1)
    assert not bench.endpoint().deployed


def test_a_permission_that_is_missing_is_named(logging_bench: Bench) -> None:
    logging_bench.fault(method="UpdateEndpoint", code="PERMISSION_DENIED", times=1)
    with pytest.raises(PushError, match=r"^push\.vertex\.request_log: permission denied: .*; grant roles/aiplatform"):
        logging_bench.push(0.1)


@pytest.mark.parametrize("table", ["requests", "logs.requests", "bq://my-project.logs.requests", "gs://logs/requests"])
def test_a_table_without_its_project_is_rejected_in_the_config(table: str) -> None:
    with pytest.raises(ValueError, match=r"expected PROJECT\.DATASET\.TABLE"):
        VertexRequestLog(table=table)
