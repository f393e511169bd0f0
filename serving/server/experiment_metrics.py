"""Metrics of the shadow and of the split; a server without these flags has none of them."""

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

# An upper bound within two buckets separates versions that differ by a fifth.
_SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class ShadowMetrics:
    """Metrics of a shadow, by its version."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Args:
        options: Namespace and registry of the server's metrics.
        """
        by_version = ["version"]
        self.rows = Counter("shadow_rows", "Rows that the shadow's answer was compared for.", by_version, **options)
        self.changed = Counter("shadow_changed_decisions", "Rows with another decision.", by_version, **options)
        self.difference = Counter(
            "shadow_score_difference", "Sum over rows of the largest difference of a score.", by_version, **options
        )
        self.largest = Gauge(
            "shadow_largest_score_difference", "Largest of them.", by_version, multiprocess_mode="max", **options
        )
        self.errors = Counter("shadow_errors", "Rows that the shadow had no answer to.", by_version, **options)
        self.seconds = Counter("shadow_seconds", "Time in the shadow's model.", by_version, **options)
        self.dropped = Counter("shadow_dropped_rows", "Rows that its queue had no place for.", **options)


class SplitMetrics:
    """Requests of a split, by the version that answered them."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Args:
        options: Namespace and registry of the server's metrics.
        """
        # `other` is the labelled version of that time, empty without one.
        by_version = ["version", "other"]
        self.requests = Counter("split_requests", "Requests by outcome.", [*by_version, "outcome"], **options)
        self.seconds = Histogram("split_request_seconds", "Time to answer.", by_version, buckets=_SECONDS, **options)
        self.keys = Counter("split_keys", "Requests by the source of their key.", ["source"], **options)
