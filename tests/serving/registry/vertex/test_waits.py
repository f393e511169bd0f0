"""Waits: a deployment is listed late, or its endpoint is not ready."""

import pytest
from google.longrunning import operations_pb2

from cli.errors import PushError
from serving.registry.vertex import connection
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.connection import VertexClient
from tests.vertex_fixtures import PROJECT, REGION, Bench

pytestmark = pytest.mark.proof


def count(bench: Bench, method: str) -> int:
    return bench.server.emulator.faults.calls.count(method)


def test_a_deployment_that_is_listed_late_is_not_made_again(bench: Bench) -> None:
    bench.server.emulator.read_lag_seconds = 0.5
    assert bench.push(0.1).traffic == {1: 100}
    assert count(bench, "DeployModel") == 1


def test_a_deployment_that_is_never_listed_is_made_once_and_undeployed(bench: Bench) -> None:
    bench.server.emulator.read_lag_seconds = 3600.0
    bench.deployment = bench.deployment.model_copy(update={"deadline_seconds": 1.0})
    with pytest.raises(PushError, match="is not listed"):
        bench.push(0.1)
    bench.server.emulator.read_lag_seconds = 0.0
    assert count(bench, "DeployModel") == 1
    assert bench.endpoint().deployed == ()


def test_a_lost_answer_of_a_deployment_that_is_listed_late_makes_no_second_one(bench: Bench) -> None:
    bench.push(0.1)
    bench.server.emulator.read_lag_seconds = 0.5
    bench.fault(method="DeployModel", code="UNAVAILABLE", when="after")
    assert bench.push(0.2, "run-2").traffic == {2: 100}
    assert count(bench, "DeployModel") == 2


def test_a_push_that_fails_after_its_deployment_undeploys_it(bench: Bench) -> None:
    bench.push(0.1)
    bench.fault(method="UpdateEndpoint", code="PERMISSION_DENIED", message="denied", times=1)
    with pytest.raises(PushError, match="permission denied"):
        bench.push(0.2, "run-2")
    assert bench.serving() == {1: 100}
    assert {d.version_id for d in bench.endpoint().deployed} == {"1"}


def test_golden_requests_wait_until_the_endpoint_is_ready(bench: Bench) -> None:
    bench.server.emulator.warm_up_seconds = 0.3
    assert bench.push(0.1).traffic == {1: 100}
    assert bench.push(0.2, "run-2").traffic == {2: 100}
    assert count(bench, "DeployModel") == 2


def test_a_canary_its_promotion_and_its_rollback_wait_until_the_endpoint_is_ready(bench: Bench) -> None:
    bench.server.emulator.warm_up_seconds = 0.2
    bench.push(0.1)
    bench.deployment = bench.deployment.model_copy(update={"traffic_steps": (10,)})
    bench.push(0.2, "run-2")
    assert bench.serving() == {1: 90, 2: 10}
    assert bench.registry().promote().changed
    assert bench.serving() == {2: 100}
    assert bench.registry().roll_back().changed
    assert bench.serving() == {1: 100}


def test_golden_requests_wait_no_longer_than_the_smoke_timeout(bench: Bench) -> None:
    bench.push(0.1)
    bench.server.emulator.warm_up_seconds = 3600.0
    bench.deployment = bench.deployment.model_copy(update={"smoke_timeout_seconds": 0.2})
    with pytest.raises(PushError, match=r"within 0\.2 s \(0 answers of other versions; last error: .*503"):
        bench.push(0.2, "run-2")
    assert {d.version_id for d in bench.endpoint().deployed} == {"1"}


def test_a_short_operation_is_read_again_soon_and_a_long_one_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    vertex, pauses = VertexClient(VertexProject(project=PROJECT, region=REGION)), list[float]()
    monkeypatch.setattr(connection.time, "sleep", pauses.append)
    monkeypatch.setattr(vertex, "read_operation", lambda client, name: operations_pb2.Operation(done=len(pauses) == 7))
    assert vertex.wait(None, "operations/1", seconds=60).done
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
