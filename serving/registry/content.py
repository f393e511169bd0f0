"""The files of a version: the content, which its hash stands for, and the files that are kept beside it."""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What the export writes: the features, crosses and label, and how the training data was read, as JSON.
DECLARATION_FILE = "assets.extra/feature_set.json"
READ_OPTIONS_FILE = "assets.extra/data_options.json"
# Only for a model with declared costs: its `schemas.decision.DecisionThreshold`.
DECISION_FILE = "assets.extra/decision.json"
RELEASE_FILE = "assets.extra/release.json"
GOLDEN_FILE = "assets.extra/golden.json"
# TF Serving warms a version up with it: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
STATISTICS_FILE = "assets.extra/train_statistics.pb"
SAMPLE_FILE = "assets.extra/train_sample.tfrecord"
# The graph reads it and returns it; the trainer writes a placeholder, a push the version's number.
VERSION_FILE = "assets/model_version.txt"
# All that a push writes: the same model has the same hash, whenever and as whatever it is pushed.
NOT_CONTENT = frozenset({RELEASE_FILE, GOLDEN_FILE, WARMUP_FILE, STATISTICS_FILE, SAMPLE_FILE, VERSION_FILE})
_CHUNK_BYTES = 1 << 20
# Far above what a push writes; a file of another origin may have any size.
_MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class Release:
    """Release file of a version.

    Attributes:
      pipeline: the name of the pipeline that owns the model's name.
      run_id: ID of the run that pushed the version.
      model_id: ID of the Model artifact in ML Metadata.
      content_hash: hash of the SavedModel's files.
      metrics: metrics of the evaluation, by name.
      extra_hashes: SHA-256 of what is kept beside the content, such as the golden requests, by file.
      file_hashes: SHA-256 of each of the SavedModel's files, by its path in the version's folder.
      pushed_at: Time of the push in UTC; empty for versions of releases that did not write it.
      data: Fields of the `DataTime` of the training data; empty if it is not known.
    """

    pipeline: str
    run_id: str
    model_id: int
    content_hash: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra_hashes: Mapping[str, str] = field(default_factory=dict)
    file_hashes: Mapping[str, str] = field(default_factory=dict)
    pushed_at: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Release":
        """Read what `to_json` wrote; fields of later releases are ignored.

        Raises:
          ValueError: it is not JSON, or a field is missing or of the wrong type.
        """
        values = parse_json(text)
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, found {type(values).__name__}")
        kinds: dict[str, type] = {"pipeline": str, "run_id": str, "model_id": int, "content_hash": str}
        optional: dict[str, type] = {
            "metrics": dict,
            "extra_hashes": dict,
            "file_hashes": dict,
            "pushed_at": str,
            "data": dict,
        }
        fields = {name: values[name] for name in {**kinds, **optional} if name in values}
        for name, kind in kinds.items():
            if name not in fields:
                raise ValueError(f"there is no '{name}'")
            _check_kind(name, fields[name], kind)
        for name, kind in optional.items():
            _check_kind(name, fields.get(name, kind()), kind)
        return cls(**fields)


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"'{name}' is {value!r}; expected {kind.__name__}")


def read_record(file: Path) -> bytes:
    """Return the content of a small file, such as a release file or the ledger.

    Raises:
      OSError: the file cannot be read, is not a regular file, or has more than 64 MB.
    """
    # Opening a pipe would wait for its other end.
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(file))
        if status.st_size > _MAX_RECORD_BYTES:
            reason = f"has {status.st_size:,} bytes; at most {_MAX_RECORD_BYTES:,} are read"
            raise OSError(errno.EFBIG, reason, str(file))
        return opened.read()


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON.

    Raises:
      ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def compute_extra_hashes(extra: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file's content."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in extra.items()}


def drop_undefined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics that JSON can hold; one that is undefined, None or NaN, is dropped."""
    return {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}


def compute_content_hash(folder: Path) -> str:
    """Return the SHA-256 over the relative paths and contents of all files but those of `NOT_CONTENT`."""
    digest = hashlib.sha256()
    for name, path in _list_content_files(folder):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def compute_file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that `compute_content_hash` covers, by its path in the folder."""
    hashes = {}
    for name, path in _list_content_files(folder):
        with path.open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _list_content_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in NOT_CONTENT:
            yield name, path
