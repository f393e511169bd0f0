"""What a model server counts, for Prometheus. Several workers share one folder, named by PROMETHEUS_MULTIPROC_DIR.

https://prometheus.github.io/client_python/multiprocess/
"""

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from serving.server.model_versions import END, Snapshot

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """The server's metrics; one object in a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._known: set[int] = set()
        known: dict[str, Any] = {"namespace": "model_server", "registry": self._registry}
        self.requests = Counter("requests", "Requests by route and status.", ["route", "status"], **known)
        self.seconds = Histogram("request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, **known)
        self.rows = Counter("rows", "Rows predicted, by version.", ["version"], **known)
        self.batch_rows = Histogram("batch_rows", "Rows in one call of the model.", buckets=_ROWS, **known)
        self.out_of_range = Counter(
            "ids_out_of_range", "IDs outside the range of their feature, which got the nearest ID.", ["column"], **known
        )
        self.waiting_rows = Gauge("waiting_rows", "Rows that wait for the model.", multiprocess_mode="livesum", **known)
        self.refused = Counter("refused", "Requests refused because too much was waiting.", **known)
        self.served = Gauge(
            "version_served", "1 for a version that is served.", ["version"], multiprocess_mode="livemax", **known
        )
        self.refused_versions = Gauge(
            "versions_refused", "Versions that could not be taken up.", multiprocess_mode="livemax", **known
        )
        self.refresh_failures = Counter("refresh_failures", "Looks at the folder that failed.", **known)

    def versions_changed(self, snapshot: Snapshot) -> None:
        """Show what is served now."""
        # Not cleared: of several processes, one cannot take back what it has written.
        self._known |= set(snapshot.served)
        for number in self._known:
            self.served.labels(str(number)).set(int(number in snapshot.served))
        self.refused_versions.set(sum(state.state == END for state in snapshot.states.values()))

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return bytes(generate_latest(self._registry))
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(together))
