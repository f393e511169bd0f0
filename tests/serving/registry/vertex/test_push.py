"""Pushes to Vertex AI, through the real client, against the emulator."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cli.errors import PushError
from serving.registry.vertex.plan import shift_share
from tests.vertex_fixtures import BUCKET, Bench


def test_a_first_push_registers_deploys_and_becomes_the_champion(bench: Bench) -> None:
    pushed = bench.push(0.1)
    assert (pushed.pushed, pushed.version, bench.rollout(pushed).version_id) == (True, 1, "1")
    assert pushed.destination == f"{bench.model().resource}@1"
    assert bench.serving() == {1: 100}
    assert bench.aliases() == {1: ["champion", "default", "v1"]}
    (version,) = bench.model().versions
    assert version.labels["pipeline"] == "census-income"
    assert version.labels["run-id"] == "run-1"
    assert version.labels["push-state"] == "finished"
    assert version.artifact_uri.startswith(f"gs://{BUCKET}/root/models/census-income/")


def test_a_second_push_is_version_2_after_a_canary_and_the_first_stays_deployed(bench: Bench) -> None:
    bench.push(0.1)
    shares = []
    registry = bench.registry(lambda line: shares.append(line) if "answers as it should" in line else None)
    pushed = registry.push(bench.candidate(0.2, "run-2"))
    assert [line.split(" at ")[1].split(" %")[0] for line in shares] == ["10", "50", "100"]
    assert pushed.traffic == {2: 100}
    result = bench.rollout(pushed)
    assert result.traffic_before == {bench.endpoint().find_deployment(result.model, "1").id: 100}  # type: ignore[union-attr]
    assert bench.aliases() == {1: ["previous", "v1"], 2: ["champion", "default", "v2"]}
    assert {d.version_id for d in bench.endpoint().deployed} == {"1", "2"}


def test_a_third_push_undeploys_all_but_the_last_two(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.push(number / 10, f"run-{number}")
    assert {d.version_id for d in bench.endpoint().deployed} == {"2", "3"}
    # The history has the deployment that is gone.
    deployments = bench.registry().list_deployments()
    assert sorted(deployments.versions.values()) == [1, 2, 3] == sorted(deployments.folders)
    assert bench.aliases() == {1: ["v1"], 2: ["previous", "v2"], 3: ["champion", "default", "v3"]}


def test_a_canary_that_is_the_last_step_waits_for_its_promotion(bench: Bench) -> None:
    bench.push(0.1)
    bench.deployment = bench.deployment.model_copy(update={"traffic_steps": (10,)})
    assert bench.push(0.2, "run-2").traffic == {1: 90, 2: 10}
    assert bench.aliases() == {1: ["champion", "default", "v1"], 2: ["candidate", "v2"]}


def test_the_same_model_again_changes_nothing(bench: Bench) -> None:
    bench.push(0.1)
    bench.server.emulator.faults.calls.clear()
    again = bench.push(0.1, "run-2")
    assert (again.pushed, again.version, again.traffic) == (False, 1, {1: 100})
    assert not {"UploadModel", "DeployModel", "UpdateEndpoint"} & {*bench.server.emulator.faults.calls}


def test_a_name_that_is_anothers_is_refused(bench: Bench) -> None:
    bench.push(0.1)
    with pytest.raises(
        PushError, match="is taken: version 1 of .* belongs to the pipeline 'census-income', not to 'other'"
    ):
        bench.push(0.2, "run-2", pipeline="other")
    assert bench.aliases() == {1: ["champion", "default", "v1"]}


def test_a_version_that_holds_other_content_is_refused(bench: Bench) -> None:
    bench.push(0.1)
    with pytest.raises(PushError, match=r"version 1 of 'census-income' is taken.*pushed by run run-1.*push as 2"):
        bench.push(0.2, "run-2", version=1)


def test_a_version_may_be_chosen(bench: Bench) -> None:
    bench.push(0.1)
    assert bench.push(0.2, "run-2", version=7).version == 7
    assert bench.push(0.3, "run-3").version == 8
    assert bench.serving() == {8: 100}


def test_strangers_of_the_same_display_name_are_refused_and_listed(bench: Bench) -> None:
    from google.cloud import aiplatform_v1 as v1

    client = bench.vertex().models
    for image in ("a", "b"):
        model = v1.Model(display_name=bench.name, container_spec={"image_uri": image})
        client.upload_model(request=v1.UploadModelRequest(parent=bench.place.parent, model=model)).result()
    with pytest.raises(PushError, match=r"2 resources \(.*models/\d+, .*models/\d+\) not made by this pipeline"):
        bench.push(0.1)


def test_two_endpoints_of_one_name_are_refused_and_listed(bench: Bench) -> None:
    from google.cloud import aiplatform_v1 as v1

    client = bench.vertex().endpoints
    for _ in range(2):
        client.create_endpoint(parent=bench.place.parent, endpoint=v1.Endpoint(display_name=bench.name)).result()
    with pytest.raises(PushError, match=r"'census-income' is the name of 2 resources \(.*; delete or rename"):
        bench.push(0.1)
    assert not bench.model().versions


def test_an_endpoint_that_is_there_is_reused(bench: Bench) -> None:
    from google.cloud import aiplatform_v1 as v1

    client = bench.vertex().endpoints
    endpoint = client.create_endpoint(parent=bench.place.parent, endpoint=v1.Endpoint(display_name=bench.name)).result()
    assert bench.rollout(bench.push(0.1)).endpoint == endpoint.name


def test_an_endpoint_that_serves_other_models_is_refused(bench: Bench) -> None:
    bench.push(0.1)
    bench.deployment = bench.deployment.model_copy(update={"endpoint": "census-income"})
    bench.name = "another-model"
    with pytest.raises(PushError, match=r"endpoints/census-income serves .*models/census-income"):
        bench.push(0.1)


def test_an_image_with_an_older_tensorflow_is_refused_before_anything_is_uploaded(bench: Bench) -> None:
    bench.deployment = type(bench.deployment)(
        serving_image="europe-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    )
    with pytest.raises(PushError, match=r"holds TensorFlow 2\.15, and the model was written by 2\.21"):
        bench.push(0.1)
    assert not any((bench.server.emulator.storage / BUCKET).iterdir())


def test_a_model_without_golden_requests_is_refused_before_anything_is_uploaded(bench: Bench) -> None:
    with pytest.raises(PushError, match=r"census-income: the model has no golden requests, so that its endpoint"):
        bench.registry().push(replace(bench.candidate(0.1), golden=b""))
    assert not any((bench.server.emulator.storage / BUCKET).iterdir())


def test_wrong_answers_give_the_traffic_back(bench: Bench) -> None:
    bench.push(0.1)
    with pytest.raises(PushError, match=r"version 2 was taken off again.*wrong answer to a golden request: request 0"):
        bench.push(0.2, "run-2", wrong=0.05)
    assert bench.serving() == {1: 100}
    assert {d.version_id for d in bench.endpoint().deployed} == {"1"}
    assert bench.aliases() == {1: ["champion", "default", "v1"], 2: ["v2"]}
    assert bench.model().find_by_id("2").labels["push-state"] == "rejected"  # type: ignore[union-attr]


def test_a_rejected_model_that_answers_well_at_the_next_try_is_served(bench: Bench) -> None:
    bench.push(0.1)
    with pytest.raises(PushError):
        bench.push(0.2, "run-2", wrong=0.05)
    assert bench.push(0.2, "run-3").version == 2
    assert bench.serving() == {2: 100}


def test_a_model_that_cannot_be_loaded_gives_the_traffic_back(bench: Bench, tmp_path: Path) -> None:
    bench.push(0.1)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a model")
    bench.deployment = bench.deployment.model_copy(update={"smoke_timeout_seconds": 0.1})
    bench.server.emulator.warm_up_seconds = 0.0
    with pytest.raises(PushError, match="no answer of deployment .* last error: InternalServerError: The model failed"):
        bench.registry().push(replace(bench.candidate(0.2, "run-2"), folder=broken))
    assert bench.serving() == {1: 100}


def test_a_first_model_with_wrong_answers_leaves_an_empty_endpoint(bench: Bench) -> None:
    with pytest.raises(PushError, match="wrong answer"):
        bench.push(0.1, wrong=1.0)
    assert bench.endpoint().deployed == ()


def test_two_pushes_at_once_leave_one_winner_and_name_it(bench: Bench) -> None:
    bench.push(0.1)
    bench.fault(method="UploadModel", delay_seconds=1.0)
    outcomes: dict[str, object] = {}

    def push(offset: float, run: str) -> None:
        try:
            outcomes[run] = bench.push(offset, run)
        except PushError as error:
            outcomes[run] = str(error)

    threads = [threading.Thread(target=push, args=(0.2, "run-a")), threading.Thread(target=push, args=(0.3, "run-b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (loser,) = [run for run, outcome in outcomes.items() if isinstance(outcome, str)]
    winner = "run-b" if loser == "run-a" else "run-a"
    assert f"under way: run {winner} of pipeline 'census-income'" in str(outcomes[loser])
    assert len(bench.model().versions) == 2


@pytest.mark.proof
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_push_cut_off_at_any_change_is_finished_by_the_next_one(bench: Bench, when: str) -> None:
    """Version 2, with each of its changing calls in turn ending in an error that no retry fixes."""
    bench.deployment = bench.deployment.model_copy(update={"traffic_steps": (50, 100)})
    bench.push(0.1)
    for cut in range(100):
        offset = 0.2 + cut / 1000
        bench.fault(method="mutation", code="INVALID_ARGUMENT", message="cut off", when=when, skip=cut)
        try:
            bench.push(offset, f"cut-{cut}")
        except PushError:
            bench.server.emulator.faults.waiting.clear()
            pushed = bench.push(offset, f"again-{cut}")
        else:
            bench.server.emulator.faults.waiting.clear()
            break
        assert bench.serving() == {pushed.version: 100}
        assert bench.model().find_by_alias("champion").number == pushed.version  # type: ignore[union-attr]
        assert bench.model().find_by_alias("candidate") is None
        held = [v for v in bench.model().versions if v.has_content(bench.candidate(offset).content_hash)]
        assert len(held) == 1
        deployed = [d.version_id for d in bench.endpoint().deployed]
        assert len(deployed) == len({*deployed}) == 2
    assert cut >= 8
    assert len(bench.vertex().list_all(bench.vertex().endpoints.list_endpoints, {"parent": bench.place.parent})) == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize("when", ["before", "after", "operation"])
def test_passing_failures_are_retried_without_a_second_copy(bench: Bench, code: str, when: str) -> None:
    methods = ("UploadModel", "CreateEndpoint", "DeployModel")
    for method in (*methods, *(("MergeVersionAliases", "UpdateModel") if when != "operation" else ())):
        bench.fault(method=method, code=code, when=when)
    pushed = bench.push(0.1)
    assert not bench.server.emulator.faults.waiting
    assert pushed.traffic == {1: 100}
    assert len(bench.model().versions) == 1
    assert len(bench.endpoint().deployed) == 1


def test_a_dropped_operation_is_looked_for_instead_of_started_again(bench: Bench) -> None:
    bench.fault(method="GetOperation", code="NOT_FOUND")
    assert bench.push(0.1).traffic == {1: 100}
    assert len(bench.model().versions) == 1


def test_a_missing_permission_stops_at_once_and_names_the_role(bench: Bench) -> None:
    bench.fault(
        method="UploadModel",
        code="PERMISSION_DENIED",
        message="Permission 'aiplatform.models.upload' denied on resource",
        reason="IAM_PERMISSION_DENIED",
        metadata={"permission": "aiplatform.models.upload"},
    )
    with pytest.raises(
        PushError, match=r"permission denied.*grant roles/aiplatform.user \(it holds aiplatform.models.upload\)"
    ):
        bench.push(0.1)
    assert bench.server.emulator.faults.calls.count("UploadModel") == 0


def test_an_exhausted_quota_stops_at_once_and_is_named(bench: Bench) -> None:
    bench.fault(method="DeployModel", code="RESOURCE_EXHAUSTED", message="no more", quota="custom_model_serving_cpus")
    with pytest.raises(PushError, match="quota exhausted: custom_model_serving_cpus"):
        bench.push(0.1)
    assert bench.push(0.1, "run-2").traffic == {1: 100}


@pytest.mark.parametrize(
    "fault",
    [
        {"message": "no more", "quota": "custom_model_serving_cpus"},
        # As the service words it, without details.
        {"message": "The following quotas are exceeded: custom_model_serving_cpus"},
        {"message": "The following quota metrics exceed quota limits: custom_model_serving_cpus, others"},
    ],
)
def test_a_quota_that_ends_a_deployment_under_way_stops_at_once(bench: Bench, fault: dict[str, str]) -> None:
    bench.fault(method="DeployModel", code="RESOURCE_EXHAUSTED", when="operation", times=1000, **fault)
    with pytest.raises(PushError, match=r"^quota exhausted: custom_model_serving_cpus: "):
        bench.push(0.1)
    assert bench.server.emulator.faults.calls.count("DeployModel") == 1


def test_a_service_that_stays_away_ends_the_push_in_time(bench: Bench) -> None:
    bench.deployment = bench.deployment.model_copy(update={"deadline_seconds": 0.2})
    bench.fault(method="UploadModel", code="UNAVAILABLE", times=1000)
    with pytest.raises(PushError, match=r"did not answer within 0\.2 s \(\d+ attempts\)"):
        bench.push(0.1)


def test_the_plan_says_what_would_happen(bench: Bench) -> None:
    for number in (1, 2):
        bench.push(number / 10, f"run-{number}")
    plan = bench.registry().plan(bench.candidate(0.3))
    assert plan.lines == [
        "version 3 of census-income",
        "endpoint census-income, which serves version 2 with 100 %",
        "10 %, then 50 %, then 100 % of the traffic",
        "undeploy 1",
    ]


def test_a_split_always_sums_to_100_and_keeps_proportions() -> None:
    assert shift_share({"a": 33, "b": 33, "c": 34}, "0", 10) == {"0": 10, "a": 30, "b": 30, "c": 30}
    assert shift_share({"a": 90, "b": 10}, "b", 50) == {"b": 50, "a": 50}
    assert shift_share({"a": 1, "b": 1, "c": 98}, "0", 33) == {"0": 33, "a": 1, "b": 1, "c": 65}
    assert shift_share({}, "a", 10) == {"a": 100}
    for share in range(1, 100):
        assert sum(shift_share({"a": 13, "b": 29, "c": 58}, "0", share).values()) == 100


def test_a_model_of_the_origin_of_one_that_was_rolled_back_is_not_pushed(bench: Bench) -> None:
    registry = bench.registry()
    for number in (1, 2):
        registry.push(replace(bench.candidate(number / 10, f"run-{number}"), origin=f"recipe {number}"))
    registry.roll_back(reason="bad since noon")
    with pytest.raises(PushError) as refused:
        # Trained again: the weights differ.
        registry.push(replace(bench.candidate(0.3, "run-3"), origin="recipe 2"))
    event = registry.read_history()[-1]
    assert (event["action"], bench.serving()) == ("rollback", {1: 100})
    assert str(refused.value).startswith(
        f"census-income: the model is made of the same data, code and config as version 2, which {event['by']} rolled "
        f"back at {event['at']}: bad since noon; nothing was pushed. To undo that: python -m serving.registry promote "
    )
    assert str(refused.value).endswith(" --model census-income --version 2 --yes")
    assert registry.push(replace(bench.candidate(0.4, "run-4"), origin="recipe 3")).traffic == {3: 100}
