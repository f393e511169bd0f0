"""Changes of a registry that are killed or fail half-way: what is served is always whole, and the next one ends well."""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.errors import PushError
from serving.registry import LEDGER_FILE, LocalRegistry, State
from tests.serving.registry.local.registry_bench import (
    CANDIDATE,
    CHAMPION,
    PREVIOUS,
    PROCESSES,
    RETIRED,
    Push,
    look,
    models,
)

pytestmark = pytest.mark.proof

Change = Callable[[LocalRegistry], Any]
States = dict[int, State]


_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.utime", "shutil.rmtree", "fcntl.flock"}
When = Callable[[str, tuple[Any, ...]], bool]


def _change_until_killed(when: When, change: Change, registry: LocalRegistry) -> None:
    """Carry out a change; kill the process before the step that `when` selects."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if (event in _CHANGES or writes) and when(event, arguments):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    change(registry)


def is_killed(when: When, change: Change, registry: LocalRegistry) -> bool:
    """Return whether a change was killed; if not, it never came to that point."""
    process = PROCESSES.Process(target=_change_until_killed, args=(when, change, registry))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def step(number: int) -> When:
    """Return a condition for the Nth step that changes the disk."""
    steps = itertools.count(1)
    return lambda event, arguments: next(steps) == number


def after_version() -> When:
    """Return a condition for the step after the one that puts a version in its place."""
    in_place: list[bool] = []

    def when(event: str, arguments: tuple[Any, ...]) -> bool:
        if in_place:
            return True
        if event == "os.rename" and Path(arguments[1]).name.isdecimal():
            in_place.append(True)
        return False

    return when


BEFORE: States = {1: RETIRED, 2: RETIRED, 3: PREVIOUS, 4: CHAMPION, 5: CANDIDATE}


@pytest.fixture
def before(tmp_path: Path) -> LocalRegistry:
    registry = LocalRegistry(models(tmp_path) / "before", "income")
    for name in "abcde":
        Push(name, promote=name != "e")(registry)
    assert registry.read_ledger().states == BEFORE
    return registry


def check_every_kill(before: LocalRegistry, change: Change, after: States, champions: set[int | None]) -> int:
    """Kill a change before each of its steps, check, and repeat it; return the number of steps."""
    for number in itertools.count(1):
        registry = LocalRegistry(before.folder.parent.parent / f"killed-{number}", "income")
        shutil.copytree(before.folder.parent, registry.folder.parent)
        was_killed = is_killed(step(number), change, registry)
        assert look(registry) in champions, number
        change(registry)
        look(registry)
        assert registry.read_ledger().states == after, number
        assert registry.list_numbers() == sorted(after), number
        assert not [path.name for path in registry.folder.iterdir() if path.name.startswith((".unf", ".del"))]
        shutil.rmtree(registry.folder.parent)
        if not was_killed:
            return number - 1
    raise AssertionError


@pytest.mark.parametrize(
    ("change", "after", "champions", "steps"),
    [
        (Push("f"), {1: RETIRED, 2: RETIRED, 3: RETIRED, 4: PREVIOUS, 5: CANDIDATE, 6: CHAMPION}, {4, 6}, 25),
        (
            Push("f", promote=False),
            {1: RETIRED, 2: RETIRED, 3: PREVIOUS, 4: CHAMPION, 5: RETIRED, 6: CANDIDATE},
            {4},
            25,
        ),
        (
            Push("f", version=9),
            {1: RETIRED, 2: RETIRED, 3: RETIRED, 4: PREVIOUS, 5: CANDIDATE, 9: CHAMPION},
            {4, 9},
            25,
        ),
        (
            lambda registry: registry.promote(5),
            {1: RETIRED, 2: RETIRED, 3: RETIRED, 4: PREVIOUS, 5: CHAMPION},
            {4, 5},
            10,
        ),
        (lambda registry: registry.roll_back(3), {**BEFORE, 3: CHAMPION, 4: PREVIOUS}, {3, 4}, 10),
        (lambda registry: registry.gc(keep_last=1), {3: PREVIOUS, 4: CHAMPION, 5: CANDIDATE}, {4}, 20),
    ],
    ids=["push", "push of a candidate", "push of a chosen version", "promote", "rollback", "gc"],
)
def test_a_change_that_is_killed_at_any_step_is_finished_by_the_next(
    change: Change, after: States, champions: set[int | None], steps: int, before: LocalRegistry
) -> None:
    assert check_every_kill(before, change, after, champions) >= steps


@pytest.mark.parametrize("promote", [True, False])
def test_a_first_push_that_is_killed_at_any_step_is_finished_by_the_next(promote: bool, tmp_path: Path) -> None:
    nothing = LocalRegistry(models(tmp_path) / "before", "income")
    nothing.folder.parent.mkdir()
    after = {1: CHAMPION if promote else CANDIDATE}
    champions = {None, 1} if promote else {None}
    assert check_every_kill(nothing, Push("a", promote=promote), after, champions) >= 25


def cut_off(registry: LocalRegistry, change: Change) -> int:
    """Kill a push between its version and its record; return the version."""
    numbers = registry.list_numbers()
    assert is_killed(after_version(), change, registry)
    (new,) = set(registry.list_numbers()) - set(numbers)
    assert registry.read_state(new) is None
    return new


def test_a_push_that_was_cut_off_is_finished_without_copying_it_again(before: LocalRegistry) -> None:
    assert cut_off(before, Push("f", run_id="run-7")) == 6
    inode = (before.folder / "6" / "saved_model.pb").stat().st_ino
    result = Push("f", run_id="run-8")(before)
    assert (result.version, result.pushed, result.traffic) == (6, True, {6: 100})
    assert (before.folder / "6" / "saved_model.pb").stat().st_ino == inode
    event = before.read_ledger().history[-1]
    assert (event.run_id, event.reason) == ("run-8", "finished the push of run run-7, which was cut off")


def test_another_push_retires_the_one_that_was_cut_off_and_takes_the_next_number(before: LocalRegistry) -> None:
    assert cut_off(before, Push("f", run_id="run-7")) == 6
    result = Push("g", run_id="run-8")(before)
    assert (result.version, result.traffic) == (7, {7: 100})
    assert before.read_state(6) is RETIRED
    retired, pushed = before.read_ledger().history[-2:]
    assert (retired.action, retired.version, retired.reason) == ("retire", 6, "its push was cut off")
    assert (pushed.action, pushed.version, pushed.run_id) == ("push", 7, "run-8")


def test_another_number_for_a_push_that_was_cut_off_is_refused_and_leaves_it_to_be_finished(
    before: LocalRegistry,
) -> None:
    assert cut_off(before, Push("f")) == 6
    with pytest.raises(PushError, match="this very model is version 6 already; push.version asks for 9. Leave it out"):
        Push("f", version=9)(before)
    assert Push("f")(before).traffic == {6: 100}


def test_a_chosen_version_that_was_cut_off_is_no_reason_to_refuse_its_rerun(before: LocalRegistry) -> None:
    assert cut_off(before, Push("f", run_id="run-7", version=9)) == 9
    before.check(pipeline="census", version=9)
    with pytest.raises(PushError, match="version 9 exists already, pushed by run run-7; it is never overwritten"):
        Push("g", version=9)(before)
    assert Push("f", version=9)(before).traffic == {9: 100}


def test_a_version_that_was_cut_off_can_be_promoted(before: LocalRegistry) -> None:
    assert cut_off(before, Push("f")) == 6
    before.promote(6)
    assert (before.read_champion(), Push("f")(before).pushed) == (6, False)


def test_a_full_disk_leaves_what_served_and_the_same_push_succeeds_later(
    before: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = (before.folder / LEDGER_FILE).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("shutil.copytree", "os.fsync", "os.replace"):
        with monkeypatch.context() as patched:
            patched.setattr(name, full)
            with pytest.raises(PushError) as refused:
                Push("f")(before)
        assert str(refused.value) == (
            f"{before.folder}: cannot be written: No space left on device; the serving version is unchanged. Fix it, and run "
            "the same again"
        )
        assert (before.folder / LEDGER_FILE).read_bytes() == record
        assert look(before) == 4
    assert Push("f")(before).traffic == {6: 100}


def test_a_file_that_cannot_be_copied_is_named_by_its_reason(before: LocalRegistry, tmp_path: Path) -> None:
    (tmp_path / "f" / "link").symlink_to("nowhere")
    with pytest.raises(PushError, match="cannot be written: .*No such file or directory"):
        Push("f")(before)


def test_a_push_that_waits_too_long_says_so(before: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    from serving.registry.local import registry

    monkeypatch.setattr(registry, "_LOCK_TIMEOUT_SECONDS", 0)
    with filelock.FileLock(before.folder / ".lock"), pytest.raises(PushError) as refused:
        Push("f")(before)
    assert str(refused.value) == f"{before.folder}: another push has held the lock for 0 s; try again"
    assert before.read_champion() == 4
