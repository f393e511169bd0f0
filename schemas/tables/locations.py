"""Paths and URIs as Arrow takes them: a name may hold any character, and nothing in it is decoded."""

import os
import re

import pyarrow as pa
import pyarrow.fs

_OPTION = r"(?:endpoint_override|location|project_id|region|retry_limit_seconds|scheme)=[^&?/]*"
_OPTIONS = re.compile(rf"\?{_OPTION}(?:&{_OPTION})*$")


def is_remote(location: str) -> bool:
    """Return whether a location is a URI rather than a path."""
    return "://" in location


def open_filesystem(location: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it.

    Arrow's own parser decodes %20, cuts at # and ? and rejects spaces. Object names hold all of these, and gsutil,
    TensorFlow and Beam take them as they are.

    Args:
      location: Path, relative ones from the current folder, or URI such as gs://BUCKET/NAME. Arrow's options, such as
        ?endpoint_override=HOST, may follow a URI.

    Raises:
      OSError, pyarrow.ArrowException: The scheme is unknown, or the URI names no bucket.
    """
    if not is_remote(location):
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(location)
    scheme, _, rest = location.partition("://")
    if scheme == "file":
        if not rest.startswith("/"):
            raise pa.ArrowInvalid("expected file:///FOLDER/NAME")
        return pyarrow.fs.LocalFileSystem(), os.path.normpath(rest)
    options = _OPTIONS.search(rest)
    authority, _, name = (rest[: options.start()] if options else rest).partition("/")
    file_system, root = pyarrow.fs.FileSystem.from_uri(f"{scheme}://{authority}{options[0] if options else ''}")
    return file_system, f"{root.rstrip('/')}/{name.rstrip('/')}".rstrip("/")


def locate(base: str, path: str) -> str:
    """Return the URI of a path in the file system of another URI; the user (gs://anonymous@BUCKET) is kept."""
    scheme, _, rest = base.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return f"{scheme}://{user}{at}{path}"


def describe_cause(error: BaseException) -> str:
    """Return the cause of a file error in one line, without the places in the source of Arrow and Google."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
    match = re.search(r'"message": "([^"]+)"|Detail: \[errno \d+\] (.+)', text)
    return match[1] or match[2] if match else text
