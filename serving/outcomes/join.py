"""Joins labels to logged predictions with DuckDB, in bounded memory, whatever the order in which the files came.

Of several labels of one key, the one with the latest time is joined. A label without a time is older than one with. At
equal times it is the one of the file that was changed last, and in a file that of the last row. The rule depends on the
files alone, and each join begins with all of them: so the order in which they are read does not matter.
"""

import contextlib
import datetime
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from cli.counts import format_count
from cli.state_files import write_atomically
from serving.outcomes.store import (
    FOLDER,
    HASH,
    IS_EARLY,
    LABEL,
    LABEL_TIME,
    LABELS_FILE,
    LABELS_ROW,
    LOCK_FILE,
    SHARD,
    SUMMARY_FILE,
    UNFINISHED_PATTERN,
    WEIGHT,
    JoinCounts,
    JoinedShard,
    JoinSummary,
    LabelFile,
    compute_fingerprint,
    read_label_files,
    read_summary,
)
from serving.request_log.shards import ERROR, FOLDER_MODE, ID, KEY, ROW, TIME, RequestLogError, Shard, list_shards

Report = Callable[[str], None]
_TRIES = 3
_OUTCOME_COLUMNS = (HASH, LABEL, WEIGHT, LABEL_TIME, SHARD, LABELS_FILE, LABELS_ROW, IS_EARLY)
# The order of labels of one key is a number: seconds since 1900, the place of the file, the row in the file.
_FIRST_SECOND, _FILE_BITS, _ROW_BITS = 2_208_988_800, 24, 40


@contextlib.contextmanager
def open_outcomes(log: Path) -> Iterator[Path]:
    """Yield the folder of a log's outcomes, which no other process changes meanwhile.

    Raises:
      RequestLogError: Another process joins labels, or the folder cannot be written.
    """
    folder = log / FOLDER
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        with FileLock(folder / LOCK_FILE, timeout=0):
            # What a killed process left behind.
            for path in folder.glob(UNFINISHED_PATTERN):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield folder
    except Timeout as error:
        raise RequestLogError(
            f"{folder}: another process joins labels; run the same command when it has ended"
        ) from error
    except OSError as error:
        place = error.filename or folder
        raise RequestLogError(f"{place}: cannot be written: {error.strerror or error}; free or mount it") from error


def check_keys(log: Path, by: str) -> None:
    """Check that a log has predictions that a label can belong to, before a file of labels is kept.

    Raises:
      RequestLogError: There is no log, it has no keys, or its labels are by another column.
    """
    shards = list_shards(log)
    if by == "key" and not any(_has_key(shard) for shard in shards):
        raise RequestLogError(
            f"{log}: no logged prediction has a key; log one with each request, or match labels by the ID of the "
            "request with --by-id"
        )
    for name, file in read_label_files(log / FOLDER).items():
        if file.by != by:
            raise RequestLogError(
                f"{log / FOLDER / name}: has labels by {file.by}, and these are by {by}; a log has labels of one kind: "
                "remove that file, or match these in the same way"
            )


def _has_key(shard: Shard) -> bool:
    return any(batch.column(0).null_count < len(batch) for batch in shard.read_batches([KEY]))


def join_outcomes(folder: Path, memory: str, report: Report) -> tuple[JoinSummary, bool]:
    """Join all labels to all logged predictions.

    Args:
      folder: Folder of the outcomes, locked.
      memory: Limit of DuckDB's memory, such as 1GB; what does not fit is on disk meanwhile.
      report: Function that is called with a line on the progress.

    Returns:
      Summary of the join, and whether anything is new.

    Raises:
      RequestLogError: There are no labels, or the log or the join cannot be read or written.
    """
    for attempt in range(_TRIES):
        try:
            return _join_once(folder, memory, report)
        except duckdb.OutOfMemoryException as error:
            raise RequestLogError(f"{folder}: the join needs more memory than --memory {memory}; allow more") from error
        except (duckdb.Error, RequestLogError, FileNotFoundError) as error:
            # A server may rotate or remove shards at any time.
            if attempt == _TRIES - 1 or not _has_lost_a_shard(error):
                if isinstance(error, duckdb.Error):
                    raise RequestLogError(f"{folder}: the labels cannot be joined: {find_cause(error)}") from error
                raise
    raise AssertionError


def find_cause(error: duckdb.Error) -> str:
    """Return the first line of an error; the message within it where a thread of DuckDB failed."""
    line = str(error).splitlines()[0]
    try:
        return str(json.loads(line[line.index('{"exception_type"') :])["exception_message"])
    except (ValueError, KeyError):
        return line


def _has_lost_a_shard(error: Exception) -> bool:
    return "No files found" in str(error) or "No such file" in str(error) or isinstance(error, FileNotFoundError)


