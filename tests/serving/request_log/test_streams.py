"""Streams outlive a full disk, their worker and its clock; the oldest shards make place for new ones."""

import contextlib
import datetime
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cli.errors import ConfigError
from serving.request_log.shards import (
    ID,
    LOG_FIELDS,
    ShardDescription,
    build_schema,
    list_shards,
    read_rows,
    write_shard,
)
from serving.request_log.streams import (
    Stream,
    StreamNames,
    check_folder,
    convert_stream,
    delete_oldest,
    recover_streams,
)

DESCRIPTION = ShardDescription(model="census", sample=1.0)
SCHEMA = build_schema([*LOG_FIELDS, pa.field("age", pa.float64())], DESCRIPTION)
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)


def build_batch(*identities: str) -> pa.RecordBatch:
    rows = len(identities)
    columns = [[NOW] * rows, [*identities], [0] * rows, [None] * rows, [1] * rows, [None] * rows, [30.0] * rows]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def read_ids(folder: Path) -> list[str]:
    return [identity for batch in read_rows(list_shards(folder), [ID]) for identity in batch.column(ID).to_pylist()]


@contextlib.contextmanager
def full_disk(size: int, process: int = 0) -> Iterator[None]:
    """Let no file of a process, by default of this one, grow beyond a size, as a disk without space does."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


def test_names_sort_by_time_also_when_the_clock_goes_back(tmp_path: Path) -> None:
    names = StreamNames()
    now = time.time_ns() // 1000
    chosen = [names.choose(now), names.choose(now), names.choose(now - 3_600_000_000), names.choose(now + 5)]
    assert chosen == sorted({*chosen})
    assert not {*chosen} & {StreamNames().choose(now)}


def test_a_stream_is_read_while_it_grows_and_becomes_a_shard(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "new", StreamNames(), SCHEMA)
    folder = stream.path.parent
    stream.append(build_batch("a", "b"))
    (living,) = list_shards(folder)
    stream.append(build_batch("c"))
    assert read_ids(folder) == ["a", "b", "c"]
    convert_stream(stream.path)
    stream.close()
    assert [path.name for path in folder.iterdir()] == [stream.path.with_suffix(".parquet").name]
    # A reader that had listed the stream reads the shard.
    assert sum(batch.num_rows for batch in living.read_batches()) == 3
    assert list_shards(folder)[0].description == DESCRIPTION
    assert list_shards(folder)[0].schema.field("age") == pa.field("age", pa.float64())


def test_a_full_disk_leaves_whole_batches_and_the_stream_continues(tmp_path: Path) -> None:
    stream = Stream(tmp_path, StreamNames(), SCHEMA)
    stream.append(build_batch("a"))
    size = stream.size
    with full_disk(size + 100), pytest.raises(OSError, match="too large"):
        stream.append(build_batch("lost"))
    assert stream.path.stat().st_size == size
    assert not stream.is_damaged
    stream.append(build_batch("b"))
    with full_disk(100), pytest.raises(OSError, match=r"too large|Error writing"):
        convert_stream(stream.path)
    assert [path.name for path in tmp_path.iterdir()] == [stream.path.name]
    assert read_ids(tmp_path) == ["a", "b"]
    stream.close()


def test_streams_of_dead_workers_become_shards_and_living_ones_do_not(tmp_path: Path) -> None:
    streams = [Stream(tmp_path, StreamNames(), SCHEMA) for _ in range(4)]
    living, dead, half, twice = streams
    for number, stream in enumerate(streams):
        stream.append(build_batch(str(number)))
    half.append(build_batch("cut off"))
    os.truncate(half.path, half.size - 10)
    # Its worker died after it wrote the shard, and before it removed the stream.
    write_shard(twice.path.with_suffix(".parquet"), pa.Table.from_batches([build_batch("3")]), DESCRIPTION)
    assert read_ids(tmp_path) == ["0", "1", "2", "3"]
    empty = Stream(tmp_path, StreamNames(), SCHEMA)
    for stream in (dead, half, twice, empty):
        stream.close()
    (tmp_path / "requests-1.arrow").write_bytes(b"not a stream")
    outcomes = dict(recover_streams(tmp_path))
    assert str(outcomes.pop(tmp_path / "requests-1.arrow")).endswith(
        "requests-1.arrow: is not a stream of a request log; move it to another folder"
    )
    assert outcomes == dict.fromkeys([dead.path, half.path, twice.path, empty.path])
    (tmp_path / "requests-1.arrow").unlink()
    shards = [stream.path.with_suffix(".parquet") for stream in (dead, half, twice)]
    assert sorted(tmp_path.iterdir()) == sorted([living.path, *shards])
    assert read_ids(tmp_path) == ["0", "1", "2", "3"]
    living.close()


def test_a_stream_that_was_removed_is_noticed(tmp_path: Path) -> None:
    stream = Stream(tmp_path, StreamNames(), SCHEMA)
    assert not stream.has_moved()
    stream.path.unlink()
    assert stream.has_moved()
    stream.path.touch()
    assert stream.has_moved()
    stream.close()


def test_the_oldest_shards_are_deleted_and_no_file_of_others(tmp_path: Path) -> None:
    (tmp_path / "requests-0.parquet").write_bytes(b"PAR1" * 100)
    paths = [tmp_path / f"requests-{number}.parquet" for number in range(1, 5)]
    for path in paths:
        write_shard(path, pa.Table.from_batches([build_batch(path.stem)]), DESCRIPTION)
    stream = Stream(tmp_path, StreamNames(), SCHEMA)
    stream.append(build_batch("living"))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert delete_oldest(tmp_path, size) == []
    assert delete_oldest(tmp_path, size - 1) == paths[:1]
    assert delete_oldest(tmp_path, stream.size + 400 + paths[3].stat().st_size) == paths[1:3]
    # What a worker writes is never deleted.
    assert delete_oldest(tmp_path, 0) == paths[3:]
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "requests-0.parquet", stream.path])
    stream.close()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("requests-1.arrow", b"not a stream", "requests-1.arrow: is not a stream of a request log; move it"),
        (
            "requests-1.parquet",
            b"PAR1",
            r"requests-1.parquet: is not a shard of a request log: .*; move it to another folder",
        ),
        (None, b"", "has format 2; this program reads format 1"),
    ],
)
def test_a_folder_with_foreign_files_is_named(tmp_path: Path, name: str | None, content: bytes, message: str) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "requests-0.arrow").touch()
    check_folder(tmp_path, "--log-requests")
    if name is None:
        other = DESCRIPTION.model_copy(update={"format": 2})
        write_shard(tmp_path / "requests-1.parquet", pa.Table.from_batches([build_batch("a")]), other)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        check_folder(tmp_path, "--log-requests")
    assert not list(tmp_path.glob(".probe*"))


@pytest.mark.skipif(os.getuid() != 0, reason="root mounts a file system")
def test_a_folder_that_is_read_only_or_full(tmp_path: Path) -> None:
    import subprocess

    folder = tmp_path / "log"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode()}")
    try:
        stream = Stream(folder, StreamNames(), SCHEMA)
        stream.append(build_batch("a"))
        (folder / "other").write_bytes(b"x" * (64 * 1024 - 2 * 4096))
        with pytest.raises(OSError, match="No space left"):
            stream.append(build_batch(*["lost"] * 1000))
        # A server starts with a full disk, and logs again once there is space.
        check_folder(folder, "--log-requests")
        (folder / "other").unlink()
        stream.append(build_batch("b"))
        assert read_ids(folder) == ["a", "b"]
        stream.close()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with pytest.raises(ConfigError, match=r"--log-requests .*: cannot be used: Read-only file system; name one"):
            check_folder(folder, "--log-requests")
    finally:
        subprocess.run(["umount", folder], check=True)
