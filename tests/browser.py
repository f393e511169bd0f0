"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
# CI installs one.
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium here (apt-get install chromium)"
)
# https://peter.sh/experiments/chromium-command-line-switches/: no look-ups of its own, and no sandbox for root.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_page(url: str, **context: Any) -> Iterator[tuple[Page, list[str]]]:
    """Yield a page, and a list of all that goes wrong on it: console errors, failed requests, requests to other hosts."""
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        page = browser.new_context(**context).new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(f"{request.url} failed"))
        page.on("request", lambda request: wrong.append(request.url) if not _own(request.url, url) else None)
        page.goto(url)
        yield page, wrong
        browser.close()


def _own(asked: str, url: str) -> bool:
    return asked.startswith(("data:", "blob:")) or asked.split("/")[:3] == url.split("/")[:3]
