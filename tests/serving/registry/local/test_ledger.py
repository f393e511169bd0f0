"""The explanations of the ledger: versions that somebody copied in by hand, and models that would undo a rollback."""

import shutil
from pathlib import Path

import pytest

from cli.errors import PushError
from serving.registry import LEDGER_FILE, LocalRegistry
from serving.registry.local.ledger import Ledger
from serving.server.model_versions import ServedVersions, VersionPolicy
from tests.serving.registry.local.registry_bench import CANDIDATE, CHAMPION, PREVIOUS, Push, model, models, push


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """Return a registry with versions 1 to 3, of which 3 serves."""
    registry = LocalRegistry(models(tmp_path) / "r", "income")
    for name in "abc":
        Push(name, origin=name)(registry)
    return registry


def test_a_copy_of_a_version_is_never_finished_nor_promoted_nor_counted_as_the_same_model(
    registry: LocalRegistry,
) -> None:
    registry.roll_back(2, reason="bad")
    shutil.copytree(registry.find_folder(3), registry.find_folder(9))
    assert not registry.is_explained(9)
    # The push of the model that it holds finds version 3, and another push takes the number after it.
    again = Push("c", origin="c")(registry)
    assert (again.version, again.pushed, registry.read_champion()) == (3, False, 2)
    assert Push("d", origin="d")(registry).version == 10
    assert registry.read_state(9) is None
    for switch in (registry.promote, registry.roll_back):
        with pytest.raises(PushError) as refused:
            switch(9)
        assert str(refused.value) == (
            f"{registry.folder}: version 9 was not pushed: it holds the files of version 3; no entry of registry.json "
            "explains it; it is not served. Push its model instead"
        )


def test_the_server_offers_no_copy_whatever_versions_it_is_asked_for(registry: LocalRegistry) -> None:
    shutil.copytree(registry.find_folder(3), registry.find_folder(9))
    versions = ServedVersions(registry.folder, VersionPolicy("all"))
    assert sorted(versions._list_versions()[0]) == [1, 2, 3]
    (registry.folder / LEDGER_FILE).unlink()
    assert sorted(versions._list_versions()[0]) == [1, 2, 3, 9]


def test_the_folder_of_another_version_in_the_place_of_one_is_found(registry: LocalRegistry) -> None:
    shutil.rmtree(registry.find_folder(2))
    shutil.copytree(registry.find_folder(1), registry.find_folder(2))
    assert (registry.is_intact(1), registry.is_intact(2), registry.is_explained(2)) == (True, False, False)
    with pytest.raises(PushError, match="version 2 was not pushed: it holds the files of version 1"):
        registry.roll_back(2)


def test_the_intent_is_on_record_before_the_copy_and_gone_after_the_push(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    intents = []
    copytree = shutil.copytree

    def read_intent(*arguments: object) -> object:
        intents.append(Ledger.from_json((registry.folder / LEDGER_FILE).read_text()).intent)
        return copytree(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(shutil, "copytree", read_intent)
    Push("d", run_id="run-9")(registry)
    version, run_id = intents[0].version, intents[0].run_id
    assert (version, run_id, registry.read_ledger().intent) == (4, "run-9", None)


def test_a_model_of_the_same_origin_as_one_that_was_rolled_back_waits_for_its_promotion(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    registry.roll_back(reason="bad predictions")
    event = registry.read_ledger().rollback
    assert event is not None
    # Trained again of the same data, code and config: the weights differ.
    again = push(tmp_path / "r", model(tmp_path / "c2", "c2"), origin="c")
    assert (again.version, again.pushed, again.traffic) == (4, True, {2: 100})
    assert again.note == (
        f"it is made of the same data, code and config as version 3, which {event.by} rolled back at {event.at}: "
        f"bad predictions. To undo that: python -m serving.registry promote --registry {tmp_path}/r --model income "
        "--version 4 --yes"
    )
    assert (registry.read_state(4), registry.read_ledger().rollback) == (CANDIDATE, event)
    # Another origin is a new model.
    assert push(tmp_path / "r", model(tmp_path / "d2", "d2"), origin="d").traffic == {5: 100}
    assert registry.read_ledger().rollback is None


def test_a_promotion_lifts_the_rejection(registry: LocalRegistry, tmp_path: Path) -> None:
    registry.roll_back()
    registry.promote(3)
    assert push(tmp_path / "r", model(tmp_path / "c2", "c2"), origin="c").note == ""
    assert (registry.read_state(4), registry.read_state(3)) == (CHAMPION, PREVIOUS)
