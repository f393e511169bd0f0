"""The protocol of model registries, on each implementation: the folder, and Vertex AI's emulator over gRPC."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.errors import PushError
from serving.registry import LocalRegistry
from serving.registry.protocol import Candidate, ModelRegistry, PushedVersion, ServingSwitch
from tests.serving.registry.local.registry_bench import model
from tests.vertex_fixtures import Bench

# Models by the offset of their answers.
FIRST, SECOND, THIRD = 0.1, 0.2, 0.3


@dataclass
class Implementation:
    """A registry of either kind, and models to push to it."""

    open: Callable[[], ModelRegistry]
    make_candidate: Callable[..., Candidate]

    def push(self, offset: float, run: str = "run-1", **options: str | int) -> PushedVersion:
        return self.open().push(self.make_candidate(offset, run, **options))


def local(folder: Path) -> Implementation:
    def make_candidate(
        offset: float, run: str = "run-1", *, pipeline: str = "census-income", version: int | None = None
    ) -> Candidate:
        source = folder / str(offset)
        return Candidate(pipeline, version, run, folder=source if source.exists() else model(source, str(offset)))

    return Implementation(lambda: LocalRegistry(folder / "registry", "census-income"), make_candidate)


@pytest.fixture(params=["local", pytest.param("vertex", marks=pytest.mark.integration)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Implementation:
    if request.param == "local":
        return local(tmp_path)
    bench: Bench = request.getfixturevalue("bench")
    return Implementation(bench.registry, bench.candidate)


def test_a_push_becomes_the_serving_version(registry: Implementation) -> None:
    plan = registry.open().plan(Candidate("census-income"))
    assert (plan.version, plan.is_done) == (1, False)
    pushed = registry.push(FIRST)
    assert (pushed.version, pushed.pushed, pushed.traffic) == (1, True, {1: 100})
    serving = registry.open().read_serving()
    assert (serving.champion, serving.traffic) == (1, {1: 100})
    assert [(version.number, version.state) for version in registry.open().list_versions()] == [(1, "champion")]
    assert registry.open().inspect()["content_fits"] is True
    assert [(event["action"], event["version"]) for event in registry.open().read_history()] == [("push", 1)]


def test_a_name_of_another_pipeline_is_rejected_and_nothing_changes(registry: Implementation) -> None:
    registry.push(FIRST)
    expected = r"taken: version 1 .*the pipeline 'census-income', not (by|to) 'other'"
    with pytest.raises(PushError, match=expected):
        registry.open().plan(Candidate("other"))
    with pytest.raises(PushError, match=expected):
        registry.push(SECOND, "run-2", pipeline="other")
    assert registry.open().read_serving().traffic == {1: 100}
    assert len(registry.open().list_versions()) == 1


def test_a_version_with_other_content_is_rejected_and_the_next_number_is_named(registry: Implementation) -> None:
    registry.push(FIRST)
    for candidate in (Candidate("census-income", 1), registry.make_candidate(SECOND, "run-2", version=1)):
        with pytest.raises(PushError, match=r"version 1 .*pushed by run run-1.*push\.version to push as 2"):
            registry.open().plan(candidate)
    with pytest.raises(PushError, match=r"version 1 .*pushed by run run-1.*push\.version to push as 2"):
        registry.push(SECOND, "run-2", version=1)
    assert len(registry.open().list_versions()) == 1


def test_the_same_content_is_pushed_once(registry: Implementation) -> None:
    first = registry.push(FIRST)
    for version in ({}, {"version": 1}):
        assert registry.open().plan(registry.make_candidate(FIRST, "run-2", **version)).is_done
        again = registry.push(FIRST, "run-2", **version)
        assert (again.version, again.pushed, again.destination) == (1, False, first.destination)
    with pytest.raises(PushError, match=r"this very model is version 1 .*already; push\.version asks for 5"):
        registry.push(FIRST, "run-2", version=5)
    assert len(registry.open().list_versions()) == 1


def test_of_two_pushes_of_one_number_at_once_exactly_one_gets_it(registry: Implementation) -> None:
    registry.push(FIRST)
    candidates = [registry.make_candidate(offset, f"run-{offset}", version=2) for offset in (SECOND, THIRD)]
    registries = [registry.open() for _ in candidates]
    start = threading.Barrier(2)
    outcomes: list[PushedVersion | PushError] = []

    def push(place: ModelRegistry, candidate: Candidate) -> None:
        start.wait()
        try:
            outcomes.append(place.push(candidate))
        except PushError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=push, args=pair) for pair in zip(registries, candidates, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, PushedVersion)]
    (loser,) = [outcome for outcome in outcomes if isinstance(outcome, PushError)]
    run = next(candidate.run_id for candidate in candidates if candidate.content_hash == winner.content_hash)
    assert (winner.version, winner.pushed) == (2, True)
    assert run in str(loser)
    assert [version.number for version in registry.open().list_versions()] == [1, 2]
    assert registry.open().read_serving().traffic == {2: 100}


def test_a_rollback_is_planned_then_done_and_not_undone_by_a_rerun(registry: Implementation) -> None:
    registry.push(FIRST)
    registry.push(SECOND, "run-2")
    switch = ServingSwitch("rollback", 1, 2, changed=True)
    assert registry.open().roll_back(dry_run=True) == switch
    assert registry.open().read_serving().traffic == {2: 100}
    assert registry.open().roll_back(reason="bad predictions") == switch
    assert not registry.push(SECOND, "run-3").pushed
    assert registry.open().read_serving().traffic == {1: 100}
    assert [(version.number, version.state) for version in registry.open().list_versions()] == [
        (1, "champion"),
        (2, "previous"),
    ]
    last = registry.open().read_history()[-1]
    assert (last["action"], last["version"], last["reason"]) == ("rollback", 1, "bad predictions")
    assert registry.open().promote(2) == ServingSwitch("promote", 2, 1, changed=True)
    assert not registry.open().promote(2).changed


def test_gc_keeps_versions_in_use(registry: Implementation) -> None:
    for number, offset in enumerate((FIRST, SECOND, THIRD), 1):
        registry.push(offset, f"run-{number}")
    planned = registry.open().gc(keep_last=1, dry_run=True)
    assert (planned.versions, planned.deleted) == ([1], False)
    assert registry.open().gc(keep_last=1).versions == [1]
    assert [version.number for version in registry.open().list_versions()] == [2, 3]
