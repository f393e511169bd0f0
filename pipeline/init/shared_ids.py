"""Columns of the same categories, such as origin and destination: they share their ids and one embedding."""

from collections.abc import Mapping
from dataclasses import replace

from pipeline.init.features import ChosenFeature
from pipeline.init.kinds import declare_vocabulary

# Codes of few values, such as yes and no or classes from A to E, give little evidence of what a column means.
_MIN_SHARED, _MIN_SHARE = 10, 0.8


def mark_shared_ids(features: Mapping[str, ChosenFeature]) -> dict[str, ChosenFeature]:
    """Return the features, those of the same categories with a common name in `shared`.

    A column joins another if at least 80 % of the categories of either one are in both, and at least 10.
    """
    groups: list[list[str]] = []
    categories: list[set[str]] = []
    for name, feature in features.items():
        if feature.declared["kind"] != "vocabulary" or feature.column.is_number:
            continue
        if feature.declared.get("embedding") == "none":
            continue
        own = {value for value, _ in feature.column.values}
        for group, others in zip(groups, categories, strict=True):
            common = len(own & others)
            if common >= _MIN_SHARED and common >= _MIN_SHARE * min(len(own), len(others)):
                group.append(name)
                others |= own
                break
        else:
            groups.append([name])
            categories.append(own)
    changed = dict(features)
    for group, union in zip(groups, categories, strict=True):
        for name in group if len(group) > 1 else ():
            feature = features[name]
            names = ", ".join(f"'{other}'" for other in group if other != name)
            missing = {key: value for key, value in feature.declared.items() if key.startswith("missing")}
            declared = {**declare_vocabulary(len(union), missing), "shared": group[0]}
            reason = f"{feature.reason}; has the categories of {names}"
            changed[name] = replace(feature, declared=declared, reason=reason)
    return changed
