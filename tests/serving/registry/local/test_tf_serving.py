"""The config for TF Serving, read with TF Serving's own definition of it."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.registry import TF_SERVING_FILE, LocalRegistry
from tests.serving.registry.local.registry_bench import model, push


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """With three versions: 1 retired, 2 previous, 3 champion."""
    for name in ("a", "b", "c"):
        push(tmp_path / "r", model(tmp_path / name, name), run_id=f"run-{name}")
    return LocalRegistry(tmp_path / "r", "income")


def read_config(registry: LocalRegistry) -> dict[str, list[int]]:
    """Return the versions in the config of TF Serving, by the name that they are served under."""
    config = text_format.Parse(
        (registry.folder / TF_SERVING_FILE).read_text(), model_server_config_pb2.ModelServerConfig()
    )
    for entry in config.model_config_list.config:
        assert (entry.base_path, entry.model_platform) == (str(registry.folder), "tensorflow")
        assert not entry.version_labels
    return {entry.name: list(entry.model_version_policy.specific.versions) for entry in config.model_config_list.config}


def test_tf_serving_follows_a_push_a_rollback_and_a_candidate(registry: LocalRegistry, tmp_path: Path) -> None:
    assert read_config(registry) == {"income": [3]}
    registry.roll_back()
    assert read_config(registry) == {"income": [2]}
    push(tmp_path / "r", model(tmp_path / "d", "d"), promote=False)
    assert read_config(registry) == {"income": [2], "income-candidate": [4]}
    registry.promote()
    assert read_config(registry) == {"income": [4]}


def test_tf_serving_is_told_an_absolute_path_whatever_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / 'a "quoted" \\ näme\n'
    folder.mkdir()
    monkeypatch.chdir(folder)
    push(Path("r"), model(tmp_path / "a"))
    assert read_config(LocalRegistry(folder / "r", "income")) == {"income": [1]}


def test_before_a_promotion_tf_serving_serves_the_candidate_only_under_its_own_name(tmp_path: Path) -> None:
    push(tmp_path / "r", model(tmp_path / "a"), promote=False)
    assert read_config(LocalRegistry(tmp_path / "r", "income")) == {"income-candidate": [1]}


def test_a_stale_config_of_tf_serving_is_written_anew_by_the_next_change_or_rerun(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    (registry.folder / TF_SERVING_FILE).write_text("model_config_list {}")
    push(tmp_path / "r", tmp_path / "c")
    assert read_config(registry) == {"income": [3]}
