"""The files that a worker appends to, their rotation into shards, and the disk budget. Imports no TensorFlow.

A stream is an Arrow IPC stream under a lock that ends with its process. So a stream without a lock is that of a dead
worker, and whoever finds it turns it into a shard. Nothing waits for a write to reach the disk: what is written
outlives the process, not a power failure.
"""

import contextlib
import datetime
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from cli.errors import ConfigError
from serving.request_log.shards import (
    FILE_MODE,
    FOLDER_MODE,
    SHARD_PATTERN,
    STREAM_PATTERN,
    RequestLogError,
    Shard,
    list_streams,
    open_shard,
    write_shard,
)

# The first bytes of an Arrow IPC stream: https://arrow.apache.org/docs/format/Columnar.html
_STREAM_START = b"\xff\xff\xff\xff"


class StreamNames:
    """Names that sort by time, also when the clock goes back, and that no other worker uses."""

    def __init__(self) -> None:
        self._worker = uuid.uuid4().hex[:8]
        self._last = 0

    def choose(self, microseconds: int) -> str:
        """Return a new name for a stream that starts now.

        Args:
          microseconds: Now, since 1970.
        """
        self._last = max(self._last + 1, microseconds)
        start = datetime.datetime.fromtimestamp(self._last / 1e6, datetime.UTC)
        return STREAM_PATTERN.replace("*", f"{start:%Y%m%dT%H%M%S%f}-{self._worker}")


class Stream:
    """A file that this process appends record batches to.

    Attributes:
      path: Its path.
      schema: Schema of the batches, with the description of the log.
      size: Number of bytes so far.
      started: Seconds of the monotonic clock at its start.
      is_damaged: Whether nothing can be appended any more.
    """

    def __init__(self, folder: Path, names: StreamNames, schema: pa.Schema) -> None:
        self.schema = schema
        self.size = 0
        self.started = time.monotonic()
        self.is_damaged = False
        self.path, self._descriptor = _create_locked(folder, names)

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a batch as a whole, or leave the file as it was.

        Raises:
          OSError: The disk is full, or the file cannot be written.
        """
        parts = [batch.serialize()]
        if not self.size:
            parts.insert(0, self.schema.serialize())
        try:
            for part in parts:
                _write_all(self._descriptor, memoryview(part))
        except OSError:
            try:
                os.ftruncate(self._descriptor, self.size)
            except OSError:
                # A reader sees nothing behind half a batch.
                self.is_damaged = True
            raise
        self.size += sum(part.size for part in parts)

    def has_moved(self) -> bool:
        """Return whether the file is no longer in its place: someone has removed it or its folder."""
        try:
            now, own = os.stat(self.path), os.fstat(self._descriptor)
        except OSError:
            return True
        return (now.st_ino, now.st_dev) != (own.st_ino, own.st_dev)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def _create_locked(folder: Path, names: StreamNames) -> tuple[Path, int]:
    while True:
        path = folder / names.choose(time.time_ns() // 1000)
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, FILE_MODE)
        except FileExistsError:
            continue
        # Another worker may have taken the new file for that of a dead one.
        if _lock(descriptor) and _is_in_place(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_in_place(path: Path, descriptor: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def convert_stream(path: Path) -> None:
    """Turn a stream that no worker writes into a shard; remove one without rows.

    Raises:
      OSError: The shard cannot be written; the stream is left as it is.
      RequestLogError: The file is not a stream of a request log.
    """
    target = path.with_suffix(".parquet")
    # A worker may have died between the two.
    if not target.exists():
        shard = open_shard(path)
        if shard is not None:
            rows = pa.Table.from_batches(shard.read_batches(), shard.schema)
            if rows.num_rows:
                write_shard(target, rows.combine_chunks(), shard.description)
        elif not _is_cut_off(path):
            raise RequestLogError(f"{path}: is not a stream of a request log; move it to another folder")
    path.unlink(missing_ok=True)


def _is_cut_off(path: Path) -> bool:
    """Return whether a file is the start of a stream whose worker died as it wrote the first block."""
    try:
        with open(path, "rb") as file:
            start = file.read(len(_STREAM_START))
    except FileNotFoundError:
        return True
    return _STREAM_START.startswith(start)


def recover_streams(folder: Path) -> Iterator[tuple[Path, Exception | None]]:
    """Turn the streams of dead workers into shards; yield each with the error that kept it from being one."""
    for path in list_streams(folder):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                yield path, error
            continue
        try:
            if _lock(descriptor) and _is_in_place(path, descriptor):
                convert_stream(path)
                yield path, None
        except (OSError, pa.ArrowException, RequestLogError) as error:
            yield path, error
        finally:
            os.close(descriptor)


def delete_oldest(folder: Path, budget_bytes: int) -> list[Path]:
    """Delete the oldest shards until all files of the log fit the budget; return their paths."""
    sizes: dict[Path, int] = {}
    for pattern in (SHARD_PATTERN, STREAM_PATTERN):
        for path in folder.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
    total, deleted = sum(sizes.values()), []
    for path in sorted(path for path in sizes if path.suffix == ".parquet"):
        if total <= budget_bytes:
            break
        try:
            shard: Shard | None = open_shard(path)
        except RequestLogError:
            # Someone else's file.
            continue
        if shard is not None:
            path.unlink(missing_ok=True)
            deleted.append(path)
        total -= sizes[path]
    return deleted


def check_folder(folder: Path, flag: str) -> None:
    """Check that a worker can keep a log in a folder, which is made if it does not exist.

    Args:
      folder: Folder of the log.
      flag: Flag that names it, for messages.

    Raises:
      ConfigError: The folder cannot be written or locked, or it has files of the same names that are not of a log.
    """
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with open(probe, "xb") as file:
            # Nothing is written: a server starts with a full disk, too.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(f"{flag} {folder}: cannot be used: {error.strerror}; name one that can be written") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    for path in sorted([*folder.glob(SHARD_PATTERN), *folder.glob(STREAM_PATTERN)]):
        try:
            is_foreign = open_shard(path) is None and path.suffix == ".arrow" and not _is_cut_off(path)
        except RequestLogError as error:
            raise ConfigError(f"{flag}: {error}") from error
        if is_foreign:
            raise ConfigError(f"{flag}: {path}: is not a stream of a request log; move it to another folder")


def check_model(folder: Path, flag: str, model: str) -> None:
    """Check that the newest shard of a log, if it has one, is of a model.

    Raises:
      ConfigError: It is of another model: no command reads a log of two.
    """
    for path in sorted([*folder.glob(SHARD_PATTERN), *folder.glob(STREAM_PATTERN)], reverse=True):
        shard = open_shard(path)
        if shard is None:
            continue
        try:
            shard.check_model(model)
        except RequestLogError as error:
            raise ConfigError(f"{flag}: {error}") from error
        return
