"""Chooses which pairs of features are crossed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.init.features import ChosenFeature
from pipeline.init.kinds import round_up
from pipeline.init.notes import Notes, Rank
from pipeline.profile.leaks import LEAK_OF_CLASSES, LEAK_OF_NUMBERS
from pipeline.profile.targets import Target, combine_ids

# Kinds without one id in each row. A time has one for each part, which the deep part combines.
_NOT_CROSSED = ("timestamp", "list", "text", "vector")
_CROSSED_FEATURES, _CROSSES = 8, 3
# Less is explained by chance, the more so in a small table.
_MIN_GAIN, _MIN_GAIN_IN_ROWS = 0.005, 5


@dataclass(frozen=True)
class ChosenCross:
    """A cross: the columns, the number of its IDs, and the evidence."""

    names: list[str]
    num_ids: int
    reason: str


def choose_crosses(features: Sequence[ChosenFeature], target: Target, notes: Notes) -> list[ChosenCross]:
    """Return the pairs that explain most beyond what the better of the two explains."""
    features = [f for f in features if f.declared["kind"] not in _NOT_CROSSED]
    usable = [f for f in features if f.declared.get("buckets") or f.declared["kind"] != "numeric"]
    usable = sorted(usable, key=lambda f: -f.explained)[:_CROSSED_FEATURES]
    target = target.with_lookup([feature.column for feature in features])
    alone = {feature.column.name: target.score(feature.ids) for feature in usable}
    leak = LEAK_OF_CLASSES if target.classes else LEAK_OF_NUMBERS
    candidates, suspects = [], []
    for first, second in combinations(usable, 2):
        ids = combine_ids(first.ids, second.ids)
        pairs = int(ids.max()) + 1
        both = target.score(ids)
        shares = alone[first.column.name], alone[second.column.name]
        gain = both - max(shares)
        # Two features with the same content explain together what each explains.
        if gain > max(_MIN_GAIN, _MIN_GAIN_IN_ROWS / len(ids)) and pairs > max(
            first.column.distinct, second.column.distinct
        ):
            reason = f"together {both:.1%} of the label; alone {shares[0]:.1%} and {shares[1]:.1%}"
            if both > leak >= max(shares):
                reason += ", are both known beforehand?"
                suspects.append(f"'{first.column.name}' and '{second.column.name}' {both:.0%}")
            candidates.append((gain, [first.column.name, second.column.name], pairs, reason))
    if suspects:
        examples = ", ".join(suspects[:_CROSSES])
        notes.add(
            Rank.LEAK, f"pairs explain nearly all of the label: {examples}; are they known when a prediction is made?"
        )
    candidates.sort(key=lambda item: -item[0])
    chosen: list[ChosenCross] = []
    for _, names, pairs, reason in candidates:
        # Each feature once: columns that are nearly the same would take all the places.
        if len(chosen) < _CROSSES and not {*names} & {name for cross in chosen for name in cross.names}:
            chosen.append(ChosenCross(names, round_up(2 * pairs, 20_000), reason))
    return chosen
