"""Shards are read as they were written; a file that is none is named."""

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from serving.request_log.shards import (
    ERROR,
    ID,
    KEY,
    LOG_FIELDS,
    ROW,
    TIME,
    VERSION,
    RequestLogError,
    ShardDescription,
    describe,
    list_shards,
    read_rows,
    write_shard,
)

START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DESCRIPTION = ShardDescription(model="census", sample=1.0, masked=("race",))


def _build_rows(count: int) -> pa.Table:
    log = {
        TIME: [START + datetime.timedelta(hours=number) for number in range(count)],
        ID: [f"id-{number}" for number in range(count)],
        ROW: [0] * count,
        KEY: [None] * count,
        VERSION: [1] * count,
        ERROR: [None] * count,
    }
    inputs = pa.schema([pa.field("age", pa.int64()), pa.field("_prediction_probability", pa.float32())])
    schema = pa.schema([*LOG_FIELDS, *inputs])
    return pa.table({**log, "age": [*range(count - 1), None], "_prediction_probability": [0.5] * count}, schema=schema)


def test_a_shard_has_inputs_outputs_and_nulls(tmp_path: Path) -> None:
    write_shard(tmp_path / "requests-1.parquet", _build_rows(3), DESCRIPTION)
    (shard,) = list_shards(tmp_path)
    assert shard.outputs == ["probability"]
    assert shard.description == DESCRIPTION
    assert [path.name for path in tmp_path.iterdir()] == ["requests-1.parquet"]
    assert pa.Table.from_batches(read_rows([shard], ["age"])).to_pydict() == {"age": [0, 1, None]}


def test_a_window_has_its_start_and_not_its_end(tmp_path: Path) -> None:
    write_shard(tmp_path / "requests-1.parquet", _build_rows(5), DESCRIPTION)
    hour = datetime.timedelta(hours=1)
    rows = read_rows(list_shards(tmp_path), [ID], since=START + hour, until=START + 3 * hour)
    assert pa.Table.from_batches(rows).to_pydict() == {ID: ["id-1", "id-2"]}


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_stream_that_is_cut_off_has_its_whole_batches(tmp_path: Path, cut: int) -> None:
    table = describe(_build_rows(4), DESCRIPTION)
    path = tmp_path / "requests-1.arrow"
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    length = path.stat().st_size - 8  # The mark of the end.
    with open(path, "r+b") as file:
        file.truncate(length - cut)
    (shard,) = list_shards(tmp_path)
    rows = pa.Table.from_batches(read_rows([shard]))
    assert rows.num_rows == (4 if cut == 0 else 2)


def test_a_stream_without_a_block_is_no_shard_yet(tmp_path: Path) -> None:
    (tmp_path / "requests-1.arrow").touch()
    write_shard(tmp_path / "requests-2.parquet", _build_rows(1), DESCRIPTION)
    assert len(list_shards(tmp_path)) == 1


def test_a_shard_that_was_deleted_since_it_was_listed_has_no_rows(tmp_path: Path) -> None:
    for number in (1, 2):
        write_shard(tmp_path / f"requests-{number}.parquet", _build_rows(number), DESCRIPTION)
    shards = list_shards(tmp_path)
    shards[0].path.unlink()
    assert sum(batch.num_rows for batch in read_rows(shards)) == 2
    with pytest.raises(RequestLogError, match=r"requests-1\.parquet: cannot be read: No such file"):
        next(shards[0].read_batches())


def test_a_masked_column_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "requests-1.parquet", _build_rows(1), DESCRIPTION)
    (shard,) = list_shards(tmp_path)
    shard.check_columns(["age"], "a replay")
    with pytest.raises(RequestLogError, match=r"'race' is sensitive and was not logged; a replay needs it; log it"):
        shard.check_columns(["age", "race"], "a replay")
    with pytest.raises(RequestLogError, match=r"has no column 'sex'; a replay needs it$"):
        shard.check_columns(["sex"], "a replay")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not a shard"), (b"PAR1 and no more", "not a shard"), (None, "move it to another")]
)
def test_a_foreign_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "requests-1.parquet"
    if content is None:
        import pyarrow.parquet as pq

        pq.write_table(_build_rows(1), path)
    else:
        path.write_bytes(content)
    with pytest.raises(RequestLogError, match=rf"requests-1\.parquet: .*{message}"):
        list_shards(tmp_path)


def test_another_format_and_a_folder_without_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestLogError, match=r"has no shard of a request log; a server writes them"):
        list_shards(tmp_path)
    with pytest.raises(RequestLogError, match=r"there is no such folder; a server writes one"):
        list_shards(tmp_path / "missing")
    write_shard(tmp_path / "requests-1.parquet", _build_rows(1), DESCRIPTION.model_copy(update={"format": 2}))
    with pytest.raises(RequestLogError, match=r"has format 2; this program reads format 1; move it"):
        list_shards(tmp_path)
