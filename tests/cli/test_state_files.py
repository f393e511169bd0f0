"""Files that are replaced as a whole."""

import os
from pathlib import Path

import pydantic
import pytest

from cli.state_files import read_state, write_atomically


class Count(pydantic.BaseModel):
    number: int


def test_a_file_is_replaced_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "count.json"
    write_atomically(file, '{"number": 1}')
    write_atomically(file, b'{"number": 2}', durable=True)
    assert read_state(file, Count) == Count(number=2)
    assert os.listdir(tmp_path) == ["count.json"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"number": "many"}'])
def test_a_missing_or_damaged_file_has_no_content(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "count.json"
    if content is not None:
        file.write_text(content)
    assert read_state(file, Count) is None


@pytest.mark.parametrize("name", ["os.fsync", "os.replace"])
def test_an_error_names_the_file_and_leaves_the_old_content(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "a temporary name")

    file = tmp_path / "count.json"
    write_atomically(file, "old")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device") as caught:
        patched.setattr(name, fail)
        write_atomically(file, "new", durable=True)
    assert (caught.value.errno, caught.value.filename) == (28, str(file))
    assert (os.listdir(tmp_path), file.read_text()) == (["count.json"], "old")


def test_a_file_has_the_permissions_of_other_new_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_atomically(tmp_path / "file", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode
