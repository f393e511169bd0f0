"""The folder in Cloud Storage that a pushed version is kept in: named by its content, and complete if it exists.

gs://BUCKET/ROOT/models/NAME/HASH/saved_model.pb ...
                                  assets.extra/release.json, golden.json, train_statistics.pb
"""

import fnmatch
import gzip
import json
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.api_core import exceptions
from google.auth import credentials
from google.auth import exceptions as auth_exceptions
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

from cli.errors import PushError
from serving.registry.content import RELEASE_FILE, VERSION_FILE
from serving.registry.vertex.service_errors import NO_CREDENTIALS, translate_error

# Model monitoring computes statistics of the training data; so many rows are enough, and a file of any table's.
_SAMPLE_ROWS = 100_000
# For transient errors.
_RETRY_SECONDS = 120.0


class MissingObjectError(PushError):
    """Cloud Storage has nothing at a URI."""


def build_uri(staging: str, model_name: str, content_hash: str) -> str:
    """Return the folder of a version with this content."""
    return f"{staging.rstrip('/')}/models/{model_name}/{content_hash}"


def _create_client(project: str | None) -> storage.Client:
    # A local server (STORAGE_EMULATOR_HOST) is never sent anybody's token.
    anonymous = {"credentials": credentials.AnonymousCredentials()} if "STORAGE_EMULATOR_HOST" in os.environ else {}
    try:
        return storage.Client(project=project, **anonymous)
    except auth_exceptions.DefaultCredentialsError as error:
        raise PushError(NO_CREDENTIALS) from error


def _find_bucket(uri: str, project: str | None) -> tuple[storage.Bucket, str]:
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    return _create_client(project).bucket(bucket), prefix


def stage(folder: Path, uri: str, *, project: str, release: Mapping[str, Any], extra: Mapping[str, bytes]) -> None:
    """Copy a SavedModel and its extra files, unless they exist; the release file comes last and marks the copy whole.

    Raises:
      PushError: the bucket is not there, or may not be written.
    """
    bucket, prefix = _find_bucket(uri, project)
    try:
        if bucket.blob(f"{prefix}/{RELEASE_FILE}").exists():
            # By a push that was cut off, perhaps, and whose number another has been given since.
            if VERSION_FILE in extra:
                bucket.blob(f"{prefix}/{VERSION_FILE}").upload_from_string(extra[VERSION_FILE])
            return
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            bucket.blob(f"{prefix}/{path.relative_to(folder).as_posix()}").upload_from_filename(str(path))
        for name, content in extra.items():
            bucket.blob(f"{prefix}/{name}").upload_from_string(content)
        bucket.blob(f"{prefix}/{RELEASE_FILE}").upload_from_string(json.dumps(dict(release), indent=2))
    except exceptions.NotFound as error:
        raise PushError(f"{uri}: the bucket is not there; create it, or set vertex.pipeline_root") from error
    except exceptions.GoogleAPICallError as error:
        raise PushError(f"{uri}: cannot be written: {translate_error(error)}") from error


def copy_new(files: Sequence[Path], uri: str, *, project: str) -> list[str]:
    """Copy files to a folder, unless it has one of the same name; return the names of the copies.

    Raises:
      PushError: the bucket is not there, or may not be written.
    """
    bucket, prefix = _find_bucket(uri.rstrip("/"), project)
    copied = []
    try:
        existing = {blob.name.removeprefix(f"{prefix}/") for blob in bucket.list_blobs(prefix=f"{prefix}/")}
        for path in files:
            if path.name not in existing:
                bucket.blob(f"{prefix}/{path.name}").upload_from_filename(str(path))
                copied.append(path.name)
    except exceptions.NotFound as error:
        raise PushError(f"{uri}: the bucket is not there; create it, or name another one") from error
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError) as error:
        raise PushError(f"{uri}: cannot be written: {_describe_error(error)}") from error
    return copied


def read(uri: str, *, project: str) -> bytes | None:
    """Return an object's content; None where there is none."""
    bucket, name = _find_bucket(uri, project)
    try:
        return bytes(bucket.blob(name).download_as_bytes())
    except exceptions.NotFound:
        return None
    except exceptions.GoogleAPICallError as error:
        raise PushError(f"{uri}: cannot be read: {translate_error(error)}") from error


