"""The texts of the registry before a run and after it."""

from pathlib import Path

import pytest

from components.pusher.summary import PusherSummary
from pipeline.config.pipeline_config import PipelineConfig, load
from pipeline.run import summary
from pipeline.run.run_root import RunRoot
from serving.registry import LEDGER_FILE, Candidate, LocalRegistry
from tests.conftest import CENSUS_CONFIG


def push(root: RunRoot, name: str, *, promote: bool = True) -> LocalRegistry:
    folder = root.path / name
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(name)
    registry = LocalRegistry(root.locate_registry(config()), "census-income", promotes=promote)
    registry.push(Candidate("census-income", run_id=f"run-{name}", model_id=7, folder=folder))
    return registry


def config(*settings: str) -> PipelineConfig:
    return load(CENSUS_CONFIG, list(settings))


@pytest.fixture
def root(tmp_path: Path) -> RunRoot:
    return RunRoot(tmp_path)


def test_what_serves_is_the_champion_and_not_the_highest_version(root: RunRoot) -> None:
    registry = LocalRegistry(root.locate_registry(config()), "census-income")
    assert summary.describe_serving(config(), root) == f"nothing: {registry.folder} holds no version that serves"
    push(root, "a", promote=False)
    assert summary.describe_serving(config(), root) == f"nothing: {registry.folder} holds no version that serves"
    push(root, "b")
    push(root, "c").roll_back()
    assert summary.describe_serving(config(), root) == "version 2 of census-income, pushed by run run-b"
    (registry.folder / LEDGER_FILE).write_text("{}")
    assert summary.describe_serving(config(), root).startswith(f"unknown: {registry.folder}/{LEDGER_FILE}: is damaged")


def test_the_number_that_a_push_would_get(root: RunRoot) -> None:
    folder = root.locate_registry(config()) / "census-income"
    assert summary.describe_push(config(), root) == f"version 1 to {folder}"
    push(root, "a")
    assert summary.describe_push(config(), root) == f"version 2 to {folder}"
    assert summary.describe_push(config("push.version=0"), root) == f"version 0 to {folder}"
    assert summary.describe_push(config("push.promote=false"), root) == f"version 2 to {folder}, as the candidate"


def test_a_candidate_is_followed_by_the_command_that_promotes_it(root: RunRoot) -> None:
    registry = push(root, "a", promote=False)
    pusher = PusherSummary(pushed=True, version=1, path=str(registry.folder / "1"), content_hash="")
    promote = f"python -m serving.registry promote --registry {registry.folder.parent} --model census-income --yes"
    assert summary.list_next_steps(config(), root, "run", pusher, None)[-1].endswith(promote)
    registry.promote()
    assert summary.list_next_steps(config(), root, "run", pusher, None)[-1].endswith(
        f"python -m serving --model-dir {registry.folder}"
    )
