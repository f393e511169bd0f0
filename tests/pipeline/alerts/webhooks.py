"""A webhook's receiver: a real HTTP server that answers as it is told to, request by request."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# Stands in every address, and must stand nowhere else.
SECRET = "T0KEN-dont-tell"
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Receiver:
    """The received documents."""

    url: str = ""
    documents: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def status(code: int, **headers: str) -> Answer:
    """Respond with a status; `Retry_After` is the header Retry-After."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        # The phrase and the body repeat the address, as a server may.
        handler.send_response(code, f"at {handler.path}")
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(handler.path.encode())

    return answer


def closes(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Send nothing."""


def babbles(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Send something that is not HTTP."""
    handler.wfile.write(b"\x00\x01 what?\r\n\r\n")


def hangs(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Keep the connection, and say nothing for longer than any test waits."""
    time.sleep(10)


def drips(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Send an answer that never ends, a byte in a while."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


@contextmanager
def receiver(*answers: Answer) -> Iterator[Receiver]:
    """Run a server.

    Args:
      *answers: to the first request, the second, and so on; to all that come after it, the last. None is 200.
    """
    received = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            number = len(received.documents)
            received.headers.append(dict(self.headers))
            received.documents.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            try:
                (answers[min(number, len(answers) - 1)] if answers else status(200))(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        # Those that hang are left behind.
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_address[1]}/services/{SECRET}"
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()
