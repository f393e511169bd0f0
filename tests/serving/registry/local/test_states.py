"""States of versions: promotion, rollback, garbage collection, and the readers' view."""

import json
import shutil
from pathlib import Path

import filelock
import pytest

from cli.errors import PushError
from serving.registry import LEDGER_FILE, RELEASE_FILE, TF_SERVING_FILE, LocalRegistry, ServingSwitch, State
from serving.registry.local.ledger import Ledger
from serving.registry.local.reader import LOCK_FILE
from serving.registry.stamps import get_user_and_host
from tests.serving.registry.local.registry_bench import model, push


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """With three versions: 1 retired, 2 previous, 3 champion."""
    for name in ("a", "b", "c"):
        push(tmp_path / "r", model(tmp_path / name, name), run_id=f"run-{name}")
    return LocalRegistry(tmp_path / "r", "income")


def test_a_rollback_goes_back_and_a_second_one_returns(registry: LocalRegistry) -> None:
    assert registry.roll_back(reason="bad predictions") == ServingSwitch("rollback", 2, 3, changed=True)
    assert registry.read_labels() == {"champion": 2, "previous": 3}
    assert registry.roll_back() == ServingSwitch("rollback", 3, 2, changed=True)
    assert registry.read_ledger().states == {1: State.RETIRED, 2: State.PREVIOUS, 3: State.CHAMPION}
    first, second = registry.read_ledger().history[-2:]
    assert (first.action, first.version, first.champion_before, first.reason) == ("rollback", 2, 3, "bad predictions")
    assert (second.action, second.version, second.champion_before, second.reason) == ("rollback", 3, 2, "")
    assert first.by == get_user_and_host()


def test_a_rollback_is_not_undone_by_a_rerun_and_is_by_another_model(registry: LocalRegistry, tmp_path: Path) -> None:
    registry.roll_back()
    before = (registry.folder / LEDGER_FILE).read_bytes()
    again = push(tmp_path / "r", tmp_path / "c")
    assert (again.version, again.pushed, again.traffic) == (3, False, {2: 100})
    assert (registry.folder / LEDGER_FILE).read_bytes() == before
    push(tmp_path / "r", model(tmp_path / "d", "d"))
    assert registry.read_labels() == {"champion": 4, "previous": 2}


def test_a_rollback_to_a_retired_version(registry: LocalRegistry) -> None:
    assert registry.roll_back(1) == ServingSwitch("rollback", 1, 3, changed=True)
    assert registry.read_ledger().states == {1: State.CHAMPION, 2: State.RETIRED, 3: State.PREVIOUS}


def test_the_candidate_is_promoted(registry: LocalRegistry, tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "d", "d"), promote=False)
    assert registry.read_champion() == 3
    assert registry.promote(reason="looks good") == ServingSwitch("promote", 4, 3, changed=True)
    assert registry.read_ledger().states == {
        1: State.RETIRED,
        2: State.RETIRED,
        3: State.PREVIOUS,
        4: State.CHAMPION,
    }
    assert registry.promote(4) == ServingSwitch("promote", 4, 4, changed=False)
    assert [event.action for event in registry.read_ledger().history] == ["push"] * 4 + ["promote"]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(registry: LocalRegistry) -> None:
    before = (registry.folder / LEDGER_FILE).read_bytes()
    assert registry.roll_back(dry_run=True) == ServingSwitch("rollback", 2, 3, changed=True)
    assert registry.promote(1, dry_run=True) == ServingSwitch("promote", 1, 3, changed=True)
    assert registry.gc(keep_last=1, dry_run=True).versions == [1]
    assert (registry.folder / LEDGER_FILE).read_bytes() == before
    assert registry.list_numbers() == [1, 2, 3]


def test_what_cannot_be_switched_to_is_refused_and_says_why(registry: LocalRegistry, tmp_path: Path) -> None:
    def read_error(action: str, version: int | None = None) -> str:
        before = registry.read_ledger()
        messages = set()
        for dry_run in (True, False):
            with pytest.raises(PushError) as error:
                getattr(registry, action)(version, dry_run=dry_run)
            messages.add(str(error.value).removeprefix(f"{registry.folder}: "))
        assert registry.read_ledger() == before
        (message,) = messages
        return message

    assert read_error("promote") == "no version waits for its promotion; name one with --version"
    assert read_error("promote", 9) == "has no version 9; it has 1, 2, 3"
    push(tmp_path / "r", model(tmp_path / "d", "d"), promote=False)
    assert read_error("roll_back", 4) == "version 4 waits for its promotion and never served; promote it"
    (registry.folder / "2" / "saved_model.pb").write_text("tampered")
    changed = (
        "the files of version 2 are not those that were pushed (saved_model.pb changed); it is not served. Restore "
        "the folder, or choose another version"
    )
    assert read_error("roll_back") == read_error("promote", 2) == changed
    (registry.folder / "1" / RELEASE_FILE).unlink()
    assert read_error("roll_back", 1) == (
        "version 1 was written by another tool (it has no assets.extra/release.json): nobody vouches for it. Push its "
        "model instead"
    )