@dataclass(frozen=True)
class _Inputs:
    """Files of a join: labels by name, shards by the name without its ending, and those that are kept already."""

    files: Mapping[str, LabelFile]
    shards: Mapping[str, Shard]
    kept: Mapping[str, JoinedShard]
    joined: Path | None

    @property
    def described_shards(self) -> dict[str, JoinedShard]:
        current = {
            name: JoinedShard(bytes=shard.path.stat().st_size, description=shard.description)
            for name, shard in self.shards.items()
        }
        return {**self.kept, **current}


def _find_inputs(folder: Path, previous: JoinSummary | None) -> _Inputs:
    files = read_label_files(folder)
    if not files:
        raise RequestLogError(f"{folder}: has no labels yet; name a file: python -m serving.outcomes FILE --key COLUMN")
    kinds = {(file.kind, file.classes) for file in files.values()}
    if len(kinds) > 1:
        names = ", ".join(files)
        raise RequestLogError(f"{folder}: the labels of {names} are of different kinds or classes; remove the old ones")
    # A rotated shard replaces its stream.
    shards = {shard.path.stem: shard for shard in sorted(list_shards(folder.parent), key=lambda s: s.path.suffix)}
    joined = folder / previous.joined if previous is not None else None
    if previous is None or joined is None or not joined.is_file():
        return _Inputs(files, shards, {}, None)
    kept = {name: shard for name, shard in previous.shards.items() if name not in shards}
    return _Inputs(files, shards, kept, joined if kept else None)


def _join_once(folder: Path, memory: str, report: Report) -> tuple[JoinSummary, bool]:
    previous = read_summary(folder.parent)
    inputs = _find_inputs(folder, previous)
    shards = inputs.described_shards
    digest = compute_fingerprint([*inputs.files], shards)
    is_same = previous is not None and previous.fingerprint == digest and (folder / previous.joined).is_file()
    if previous is not None and is_same and not previous.counts.future:
        return previous, False
    work = folder / f".unfinished-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        with contextlib.closing(_connect(work, memory)) as connection:
            files = format_count(len(inputs.files), "file")
            report(f"reads {files} of labels and {format_count(len(inputs.shards), 'shard')}")
            _read_inputs(connection, folder, inputs, work)
            report("joins them")
            joined = work / "joined.parquet"
            _write_joined(connection, joined)
            counts, examples = _count(connection, joined, inputs.files)
        # The name differs from that of the last join, which readers may still have open.
        name = f"joined-{digest}-{counts.future}.parquet"
        joined.replace(folder / name)
        labels = next(iter(inputs.files.values()))
        summary = JoinSummary(
            fingerprint=digest,
            joined=name,
            at=datetime.datetime.now(datetime.UTC),
            kind=labels.kind,
            classes=labels.classes,
            label=labels.label,
            weight=next((file.weight for file in inputs.files.values() if file.weight), ""),
            counts=counts,
            examples=examples,
            shards=shards,
            files=inputs.files,
        )
        write_atomically(folder / SUMMARY_FILE, summary.model_dump_json(indent=1))
        for path in folder.glob("joined-*.parquet"):
            if path.name != name:
                path.unlink()
        return summary, not is_same or previous is None or previous.counts != counts
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _connect(work: Path, memory: str) -> duckdb.DuckDBPyConnection:
    try:
        connection = duckdb.connect(config={"memory_limit": memory, "temp_directory": str(work / "spill")})
    except (duckdb.ParserException, duckdb.InvalidInputException) as error:
        raise RequestLogError(f"--memory {memory}: is not a size; expected one such as 1GB") from error
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
    return connection


def _escape(path: Path) -> str:
    """Return a path as DuckDB's pattern of itself."""
    return re.sub(r"([\[*?])", r"[\1]", str(path.absolute()))


def _quote(path: Path) -> str:
    escaped = str(path.absolute()).replace("'", "''")
    return f"'{escaped}'"


def _list(paths: Sequence[Path]) -> str:
    return "[" + ", ".join("'" + _escape(path).replace("'", "''") + "'" for path in paths) + "]"


