"""Uvicorn's HTTP protocol, with bounds on the head of a request: how large it is, and how long it may take to come.

Uvicorn bounds neither where httptools parses; a header of any size would be kept in memory.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
_HEAD_SECONDS = 30.0


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    _in_head = True
    _head_bytes = 0
    _piece_bytes = 0
    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large", f"the headers have more than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        self._begin_head()
        # It begins somewhere in the piece that is being read.
        self._head_bytes = self._piece_bytes
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._in_head, self._head_bytes = True, 0
        late = f"the headers did not come within {_HEAD_SECONDS:g} s"
        self._too_late = asyncio.get_running_loop().call_later(_HEAD_SECONDS, self._refuse, "408 Request Timeout", late)

    def _end_head(self) -> None:
        self._in_head = False
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _refuse(self, status: str, why: str) -> None:
        self._end_head()
        if not self.transport.is_closing():
            body = f'{{"error":"{why}"}}'
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
            self.transport.close()
