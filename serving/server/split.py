"""The split: a share of the requests that name no version is answered by a labelled version.

It is sticky by key: the header x-split-key, else the column of --split-key, else the request's ID. The version is a
pure function of the key and of the bytes of the labelled version, so workers, hosts and restarts agree without a state.
Another candidate gets other keys.
"""

from collections.abc import Iterable, Mapping

from cli.errors import ConfigError
from schemas.declaration import suggest_name
from serving.model.predictor import Predictor
from serving.server.experiment_metrics import SplitMetrics
from serving.server.label_share import LabelShare
from serving.server.model_versions import ServedVersion, Snapshot
from serving.server.request_context import RequestContext
from serving.server.settings import ServerSettings

# Outcomes of requests by HTTP's status, or gRPC's; the version is to blame for `rejected` and `failed` alone.
_OUTCOMES: Mapping[str, str] = {
    "200": "answered",
    "OK": "answered",
    "400": "rejected",
    "404": "rejected",
    "INVALID_ARGUMENT": "rejected",
    "NOT_FOUND": "rejected",
    "500": "failed",
    "INTERNAL": "failed",
}
_OTHER_OUTCOME = "not answered"


class Split:
    """The split of one server process."""

    def __init__(self, label_share: LabelShare, column: str | None, metrics: SplitMetrics) -> None:
        """Args:
        label_share: Label of the version, and share of the requests.
        column: Column whose value is the key of a request without the header; None for none.
        metrics: Metrics of its requests.
        """
        self._label_share, self.column, self._metrics = label_share, column, metrics

    def choose(
        self, context: RequestContext, snapshot: Snapshot, default: ServedVersion, keys: Iterable[str]
    ) -> ServedVersion:
        """Return the version that answers a request that names none.

        Args:
          context: Request.
          snapshot: Versions that are served.
          default: Serving version.
          keys: Values of the column in the rows of the request; it is read only if it is needed.
        """
        other = snapshot.find(None, self._label_share.label)
        source, key = self._find_key(context, keys)
        self._metrics.keys.labels(source).inc()
        served = default
        if other is not None and source != "mixed" and self._label_share.has_key(f"split {other.content_hash}", key):
            served = other
        if context.entry is not None:
            context.entry.chosen = served.number
        context.split_version, context.split_other = served.number, str(other.number) if other is not None else ""
        return served

    def _find_key(self, context: RequestContext, keys: Iterable[str]) -> tuple[str, str]:
        """Return the source of the key and the key; of rows with several keys, `mixed`, which is not split."""
        if context.split_key:
            return "header", context.split_key
        values = {*keys} if self.column is not None else set()
        if len(values) > 1:
            return "mixed", ""
        return ("column", values.pop()) if values else ("request", context.request_id)

    def count(self, context: RequestContext, status: str, seconds: float) -> None:
        """Count a request that was split.

        Args:
          context: Request.
          status: HTTP's status, or gRPC's.
          seconds: Time to answer.
        """
        if context.split_version is None:
            return
        versions = str(context.split_version), context.split_other
        outcome = _OUTCOMES.get(status, _OTHER_OUTCOME)
        self._metrics.requests.labels(*versions, outcome).inc()
        if outcome == "answered":
            self._metrics.seconds.labels(*versions).observe(seconds)


def check_split_key(settings: ServerSettings, served: ServedVersion | None) -> None:
    """Check that the requests of a model may have the column of a split's key.

    The column of the request log's key is one that they may have, whether or not the model has it.

    Raises:
      ConfigError: The model has no such column.
    """
    column, log = settings.split_key, settings.request_log
    if column is None or served is None or (log is not None and log.key == column):
        return
    predictor = served.predictor
    if isinstance(predictor, Predictor):
        names = sorted({*predictor.inputs.own_columns, *predictor.inputs.other_columns})
    else:
        names = sorted(predictor.specs)
    if column not in names:
        raise ConfigError(f"--split-key: '{column}' is unknown; {suggest_name(column, names)}")
