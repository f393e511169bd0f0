"""The request-response log of an endpoint: its setting on Vertex AI."""

from dataclasses import dataclass
from typing import Any

from google.cloud import aiplatform_v1 as v1

from serving.registry.vertex.config import VertexRequestLog

FIELD = "predict_request_response_logging_config"
# Of BigQueryDestination.output_uri: bq://PROJECT.DATASET.TABLE.
_SCHEME = "bq://"


@dataclass(frozen=True)
class RequestLogSetting:
    """Where an endpoint logs its requests, and how many of them.

    Attributes:
      table: `PROJECT.DATASET.TABLE`; a setting of another origin may have the project alone.
      sampling_rate: Share of the requests.
    """

    table: str
    sampling_rate: float

    def __str__(self) -> str:
        """Return the setting in words."""
        return f"{self.sampling_rate * 100:g} % of the requests to {self.table}"


def convert_config(config: VertexRequestLog | None) -> RequestLogSetting | None:
    """Return the setting that a config asks for; None for no log."""
    if config is None or not config.sampling_rate:
        return None
    return RequestLogSetting(config.table, config.sampling_rate)


def read_setting(endpoint: Any) -> RequestLogSetting | None:
    """Return the setting of an endpoint; None if it logs nothing."""
    logging = getattr(endpoint, FIELD)
    if not logging.enabled:
        return None
    return RequestLogSetting(logging.bigquery_destination.output_uri.removeprefix(_SCHEME), logging.sampling_rate)


def build_message(setting: RequestLogSetting | None) -> v1.PredictRequestResponseLoggingConfig:
    """Return the message that sets it."""
    if setting is None:
        return v1.PredictRequestResponseLoggingConfig(enabled=False)
    return v1.PredictRequestResponseLoggingConfig(
        enabled=True,
        sampling_rate=setting.sampling_rate,
        bigquery_destination=v1.BigQueryDestination(output_uri=f"{_SCHEME}{setting.table}"),
    )


def describe_change(config: VertexRequestLog | None, current: RequestLogSetting | None) -> str:
    """Return how a push changes the setting of an endpoint; empty if it does not.

    Args:
      config: Setting of the config; None leaves that of the endpoint.
      current: Setting of the endpoint.
    """
    desired = convert_config(config)
    if config is None or desired == current:
        return ""
    return f"request log: {desired or 'off'}; before: {current or 'off'}"
