"""Hooks of traces in the path of a request, which do nothing unless traces are on.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import contextlib
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cli.errors import ConfigError

if TYPE_CHECKING:
    from serving.server.spans import Tracer

ENDPOINT_FLAG = "--otlp-endpoint"
_PATH = "/v1/traces"
_ENDPOINT, _TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_SAMPLER, _SAMPLER_RATIO = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
_RATIO_SAMPLERS = ("traceidratio", "parentbased_traceidratio")
# The SDK itself replaces other values by a default, with a warning.
_CHOICES = {
    "OTEL_TRACES_EXPORTER": ("otlp", "none"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/protobuf",),
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": ("http/protobuf",),
    _SAMPLER: ("always_on", "always_off", "parentbased_always_on", "parentbased_always_off", *_RATIO_SAMPLERS),
}

_NO_SPAN = contextlib.nullcontext()
_tracer: "Tracer | None" = None


def find_endpoint(flag: str | None) -> str | None:
    """Return the URL that traces are sent to, by the flag or OpenTelemetry's variables; None if traces are off.

    Args:
      flag: value of `ENDPOINT_FLAG`, the collector's address without a path.

    Raises:
      ConfigError: the address, or a variable, cannot be used.
    """
    if flag is not None:
        name, url = ENDPOINT_FLAG, flag.rstrip("/") + _PATH
    elif os.environ.get(_TRACES_ENDPOINT):
        name, url = _TRACES_ENDPOINT, os.environ[_TRACES_ENDPOINT]
    elif os.environ.get(_ENDPOINT):
        name, url = _ENDPOINT, os.environ[_ENDPOINT].rstrip("/") + _PATH
    else:
        return None
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_disabled or os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return None
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name}: expected an address such as http://127.0.0.1:4318, found '{url[:80]}'")
    for variable, choices in _CHOICES.items():
        value = os.environ.get(variable)
        if value and value.lower() not in choices:
            raise ConfigError(f"{variable}: expected {', '.join(choices)}; found '{value[:80]}'")
    _check_ratio()
    return url


def _check_ratio() -> None:
    ratio = os.environ.get(_SAMPLER_RATIO)
    if not ratio or os.environ.get(_SAMPLER, "").lower() not in _RATIO_SAMPLERS:
        return
    try:
        is_share = 0 <= float(ratio) <= 1
    except ValueError:
        is_share = False
    if not is_share:
        raise ConfigError(f"{_SAMPLER_RATIO}: expected a number from 0 to 1, found '{ratio[:80]}'")


def open_tracer(endpoint: str | None) -> "Tracer | None":
    """Return the tracer of this process, to which the hooks report from now on; None if traces are off."""
    global _tracer
    if endpoint is not None:
        # Half a second, which servers without traces save.
        from serving.server.spans import Tracer

        _tracer = Tracer(endpoint)
    return _tracer


def start_child(name: str) -> AbstractContextManager[Any]:
    """Return a context in which a span below that of the request runs."""
    return _NO_SPAN if _tracer is None else _tracer.start_child(name)


def add_rows(version: int, rows: int) -> None:
    """Add the version and the number of rows to the request's span."""
    if _tracer is not None:
        _tracer.add_rows(version, rows)


def add_call(queued: int, called: int, batch_rows: int) -> None:
    """Add spans of the wait for the model and of its call, which has just ended.

    Args:
      queued: time at which the rows were queued, in nanoseconds.
      called: time of the call; 0 if there was none.
      batch_rows: number of rows in the call.
    """
    if _tracer is not None:
        _tracer.add_call(queued, called, batch_rows)


def read_trace_id() -> str | None:
    """Return the ID of the request's trace; None if traces are off."""
    return None if _tracer is None else _tracer.read_trace_id()
