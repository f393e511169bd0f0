"""Uvicorn's HTTP protocol, with bounds on what a connection may send, keep and take.

Uvicorn itself bounds neither the head of a request nor the trailers of its body where httptools parses, nor the time
that either may take. It bounds no number of requests that wait for an answer, either.
"""

import asyncio
from typing import Any, ClassVar

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_CONNECTIONS = 4096
MAX_HEAD_BYTES = 64 * 1024
# A chunk of one byte takes six: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
_MAX_FRAME_BYTES = 8
# A client may send this much of a body whose answer is complete: many read no answer before they have sent it all.
_MAX_UNREAD_BYTES = 8 << 20
# Each takes kilobytes, however few bytes it came in. A client repeats those without an answer on another connection:
# https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2
_MAX_PIPELINED = 100
_MAX_REASON_CHARS = 200
_FRAMING_HEADERS = (b"content-length", b"transfer-encoding")
_HEAD_SECONDS = 30.0
BODY_SECONDS = 30.0
# Requests that are on their way when the server closes its connections still get answers.
LINGER_SECONDS = 1


class _PipelineFullError(Exception):
    """A connection has sent more requests than may wait for an answer."""


class _BodyReader:
    """Passes on the body of one request, from a parser that reads nothing else.

    httptools takes a body behind a header `Upgrade` for another protocol. Java's HttpClient sends `Upgrade: h2c` with
    its first request.
    """

    def __init__(self, protocol: "LimitedProtocol") -> None:
        self._protocol, self._is_complete = protocol, False

    def on_body(self, body: bytes) -> None:
        if not self._is_complete:
            self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_complete:
            self._is_complete = True
            self._protocol.on_message_complete()


