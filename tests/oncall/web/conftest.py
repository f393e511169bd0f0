"""A site over a small run root, served as the command serves it, in a thread of this process."""

import http.client
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest
import uvicorn

from oncall.local.run_store import LocalRunStore
from oncall.web.app import create_application
from oncall.web.options import PageOptions
from tests.oncall.run_roots import Runs


@dataclass(frozen=True)
class Got:
    """An answer: its code, its headers by lower-case name, its body."""

    code: int
    headers: dict[str, str]
    html: str

    @property
    def text(self) -> str:
        """The visible text: without tags, with single spaces."""
        body = re.sub(r"<style>.*?</style>", "", self.html, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


@dataclass(frozen=True)
class Site:
    """A running server."""

    url: str

    def get(self, path: str, method: str = "GET", host: str | None = None) -> Got:
        address = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        try:
            connection.request(method, path, headers={"Host": host} if host is not None else {})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Got(response.status, headers, response.read().decode())
        finally:
            connection.close()


@contextmanager
def serve(root: Path) -> Iterator[Site]:
    """Yield the pages of a run root."""
    application_ = create_application(LocalRunStore(root), PageOptions())
    server = uvicorn.Server(uvicorn.Config(application_, log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until = time.monotonic() + 20
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            assert server.started
            yield Site(f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@pytest.fixture
def site(runs: Runs) -> Iterator[Site]:
    with serve(runs.root.path) as running_site:
        yield running_site


Text = Callable[[str], str]


@pytest.fixture
def text(site: Site) -> Text:
    """Return the visible text of a page that exists."""

    def read(path: str) -> str:
        got = site.get(path)
        assert got.code == 200, got.text
        return got.text

    return read
