"""Renders templates: every text is escaped and redacted, and the content policy allows only the page's own style."""

import base64
import functools
import hashlib
import time
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from cli.page_style import read_style
from oncall.evaluations import Interval
from oncall.text_format import format_seconds, format_time, shorten
from oncall.web.redaction import redact, redact_value
from oncall.web.registry_time import to_local_time
from schemas.metrics import describe_metric

# A page loads, runs and sends nothing but its own style, its own script and its own forms. A file has no script.
_FILE_POLICY = "default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"
_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'"
)
_PACKAGES = ("oncall.web", "pipeline")


def get_policy(*, offline: bool = False) -> str:
    """Return the content security policy of all pages, or of a file."""
    policy = _FILE_POLICY if offline else _POLICY
    return policy.format(style=_hash_text(read_style()), script=_hash_text(_read_script()))


def _hash_text(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def render(template: str, *, offline: bool = False, **values: Any) -> str:
    """Return a page.

    Args:
      template: name of the template.
      offline: whether it is a file, which has no server behind it.
      values: variables of the template.
    """
    common = {
        "style": Markup(read_style()),
        "script": Markup(_read_script()),
        "policy": get_policy(offline=offline),
        "now": format_time(time.time()),
        "zone": time.strftime("%Z") if time.strftime("%Z") == "UTC" else time.strftime("%Z (UTC%z)"),
        "offline": offline,
        "server_url": "",
    }
    return _create_environment().get_template(template).render({**common, **values})


@functools.cache
def _read_script() -> str:
    return (resources.files("oncall.web") / "templates" / "pages.js").read_text(encoding="utf-8")


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
    from pipeline.stats.page import format_percent

    environment.filters |= {
        "format_change": _format_change,
        "format_number": _format_number,
        "format_seconds": format_seconds,
        "format_time": format_time,
        "format_interval": _format_interval,
        "local_time": to_local_time,
        "percent": format_percent,
        "redact_value": lambda value, name: redact_value(name, value),
        "metric_title": lambda name: describe_metric(name).title,
        "shorten": shorten,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Return a value for a page: Markup and numbers as they are, any other text redacted."""
    return value if isinstance(value, Markup | int | float) else redact(value)


def _format_number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 2 else f"{value:.4f}"


def _format_interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{_format_number(interval[0])} to {_format_number(interval[1])}"


def _format_change(change: float) -> str:
    text = f"{change:+.4f}"
    return "same" if text in ("+0.0000", "-0.0000") else text
