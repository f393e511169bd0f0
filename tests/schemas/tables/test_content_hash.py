"""Files are named by their content, and an unchanged file is not read again; the bucket's server is a real one."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.errors import DataError
from emulators.storage.server import StorageServer
from schemas.tables.content_hash import _RACY_NS, Memory, identify_contents

ODD_NAME = "a [b] c#d%20é?*.csv"


def digest(path: Path | str, memory: Memory | None = None) -> str:
    ((_, content),) = (
        (content.bytes, content.digest) for content in identify_contents([str(path)], memory or Memory())
    )
    return content


def test_a_touch_keeps_the_hash_and_other_content_of_the_same_size_and_time_changes_it(tmp_path: Path) -> None:
    file, memory = tmp_path / ODD_NAME, tmp_path / "memory.json"
    file.write_text("1,2")
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    before = digest(file, Memory(memory))
    os.utime(file, ns=(times[0], times[1] + 10**9))
    assert digest(file, Memory(memory)) == before
    file.write_text("1,3")
    os.utime(file, ns=times)
    assert digest(file, Memory(memory)) != before


def test_a_settled_file_is_remembered_and_one_that_was_just_written_is_not(tmp_path: Path) -> None:
    file, memory = tmp_path / "a.csv", tmp_path / "memory.json"
    file.write_text("1,2")
    right = digest(file, Memory(memory))
    assert not memory.exists() or json.loads(memory.read_text()) == []
    time.sleep(_RACY_NS / 1e9 + 0.1)
    digest(file, Memory(memory))
    ((path, stamp, remembered),) = json.loads(memory.read_text())
    assert (path, remembered) == (str(file), right)
    # A digest that no reading gives: the file is not read.
    memory.write_text(json.dumps([[path, stamp, "remembered"]]))
    assert digest(file, Memory(memory)) == "remembered"
    # Other content with the old size and times: a program can set the time of modification, not that of change.
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_text("1,3")
    os.utime(file, ns=times)
    assert digest(file, Memory(memory)) not in ("remembered", right)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', "null"])
def test_a_damaged_memory_is_written_again(tmp_path: Path, text: str) -> None:
    file, memory = tmp_path / "a.csv", tmp_path / "memory.json"
    file.write_text("1,2")
    memory.write_text(text)
    assert digest(file, Memory(memory)) == digest(file)


def test_two_runs_that_write_the_memory_at_once_leave_one_of_both(tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    memories = [{f"{number}.csv": ([number] * 4, str(number))} for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda hashes: Memory(memory).keep(hashes), memories))
    assert Memory(memory).hashes in memories
    assert list(tmp_path.iterdir()) == [memory]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file"):
        identify_contents([str(tmp_path / "gone.csv")], Memory())


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with StorageServer(tmp_path) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        (tmp_path / "bucket" / "data [1]").mkdir(parents=True)
        yield tmp_path / "bucket"


def test_an_object_is_named_by_its_checksum_in_the_listing(bucket: Path) -> None:
    uris = [f"gs://bucket/data [1]/{name}" for name in (ODD_NAME, "b.csv")]
    for uri in uris:
        (bucket / uri.removeprefix("gs://bucket/")).write_text(uri)
    before = identify_contents(uris, Memory())
    assert [content.bytes for content in before] == [len(uri.encode()) for uri in uris]
    os.utime(bucket / "data [1]" / "b.csv", (1, 1))
    assert identify_contents(uris, Memory()) == before
    (bucket / "data [1]" / "b.csv").write_text(uris[1].upper())
    changed = identify_contents(uris, Memory())
    assert changed[0] == before[0]
    assert (changed[1].bytes, changed[1].digest != before[1].digest) == (before[1].bytes, True)
    with pytest.raises(DataError, match=r"gs://bucket/c\.csv: no such file"):
        identify_contents([*uris, "gs://bucket/c.csv"], Memory())
    with pytest.raises(DataError, match="gs://none: cannot be listed: .*does not exist"):
        identify_contents(["gs://none/c.csv"], Memory())
