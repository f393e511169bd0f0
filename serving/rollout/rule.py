"""The rule: each measurement keeps its bound, exceeds it, or has too few rows to be judged.

A bound is exceeded only if the whole 95 % interval is beyond it, and kept only if the whole interval is within it. So
more requests always settle a question, and chance alone seldom does.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from serving.rollout.evidence import LiveQuality, VersionEvidence

Verdict = Literal["kept", "exceeded", "not judged"]
QUESTIONS = ("errors", "latency", "decisions", "quality")
# The 97.5th percentile of the normal distribution.
_Z = 1.959964
_QUANTILE = 0.95


@dataclass(frozen=True)
class Bounds:
    """Bounds of a version, compared with the one before.

    Attributes:
      min_requests: Least number of requests, or rows, of each version.
      max_more_errors: Largest difference of the shares of requests with an error.
      max_latency_ratio: Largest ratio of the 95th percentiles of the time to answer.
      max_changed: Largest share of changed decisions of the shadow.
    """

    min_requests: int = 1000
    max_more_errors: float = 0.01
    max_latency_ratio: float = 1.25
    max_changed: float = 0.05


@dataclass(frozen=True)
class RuleJudgement:
    """The answer to one question.

    Attributes:
      question: One of QUESTIONS.
      verdict: Whether the bound is kept.
      text: Measurement in words.
    """

    question: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.question} {self.verdict}: {self.text}"


def judge(
    questions: Collection[str],
    bounds: Bounds,
    subject: VersionEvidence,
    before: VersionEvidence,
    quality: tuple[LiveQuality | None, LiveQuality | None],
    *,
    higher_is_better: bool = True,
) -> list[RuleJudgement]:
    """Return a judgement on each question.

    Args:
      questions: Some of QUESTIONS.
      bounds: Bounds.
      subject: Measurements of the version that is judged.
      before: Measurements of the version that it is compared with.
      quality: Live quality of both, as far as it is measured.
      higher_is_better: Direction of its metric.
    """
    judgements = []
    for question in (name for name in QUESTIONS if name in questions):
        match question:
            case "errors":
                judgements.append(_judge_errors(bounds, subject, before))
            case "latency":
                judgements.append(_judge_latency(bounds, subject, before))
            case "decisions":
                judgements.append(_judge_decisions(bounds, subject))
            case "quality":
                judgements.append(_judge_quality(bounds, *quality, higher_is_better))
    return judgements


def find_interval(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    share, square = count / total, _Z * _Z
    center = (share + square / (2 * total)) / (1 + square / total)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    return max(0.0, center - half), min(1.0, center + half)


def _compare(low: float, high: float, bound: float) -> Verdict:
    return "exceeded" if low > bound else "kept" if high <= bound else "not judged"


def _count_missing(bounds: Bounds, counts: Mapping[str, int]) -> str:
    """Return which count is too small to be judged; empty if none is."""
    few = [f"{count:,} {name}" for name, count in counts.items() if count < bounds.min_requests]
    return f"{' and '.join(few)}; at least {bounds.min_requests:,} needed" if few else ""


def _judge_errors(bounds: Bounds, subject: VersionEvidence, before: VersionEvidence) -> RuleJudgement:
    """Judge the difference of the shares of errors, by Newcombe's interval."""
    errors, total = subject.errors, subject.requests
    old_errors, old_total = before.errors, before.requests
    unit, old_unit = "requests of the split", "requests of the version before"
    if not total and subject.shadow_rows + subject.shadow_errors:
        # The shadow gets only rows that the version before has answered.
        errors, total = subject.shadow_errors, subject.shadow_rows + subject.shadow_errors
        old_errors, old_total, unit, old_unit = 0, total, "rows of the shadow", "rows"
    missing = _count_missing(bounds, {unit: total, old_unit: old_total})
    if missing:
        return RuleJudgement("errors", "not judged", missing)
    share, old_share = errors / total, old_errors / old_total
    (low, high), (old_low, old_high) = find_interval(errors, total), find_interval(old_errors, old_total)
    difference = share - old_share
    lowest = difference - math.hypot(share - low, old_high - old_share)
    highest = difference + math.hypot(high - share, old_share - old_low)
    text = f"{share:.3%} of {total:,} {unit}, before {old_share:.3%}; at most {bounds.max_more_errors:.3%} more"
    return RuleJudgement("errors", _compare(lowest, highest, bounds.max_more_errors), text)


