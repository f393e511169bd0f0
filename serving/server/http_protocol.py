"""Uvicorn's HTTP protocol, with bounds on what a connection may send, keep and take.

Uvicorn itself bounds neither the head of a request nor the trailers of its body where httptools parses, nor the time
that either may take.
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_CONNECTIONS = 4096
MAX_HEAD_BYTES = 64 * 1024
# A chunk of one byte takes six: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
_MAX_FRAME_BYTES = 8
# A client may send this much more of a body once its answer is complete.
_MAX_UNREAD_BYTES = 1 << 20
_HEAD_SECONDS = 30.0
BODY_SECONDS = 30.0
# Requests that are on their way when the server closes its connections still get answers.
LINGER_SECONDS = 1


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
      waiting: Connections of this process that wait for bytes of their client, the oldest wait first.
    """

    waiting: ClassVar[dict["LimitedProtocol", None]] = {}
    # Bytes since the request began, those of its body, and those of the last piece.
    _bytes = _body_bytes = _piece_bytes = 0
    _in_head = True
    _is_complete = False
    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_head()
        if len(self.connections) > MAX_CONNECTIONS:
            # Slow clients keep no place from others, health probes among them.
            oldest = next(iter(self.waiting))
            oldest.connections.discard(oldest)
            oldest._refuse("503 Service Unavailable", "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that has sent all it had to send and still reads its answers."""
        if not self._is_complete or not self._is_answering:
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        self._bytes += len(data)
        super().data_received(data)
        if self._in_head:
            if self._bytes > MAX_HEAD_BYTES:
                self._refuse_large("headers")
        elif not self._is_complete:
            if self._bytes - (1 + _MAX_FRAME_BYTES) * self._body_bytes > 2 * MAX_HEAD_BYTES:
                self._refuse_large("trailers")
            elif self.cycle.response_complete and self._body_bytes > _MAX_UNREAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        self._begin_head()
        # It begins somewhere in the piece that is being read.
        self._bytes = self._piece_bytes
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._set_deadline(BODY_SECONDS, "body")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_complete = True
        self._end_wait()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_complete and self.cycle.response_complete:
            self._wait()

    def shutdown(self) -> None:
        """Close the connection after its answer; where it has no request, wait for one that is on its way."""
        if self._is_answering:
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            asyncio.get_running_loop().call_later(LINGER_SECONDS, super().shutdown)

    @property
    def _is_answering(self) -> bool:
        """Whether the last request with a whole head waits for its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def _begin_head(self) -> None:
        self._in_head, self._is_complete = True, False
        self._bytes = self._body_bytes = 0
        self._wait()
        self._set_deadline(_HEAD_SECONDS, "headers")

    def _wait(self) -> None:
        """Queue the connection among those that wait, as the latest."""
        self.waiting.pop(self, None)
        self.waiting[self] = None

    def _end_wait(self) -> None:
        self.waiting.pop(self, None)
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _set_deadline(self, seconds: float, part: str) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        reason = f"the {part} did not come within {seconds:g} s"
        self._too_late = asyncio.get_running_loop().call_later(seconds, self._refuse, "408 Request Timeout", reason)

    def _refuse_large(self, part: str) -> None:
        self._refuse("431 Request Header Fields Too Large", f"the {part} have more than {MAX_HEAD_BYTES:,} bytes")

    def _refuse(self, status: str, reason: str) -> None:
        self._end_wait()
        if self.transport.is_closing():
            return
        # An answer that has begun is cut off instead.
        has_begun = self._is_answering if self._in_head else self.cycle.response_started or self.pipeline
        if not has_begun:
            body = f'{{"error":"{reason}"}}'
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
        self.transport.close()
