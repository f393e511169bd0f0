"""Measurements of versions: from the /metrics of model servers with a shadow or a split, and from joined outcomes."""

import json
import math
import ssl
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cli.errors import ConfigError, DataError

_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 16 << 20
_PREFIX = "model_server_"
_BLAMED = ("rejected", "failed")


@dataclass
class VersionEvidence:
    """Measurements of one version.

    Attributes:
      outcomes: Requests of the split by outcome.
      buckets: Answered requests by the upper bound of their seconds, cumulative.
      shadow_rows: Rows that it was compared for as the shadow.
      changed: Rows with another decision.
      shadow_errors: Rows that it had no answer to as the shadow.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    shadow_rows: int = 0
    changed: int = 0
    shadow_errors: int = 0

    @property
    def requests(self) -> int:
        """Requests of the split that were answered, or not for a reason of the version."""
        return self.outcomes["answered"] + self.errors

    @property
    def errors(self) -> int:
        """Requests of the split that were rejected or failed."""
        return sum(self.outcomes[outcome] for outcome in _BLAMED)


@dataclass(frozen=True)
class LiveQuality:
    """A metric of a version by outcomes.

    Attributes:
      rows: Rows with an outcome.
      value: Value of the metric.
      low, high: Ends of its 95 % interval.
    """

    rows: int
    value: float
    low: float
    high: float


# Live quality by version, for two versions in the time in which both answered.
LiveQualities = Mapping[frozenset[int], Mapping[int, LiveQuality]]


def read_servers(
    urls: Sequence[str], token: str, authorities: Path | None = None, candidate: int | None = None
) -> dict[int, VersionEvidence]:
    """Return the measurements of all versions, together over servers.

    Args:
      urls: Addresses of the servers.
      token: Bearer token; empty for none.
      candidate: Candidate, to count only the requests that were shared with it; None for all.
      authorities: File of the authorities of the servers' certificates; None for those of the system.

    Raises:
      ConfigError: A URL is not an address, or the file has no certificates.
      DataError: A server does not respond with metrics.
    """
    evidence: dict[int, VersionEvidence] = {}
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        problem = "has no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"--ca-file {authorities}: {problem}; expected certificates as PEM") from error
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--server: {url} is not an address; expected one such as http://127.0.0.1:8501")
        address = f"{url.rstrip('/')}/metrics"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_SECONDS, context=context
            ) as response:
                text = response.read(_MAX_BYTES).decode()
            add_metrics(text, evidence, candidate)
        except urllib.error.HTTPError as error:
            with error:
                raise DataError(
                    f"{address}: responds with {error.code}; name its --token-file if it needs one"
                ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            remedy = "; name the authority with --ca-file" if isinstance(reason, ssl.SSLCertVerificationError) else ""
            raise DataError(f"{address}: has no metrics: {reason}{remedy}") from error
    return evidence


def add_metrics(text: str, evidence: dict[int, VersionEvidence], candidate: int | None = None) -> None:
    """Add one server's metrics in Prometheus's text format to the measurements by version.

    Args:
      text: The metrics.
      evidence: Measurements, which are added to.
      candidate: Candidate, to count only the requests that were shared with it. Earlier ones of the champion are of
        other clients, and of another traffic. None for all.

    Raises:
      ValueError: The text is not of that format.
    """
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            version = sample.labels.get("version", "")
            name = sample.name.removeprefix(_PREFIX)
            if not version.isdecimal() or not name.startswith(("split_", "shadow_")):
                continue
            if candidate is not None and sample.labels.get("other", str(candidate)) != str(candidate):
                continue
            entry = evidence.setdefault(int(version), VersionEvidence())
            count = int(sample.value)
            match name:
                case "split_requests_total":
                    entry.outcomes[sample.labels["outcome"]] += count
                case "split_request_seconds_bucket":
                    entry.buckets[float(sample.labels["le"])] += count
                case "shadow_rows_total":
                    entry.shadow_rows += count
                case "shadow_changed_decisions_total":
                    entry.changed += count
                case "shadow_errors_total":
                    entry.shadow_errors += count


def read_quality(file: Path, metric: str = "") -> tuple[str, LiveQualities]:
    """Return the name of a metric, and its values, of the document of `python -m oncall outcomes --json`.

    The values of two versions are those of the time in which both answered, so that both had the same traffic.

    Args:
      file: The document.
      metric: Name of the metric; empty for the first that the command compares with the evaluation.

    Raises:
      ConfigError: It has no such metric.
      DataError: It cannot be read, or is another document.
    """
    try:
        document = json.loads(file.read_bytes())
        metric = metric or str(document["metrics"][0])
        names = list(dict.fromkeys(name for group in document["groups"] for name in group["metrics"]))
        qualities: dict[frozenset[int], dict[int, LiveQuality]] = {}
        for pair in document["side_by_side"]:
            values = {int(group["version"]): _read_metric(group, metric) for group in pair["groups"]}
            qualities[frozenset(values)] = {number: value for number, value in values.items() if value is not None}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise DataError(f"{file}: is not a document of python -m oncall outcomes --json: {reason}") from error
    if names and metric not in names:
        raise ConfigError(f"--metric: {file} has no '{metric}'; expected one of {', '.join(names)}")
    return metric, qualities


def _read_metric(group: Mapping[str, Any], metric: str) -> LiveQuality | None:
    entry = group["metrics"].get(metric)
    if entry is None or entry["value"] is None or entry["interval"] is None:
        return None
    low, high = map(float, entry["interval"])
    value = LiveQuality(int(group["rows"]), float(entry["value"]), low, high)
    return value if math.isfinite(value.value + low + high) else None
