"""The state of the emulator, in SQLite: it survives a restart."""

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.cloud import aiplatform_v1
from google.protobuf import timestamp_pb2

from emulators.vertex.errors import ResourceNotFoundError, StatusError

_TABLES = """
CREATE TABLE IF NOT EXISTS resource (name TEXT PRIMARY KEY, kind TEXT, number INTEGER, body BLOB);
CREATE TABLE IF NOT EXISTS operation (
  name TEXT PRIMARY KEY, kind TEXT, request TEXT, due REAL, done INTEGER, body BLOB
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE IF NOT EXISTS member (context TEXT, name TEXT, PRIMARY KEY (context, name));
CREATE TABLE IF NOT EXISTS event (execution TEXT, artifact TEXT, kind INTEGER, at REAL,
                                  PRIMARY KEY (execution, artifact, kind));
CREATE INDEX IF NOT EXISTS event_artifact ON event (artifact);
"""


class Store:
    """Messages by resource name; one lock keeps them consistent, as the service is."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.executescript(_TABLES)

    @contextmanager
    def open_transaction(self) -> Iterator[None]:
        """Run statements that are all kept, or none of them."""
        with self.lock:
            nested = self._db.in_transaction
            if not nested:
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if not nested:
                    self._db.execute("ROLLBACK")
                raise
            if not nested:
                self._db.execute("COMMIT")

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self.lock:
            return self._db.execute(statement, values).fetchall()

    def take_number(self, counter: str) -> int:
        """Return the next number of a counter: 1, 2, 3, ..., each once."""
        with self.lock:
            self._db.execute("INSERT OR IGNORE INTO counter VALUES (?, 0)", (counter,))
            self._db.execute("UPDATE counter SET value = value + 1 WHERE name = ?", (counter,))
            return int(self._db.execute("SELECT value FROM counter WHERE name = ?", (counter,)).fetchone()[0])

    def create_id(self) -> str:
        """Return an id as the service assigns them: a long decimal number."""
        return str(4_000_000_000_000_000_000 + self.take_number("id"))

    def put(self, message: Any, name: str | None = None, *, keeps_etag: bool = False) -> Any:
        """Store a message under its name, with a new etag and update time where its type has them."""
        fields = type(message).meta.fields
        if "etag" in fields and not keeps_etag:
            message.etag = uuid.uuid4().hex[:16]
        if "update_time" in fields:
            message.update_time = get_time()
        if "create_time" in fields and not message.create_time:
            message.create_time = get_time()
        key = name or message.name
        kind = type(message).__name__
        number = self.execute("SELECT number FROM resource WHERE name = ?", (key,))
        at = number[0][0] if number else self.take_number("order")
        body = type(message).serialize(message)
        self.execute("INSERT OR REPLACE INTO resource VALUES (?, ?, ?, ?)", (key, kind, at, body))
        return message

    def get(self, name: str) -> Any:
        """Return a resource; https://google.aip.dev/131: NOT_FOUND if it does not exist."""
        rows = self.execute("SELECT kind, body FROM resource WHERE name = ?", (name,))
        if not rows:
            raise ResourceNotFoundError(name)
        return getattr(aiplatform_v1.types, rows[0][0]).deserialize(rows[0][1])

    def has_resource(self, name: str) -> bool:
        return bool(self.execute("SELECT 1 FROM resource WHERE name = ?", (name,)))

    def list_below(self, prefix: str, kind: str) -> list[Any]:
        """Return the messages of a kind whose names start with a prefix, in the order of their creation."""
        rows = self.execute(
            "SELECT body FROM resource WHERE kind = ? AND substr(name, 1, ?) = ? ORDER BY number",
            (kind, len(prefix), prefix),
        )
        return [getattr(aiplatform_v1.types, kind).deserialize(body) for (body,) in rows]

    def delete(self, name: str) -> None:
        """Delete a resource, and what ML Metadata relates to it."""
        self.execute("DELETE FROM resource WHERE name = ?", (name,))
        self.execute("DELETE FROM member WHERE name = ? OR context = ?", (name, name))
        self.execute("DELETE FROM event WHERE execution = ? OR artifact = ?", (name, name))


def get_time() -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(time.time_ns())
    return stamp


def check_etag(etag: str, current: Any) -> None:
    """Reject an update that was made from an older state. The code is a guess: the protos name none."""
    if etag and etag != current.etag:
        raise StatusError("ABORTED", f"The etag of {current.name} does not match: it was changed since it was read.")


def cut_page(items: list[Any], request: Any, default: int = 100) -> tuple[list[Any], str]:
    """Return one page of a list, and the token of the next."""
    start = int(json.loads(request.page_token)["from"]) if request.page_token else 0
    size = request.page_size or default
    following = json.dumps({"from": start + size}) if start + size < len(items) else ""
    return items[start : start + size], following