def test_without_an_earlier_version_there_is_no_rollback(tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "a"))
    with pytest.raises(PushError, match="income: no earlier version served; name one with --version"):
        LocalRegistry(tmp_path / "r", "income").roll_back()


def test_commands_on_a_model_that_is_not_there_create_nothing(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path / "r", "income")
    with pytest.raises(PushError, match="has no version 1; it has none"):
        registry.promote(1)
    assert registry.gc(keep_last=1).versions == []
    assert (registry.list_numbers(), registry.read_champion(), registry.read_labels()) == ([], None, {})
    assert not registry.folder.exists()


def test_gc_deletes_retired_versions_only(tmp_path: Path) -> None:
    for name in "abcdef":
        push(tmp_path / "r", model(tmp_path / name, name), promote=name not in "bf")
    registry = LocalRegistry(tmp_path / "r", "income")
    registry.roll_back(3)
    retired, previous, champion, candidate = (
        State.RETIRED,
        State.PREVIOUS,
        State.CHAMPION,
        State.CANDIDATE,
    )
    assert registry.read_ledger().states == {1: retired, 2: retired, 3: champion, 4: retired, 5: previous, 6: candidate}
    # As by another tool; and copied by hand.
    (registry.folder / "1" / RELEASE_FILE).unlink()
    shutil.copytree(registry.folder / "2", registry.folder / "0")
    assert registry.gc(keep_last=3).versions == [2]
    assert registry.gc(keep_last=1).versions == [4]
    assert registry.list_numbers() == [0, 1, 3, 5, 6]
    assert registry.read_ledger().states == {1: retired, 3: champion, 5: previous, 6: candidate}
    assert [(e.action, e.version) for e in registry.read_ledger().history[-3:]] == [
        ("rollback", 3),
        ("delete", 2),
        ("delete", 4),
    ]


def test_gc_keeps_at_least_the_last_version(registry: LocalRegistry) -> None:
    with pytest.raises(ValueError, match="keep_last is 0; expected at least 1"):
        registry.gc(keep_last=0)
    assert registry.list_numbers() == [1, 2, 3]


def test_leftovers_of_whoever_was_killed_are_cleaned_up(registry: LocalRegistry) -> None:
    for name in (".unfinished-4", ".deleted-2"):
        shutil.copytree(registry.folder / "1", registry.folder / name)
    assert registry.list_numbers() == [1, 2, 3]
    assert registry.gc(keep_last=3).versions == []
    assert sorted(path.name for path in registry.folder.iterdir()) == sorted(
        [".lock", "1", "2", "3", LEDGER_FILE, TF_SERVING_FILE]
    )


def test_a_version_that_somebody_deleted_is_taken_off_the_record_but_not_the_champion(registry: LocalRegistry) -> None:
    shutil.rmtree(registry.folder / "2")
    shutil.rmtree(registry.folder / "3")
    registry.gc(keep_last=1)
    assert registry.read_ledger().states == {1: State.RETIRED, 3: State.CHAMPION}
    assert registry.read_ledger().history[-1].reason == "its folder is gone"
    assert registry.roll_back(1) == ServingSwitch("rollback", 1, 3, changed=True)
    with pytest.raises(PushError, match="no earlier version served"):
        registry.roll_back()


