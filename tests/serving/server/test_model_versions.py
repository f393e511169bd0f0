"""Which versions are served: chosen by the policy, refused if they are not what was pushed, swapped without a gap."""

import http.client
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError, PushError
from serving.registry import GOLDEN_FILE, RELEASE_FILE, VERSION_FILE, LocalRegistry
from serving.server.model_versions import ServedVersions, VersionPolicy
from tests.serving.models import ROW, export_model, push
from tests.serving.running import RunningServer, registry_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [export_model(folder / str(number), -8.0 + number) for number in range(3)]


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    made: LocalRegistry = registry_of(tmp_path / "registry")
    return made


def test_a_policy_names_the_versions_to_serve() -> None:
    versions, labels = [1, 2, 3, 5], {"champion": 2, "previous": 1, "candidate": 5}
    for text, selected in {
        "champion": {2},
        "labels": {1, 2, 5},
        "latest": {5},
        "latest:2": {3, 5},
        "all": {1, 2, 3, 5},
        "1,3": {1, 3},
        "9": set(),
    }.items():
        assert VersionPolicy.parse(text).select(versions, labels) == selected, text
    assert VersionPolicy.parse("champion").select(versions, {}) == {5}
    assert VersionPolicy.parse("labels").select([], {}) == set()


@pytest.mark.parametrize("text", ["", "newest", "latest:0", "latest:x", "1,", "-1", "champion:2"])
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--versions: expected champion, labels, latest"):
        VersionPolicy.parse(text)


@pytest.mark.integration
def test_the_champion_is_followed_and_a_rollback_too(registry: LocalRegistry, models: list[Path]) -> None:
    push(registry, models[0])
    versions = ServedVersions(registry.folder, VersionPolicy())
    assert versions.refresh().default == 1
    push(registry, models[1])
    assert (versions.refresh().default, sorted(versions.snapshot.served)) == (2, [2])
    before = versions.snapshot
    assert versions.refresh() is before
    registry.roll_back()
    assert versions.refresh().default == 1
    waiting = push(registry, models[2], promote=False)
    assert versions.refresh().default == 1
    registry.promote(waiting)
    assert versions.refresh().default == waiting


@pytest.mark.integration
def test_labels_and_numbers_are_served_together(registry: LocalRegistry, models: list[Path]) -> None:
    for model in models[:3]:
        push(registry, model)
    now = ServedVersions(registry.folder, VersionPolicy.parse("labels")).refresh()
    assert (sorted(now.served), now.default, dict(now.labels)) == ([2, 3], 3, {"champion": 3, "previous": 2})
    registry.roll_back()
    now = ServedVersions(registry.folder, VersionPolicy.parse("all")).refresh()
    assert (sorted(now.served), now.default) == ([1, 2, 3], 2)


def _no_release(folder: Path) -> None:
    (folder / RELEASE_FILE).unlink()


def _no_golden(folder: Path) -> None:
    (folder / GOLDEN_FILE).unlink()


def _forged_golden(folder: Path) -> None:
    (folder / GOLDEN_FILE).write_text('{"instances": [], "predictions": [], "tolerance": 1}')


def _another_number(folder: Path) -> None:
    (folder / VERSION_FILE).write_text("7\n")


def _half(folder: Path) -> None:
    (folder / "variables" / "variables.index").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_release, "no push of this product left it there"),
        (_no_golden, "golden.json: is not what was pushed"),
        (_forged_golden, "golden.json: is not what was pushed"),
        (_another_number, "is version 2 by its name, and '7' by assets/model_version.txt"),
        (_half, "is not what was pushed: its content hash is"),
    ],
)
def test_a_version_that_nobody_vouches_for_is_not_taken_up(
    registry: LocalRegistry, models: list[Path], damage: Callable[[Path], None], message: str
) -> None:
    push(registry, models[0])
    versions = ServedVersions(registry.folder, VersionPolicy.parse("latest"))
    versions.refresh()
    push(registry, models[1])
    damage(registry.folder / "2")
    now = versions.refresh()
    assert (now.default, now.states[2].state, message in now.states[2].error) == (1, "END", True), now.states


@pytest.mark.integration
def test_wrong_answers_keep_a_version_out_until_its_files_change(
    registry: LocalRegistry, models: list[Path], tmp_path: Path
) -> None:
    push(registry, models[0])
    versions = ServedVersions(registry.folder, VersionPolicy())
    versions.refresh()
    push(registry, models[1], wrong=0.1)
    now = versions.refresh()
    assert (now.default, sorted(now.served)) == (1, [1])
    assert "wrong answer to a golden request: request 0: probability is" in now.states[2].error
    # Nothing has changed, so it is not loaded again.
    before = versions.snapshot
    assert versions.refresh() is before
    # As a backup of a registry with the right answers has it.
    backup = registry_of(tmp_path / "backup")
    for model in models[:2]:
        push(backup, model)
    shutil.rmtree(registry.folder / "2")
    shutil.copytree(backup.folder / "2", registry.folder / "2")
    assert versions.refresh().default == 2