def _read_inputs(connection: duckdb.DuckDBPyConnection, folder: Path, inputs: _Inputs, work: Path) -> None:
    """Create the views `labels`, ranked, and `predictions`, and the table `winners`."""
    # By the time of the last change, and by name where that is equal.
    ordered = sorted(inputs.files, key=lambda name: (inputs.files[name].modified, name))
    places = pa.table({"file": ordered, "place": pa.array(range(len(ordered)), pa.int64())})
    connection.register("places", places)
    connection.execute(f"""
        CREATE VIEW labels AS
        SELECT key, label, weight, time, file, row,
          ((COALESCE(time + {_FIRST_SECOND}, 0)::HUGEINT << {_FILE_BITS + _ROW_BITS})
            + (place::HUGEINT << {_ROW_BITS}) + row) AS rank
        FROM (
          SELECT *, parse_filename(filename) AS file
          FROM read_parquet({_list([folder / name for name in ordered])}, union_by_name = true, filename = true)
        ) JOIN places USING (file)
    """)
    now = int(time.time())
    connection.execute(f"CREATE VIEW past_labels AS SELECT * FROM labels WHERE time IS NULL OR time <= {now}")
    connection.execute(f"CREATE VIEW future_labels AS SELECT * FROM labels WHERE time > {now}")
    connection.execute("""
        CREATE TEMP TABLE winners AS
        SELECT key, count(*) AS labels, min(label) <> max(label) AS is_contradicted, max(rank) AS rank,
          arg_max(label, rank) AS label, arg_max(weight, rank) AS weight
        FROM past_labels GROUP BY key
    """)
    current = [_as_parquet(shard, work) for shard in inputs.shards.values()]
    parts = [
        f"""
        SELECT * EXCLUDE (filename), parse_filename(filename, true) AS {SHARD}
        FROM read_parquet({_list(current)}, union_by_name = true, filename = true)
    """
    ]
    if inputs.joined is not None:
        # Labelled rows of shards that the log's budget has removed since.
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in inputs.kept)
        excluded = ", ".join(column for column in _OUTCOME_COLUMNS if column != SHARD)
        parts.append(f"""
            SELECT * EXCLUDE ({excluded}) FROM read_parquet({_list([inputs.joined])}) WHERE {SHARD} IN ({names})
        """)
    by = next(iter(inputs.files.values())).by
    key = KEY if by == "key" else f"{ID} || '/' || {ROW}"
    connection.execute(f"""
        CREATE VIEW predictions AS
        SELECT *, {key} AS match FROM ({" UNION ALL BY NAME ".join(parts)}) WHERE {ERROR} IS NULL
    """)


def _as_parquet(shard: Shard, work: Path) -> Path:
    """Return the path of a shard; a stream that a worker still writes is copied."""
    if shard.path.suffix == ".parquet":
        return shard.path
    copy = work / f"{shard.path.stem}.parquet"
    with pq.ParquetWriter(copy, shard.schema) as writer:
        for batch in shard.read_batches():
            writer.write_batch(batch)
    return copy


def _write_joined(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    connection.execute(f"""
        COPY (
          SELECT p.* EXCLUDE (match),
            hash({ID}, {ROW}) AS {HASH},
            w.label AS {LABEL},
            w.weight AS {WEIGHT},
            w.time AS {LABEL_TIME},
            w.file AS {LABELS_FILE},
            w.row AS {LABELS_ROW},
            COALESCE(w.time < floor(epoch({TIME})), false) AS {IS_EARLY}
          FROM predictions p JOIN (
            SELECT key, label, weight, place.file,
              (rank & {(1 << _ROW_BITS) - 1})::BIGINT AS row,
              NULLIF((rank >> {_FILE_BITS + _ROW_BITS})::BIGINT, 0) - {_FIRST_SECOND} AS time
            FROM winners
            JOIN places place ON place.place = ((rank >> {_ROW_BITS}) & {(1 << _FILE_BITS) - 1})::BIGINT
          ) w ON p.match = w.key
        ) TO {_quote(path)} (FORMAT parquet, COMPRESSION zstd)
    """)


def _count(
    connection: duckdb.DuckDBPyConnection, joined: Path, files: Mapping[str, LabelFile]
) -> tuple[JoinCounts, dict[str, str]]:
    """Return the counts, and the place of a row for those that should be 0."""

    def select(query: str) -> tuple[Any, ...]:
        row = connection.execute(query).fetchone()
        assert row is not None
        return tuple(row)

    file = f"read_parquet({_list([joined])})"
    predictions, without_key = select("SELECT count(*), count(*) FILTER (match IS NULL) FROM predictions")
    labels, future = select("SELECT (SELECT count(*) FROM labels), (SELECT count(*) FROM future_labels)")
    keys, repeated, contradicted = select("""
        SELECT count(*), COALESCE(sum(labels - 1) FILTER (NOT is_contradicted), 0)::BIGINT,
          count(*) FILTER (is_contradicted)
        FROM winners
    """)
    rows, early, matched = select(f"""
        SELECT count(*), count(*) FILTER ({IS_EARLY}), count(DISTINCT hash({LABELS_FILE}, {LABELS_ROW})) FROM {file}
    """)
    queries = {
        "early": f"SELECT {LABELS_FILE}, min({LABELS_ROW}) FROM {file} WHERE {IS_EARLY} GROUP BY 1 ORDER BY 1 LIMIT 1",
        "future": "SELECT file, min(row) FROM future_labels GROUP BY 1 ORDER BY 1 LIMIT 1",
        "contradicted": """
            SELECT file, row FROM past_labels
            WHERE rank = (SELECT min(rank) FROM winners WHERE is_contradicted)
        """,
    }
    counts = JoinCounts(
        predictions=predictions,
        without_key=without_key,
        labels=labels,
        repeated=repeated,
        contradicted=contradicted,
        future=future,
        unknown=keys - matched,
        early=early,
        joined=rows - early,
    )
    examples = {}
    for name, query in queries.items():
        if getattr(counts, name):
            file_name, row = select(query)
            examples[name] = f"{files[file_name].source}: row {row}"
    return counts, examples
