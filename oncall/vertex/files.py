"""Files of artifacts in Cloud Storage, copied here when a command asks for them."""

import tempfile
from functools import cached_property
from pathlib import Path

from cli.errors import PushError

_SECONDS = 20.0


class Bucket:
    """Copies of what is below gs:// URIs; they last as long as the process.

    Attributes:
      unread: why something could not be copied, by a permission or a network. What is gone is not among it.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._copied: dict[str, Path] = {}
        self._closed: set[str] = set()
        self.unread: list[str] = []

    @cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="oncall-")

    def copy(self, uri: str) -> Path:
        """Return the folder, or the one file, of a URI; a path of this machine stays what it is."""
        if not uri.startswith("gs://"):
            return Path(uri)
        if uri not in self._copied:
            self._copied[uri] = self._fetched(uri)
        return self._copied[uri]

    def _fetched(self, uri: str) -> Path:
        # 0.2 s, which not every command needs.
        from serving.registry.vertex import staging

        bucket = uri.split("/")[2]
        target = Path(self._folder.name) / str(len(self._copied)) / uri.rstrip("/").rpartition("/")[2]
        if bucket in self._closed:
            return target
        try:
            staging.fetch(uri, target, project=self._project, seconds=_SECONDS)
        except staging.NothingThereError:
            # Its reader says what is missing.
            return target
        except PushError as error:
            # One wait, and one line, for all that is there.
            self._closed.add(bucket)
            self.unread.append(str(error))
        return target

    def is_there(self, uri: str) -> bool:
        """Whether anything is at a URI.

        Raises:
          PushError: it cannot be looked at.
        """
        from serving.registry.vertex import staging

        return not uri.startswith("gs://") or staging.is_there(uri, project=self._project, seconds=_SECONDS)
