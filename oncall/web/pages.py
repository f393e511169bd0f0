"""Templates made into pages: every text is escaped and made safe, and the policy allows this very style alone."""

import base64
import calendar
import functools
import hashlib
import time
from typing import Any

import jinja2
from markupsafe import Markup

from oncall.runs import push_of
from oncall.terminal import moment, seconds, short
from oncall.web.safe_text import safe, value_of
from schemas.metrics import METRICS

# Nothing comes from anywhere, nothing runs, nothing is sent; {} is the hash of the style in the page.
_POLICY = "default-src 'none'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'"
_PACKAGES = ("oncall.web", "pipeline")


def policy() -> str:
    """Return the content security policy of all pages."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return _POLICY.format(f"sha256-{digest}")


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
      template: its name.
      values: what it shows.
    """
    zone = time.strftime("%Z (UTC%z)")
    common = {"style": Markup(_style()), "policy": policy(), "now": moment(time.time()), "zone": zone}
    return _environment().get_template(template).render({"offline": False, **common, **values})


@functools.cache
def _style() -> str:
    return _environment().get_template("style.css.j2").render()


@functools.cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in _PACKAGES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # With numpy, which the first page may wait for, and no command.
    from pipeline.stats.page import percent

    found.filters |= {"percent": percent, "seconds": seconds, "moment": moment, "local": _local, "short": short}
    found.filters |= {"change": _change, "number": _number, "push_of": push_of}
    found.filters |= {"value_of": lambda value, name: value_of(name, value)}
    return found


def _shown(value: Any) -> Any:
    """Return what a page shows of a value: Markup is ours already, and a number has nothing to hide."""
    return value if isinstance(value, Markup | int | float) else safe(value)


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 2 else f"{value:.4f}"


def _change(change: float, metric: str) -> str:
    """Return a change and what it means; of metrics without a direction, the change alone."""
    text = f"{change:+.4f}"
    if text in ("+0.0000", "-0.0000"):
        return "same"
    direction = METRICS[metric].better
    if direction is None:
        return text
    return f"{text} {'better' if (change < 0) == (direction == 'lower') else 'worse'}"


def _local(text: str) -> str:
    """Return a time of the registry, which is in UTC, as those of the runs are."""
    try:
        return moment(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return text
