"""A model server in a process of its own, as a user starts it."""

import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.conftest import ROOT
from tests.serving.forked_servers import ForkedServer

# Whatever the image does not install cannot be imported.
LOCKED_ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "serving" / "locked"), str(ROOT)])}


class RunningServer:
    """`python -m serving` on free ports, with the packages of requirements/serving.txt, until the `with` block ends.

    Attributes:
      events: events of its standard output so far.
      url: URL of the HTTP API.
      grpc: HOST:PORT of gRPC, if it was asked for.
    """

    def __init__(
        self, *arguments: str, constants: Mapping[str, float] = MappingProxyType({}), **environment: str
    ) -> None:
        """Args:
        arguments: flags of the command.
        constants: values for constants of modules, by MODULE:NAME, where the product's own would only take time.
        environment: further variables.
        """
        words = [
            *arguments,
            *([] if "--drain" in arguments else ["--drain", "0"]),
            *([] if "--port" in arguments or "AIP_HTTP_PORT" in environment else ["--port", "0"]),
        ]
        variables = {**os.environ, **LOCKED_ENVIRONMENT, **environment}
        self.process: subprocess.Popen[str]
        # The program itself starts several workers, whose metrics depend on a variable as modules load.
        if "--workers" in arguments:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving", *words],
                cwd=ROOT,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        else:
            self.process = ForkedServer(words, variables, constants=constants)
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == "ready":
                self._ready.set()
        self._ready.set()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def wait_for_events(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the events with these fields, once there is one: a thread of the server writes them."""
        waiting = threading.Event()
        for _ in range(200):
            if matching := [event for event in self.events if event.items() >= fields.items()]:
                return matching
            waiting.wait(0.05)
        return []

    def __enter__(self) -> "RunningServer":
        if not self._ready.wait(120) or self.process.poll() is not None:
            # No `with` block ends it.
            self.process.kill()
            raise AssertionError(f"the server is not ready: {self.errors}")
        ready = next(event for event in self.events if event["event"] == "ready")
        self.url, self.grpc = ready["http"], ready.get("grpc")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Stop the server and return its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join(10)
        return code

    def get(self, path: str) -> tuple[int, Any]:
        return request(f"{self.url}{path}")

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return request(f"{self.url}{path}", body if isinstance(body, bytes) else json.dumps(body).encode())


def request(url: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return the status and the JSON, or the text, of an answer."""
    return ask(urllib.request.Request(url, body))


def ask(request: urllib.request.Request, context: ssl.SSLContext | None = None) -> tuple[int, Any]:
    """Return the status and the JSON, or the text, of the answer to a request, perhaps over TLS."""
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, _content(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _content(error)


def _content(answer: Any) -> Any:
    text = answer.read().decode()
    return json.loads(text) if "json" in answer.headers["content-type"] else text


def registry_of(folder: Path) -> Any:
    from serving.registry import LocalRegistry

    return LocalRegistry(folder, "shop-model")
