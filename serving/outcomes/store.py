"""The files of a request log's outcomes: labels as they were read, and their join with the predictions.

LOG/outcomes/ has a file for each file of labels, one file of joined rows, and `summary.json`, which names it. A reader
that follows the summary sees one join as a whole.
"""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.features import LabelKind
from serving.request_log.shards import RequestLogError, ShardDescription

FORMAT = 1
FOLDER = "outcomes"
LABELS_PATTERN = "labels-*.parquet"
SUMMARY_FILE, LOCK_FILE = "summary.json", ".lock"
# Files that a killed process leaves behind.
UNFINISHED_PATTERN = ".unfinished-*"
_DESCRIPTION_KEY = b"labels"

# Columns of a joined row beside those of the shard.
LABEL, WEIGHT, LABEL_TIME = "_outcome_label", "_outcome_weight", "_outcome_time"
SHARD, LABELS_FILE, LABELS_ROW = "_outcome_shard", "_outcome_labels", "_outcome_labels_row"
# A hash by which rows are sampled, and whether the label is from before the prediction.
HASH, IS_EARLY = "_outcome_hash", "_outcome_is_early"

OWN_MODEL_REMEDY = (
    "labels are joined to models with declared features alone; for a run_fn of your own, join them to the log's "
    "Parquet files by _request_key with a program of your own"
)

MatchBy = Literal["key", "id"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelFile(_Record):
    """A file of labels as it was read.

    Attributes:
      format: Number of the format.
      source: Path or URI of the file.
      modified: Seconds since 1970 of its last change; 0 if that is not known.
      by: Column of the log that the keys belong to: `_request_key`, or `_request_id` with `_request_row`.
      label: Name of the label in the table of the model.
      kind: Kind of the label.
      classes: Values of the label, in the order of their IDs; empty for a regression.
      weight: Column of the weights; empty if the file has none.
      model_weight: Column of the weights in the table of the model; empty if all its rows weigh alike.
      has_times: Whether the labels have times.
      rows: Number of labels.
      without_key: Number of rows that were left out because they have no key.
      without_label: Number of rows that were left out because they have no label yet.
      bad_rows: Number of rows that were left out because a value cannot be converted.
    """

    format: int = FORMAT
    source: str
    modified: float
    by: MatchBy
    label: str
    kind: LabelKind
    classes: tuple[str, ...]
    weight: str = ""
    model_weight: str = ""
    has_times: bool = False
    rows: int
    without_key: int = 0
    without_label: int = 0
    bad_rows: int = 0


class JoinCounts(_Record):
    """Counts of a join.

    Attributes:
      predictions: Logged predictions.
      without_key: Logged predictions that no label can belong to, because they have no key.
      labels: Labels of all files.
      repeated: Labels that say what another label of the same key says.
      contradicted: Keys whose labels say different things; the latest one is joined.
      future: Labels whose time has not come yet; they are not joined.
      unknown: Keys of labels that no prediction has; they wait for it.
      early: Predictions whose label is from before them; they are not counted as joined.
      joined: Predictions with a label.
    """

    predictions: int = 0
    without_key: int = 0
    labels: int = 0
    repeated: int = 0
    contradicted: int = 0
    future: int = 0
    unknown: int = 0
    early: int = 0
    joined: int = 0


class JoinedShard(_Record):
    """A shard of the log that was joined. Its file may be gone; its labelled rows are kept.

    Attributes:
      bytes: Size of the file.
      description: Description of its rows.
    """

    bytes: int
    description: ShardDescription


class JoinSummary(_Record):
    """A join.

    Attributes:
      format: Number of the format.
      fingerprint: Hash of the names and sizes of the files that were joined.
      joined: Name of the file with the joined rows.
      at: Time of the join in UTC.
      kind, classes, label, weight: As `LabelFile` has them.
      counts: Counts of the rows.
      examples: Place of a row by the name of its count, for those that should be 0.
      shards: Shards by the name of their file without its ending.
      files: Sources of labels by the name of their file.
    """

    format: int = FORMAT
    fingerprint: str
    joined: str
    at: datetime.datetime
    kind: LabelKind
    classes: tuple[str, ...]
    label: str
    weight: str
    counts: JoinCounts
    examples: Mapping[str, str]
    shards: Mapping[str, JoinedShard]
    files: Mapping[str, LabelFile]


def describe_labels(description: LabelFile) -> dict[str, str]:
    """Return the metadata of a file of labels."""
    return {_DESCRIPTION_KEY.decode(): description.model_dump_json()}


def read_label_files(folder: Path) -> dict[str, LabelFile]:
    """Return the descriptions of the files of labels by their names, in order.

    Args:
      folder: Folder of the outcomes.

    Raises:
      RequestLogError: One of them is not a file of labels.
    """
    return {path.name: _read_description(path) for path in sorted(folder.glob(LABELS_PATTERN))}


def _read_description(path: Path) -> LabelFile:
    try:
        text = (pq.read_metadata(path).metadata or {}).get(_DESCRIPTION_KEY)
        description = LabelFile.model_validate_json(text) if text is not None else None
    except (OSError, pa.ArrowException, ValidationError) as error:
        raise RequestLogError(f"{path}: is not a file of labels: {error}; move it to another folder") from error
    if description is None:
        raise RequestLogError(f"{path}: is not a file of labels; move it to another folder")
    if description.format != FORMAT:
        raise RequestLogError(
            f"{path}: has format {description.format}; this program reads format {FORMAT}; move it to another folder, "
            "and join its labels again"
        )
    return description


def read_summary(log: Path) -> JoinSummary | None:
    """Return the summary of the last join; None if there is none.

    Args:
      log: Folder of the request log.

    Raises:
      RequestLogError: It is damaged.
    """
    file = log / FOLDER / SUMMARY_FILE
    try:
        return JoinSummary.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RequestLogError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise RequestLogError(
            f"{file}: is damaged; remove it and join again: python -m serving.outcomes --log {log}"
        ) from error


def compute_fingerprint(files: Sequence[str], shards: Mapping[str, JoinedShard]) -> str:
    """Return a hash of the files of a join."""
    sizes = {name: shard.bytes for name, shard in shards.items()}
    return hashlib.sha256(orjson.dumps([FORMAT, sorted(files), sorted(sizes.items())])).hexdigest()[:16]
