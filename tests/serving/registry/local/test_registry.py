"""Pushes to a folder, one at a time; killed and concurrent ones have files of their own."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.errors import PushError
from serving.registry import (
    GOLDEN_FILE,
    RELEASE_FILE,
    VERSION_FILE,
    LocalRegistry,
    PushedVersion,
    State,
    compute_content_hash,
)
from tests.serving.registry.local.registry_bench import model, push


def test_the_first_push_is_version_1_and_says_where_it_came_from(tmp_path: Path) -> None:
    source = model(tmp_path / "model")
    result = push(tmp_path / "registry", source, metrics={"auc": 0.5, "pr_auc": float("nan")})
    folder = tmp_path / "registry" / "income" / "1"
    assert result == PushedVersion(1, str(folder), True, compute_content_hash(source), {1: 100})
    release = json.loads((folder / "assets.extra" / "release.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", release.pop("pushed_at"))
    files = ("saved_model.pb", "variables/data-0")
    assert release == {
        "pipeline": "census",
        "run_id": "run-1",
        "model_id": 7,
        "content_hash": compute_content_hash(source),
        # What was not measured cannot be written as JSON.
        "metrics": {"auc": 0.5},
        "extra_hashes": {},
        "file_hashes": {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in files},
        "data": {},
    }
    assert compute_content_hash(folder) == compute_content_hash(source)


def test_the_same_model_is_pushed_once_and_another_becomes_the_next_version(tmp_path: Path) -> None:
    first, second = model(tmp_path / "a", "a"), model(tmp_path / "b", "b")
    pushes = [push(tmp_path / "r", source) for source in (first, first, second, first)]
    # The last one is a rerun of what was replaced since: that is not a reason to serve it again.
    assert [(p.version, p.pushed, [*p.traffic]) for p in pushes] == [
        (1, True, [1]),
        (1, False, [1]),
        (2, True, [2]),
        (1, False, [2]),
    ]
    assert LocalRegistry(tmp_path / "r", "income").read_labels() == {"champion": 2, "previous": 1}


def test_a_push_replaces_the_champion_and_keeps_one_previous_version(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        push(tmp_path / "r", model(tmp_path / name, name))
    registry = LocalRegistry(tmp_path / "r", "income")
    assert registry.read_ledger().states == {1: State.RETIRED, 2: State.PREVIOUS, 3: State.CHAMPION}
    assert [(e.action, e.version, e.champion_before, e.run_id) for e in registry.read_ledger().history] == [
        ("push", 1, None, "run-1"),
        ("push", 2, 1, "run-1"),
        ("push", 3, 2, "run-1"),
    ]


def test_a_push_without_promotion_waits_and_takes_the_place_of_the_one_that_waited(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path / "r", "income")
    first = push(tmp_path / "r", model(tmp_path / "a", "a"), promote=False)
    assert (first.version, first.traffic, registry.read_champion(), registry.read_state(1)) == (
        1,
        {},
        None,
        State.CANDIDATE,
    )
    push(tmp_path / "r", model(tmp_path / "b", "b"))
    third = push(tmp_path / "r", model(tmp_path / "c", "c"), promote=False)
    assert (third.version, third.traffic) == (3, {2: 100})
    assert registry.read_ledger().states == {1: State.RETIRED, 2: State.CHAMPION, 3: State.CANDIDATE}


def test_what_is_kept_beside_the_content_does_not_change_its_hash(tmp_path: Path) -> None:
    source = model(tmp_path / "model")
    (source / VERSION_FILE).parent.mkdir()
    (source / VERSION_FILE).write_text("unpushed\n")
    (source / VERSION_FILE).chmod(0o444)
    push(tmp_path / "r", model(tmp_path / "other", "other"))
    result = push(tmp_path / "r", source, golden=b"{}")
    folder = Path(result.destination)
    assert {name: (folder / name).read_bytes() for name in (GOLDEN_FILE, VERSION_FILE)} == {
        GOLDEN_FILE: b"{}",
        VERSION_FILE: b"2\n",
    }
    assert result.content_hash == compute_content_hash(folder) == compute_content_hash(source)
    assert (source / VERSION_FILE).read_text() == "unpushed\n"
    # Served from the folder of another registry, it is the same model.
    assert not push(tmp_path / "r", folder).pushed


def test_a_model_without_a_version_file_gets_none(tmp_path: Path) -> None:
    assert not (Path(push(tmp_path / "r", model(tmp_path / "a")).destination) / VERSION_FILE).exists()


def test_an_existing_version_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "a", "a"), version=5)
    before = compute_content_hash(tmp_path / "r" / "income" / "5")
    with pytest.raises(PushError) as refused:
        push(tmp_path / "r", model(tmp_path / "b", "b"), version=5)
    assert str(refused.value) == (
        f"{tmp_path}/r/income: version 5 exists already, pushed by run run-1; it is never overwritten. Leave out "
        "push.version to push as 6"
    )
    assert compute_content_hash(tmp_path / "r" / "income" / "5") == before
    assert LocalRegistry(tmp_path / "r", "income").list_numbers() == [5]


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


def test_a_source_that_changes_while_it_is_copied_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    source = model(tmp_path / "a")
    copytree = shutil.copytree

    def copy_and_change(from_: Path, to: Path, *more: Any) -> None:
        copytree(from_, to, *more)
        (Path(to) / "saved_model.pb").write_text("another")

    monkeypatch.setattr(shutil, "copytree", copy_and_change)
    with pytest.raises(PushError, match=f"{source}: changed while it was copied; nothing was pushed"):
        push(tmp_path / "r", source)
    registry = LocalRegistry(tmp_path / "r", "income")
    assert (registry.list_numbers(), registry.read_champion()) == ([], None)
    assert not (registry.folder / ".unfinished-1").exists()


def test_the_same_model_under_another_number_is_refused(tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "a"))
    with pytest.raises(
        PushError, match="income: this very model is version 1 already; push.version asks for 4. Leave it out"
    ):
        push(tmp_path / "r", tmp_path / "a", version=4)
    assert push(tmp_path / "r", tmp_path / "a", version=1).pushed is False


def test_a_number_is_never_given_again(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        push(tmp_path / "r", model(tmp_path / name, name))
    registry = LocalRegistry(tmp_path / "r", "income")
    assert registry.gc(keep_last=1).versions == [1]
    message = (
        f"{registry.folder}: version 1 was pushed before and deleted since; a number is never given again. Leave out "
        "push.version to push as 4"
    )
    for refused in (
        lambda: registry.check(pipeline="census", version=1),
        lambda: push(tmp_path / "r", model(tmp_path / "d", "d"), version=1),
    ):
        with pytest.raises(PushError) as error:
            refused()
        assert str(error.value) == message


def test_a_version_whose_files_were_changed_is_no_reason_not_to_push(tmp_path: Path) -> None:
    source = model(tmp_path / "a")
    push(tmp_path / "r", source)
    (tmp_path / "r" / "income" / "1" / "saved_model.pb").write_text("damaged")
    assert push(tmp_path / "r", source).version == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged (Expecting property name enclosed in double quotes"),
        ("[]", "is damaged (expected an object, found list); restore it from a backup"),
        ('{"pipeline": "census"}', "is damaged (there is no 'run_id'); restore it from a backup"),
        (
            '{"pipeline": "census", "run_id": 1, "model_id": 7, "content_hash": ""}',
            "is damaged ('run_id' is 1; expected str); restore it from a backup",
        ),
    ],
)
def test_a_damaged_release_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    result = push(tmp_path / "r", model(tmp_path / "a", "a"))
    (Path(result.destination) / RELEASE_FILE).write_text(content)
    registry = LocalRegistry(tmp_path / "r", "income")
    with pytest.raises(PushError) as refused:
        registry.check_sound(1)
    assert str(refused.value).startswith(f"{result.destination}/{RELEASE_FILE}: {message}")
    # The ledger explains the version: it keeps no other from being pushed.
    assert push(tmp_path / "r", model(tmp_path / "b", "b")).version == 2
    (Path(result.destination) / RELEASE_FILE).unlink()
    assert (registry.is_explained(1), registry.list_differing_files(1)) == (True, [f"{RELEASE_FILE} is gone"])
    assert push(tmp_path / "r", model(tmp_path / "c", "c")).version == 3


def test_a_changed_file_beside_the_model_is_a_changed_version(tmp_path: Path) -> None:
    result = push(tmp_path / "r", model(tmp_path / "a"), golden=b"[]")
    registry = LocalRegistry(tmp_path / "r", "income")
    assert registry.is_intact(1)
    (Path(result.destination) / GOLDEN_FILE).write_bytes(b"")
    assert (registry.is_intact(1), registry.list_differing_files(1)) == (False, [f"{GOLDEN_FILE} changed"])
    (Path(result.destination) / GOLDEN_FILE).unlink()
    assert (registry.is_intact(1), registry.list_differing_files(1)) == (False, [f"{GOLDEN_FILE} is gone"])


def test_a_release_file_of_another_release_of_this_package_is_read(tmp_path: Path) -> None:
    result = push(tmp_path / "r", model(tmp_path / "a", "a"))
    file = Path(result.destination) / RELEASE_FILE
    values = json.loads(file.read_text())
    del values["metrics"], values["pushed_at"]
    file.write_text(json.dumps({**values, "of_a_later_release": 1}))
    release = LocalRegistry(tmp_path / "r", "income").read_release(1)
    assert release is not None
    assert (release.run_id, release.metrics, release.pushed_at) == ("run-1", {}, "")