def test_versions_from_before_there_were_states_are_adopted_the_highest_as_the_champion(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    (registry.folder / LEDGER_FILE).unlink()
    expected = {1: State.RETIRED, 2: State.PREVIOUS, 3: State.CHAMPION}
    assert registry.read_ledger() == Ledger(expected)
    push(tmp_path / "r", tmp_path / "a")
    assert registry.read_ledger().states == expected
    (event,) = registry.read_ledger().history
    assert (event.action, event.version, event.reason) == ("adopt", 3, "there was no registry.json")


def test_a_first_push_that_comes_in_between_is_not_taken_for_versions_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = LocalRegistry(tmp_path / "r", "income")

    def push_first() -> list[int]:
        monkeypatch.undo()
        push(tmp_path / "r", model(tmp_path / "a"), promote=False)
        return registry.list_numbers()

    monkeypatch.setattr(registry, "list_numbers", push_first)
    assert registry.read_champion() is None
    assert registry.read_labels() == {"candidate": 1}


def test_a_folder_of_another_tool_has_versions_and_no_champion(tmp_path: Path) -> None:
    model(tmp_path / "r" / "income" / "3")
    registry = LocalRegistry(tmp_path / "r", "income")
    assert (registry.list_numbers(), registry.read_champion(), registry.read_state(3)) == ([3], None, None)


def entry(state: str) -> dict[str, str]:
    return {"state": state}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "expected an object with format 1"),
        ('{"format": 2}', "expected an object with format 1"),
        ('{"format": 1}', "unexpected content: KeyError('versions')"),
        (json.dumps({"format": 1, "versions": {"1": entry("good")}, "history": []}), "'good' is not a valid State"),
        (
            json.dumps({"format": 1, "versions": {"1": entry("champion"), "2": entry("champion")}, "history": []}),
            "there are several versions with the state champion: 1, 2",
        ),
        (
            json.dumps({"format": 1, "versions": {}, "history": [{"version": 1}]}),
            "unexpected content: TypeError(\"Event.__init__() missing 3 required positional arguments: 'at', 'action', and 'by'\")",
        ),
    ],
)
def test_a_damaged_record_is_one_clear_line(
    content: str, message: str, registry: LocalRegistry, tmp_path: Path
) -> None:
    file = registry.folder / LEDGER_FILE
    file.write_text(content)
    for refused in (
        registry.read_champion,
        registry.roll_back,
        lambda: registry.check(pipeline="census", version=4),
        lambda: push(tmp_path / "r", model(tmp_path / "d", "d")),
    ):
        with pytest.raises(PushError) as error:
            refused()
        assert str(error.value) == (
            f"{file}: is damaged ({message}); restore it from a backup. Or move it away: then version 3, the champion in "
            "tf_serving.config, serves, and the history starts again"
        )
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
    assert registry.list_numbers() == [1, 2, 3]


def test_a_lost_ledger_brings_no_version_back_that_was_rolled_back(registry: LocalRegistry) -> None:
    registry.roll_back(1)
    assert registry.find_conflict() is None
    (registry.folder / LEDGER_FILE).unlink()
    assert (registry.read_champion(), registry.read_labels()["previous"]) == (1, 3)
    message, version = registry.find_conflict() or ("", 0)
    assert (message.startswith(f"{LEDGER_FILE} is gone"), version) == (True, 1)
    registry.promote(version)
    assert registry.find_conflict() is None
    assert [event["action"] for event in registry.read_history()] == ["adopt"]


def test_files_that_were_edited_by_hand_are_told_and_written_again(registry: LocalRegistry) -> None:
    ledger, config = registry.folder / LEDGER_FILE, registry.folder / TF_SERVING_FILE
    config.write_text(config.read_text().replace("versions: 3", "versions: 2"))
    message, version = registry.find_conflict() or ("", 0)
    assert (message, version) == (
        "tf_serving.config was edited by hand, or its write was cut off: version 3 is the champion, and TF Serving serves version 2",
        3,
    )
    registry.promote(version)
    values = json.loads(ledger.read_text())
    states = values["versions"]
    states["2"], states["3"] = states["3"], states["2"]
    ledger.write_text(json.dumps(values))
    message, version = registry.find_conflict() or ("", 0)
    assert (message, version) == (
        "registry.json was edited by hand: version 2 is the champion, and version 3 by its history",
        3,
    )
    registry.promote(version)
    assert (registry.read_champion(), registry.find_conflict()) == (3, None)


def test_a_change_that_has_written_one_of_its_files_is_no_conflict(registry: LocalRegistry) -> None:
    config = registry.folder / TF_SERVING_FILE
    with filelock.FileLock(registry.folder / LOCK_FILE):
        config.write_text(config.read_text().replace("versions: 3", "versions: 2"))
        assert registry.find_conflict() is None
    assert (registry.find_conflict() or ("", 0))[1] == 3
    registry.promote(3)
    assert registry.find_conflict() is None


def test_fields_that_later_releases_may_add_are_left_out(registry: LocalRegistry) -> None:
    file = registry.folder / LEDGER_FILE
    values = json.loads(file.read_text())
    values["versions"]["3"]["pinned"] = True
    values["history"][0]["ticket"] = 1
    before = registry.read_ledger()
    file.write_text(json.dumps(values))
    assert registry.read_ledger() == before


def test_a_user_without_a_name_can_push(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import os
    import socket

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert get_user_and_host() == f"{os.getuid()}@{socket.gethostname()}"
