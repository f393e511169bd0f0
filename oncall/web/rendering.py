"""Renders templates: every text is escaped and redacted, and the content policy allows only the page's own style."""

import base64
import calendar
import functools
import hashlib
import time
from typing import Any

import jinja2
from markupsafe import Markup

from oncall.runs import split_push
from oncall.text_format import format_seconds, format_time, shorten
from oncall.web.redaction import redact, redact_value
from schemas.metrics import describe_metric

# The page loads, runs and sends nothing; {} is the hash of its style.
_POLICY = "default-src 'none'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'"
_PACKAGES = ("oncall.web", "pipeline")


def get_policy() -> str:
    """Return the content security policy of all pages."""
    digest = base64.b64encode(hashlib.sha256(_read_style().encode()).digest()).decode()
    return _POLICY.format(f"sha256-{digest}")


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
      template: name of the template.
      values: variables of the template.
    """
    zone = time.strftime("%Z (UTC%z)")
    common = {"style": Markup(_read_style()), "policy": get_policy(), "now": format_time(time.time()), "zone": zone}
    return _create_environment().get_template(template).render({"offline": False, **common, **values})


@functools.cache
def _read_style() -> str:
    return _create_environment().get_template("style.css.j2").render()


@functools.cache
def _create_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in _PACKAGES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Loads numpy, which no command needs.
    from pipeline.stats.page import percent

    environment.filters |= {
        "format_change": _format_change,
        "format_number": _format_number,
        "format_seconds": format_seconds,
        "format_time": format_time,
        "local_time": _to_local_time,
        "percent": percent,
        "redact_value": lambda value, name: redact_value(name, value),
        "shorten": shorten,
        "split_push": split_push,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Return a value for a page: Markup and numbers as they are, any other text redacted."""
    return value if isinstance(value, Markup | int | float) else redact(value)


def _format_number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 2 else f"{value:.4f}"


def _format_change(change: float, metric: str) -> str:
    """Return a change with `better` or `worse`; for a metric without a direction, the change alone."""
    text = f"{change:+.4f}"
    if text in ("+0.0000", "-0.0000"):
        return "same"
    direction = describe_metric(metric).better
    if direction is None:
        return text
    return f"{text} {'better' if (change < 0) == (direction == 'lower') else 'worse'}"


def _to_local_time(text: str) -> str:
    """Return a time of the registry, which is in UTC, in local time as in run IDs."""
    try:
        return format_time(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return text
