"""The rule judges only what the intervals settle, and never lets a version go back and forth."""

import math
from collections import Counter

import pytest
from scipy.stats import binomtest

from serving.registry import Ledger
from serving.rollout.evidence import LiveQuality, VersionEvidence, add_metrics
from serving.rollout.rule import Bounds, find_interval, find_percentile, judge
from serving.rollout.step import Step, decide

BOUNDS = Bounds(min_requests=100)
ALL = ("errors", "latency", "decisions")


def _evidence(
    *, answered: int = 1000, rejected: int = 0, slow: int = 0, rows: int = 0, changed: int = 0
) -> VersionEvidence:
    """Return requests within 10 ms, of which some are slow, and rows of a shadow."""
    outcomes = Counter({"answered": answered, "rejected": rejected})
    buckets = Counter({0.005: 0, 0.01: answered - slow, 0.1: answered, math.inf: answered})
    return VersionEvidence(outcomes, buckets, rows, changed)


GOOD, OLD = _evidence(rows=2000, changed=40), _evidence()


def _ledger(*, candidate: int | None = 2, origin: str = "a") -> Ledger:
    ledger = Ledger({}).record("push", 1, origin="a0").promote(1)
    if candidate is not None:
        ledger = ledger.record("push", candidate, origin=origin).nominate(candidate)
    return ledger


def _decide(ledger: Ledger, subject: VersionEvidence, before: VersionEvidence = OLD, version: int = 2) -> Step:
    return decide(ledger, ALL, BOUNDS, {version: subject, 1: before}, {})


def test_wilsons_interval_and_a_percentile_are_those_of_the_books() -> None:
    for count, total in ((5, 100), (0, 100), (999, 1000), (70, 1000)):
        expected = binomtest(count, total).proportion_ci(method="wilson")
        assert find_interval(count, total) == pytest.approx((expected.low, expected.high), abs=1e-6)
    low, middle, high = find_percentile({0.01: 900, 0.02: 1000, math.inf: 1000})
    assert middle == pytest.approx(0.015)
    assert low < middle < high < 0.02
    # Beyond the last bound nothing is known but that bound.
    assert find_percentile({0.01: 0, math.inf: 10})[1] == 0.01


@pytest.mark.parametrize(
    ("subject", "before", "verdict"),
    [
        (_evidence(rejected=2), _evidence(rejected=1), "kept"),
        (_evidence(rejected=100), OLD, "exceeded"),
        (_evidence(rejected=12), OLD, "not judged"),
        (_evidence(answered=99), OLD, "not judged"),
        (_evidence(rejected=100), _evidence(rejected=100), "not judged"),
        (_evidence(answered=100_000, rejected=10_000), _evidence(answered=100_000, rejected=10_000), "kept"),
    ],
)
def test_errors_are_judged_by_the_interval_of_their_difference(
    subject: VersionEvidence, before: VersionEvidence, verdict: str
) -> None:
    (judgement,) = judge(["errors"], BOUNDS, subject, before, (None, None))
    assert judgement.verdict == verdict


@pytest.mark.parametrize(("slow", "verdict"), [(0, "kept"), (40, "not judged"), (100, "exceeded")])
def test_latency_is_judged_by_the_interval_of_the_percentile(slow: int, verdict: str) -> None:
    (judgement,) = judge(["latency"], BOUNDS, _evidence(slow=slow), OLD, (None, None))
    assert judgement.verdict == verdict


@pytest.mark.parametrize(("changed", "verdict"), [(20, "kept"), (50, "not judged"), (100, "exceeded")])
def test_decisions_are_judged_by_the_interval_of_their_share(changed: int, verdict: str) -> None:
    (judgement,) = judge(["decisions"], BOUNDS, _evidence(rows=1000, changed=changed), OLD, (None, None))
    assert judgement.verdict == verdict


def test_errors_of_a_shadow_stand_for_those_of_a_split() -> None:
    shadow = VersionEvidence(shadow_rows=900, shadow_errors=100)
    (judgement,) = judge(["errors"], BOUNDS, shadow, VersionEvidence(), (None, None))
    assert str(judgement) == (
        "errors exceeded: 10.000% of 1,000 rows of the shadow, before 0.000%; at most 1.000% more"
    )