class _AnswerTransport:
    """The transport that an answer closes behind it: the connection may linger."""

    def __init__(self, protocol: "LimitedProtocol") -> None:
        transport = protocol.transport
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, protocol.close


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
      waiting: Connections of this process that wait for bytes of their client, the oldest wait first.
    """

    waiting: ClassVar[dict["LimitedProtocol", None]] = {}
    # Bytes behind the piece in which the request began, those of this piece, of the body, and of the last piece.
    _bytes = _first_bytes = _body_bytes = _piece_bytes = 0
    _in_head = True
    _is_complete = False
    # Whether further requests are discarded, and whether all that comes is.
    _is_full = _is_lingering = False
    _too_late: asyncio.TimerHandle | None = None
    _linger_end = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._answers = _AnswerTransport(self)
        self._begin_head()
        if len(self.connections) > MAX_CONNECTIONS:
            # Slow clients keep no place from others, health probes among them.
            oldest = next(iter(self.waiting))
            oldest.connections.discard(oldest)
            oldest._reject("503 Service Unavailable", "too many connections")
            oldest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        # No circle keeps the connection until the garbage collector's next run.
        self._answers.close = self.transport.close
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that has sent all it had to send and still reads its answers."""
        self._is_full = False
        if self._is_lingering or not self._is_complete or not self._is_answering:
            return False
        self.cycle.keep_alive = False
        return True

    def close(self) -> None:
        """Close the connection; first read what its client still sends, since a reset would overtake the answer.

        https://www.rfc-editor.org/rfc/rfc9112#section-9.6
        """
        if self.transport.is_closing() or (self._is_complete and not self._is_full):
            self.transport.close()
            return
        self._is_lingering = True
        if self._is_answering:
            # A request that was rejected in its body has no other answer.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._end_wait()
        self._wait()
        self._linger_end = asyncio.get_running_loop().time() + BODY_SECONDS
        self._schedule_close()

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._body_bytes += len(data)
            if self._body_bytes > _MAX_UNREAD_BYTES:
                self.transport.close()
            elif not self.transport.can_write_eof():
                self._schedule_close()
            return
        if self._is_full:
            return
        self._unset_keepalive_if_required()
        self._piece_bytes = len(data)
        self._bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._ignore_upgrade() + data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                if not self._is_full:
                    reason = f"the request is not HTTP/1.1: {error.__context__ or error}"
                    self._reject("400 Bad Request", reason[:_MAX_REASON_CHARS])
            break
        if self._is_lingering or self.transport.is_closing():
            return
        if self._in_head:
            if self._bytes > MAX_HEAD_BYTES or self._is_head_large():
                self._reject_large("headers")
        elif not self._is_complete:
            if self._bytes - (1 + _MAX_FRAME_BYTES) * self._body_bytes > 2 * MAX_HEAD_BYTES:
                self._reject_large("trailers, or the extensions of chunks,")
            elif self.cycle.response_complete and self._body_bytes > _MAX_UNREAD_BYTES:
                self.transport.close()

    def _schedule_close(self) -> None:
        """Close a connection that lingers at its end; over TLS, which has no half-close, once nothing more comes."""
        if self._too_late is not None:
            self._too_late.cancel()
        loop, end = asyncio.get_running_loop(), self._linger_end
        if not self.transport.can_write_eof():
            end = min(end, loop.time() + LINGER_SECONDS)
        self._too_late = loop.call_at(end, self.transport.close)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._is_full, self.cycle.keep_alive = True, False
            raise _PipelineFullError
        self._begin_head()
        # It begins somewhere in the piece that is being read.
        self._first_bytes = self._piece_bytes
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._is_head_large():
            self._reject_large("headers")
            raise ValueError
        self._set_deadline(BODY_SECONDS, "body")
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._has_body_to_come:
            return
        self._is_complete = True
        self._end_wait()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_lingering:
            self._unset_keepalive_if_required()
        elif self._is_complete and self.cycle.response_complete:
            self._wait()

    def shutdown(self) -> None:
        """Close the connection after its answer; where it has no request, wait for one that is on its way."""
        if self._is_answering:
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            asyncio.get_running_loop().call_later(LINGER_SECONDS, super().shutdown)

    def _is_head_large(self) -> bool:
        """Return whether the headers so far exceed the bound; other requests, or a body, may be in the same piece."""
        if self._bytes + self._first_bytes <= MAX_HEAD_BYTES:
            return False
        # Each header has four characters more.
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES

    @property
    def _is_answering(self) -> bool:
        """Whether the last request with a whole head waits for its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _has_body_to_come(self) -> bool:
        """Whether httptools has ended a request at a header `Upgrade`, before its body."""
        if not self.parser.should_upgrade() or self.parser.get_method() == b"CONNECT":
            return False
        return any(name in _FRAMING_HEADERS for name, _ in self.headers)

    def _ignore_upgrade(self) -> bytes:
        """Return the head that makes a parser read the rest of a request, the last of its connection; empty for none.

        https://www.rfc-editor.org/rfc/rfc9110#section-7.8
        """
        if not self._has_body_to_come:
            return b""
        framing = b"".join(b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING_HEADERS)
        self.cycle.keep_alive = False
        self.parser = httptools.HttpRequestParser(_BodyReader(self))
        return b"POST / HTTP/1.1\r\n%s\r\n" % framing

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
        self._too_late = asyncio.get_running_loop().call_later(seconds, self._reject, "408 Request Timeout", reason)

    def _reject_large(self, part: str) -> None:
        self._reject("431 Request Header Fields Too Large", f"the {part} have more than {MAX_HEAD_BYTES:,} bytes")

    def _reject(self, status: str, reason: str) -> None:
        if self._is_lingering:
            return
        self._end_wait()
        if self.transport.is_closing():
            return
        # An answer that has begun is cut off instead.
        has_begun = self._is_answering if self._in_head else self.cycle.response_started or self.pipeline
        if not has_begun:
            body = orjson.dumps({"error": reason})
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
            self.close()
        else:
            self.transport.close()
