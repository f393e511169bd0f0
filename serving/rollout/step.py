"""One step of a rollout: which version is judged, and what follows for the registry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from serving.registry import Ledger, LocalRegistry, State
from serving.rollout.evidence import LiveQualities, VersionEvidence
from serving.rollout.rule import Bounds, RuleJudgement, judge

Action = Literal["promote", "reject", "rollback", "wait"]
# A champion is compared with the version before: its requests, not its decisions, which may well differ.
_QUESTIONS_OF_CHAMPION = ("errors", "latency", "quality")


@dataclass(frozen=True)
class Step:
    """A decision of the rule.

    Attributes:
      action: `promote` or `reject` a candidate, `rollback` a champion, or `wait`.
      version: Version that is judged; None if there is none.
      before: Version that it is compared with.
      judgements: Answers to the questions.
      reason: Reason, for the registry's history.
    """

    action: Action
    version: int | None
    before: int | None
    judgements: Sequence[RuleJudgement]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the step as a JSON document."""
        return asdict(self)


def decide(
    ledger: Ledger,
    questions: Collection[str],
    bounds: Bounds,
    evidence: Mapping[int, VersionEvidence],
    quality: LiveQualities,
    *,
    higher_is_better: bool = True,
) -> Step:
    """Return the step that the measurements allow.

    A candidate is promoted if it keeps all bounds, and rejected if it exceeds one. Without a candidate, a champion that
    exceeds a bound is rolled back. A version that came back by a rollback is not judged. Neither is a candidate of the
    same data, code and config as a version that was rolled back or rejected, so that no version goes back and forth.

    Args:
      ledger: States and history of the registry.
      questions: Questions that a promotion needs an answer to.
      bounds: Bounds.
      evidence: Measurements by version.
      quality: Live quality by version, for two versions in the time in which both answered.
      higher_is_better: Direction of its metric.
    """
    candidate, champion = ledger.find_by_state(State.CANDIDATE), ledger.champion
    if champion is None:
        return Step("wait", candidate, None, (), "no version serves, which a candidate could be compared with")
    subject, before = (
        (candidate, champion) if candidate is not None else (champion, ledger.find_by_state(State.PREVIOUS))
    )
    if before is None:
        return Step("wait", subject, None, (), f"there is no candidate, and no version before {champion}")
    if candidate is not None:
        push = ledger.find_push(candidate)
        undone = ledger.find_rollback_of(push.origin) if push is not None else None
        if undone is not None:
            reason = (
                f"version {candidate} is made of the same data, code and config as a version with a {undone.action} at "
                f"{undone.at}; only python -m serving.registry promote --yes promotes it"
            )
            return Step("wait", candidate, before, (), reason)
    elif ledger.rollback is not None:
        return Step("wait", subject, before, (), f"version {champion} came back by a rollback and is not judged")
    asked = questions if candidate is not None else [name for name in questions if name in _QUESTIONS_OF_CHAMPION]
    nothing = VersionEvidence()
    pair = quality.get(frozenset((subject, before)), {})
    judgements = judge(
        asked,
        bounds,
        evidence.get(subject, nothing),
        evidence.get(before, nothing),
        (pair.get(subject), pair.get(before)),
        higher_is_better=higher_is_better,
    )
    exceeded = [str(judgement) for judgement in judgements if judgement.verdict == "exceeded"]
    if exceeded:
        return Step("rollback" if candidate is None else "reject", subject, before, judgements, "; ".join(exceeded))
    unknown = [str(judgement) for judgement in judgements if judgement.verdict == "not judged"]
    if unknown or candidate is None:
        return Step("wait", subject, before, judgements, "; ".join(unknown) or f"version {champion} keeps its bounds")
    return Step("promote", subject, before, judgements, "; ".join(map(str, judgements)))


def carry_out(registry: LocalRegistry, step: Step) -> bool:
    """Change the registry by a step, with its reason in the history; return whether anything changed.

    Raises:
      PushError: The registry cannot be changed, or the files of the version differ from those that were pushed.
    """
    reason = f"rule: {step.reason}"
    match step.action:
        case "promote":
            return registry.promote(step.version, reason=reason).changed
        case "rollback":
            return registry.roll_back(step.before, reason=reason).changed
        case "reject":
            assert step.version is not None
            return registry.reject(step.version, reason=reason)
        case "wait":
            return False
