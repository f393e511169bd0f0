"""The output folder of predictions, local or in a bucket; its files are written atomically.

A killed run leaves finished parts, and maybe one unfinished file whose name readers ignore.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator

import filelock
import pyarrow as pa
import pyarrow.fs

from cli.errors import PushError
from schemas.tables import locations
from schemas.tables.locations import describe_cause

# Arrow, pandas and Spark ignore names that start with an underscore when they read a folder.
_UNFINISHED_PREFIX = "_unfinished-"
_LOCK_FILE = ".lock"
_FAILURES = (OSError, pa.ArrowException)


class OutputFolder:
    """A local or remote folder, and the files below it by their relative paths."""

    def __init__(self, uri: str) -> None:
        """Args:
        uri: path, or URI such as gs://BUCKET/FOLDER; the folder may not exist yet.

        Raises:
          PushError: the path is a file, or Arrow cannot read the URI.
        """
        self.uri = uri.rstrip("/") or uri
        self.is_local = "://" not in uri
        if self.is_local and os.path.isfile(uri):
            raise PushError(f"{uri}: is a file; expected a folder to write to")
        try:
            self._filesystem, self._root = locations.open_filesystem(self.uri)
        except _FAILURES as error:
            raise PushError(f"{uri}: is not a folder that can be written: {describe_cause(error)}") from error

    def build_path(self, name: str) -> str:
        """Return the full path or URI of a file in it."""
        return f"{self.uri}/{name}"

    def list_names(self) -> set[str]:
        """Return the names of all finished files.

        Raises:
          PushError: the folder cannot be listed.
        """
        return {name for name in self._list_all_names() if not name.startswith((_UNFINISHED_PREFIX, _LOCK_FILE))}

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if it does not exist.

        Raises:
          PushError: it cannot be read.
        """
        try:
            with self._filesystem.open_input_stream(f"{self._root}/{name}", compression=None) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except _FAILURES as error:
            raise PushError(f"{self.build_path(name)}: cannot be read: {describe_cause(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file under another name and rename it; replace an existing file.

        Raises:
          PushError: it cannot be written.
        """
        try:
            if self.is_local:
                self._write_local(name, content)
            else:
                self._write_remote(name, content)
        except _FAILURES as error:
            raise PushError(f"{self.build_path(name)}: cannot be written: {describe_cause(error)}") from error

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self._filesystem.delete_file(f"{self._root}/{name}")
        except _FAILURES as error:
            raise PushError(f"{self.build_path(name)}: cannot be deleted: {describe_cause(error)}") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder, lock it against other runs, and delete the unfinished files of killed runs.

        A bucket has no lock: two runs of one job at the same time write the same files.

        Raises:
          PushError: another run holds the lock, or the folder cannot be created.
        """
        with contextlib.ExitStack() as stack:
            if self.is_local:
                try:
                    os.makedirs(self.uri, exist_ok=True)
                    stack.enter_context(filelock.FileLock(os.path.join(self.uri, _LOCK_FILE), timeout=0))
                except filelock.Timeout as error:
                    raise PushError(f"{self.uri}: another run is writing there; wait for it, or end it") from error
                except OSError as error:
                    raise PushError(f"{self.uri}: cannot be written: {describe_cause(error)}") from error
            for name in self._list_all_names():
                if name.startswith(_UNFINISHED_PREFIX):
                    self.delete(name)
            yield

    def _list_all_names(self) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        try:
            entries = self._filesystem.get_file_info(selector)
        except _FAILURES as error:
            raise PushError(f"{self.uri}: cannot be listed: {describe_cause(error)}") from error
        return [info.path[len(self._root) + 1 :] for info in entries if info.is_file]

    def _write_local(self, name: str, content: bytes) -> None:
        target = os.path.join(self.uri, name)
        beside = os.path.join(self.uri, f"{_UNFINISHED_PREFIX}{uuid.uuid4().hex}")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)

    def _write_remote(self, name: str, content: bytes) -> None:
        beside = f"{self._root}/{_UNFINISHED_PREFIX}{uuid.uuid4().hex}"
        with self._filesystem.open_output_stream(beside, compression=None) as file:
            file.write(content)
        self._filesystem.move(beside, f"{self._root}/{name}")
