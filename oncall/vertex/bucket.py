"""Files of artifacts in Cloud Storage, copied to this machine when a command needs them."""

import tempfile
from functools import cached_property
from pathlib import Path

from cli.errors import PushError

_TIMEOUT_SECONDS = 20.0


class Bucket:
    """Copies of files below gs:// URIs; they last as long as the process.

    Attributes:
      read_errors: permission or network errors of failed copies; missing files are not among them.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._copies: dict[str, Path] = {}
        self._failed_buckets: set[str] = set()
        self.read_errors: list[str] = []

    @cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="oncall-")

    def copy(self, uri: str) -> Path:
        """Return a copy of the folder or file of a URI; for a path of this machine, the path itself."""
        if not uri.startswith("gs://"):
            return Path(uri)
        if uri not in self._copies:
            self._copies[uri] = self._fetch(uri)
        return self._copies[uri]

    def _fetch(self, uri: str) -> Path:
        # Takes 0.2 s to load, and few commands need it.
        from serving.registry.vertex import staging

        bucket = uri.split("/")[2]
        target = Path(self._folder.name) / str(len(self._copies)) / uri.rstrip("/").rpartition("/")[2]
        if bucket in self._failed_buckets:
            return target
        try:
            staging.fetch(uri, target, project=self._project, seconds=_TIMEOUT_SECONDS)
        except staging.MissingObjectError:
            # The reader of the path reports the missing file.
            return target
        except PushError as error:
            # One timeout and one error for the whole bucket.
            self._failed_buckets.add(bucket)
            self.read_errors.append(str(error))
        return target

    def has_files(self, uri: str) -> bool:
        """Return True if anything exists at a URI.

        Raises:
          PushError: it cannot be read.
        """
        from serving.registry.vertex import staging

        return not uri.startswith("gs://") or staging.has_object(uri, project=self._project, seconds=_TIMEOUT_SECONDS)
