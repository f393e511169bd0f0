"""Finds features that are past their date, for the gate and for preflight. Imports no TensorFlow."""

import datetime
from collections.abc import Iterator

from components.config import EXPIRED
from components.policy import Anomaly
from schemas.features import FeatureSet


def find_expired_features(features: FeatureSet, *, today: datetime.date) -> Iterator[Anomaly]:
    """Find the features whose last day has passed."""
    for name, feature in features.features.items():
        if feature.expires is not None and feature.expires < today:
            owner = feature.owner or "none"
            text = (
                f"expired on {feature.expires} (owner: {owner}); remove the feature and name the column in "
                f"data.ignored_columns, or set a later date under features.{name}.expires"
            )
            yield Anomaly("config", name, EXPIRED, text)
