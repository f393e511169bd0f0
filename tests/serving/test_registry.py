import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from schemas.errors import PushError
from serving.registry import PushResult, Registry, content_hash


def model(folder: Path, content: str = "weights", files: int = 1) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    for number in range(files):
        (folder / "variables" / f"data-{number}").write_text(content * 100)
    return folder


def push(registry: Path, source: Path, *, pipeline: str = "census", version: int | None = None) -> PushResult:
    return Registry(registry, "income").push(source, pipeline=pipeline, run_id="run-1", model_id=7, version=version)


def test_the_first_push_is_version_1_and_says_where_it_came_from(tmp_path: Path) -> None:
    source = model(tmp_path / "model")
    result = push(tmp_path / "registry", source)
    folder = tmp_path / "registry" / "income" / "1"
    assert result == PushResult(1, str(folder), pushed=True)
    assert json.loads((folder / "assets.extra" / "release.json").read_text()) == {
        "pipeline": "census",
        "run_id": "run-1",
        "model_id": 7,
        "content_hash": content_hash(source),
    }
    assert content_hash(folder) == content_hash(source)


def test_the_same_model_is_pushed_once_and_another_becomes_the_next_version(tmp_path: Path) -> None:
    first, second = model(tmp_path / "a", "a"), model(tmp_path / "b", "b")
    pushes = [push(tmp_path / "r", source) for source in (first, first, second, first)]
    # Going back to the first model is a new version: the highest is what serves.
    assert [(p.version, p.pushed) for p in pushes] == [(1, True), (1, False), (2, True), (3, True)]


def test_an_existing_version_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "a", "a"), version=5)
    before = content_hash(tmp_path / "r" / "income" / "5")
    with pytest.raises(PushError) as refused:
        push(tmp_path / "r", model(tmp_path / "b", "b"), version=5)
    assert str(refused.value) == (
        f"{tmp_path}/r/income: version 5 exists already, pushed by run run-1; it is never overwritten. Leave out "
        "push.version to push as 6"
    )
    assert content_hash(tmp_path / "r" / "income" / "5") == before
    assert Registry(tmp_path / "r", "income").versions() == [5]


def test_a_name_that_another_pipeline_owns_is_refused(tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "a", "a"), pipeline="other")
    with pytest.raises(
        PushError, match="the name is taken: version 1 was written by the pipeline 'other', not by 'census'"
    ):
        push(tmp_path / "r", model(tmp_path / "b", "b"))


def test_a_version_that_another_tool_wrote_is_refused(tmp_path: Path) -> None:
    model(tmp_path / "r" / "income" / "3")
    with pytest.raises(PushError, match="the name is taken: version 3 was written by another tool"):
        push(tmp_path / "r", model(tmp_path / "b", "b"))


@pytest.mark.parametrize("taken", ["registry", "registry/income"])
def test_a_file_where_the_folder_should_be_is_refused_and_kept(taken: str, tmp_path: Path) -> None:
    file = tmp_path / taken
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(PushError, match=f"{file}: is a file; expected the registry's folder"):
        push(tmp_path / "registry", model(tmp_path / "a"))
    assert file.read_text() == "mine"


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PushError, match=r"is not a SavedModel \(no saved_model.pb\); nothing was pushed"):
        push(tmp_path / "r", tmp_path)
    assert not (tmp_path / "r").exists()


def _push_in_process(registry: Path, source: Path) -> None:
    push(registry, source)


def test_two_pushes_at_once_both_land_whole(tmp_path: Path) -> None:
    sources = [model(tmp_path / name, name, files=200) for name in ("a", "b")]
    processes = [multiprocessing.Process(target=_push_in_process, args=(tmp_path / "r", s)) for s in sources]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    registry = Registry(tmp_path / "r", "income")
    assert registry.versions() == [1, 2]
    assert {content_hash(registry.folder / "1"), content_hash(registry.folder / "2")} == set(map(content_hash, sources))


def test_a_push_killed_half_way_leaves_no_version_and_the_next_one_succeeds(tmp_path: Path) -> None:
    source = model(tmp_path / "a", files=3000)
    process = multiprocessing.Process(target=_push_in_process, args=(tmp_path / "r", source))
    process.start()
    registry = Registry(tmp_path / "r", "income")
    unfinished = registry.folder / ".unfinished-1"
    deadline = time.monotonic() + 30
    while not unfinished.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert unfinished.exists()
    assert registry.versions() == []
    assert push(tmp_path / "r", source) == PushResult(1, str(registry.folder / "1"), pushed=True)
    assert not unfinished.exists()
    assert content_hash(registry.folder / "1") == content_hash(source)