def _judge_latency(bounds: Bounds, subject: VersionEvidence, before: VersionEvidence) -> RuleJudgement:
    missing = _count_missing(
        bounds,
        {
            "answers of the split": subject.outcomes["answered"],
            "answers of the version before": before.outcomes["answered"],
        },
    )
    if missing:
        return RuleJudgement("latency", "not judged", missing)
    (low, middle, high), (old_low, old_middle, old_high) = (
        find_percentile(entry.buckets) for entry in (subject, before)
    )
    text = f"p95 {middle * 1000:.1f} ms, before {old_middle * 1000:.1f} ms; at most {bounds.max_latency_ratio:g} times"
    return RuleJudgement("latency", _compare(low / old_high, high / old_low, bounds.max_latency_ratio), text)


def find_percentile(buckets: Mapping[float, int]) -> tuple[float, float, float]:
    """Return the 95th percentile of a histogram between the ends of its 95 % interval, in the buckets' unit.

    Args:
      buckets: Cumulative counts by upper bound, the infinite one among them.
    """
    total = buckets[math.inf]
    half = _Z * math.sqrt(total * _QUANTILE * (1 - _QUANTILE))
    low, middle, high = (
        _interpolate(buckets, min(max(total * _QUANTILE + step, 1.0), float(total))) for step in (-half, 0.0, half)
    )
    return low, middle, high


def _interpolate(buckets: Mapping[float, int], rank: float) -> float:
    """Return the value at a rank, linear within its bucket as in Prometheus; beyond the last bound, that bound."""
    bounds = [0.0, *sorted(buckets)]
    for start, end in pairwise(bounds):
        below = buckets[start] if start else 0
        if rank <= buckets[end]:
            return start if math.isinf(end) else start + (end - start) * (rank - below) / (buckets[end] - below)
    return bounds[-2]


def _judge_decisions(bounds: Bounds, subject: VersionEvidence) -> RuleJudgement:
    missing = _count_missing(bounds, {"rows of the shadow": subject.shadow_rows})
    if missing:
        return RuleJudgement("decisions", "not judged", missing)
    low, high = find_interval(subject.changed, subject.shadow_rows)
    share = subject.changed / subject.shadow_rows
    text = f"{share:.2%} of {subject.shadow_rows:,} changed; at most {bounds.max_changed:.2%}"
    return RuleJudgement("decisions", _compare(low, high, bounds.max_changed), text)


def _judge_quality(
    bounds: Bounds, subject: LiveQuality | None, before: LiveQuality | None, higher_is_better: bool
) -> RuleJudgement:
    """Judge the live quality: exceeded if the interval of the version is worse as a whole than the one before's."""
    if subject is None or before is None:
        return RuleJudgement("quality", "not judged", "no metric of both versions for the time in which both answered")
    missing = _count_missing(
        bounds, {"rows with an outcome": subject.rows, "rows of the version before with one": before.rows}
    )
    if missing:
        return RuleJudgement("quality", "not judged", missing)
    is_worse = subject.high < before.low if higher_is_better else subject.low > before.high
    text = (
        f"{subject.value:.4f} [{subject.low:.4f}, {subject.high:.4f}], before {before.value:.4f} "
        f"[{before.low:.4f}, {before.high:.4f}]"
    )
    return RuleJudgement("quality", "exceeded" if is_worse else "kept", text)