def fetch(uri: str, target: Path, *, project: str | None = None, seconds: float = _RETRY_SECONDS) -> None:
    """Copy all that is below to a folder here; where the URI is one object's, that object to a file.

    Args:
      uri: URI of a folder or an object.
      target: the folder or the file that it becomes.
      project: Project of the bucket.
      seconds: Seconds for which one request is repeated.

    Raises:
      MissingObjectError: there is no object.
      PushError: it may not be read, or an object's name leads out of the folder.
    """
    bucket, prefix = _find_bucket(uri.rstrip("/"), project)
    retry = DEFAULT_RETRY.with_timeout(seconds)
    try:
        blobs = list(bucket.list_blobs(prefix=f"{prefix}/", retry=retry)) or [bucket.blob(prefix)]
        for blob in blobs:
            if blob.name.endswith("/"):
                continue
            path = Path(f"{target}{blob.name.removeprefix(prefix)}")
            if ".." in path.parts:
                raise PushError(f"gs://{bucket.name}/{blob.name}: leads out of its folder; it is not copied")
            path.parent.mkdir(parents=True, exist_ok=True)
            blob.download_to_filename(str(path), retry=retry)
    except exceptions.NotFound as error:
        raise MissingObjectError(f"{uri}: nothing is there") from error
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError, OSError) as error:
        raise PushError(f"{uri}: cannot be read: {_describe_error(error)}") from error


def stage_sample(pattern: str, uri: str, *, project: str) -> None:
    """Copy the first rows of gzipped TFRecords, plain, to an object, unless it exists.

    The rows of a split are spread over its files by chance: the first file is a sample of all.

    Args:
      pattern: Pattern of the files, in Cloud Storage or on this machine.
      uri: URI of the object.
      project: Project of the bucket.

    Raises:
      PushError: no file matches, or the bucket cannot be read or written.
    """
    bucket, name = _find_bucket(uri, project)
    try:
        if bucket.blob(name).exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain"
            _copy_rows(_fetch_first(pattern, Path(folder) / "packed", project), plain)
            bucket.blob(name).upload_from_filename(str(plain))
    except exceptions.GoogleAPICallError as error:
        raise PushError(f"{uri}: cannot be written: {translate_error(error)}") from error


def _fetch_first(pattern: str, target: Path, project: str) -> Path:
    if pattern.startswith("gs://"):
        bucket, prefix = _find_bucket(pattern, project)
        names = [blob.name for blob in bucket.list_blobs(prefix=prefix.partition("*")[0])]
        names = sorted(name for name in names if fnmatch.fnmatchcase(name, prefix))
        if names:
            bucket.blob(names[0]).download_to_filename(str(target))
            return target
    else:
        files = sorted(Path(pattern).parent.glob(Path(pattern).name))
        if files:
            return files[0]
    raise PushError(f"push.vertex.monitoring: no file matches {pattern}, the examples of the training")


def _copy_rows(packed: Path, plain: Path) -> None:
    """Copy records: a length of 8 bytes and its checksum of 4, the content and its checksum of 4."""
    with gzip.open(packed) as source, plain.open("wb") as target:
        for _ in range(_SAMPLE_ROWS):
            header = source.read(12)
            if not header:
                return
            (length,) = struct.unpack("<Q", header[:8])
            target.write(header + source.read(length + 4))


def has_object(uri: str, *, project: str, seconds: float = _RETRY_SECONDS) -> bool:
    """Return whether an object is at a URI, or below it.

    Raises:
      PushError: it cannot be read.
    """
    bucket, prefix = _find_bucket(uri.rstrip("/"), project)
    retry = DEFAULT_RETRY.with_timeout(seconds)
    try:
        below = bucket.list_blobs(prefix=f"{prefix}/", max_results=1, retry=retry)
        return any(below) or bool(bucket.blob(prefix).exists(retry=retry))
    except exceptions.NotFound:
        return False
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError, OSError) as error:
        raise PushError(f"{uri}: cannot be read: {_describe_error(error)}") from error


def _describe_error(error: Exception) -> object:
    if isinstance(error, exceptions.RetryError):
        return f"no answer: {error.cause or error}"
    return translate_error(error) if isinstance(error, exceptions.GoogleAPICallError) else error


def remove(uri: str, *, project: str) -> None:
    """Delete all that is below, the mark of wholeness first."""
    bucket, prefix = _find_bucket(uri, project)
    blobs = sorted(bucket.list_blobs(prefix=f"{prefix}/"), key=lambda blob: not blob.name.endswith(RELEASE_FILE))
    for blob in blobs:
        blob.delete()
