"""Hashes of input files by what is in them, remembered so that an unchanged file is not read again.

A local file is remembered by path, size, inode, and the times of its last modification and change in nanoseconds. A
hash is remembered only if the file was written some time before it was read, as in git's index
(https://git-scm.com/docs/racy-git). A later write could get the same time from a clock that ticks slowly.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from cli.errors import DataError
from cli.state_files import write_atomically
from schemas.tables import locations
from schemas.tables.locations import describe_cause

# The coarsest time stamps that are in use, those of FAT and of some network file systems.
_RACY_NS = 2_000_000_000
_READ_BYTES = 1 << 20
_DIGEST_BYTES = 16
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class FileContent:
    """Identity of the content of one file.

    Attributes:
      bytes: Size.
      digest: Hash, or the object's checksum in Cloud Storage.
    """

    bytes: int
    digest: str


@dataclass
class Memory:
    """The hashes of local files, kept in a file that may be lost or written by two runs at once.

    Attributes:
      file: Path; None remembers nothing.
      hashes: Digest by path and stamp.
    """

    file: Path | None = None
    hashes: dict[str, tuple[list[int], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None:
            # Without it the files are read again, which is slower and no less right.
            with suppress(OSError, ValueError, TypeError):
                self.hashes = {path: (stamp, digest) for path, stamp, digest in json.loads(self.file.read_bytes())}

    def keep(self, hashes: dict[str, tuple[list[int], str]]) -> None:
        """Write the hashes of a run in place of those before."""
        if self.file is None or hashes == self.hashes:
            return
        # A full disk or a folder that is read-only costs the next run a reading.
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps([[path, *entry] for path, entry in hashes.items()]))


def identify_contents(paths: Sequence[str], memory: Memory) -> list[FileContent]:
    """Return what names the content of files, in their order.

    Args:
      paths: Local paths, or URIs of one file system.
      memory: Hashes of earlier runs; those of this one are kept in it.

    Raises:
      DataError: A file cannot be read.
    """
    if paths and paths[0].startswith("gs://"):
        return _read_checksums(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        read = list(pool.map(lambda path: _identify_file(path, memory), paths))
    memory.keep({path: entry for path, (_, entry) in zip(paths, read, strict=True) if entry is not None})
    return [content for content, _ in read]


def _identify_file(path: str, memory: Memory) -> tuple[FileContent, tuple[list[int], str] | None]:
    """Return the content of one file, and what is to be remembered of it."""
    try:
        filesystem, place = locations.open_filesystem(path)
        if filesystem.type_name == "local":
            return _identify_local_file(place, memory.hashes.get(path))
        with filesystem.open_input_stream(place, compression=None) as file:
            return FileContent(filesystem.get_file_info(place).size or 0, _hash_file(file)), None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {describe_cause(error)}") from error


def _identify_local_file(
    path: str, cached: tuple[list[int], str] | None
) -> tuple[FileContent, tuple[list[int], str] | None]:
    started = time.time_ns()
    with open(path, "rb", buffering=0) as file:
        stamp = _build_stamp(os.fstat(file.fileno()))
        if cached is not None and cached[0] == stamp:
            return FileContent(stamp[0], cached[1]), cached
        digest = _hash_file(file)
        after = _build_stamp(os.fstat(file.fileno()))
    is_settled = stamp == after and max(stamp[2:]) < started - _RACY_NS
    return FileContent(after[0], digest), (stamp, digest) if is_settled else None


def _build_stamp(status: os.stat_result) -> list[int]:
    """Size, inode, and the two times; the second of them changes when the first is set back, as `cp -p` does."""
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _hash_file(file: Any) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while block := file.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


class _Blob(Protocol):
    name: str
    size: int
    crc32c: str


def _read_checksums(paths: Sequence[str]) -> list[FileContent]:
    """Return the checksums of objects in one bucket, from its listing."""
    from google.api_core import exceptions
    from google.auth import exceptions as auth_exceptions

    user, _, bucket = paths[0].removeprefix("gs://").partition("/")[0].rpartition("@")
    names = [path.removeprefix("gs://").partition("/")[2] for path in paths]
    # A listing takes any start of a name, not only folders.
    prefix = os.path.commonprefix(names)  # noqa: RUF071
    try:
        listing = _list_blobs(bucket, prefix, anonymous=user == "anonymous")
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise DataError(f"gs://{bucket}: cannot be listed: {first_line} (data.base)") from error
    content_by_name = {blob.name: FileContent(int(blob.size), f"crc32c={blob.crc32c}") for blob in listing}
    for path, name in zip(paths, names, strict=True):
        if name not in content_by_name:
            raise DataError(f"{path}: no such file; it was there a moment ago")
    return [content_by_name[name] for name in names]


def _list_blobs(bucket: str, prefix: str, *, anonymous: bool) -> list[_Blob]:
    from google.auth import credentials
    from google.cloud import storage  # type: ignore[attr-defined]

    # A local server is never sent anybody's token.
    anonymous = anonymous or "STORAGE_EMULATOR_HOST" in os.environ
    client = storage.Client(**({"credentials": credentials.AnonymousCredentials()} if anonymous else {}))
    fields = "items(name,size,crc32c),nextPageToken"
    return list(client.list_blobs(bucket, prefix=prefix, fields=fields))
