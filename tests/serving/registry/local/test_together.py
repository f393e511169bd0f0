"""Changes of a registry that come together, and readers that look on."""

import shutil
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from cli.errors import PushError
from serving.registry import LocalRegistry
from tests.serving.registry.local.registry_bench import CHAMPION, PREVIOUS, PROCESSES, RETIRED, Push, look, models


def _push(registry: LocalRegistry, name: str, version: int | None, start: Barrier, outcomes: Any) -> None:
    start.wait()
    try:
        result = Push(name, run_id=f"run-{name}", version=version)(registry)
    except PushError as error:
        outcomes.put((name, str(error)))
    else:
        outcomes.put((name, result.version))


def push_together(registry: LocalRegistry, names: str, version: int | None = None) -> dict[str, int | str]:
    """Push models at once, each from its own process; return the version or the error of each."""
    start, outcomes = PROCESSES.Barrier(len(names)), PROCESSES.Queue()
    processes = [PROCESSES.Process(target=_push, args=(registry, name, version, start, outcomes)) for name in names]
    for process in processes:
        process.start()
    answers = dict(outcomes.get(timeout=60) for _ in names)
    for process in processes:
        process.join()
    return answers


def test_four_pushes_at_once_become_four_whole_versions_and_one_champion(tmp_path: Path) -> None:
    registry = LocalRegistry(models(tmp_path) / "r", "income")
    assert sorted(push_together(registry, "abcd").values()) == [1, 2, 3, 4]
    assert registry.list_numbers() == [1, 2, 3, 4]
    assert all(registry.is_intact(version) for version in registry.list_numbers())
    assert registry.read_ledger().states == {1: RETIRED, 2: RETIRED, 3: PREVIOUS, 4: CHAMPION}
    assert [(event.version, event.champion_before) for event in registry.read_ledger().history] == [
        (1, None),
        (2, 1),
        (3, 2),
        (4, 3),
    ]


def test_of_pushes_of_one_version_at_once_exactly_one_wins_and_the_others_are_told_who_did(tmp_path: Path) -> None:
    registry = LocalRegistry(models(tmp_path) / "r", "income")
    answers = push_together(registry, "abcd", version=3)
    (winner,) = [name for name, answer in answers.items() if answer == 3]
    release = registry.read_release(3)
    assert release is not None and release.run_id == f"run-{winner}"
    assert {answer for name, answer in answers.items() if name != winner} == {
        f"{registry.folder}: version 3 exists already, pushed by run run-{winner}; it is never overwritten. Leave out "
        "push.version to push as 4"
    }
    assert registry.read_ledger().states == {3: CHAMPION}


def test_of_pushes_of_one_model_at_once_one_writes_it_and_the_others_find_it(tmp_path: Path) -> None:
    registry = LocalRegistry(models(tmp_path) / "r", "income")
    for name in "bcd":
        shutil.rmtree(tmp_path / name)
        shutil.copytree(tmp_path / "a", tmp_path / name)
    assert push_together(registry, "abcd") == dict.fromkeys("abcd", 1)
    assert [event.action for event in registry.read_ledger().history] == ["push"]


def _read(registry: LocalRegistry, ready: Event, stop: Event, outcomes: Any) -> None:
    looks, seen = 0, set()
    try:
        while not stop.is_set():
            seen.add(look(registry))
            looks += 1
            ready.set()
    except BaseException as error:
        ready.set()
        outcomes.put(f"after {looks} looks: {error!r}")
        raise
    outcomes.put((looks, seen))


def test_a_reader_never_sees_half_a_change(tmp_path: Path) -> None:
    registry = LocalRegistry(models(tmp_path, files=40) / "r", "income")
    ready, stop, outcomes = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Queue()
    reader = PROCESSES.Process(target=_read, args=(registry, ready, stop, outcomes))
    reader.start()
    assert ready.wait(60)
    for name in "abcdefg":
        Push(name, promote=name != "c")(registry)
        if name > "b":
            registry.roll_back()
            registry.roll_back()
    stop.set()
    looks, seen = outcomes.get(timeout=60)
    reader.join()
    assert reader.exitcode == 0
    assert looks > len(seen) > 1
    assert seen <= {None, 1, 2, 4, 5, 6, 7}
