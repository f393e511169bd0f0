"""Holders of locks, and waiting until a database can be written. Imports no TensorFlow.

SQLite lets one process write at a time. ML Metadata waits for some seconds, more or fewer by its operation. Then it
reports missing tables or "concurrent writes aborted", and never the process that it waited for.
"""

import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from cli.errors import RunRootError

LIMIT_SECONDS = 30.0
_POLL_SECONDS = 0.1
_MAX_SHOWN_CHARS = 80
_TRIES = 5


class LockedError(RunRootError):
    """Another process has held the database for too long."""


def find_holders(file: Path) -> set[int]:
    """Return the processes that hold a lock on a file; 0 stands for one of another container."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return set()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return {int(pid) for pid in re.findall(rf"(\d+) {place} ", Path("/proc/locks").read_text())}


def wait(file: Path, report: Callable[[str], None]) -> None:
    """Wait until a database can be written; return at once if nobody holds it.

    Args:
      file: SQLite database, which need not exist.
      report: Function that is called once, with a line that names the holder.

    Raises:
      LockedError: It is held for longer than LIMIT_SECONDS; the text names the holder.
    """
    started, is_reported = time.monotonic(), False
    while file.exists() and _is_locked(file):
        holder = describe_processes(find_holders(file) - {os.getpid()})
        if not is_reported:
            report(f"waits for {file}, at most {LIMIT_SECONDS:g} s: it is locked by {holder}")
            is_reported = True
        if time.monotonic() - started > LIMIT_SECONDS:
            raise LockedError(
                f"{file}: the database is locked by {holder}, for more than {LIMIT_SECONDS:g} s; end it, and the same "
                "command continues from the cache"
            )
        time.sleep(_POLL_SECONDS)


def make_patient(store: Any, file: Path, report: Callable[[str], None]) -> None:
    """Make a MetadataStore wait as `wait` does if another process locks its database in the middle of a call.

    Its own way is to try five times, after random pauses: how long that lasts is chance.

    Args:
      store: Store of ML Metadata.
      file: Database of the store.
      report: Function that is called with a line that names the holder.
    """
    from ml_metadata import errors

    def call(method_name: str, request: Any, response: Any, extra_options: Any = None) -> None:
        del extra_options
        for _ in range(_TRIES):
            try:
                store._call_method(method_name, request, response)
            except errors.AbortedError:
                wait(file, report)
            else:
                return
        store._call_method(method_name, request, response)

    store._call = call


def _is_locked(file: Path) -> bool:
    """Return whether another process keeps it from being written; other problems are not checked here."""
    try:
        address = f"{file.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)) as database:
            # Not IMMEDIATE: a process that only reads lets nobody finish a write.
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        return "locked" in str(error)
    return False


def describe_processes(pids: set[int]) -> str:
    """Return the first process of this machine, with its command line."""
    for pid in sorted(pids):
        try:
            command = " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            continue
        return f"process {pid} ({command[:_MAX_SHOWN_CHARS]})"
    return "another process"