def test_quality_is_exceeded_only_if_it_is_significantly_worse() -> None:
    before = LiveQuality(1000, 0.80, 0.78, 0.82)
    for subject, higher, verdict in (
        (LiveQuality(1000, 0.79, 0.77, 0.81), True, "kept"),
        (LiveQuality(1000, 0.75, 0.73, 0.77), True, "exceeded"),
        (LiveQuality(1000, 0.75, 0.73, 0.77), False, "kept"),
        (LiveQuality(1000, 0.85, 0.83, 0.87), False, "exceeded"),
        (LiveQuality(99, 0.85, 0.83, 0.87), True, "not judged"),
    ):
        (judgement,) = judge(["quality"], BOUNDS, OLD, OLD, (subject, before), higher_is_better=higher)
        assert judgement.verdict == verdict
    (judgement,) = judge(["quality"], BOUNDS, OLD, OLD, (None, before))
    assert str(judgement) == "quality not judged: no metric of both versions for the time in which both answered"


def test_a_candidate_is_promoted_rejected_or_waits() -> None:
    step = _decide(_ledger(), GOOD)
    assert (step.action, step.version, step.before) == ("promote", 2, 1)
    assert step.reason.startswith("errors kept: 0.000% of 1,000 requests of the split, before 0.000%")
    # One exceeded bound is enough, whatever is not judged.
    step = _decide(_ledger(), _evidence(rejected=200))
    assert (step.action, step.reason[:16]) == ("reject", "errors exceeded:")
    step = _decide(_ledger(), _evidence())
    assert step.action == "wait"
    assert step.reason == "decisions not judged: 0 rows of the shadow; at least 100 needed"
    assert _decide(_ledger(), VersionEvidence()).action == "wait"


def test_a_champion_is_rolled_back_once_and_never_back_and_forth() -> None:
    promoted = _ledger().record("promote", 2).promote(2)
    assert _decide(promoted, _evidence(answered=500)).action == "wait"
    step = _decide(promoted, _evidence(rejected=200))
    assert (step.action, step.version, step.before) == ("rollback", 2, 1)
    undone = promoted.record("rollback", 1, reason="rule").promote(1)
    step = decide(undone, ALL, BOUNDS, {1: _evidence(rejected=200), 2: OLD}, {})
    assert (step.action, step.reason) == ("wait", "version 1 came back by a rollback and is not judged")
    # The same data, code and config again.
    again = undone.record("push", 3, origin="a").nominate(3)
    step = _decide(again, GOOD, version=3)
    assert step.action == "wait"
    assert "as a version with a rollback at" in step.reason
    other = undone.record("push", 3, origin="b").nominate(3)
    assert _decide(other, GOOD, version=3).action == "promote"


def test_a_rejected_candidate_is_not_promoted_under_another_number() -> None:
    rejected = _ledger().record("reject", 2).retire(2)
    again = rejected.record("push", 3, origin="a").nominate(3)
    assert _decide(again, GOOD, version=3).action == "wait"
    # Somebody promoted it with --yes since.
    forgiven = rejected.record("promote", 2).promote(2).record("push", 3, origin="a").nominate(3)
    assert decide(forgiven, ALL, BOUNDS, {3: GOOD, 2: OLD}, {}).action == "promote"


def test_without_a_champion_or_a_version_before_nothing_is_judged() -> None:
    assert _decide(Ledger({}), GOOD).reason == "no version serves, which a candidate could be compared with"
    assert _decide(_ledger(candidate=None), GOOD).reason == "there is no candidate, and no version before 1"


def test_servers_are_added_up() -> None:
    text = """# TYPE model_server_split_requests_total counter
model_server_split_requests_total{other="2",outcome="answered",version="2"} 7
model_server_split_requests_total{other="2",outcome="failed",version="2"} 1
model_server_split_requests_total{other="2",outcome="not answered",version="2"} 5
model_server_split_requests_total{other="2",outcome="answered",version="1"} 9
model_server_split_requests_total{other="",outcome="answered",version="1"} 100
# TYPE model_server_split_request_seconds histogram
model_server_split_request_seconds_bucket{le="0.01",other="2",version="2"} 6
model_server_split_request_seconds_bucket{le="+Inf",other="2",version="2"} 7
# TYPE model_server_shadow_rows_total counter
model_server_shadow_rows_total{version="2"} 30
# TYPE model_server_rows_total counter
model_server_rows_total{version="2"} 30
"""
    evidence: dict[int, VersionEvidence] = {}
    for _ in range(2):
        add_metrics(text, evidence)
    assert {version: entry.requests for version, entry in evidence.items()} == {1: 218, 2: 16}
    assert (evidence[2].requests, evidence[2].errors, evidence[2].shadow_rows) == (16, 2, 60)
    assert evidence[2].buckets == {0.01: 12, math.inf: 14}
    # The candidate is compared with the champion of the same time.
    evidence = {}
    add_metrics(text, evidence, candidate=2)
    assert (evidence[1].requests, evidence[2].requests, evidence[2].shadow_rows) == (9, 8, 30)