def test_what_serves_goes_on_when_the_folder_is_gone_or_its_state_damaged(
    registry: LocalRegistry, models: list[Path]
) -> None:
    push(registry, models[0])
    versions = ServedVersions(registry.folder, VersionPolicy())
    versions.refresh()
    ledger = registry.folder / "registry.json"
    text = ledger.read_text()
    ledger.write_text(text[:20])
    with pytest.raises(PushError, match=r"registry.json: is damaged"):
        versions.refresh()
    assert versions.snapshot.default == 1
    ledger.write_text(text)
    shutil.rmtree(registry.folder)
    now = versions.refresh()
    assert (now.default, now.states[1].state) == (1, "AVAILABLE")


@pytest.mark.integration
def test_a_champion_that_cannot_be_served_is_not_silently_replaced(registry: LocalRegistry, models: list[Path]) -> None:
    push(registry, models[0])
    push(registry, models[1], wrong=0.1)
    assert ServedVersions(registry.folder, VersionPolicy()).refresh().default is None
    assert ServedVersions(registry.folder, VersionPolicy.parse("all")).refresh().default is None
    # Whoever asks for versions by number, or for the latest that can be served, gets one of those.
    assert ServedVersions(registry.folder, VersionPolicy.parse("1")).refresh().default == 1
    assert ServedVersions(registry.folder, VersionPolicy.parse("latest:2")).refresh().default == 1


@pytest.mark.integration
def test_numbers_and_the_latest_need_no_champion_among_them(registry: LocalRegistry, models: list[Path]) -> None:
    for model in models[:3]:
        push(registry, model)
    registry.roll_back()
    for text, default in {"1": 1, "1,9": 1, "1,3": 3, "1,2": 2, "latest": 3, "latest:2": 3}.items():
        assert ServedVersions(registry.folder, VersionPolicy.parse(text)).refresh().default == default, text


@pytest.mark.integration
def test_versions_are_swapped_under_load_without_a_failed_request(
    registry: LocalRegistry, models: list[Path], tmp_path: Path
) -> None:
    models = [*models, *(export_model(tmp_path / str(number), -8.0 + number) for number in (3, 4))]
    push(registry, models[0])
    arguments = ["--model-dir", str(registry.folder), "--poll", "0.1", "--no-access-log"]
    with RunningServer(*arguments) as server, Load(server.url) as load:
        for number, model in enumerate(models[1:4], start=2):
            assert push(registry, model, run_id=f"run-{number}") == number
            load.wait_for(str(number))
        registry.roll_back()
        load.wait_for("3")
        # One that answers otherwise than it should, and one that another tool is still copying.
        push(registry, models[4], wrong=0.2)
        (registry.folder / "77").mkdir()
        (registry.folder / "77" / "saved_model.pb").write_bytes(b"half")
        wait_for_state(server, "5", "END")
        load.more(200)
    assert load.failures == []
    assert {"1", "2", "3", "4"} <= set(load.answers)
    assert "5" not in load.answers


def wait_for_state(server: RunningServer, version: str, state: str) -> None:
    """Wait until the server reports a state of a version."""
    pause = threading.Event()
    for _ in range(300):
        _, status = server.get("/v1/models/shop-model")
        if {"version": version, "state": state}.items() <= {
            **next((entry for entry in status["model_version_status"] if entry["version"] == version), {})
        }.items():
            return
        pause.wait(0.1)
    raise AssertionError(status)


class Load:
    """Two clients that send request after request until the `with` block ends.

    Attributes:
      answers: number of predictions of each version.
      failures: responses and errors without a prediction.
    """

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("http://")
        self.answers: Counter[str] = Counter()
        self.failures: list[Any] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        body = json.dumps({"instances": [ROW]})
        connection = http.client.HTTPConnection(self._address, timeout=30)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/predict", body)
                response = connection.getresponse()
                content = json.loads(response.read())
                version = content["predictions"][0]["model_version"] if response.status == 200 else None
            except (OSError, http.client.HTTPException) as error:
                version, content = None, error
            with self._changed:
                if version is None:
                    self.failures.append(content)
                else:
                    self.answers[version] += 1
                self._changed.notify_all()

    def wait_for(self, version: str) -> None:
        """Wait until a version answers again."""
        with self._changed:
            before = self.answers[version]
            assert self._changed.wait_for(lambda: self.answers[version] > before, timeout=60), self.failures

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        with self._changed:
            total = self.answers.total() + count
            assert self._changed.wait_for(lambda: self.answers.total() >= total, timeout=60)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.integration
def test_a_server_that_was_killed_serves_the_last_good_version_again(
    registry: LocalRegistry, models: list[Path]
) -> None:
    push(registry, models[0])
    push(registry, models[1])
    registry.roll_back()
    with RunningServer("--model-dir", str(registry.folder)) as server:
        server.process.kill()
        server.wait()
    with RunningServer("--model-dir", str(registry.folder)) as server:
        _, content = server.post("/predict", {"instances": [ROW]})
        assert content["predictions"][0]["model_version"] == "1"
