"""The folder that predictions are written to, here or in a bucket: a file is there whole or not at all.

A run that is killed leaves finished parts, and perhaps one unfinished file with a name that nobody reads.
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
from schemas.tables.locations import what_failed

# Names that start so are no data: Arrow, pandas and Spark leave them out when they read a folder.
_UNFINISHED_PREFIX = "_unfinished-"
_LOCK_FILE = ".lock"
_FAILURES = (OSError, pa.ArrowException)


class Folder:
    """A local or remote folder, and the files below it by their relative paths."""

    def __init__(self, uri: str) -> None:
        """Args:
        uri: a path, or a URI such as gs://BUCKET/FOLDER; it need not be there.

        Raises:
          PushError: it is a file, or not a URI that Arrow can read.
        """
        self.uri = uri.rstrip("/") or uri
        self.is_local = "://" not in uri
        if self.is_local and os.path.isfile(uri):
            raise PushError(f"{uri}: is a file; expected a folder to write to")
        try:
            self._filesystem, self._root = locations.filesystem(self.uri)
        except _FAILURES as error:
            raise PushError(f"{uri}: is not a folder that can be written: {what_failed(error)}") from error

    def path(self, name: str) -> str:
        """Of a file in it, as a user finds it."""
        return f"{self.uri}/{name}"

    def names(self) -> set[str]:
        """All files that are finished.

        Raises:
          PushError: the folder cannot be listed.
        """
        return {name for name in self._all_names() if not name.startswith((_UNFINISHED_PREFIX, _LOCK_FILE))}

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where it is not there.

        Raises:
          PushError: it cannot be read.
        """
        try:
            with self._filesystem.open_input_stream(f"{self._root}/{name}", compression=None) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except _FAILURES as error:
            raise PushError(f"{self.path(name)}: cannot be read: {what_failed(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file beside and rename it, over what was there.

        Raises:
          PushError: it cannot be written.
        """
        try:
            if self.is_local:
                self._write_here(name, content)
            else:
                self._write_there(name, content)
        except _FAILURES as error:
            raise PushError(f"{self.path(name)}: cannot be written: {what_failed(error)}") from error

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self._filesystem.delete_file(f"{self._root}/{name}")
        except _FAILURES as error:
            raise PushError(f"{self.path(name)}: cannot be deleted: {what_failed(error)}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, keep other runs out of it, and remove what a killed run left unfinished.

        In a bucket there is no lock: two runs of one job at once write the same files.

        Raises:
          PushError: another run holds it, or it cannot be made.
        """
        with contextlib.ExitStack() as stack:
            if self.is_local:
                try:
                    os.makedirs(self.uri, exist_ok=True)
                    stack.enter_context(filelock.FileLock(os.path.join(self.uri, _LOCK_FILE), timeout=0))
                except filelock.Timeout as error:
                    raise PushError(f"{self.uri}: another run is writing there; wait for it, or end it") from error
                except OSError as error:
                    raise PushError(f"{self.uri}: cannot be written: {what_failed(error)}") from error
            for name in self._all_names():
                if name.startswith(_UNFINISHED_PREFIX):
                    self.delete(name)
            yield

    def _all_names(self) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        try:
            found = self._filesystem.get_file_info(selector)
        except _FAILURES as error:
            raise PushError(f"{self.uri}: cannot be listed: {what_failed(error)}") from error
        return [info.path[len(self._root) + 1 :] for info in found if info.is_file]

    def _write_here(self, name: str, content: bytes) -> None:
        target = os.path.join(self.uri, name)
        beside = os.path.join(self.uri, f"{_UNFINISHED_PREFIX}{uuid.uuid4().hex}")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)

    def _write_there(self, name: str, content: bytes) -> None:
        beside = f"{self._root}/{_UNFINISHED_PREFIX}{uuid.uuid4().hex}"
        with self._filesystem.open_output_stream(beside, compression=None) as file:
            file.write(content)
        self._filesystem.move(beside, f"{self._root}/{name}")
