"""Prometheus metrics of a model server; several workers share the folder PROMETHEUS_MULTIPROC_DIR.

https://prometheus.github.io/client_python/multiprocess/
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from serving.registry.data_time import DataTime
from serving.server.model_versions import END, Snapshot

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class RequestLogMetrics:
    """Metrics of the request log; `serving.request_log.writer.LogCounts` is their protocol."""

    def __init__(self, common: Mapping[str, Any]) -> None:
        self._logged = Counter("logged_rows", "Rows that the request log has written.", **common)
        self._dropped = Counter(
            "log_dropped_rows",
            "Rows that the request log has dropped: its queue or the disk was full, a version's columns do not fit, or "
            "the process that writes it was killed.",
            ["reason"],
            **common,
        )
        self._deleted = Counter("log_deleted_shards", "Shards that the budget of the request log deleted.", **common)
        self._failures = Counter("log_failures", "Writes of the request log that failed.", **common)

    def add_logged(self, rows: int) -> None:
        """Count rows that were written."""
        self._logged.inc(rows)

    def add_dropped(self, reason: str, rows: int) -> None:
        """Count rows that were dropped."""
        self._dropped.labels(reason).inc(rows)

    def add_deleted(self, shards: int) -> None:
        """Count shards that the budget deleted."""
        self._deleted.inc(shards)

    def add_failure(self) -> None:
        """Count a write that failed."""
        self._failures.inc()


class Metrics:
    """The server's metrics; one object in a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._numbers: set[int] = set()
        # Also of metrics that only some servers have.
        self.options: dict[str, Any] = {"namespace": "model_server", "registry": self._registry}
        common = self.options
        self.requests = Counter("requests", "Requests by route and status.", ["route", "status"], **common)
        self.seconds = Histogram("request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, **common)
        self.rows = Counter("rows", "Rows predicted, by version.", ["version"], **common)
        self.batch_rows = Histogram("batch_rows", "Rows in one call of the model.", buckets=_ROWS, **common)
        self.out_of_range = Counter(
            "values_out_of_range",
            "IDs outside of their range, replaced by the nearest one, and texts of too many tokens, cut.",
            ["column"],
            **common,
        )
        self.waiting_rows = Gauge(
            "waiting_rows", "Rows that wait for the model.", multiprocess_mode="livesum", **common
        )
        self.rejected = Counter("refused", "Requests rejected because the queue was full.", **common)
        self.served = Gauge(
            "version_served", "1 for a version that is served.", ["version"], multiprocess_mode="livemax", **common
        )
        self.data_age = Gauge(
            "champion_data_age_seconds",
            "Age of the newest row that the default version was trained on; NaN if its push recorded no time.",
            multiprocess_mode="livemostrecent",
            **common,
        )
        self._data_time: DataTime | None = None
        self._set_age()
        self.rejected_versions = Gauge(
            "versions_refused", "Versions that could not be loaded.", multiprocess_mode="livemax", **common
        )
        self.refresh_failures = Counter(
            "refresh_failures", "Reads of the folder that failed, and minutes of those that hang.", **common
        )
        self.dropped_lines = Counter(
            "dropped_lines", "Lines of output that nobody read in time, of this process.", **common
        )
        self.request_log = RequestLogMetrics(common)

    def update_versions(self, snapshot: Snapshot) -> None:
        """Set the gauges of the versions."""
        # Not cleared: a process cannot delete what another one has written.
        self._numbers |= set(snapshot.served)
        for number in self._numbers:
            self.served.labels(str(number)).set(int(number in snapshot.served))
        default = snapshot.find(None, None)
        self._data_time = default.data_time if default is not None else None
        self._set_age()
        self.rejected_versions.set(sum(state.state == END for state in snapshot.states.values()))

    def count_dropped_lines(self) -> int:
        """Return the number of lines that this process has dropped."""
        (family,) = self.dropped_lines.collect()
        return int(next(sample.value for sample in family.samples if sample.name.endswith("_total")))

    def _set_age(self) -> None:
        self.data_age.set(math.nan if self._data_time is None else self._data_time.measure_age())

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        self._set_age()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return bytes(generate_latest(self._registry))
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(together))
