"""A push target of the user's own: a class with the methods of the protocol, or one line for what it lacks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError, PipelineError
from pipeline.config import pipeline_config
from serving.registry.protocol import Candidate
from serving.registry.settings import open_registry
from tests.conftest import CENSUS_CONFIG

_OWN = """
from serving.registry.local.registry import LocalRegistry


class Named(LocalRegistry):
    def __init__(self, name, folder):
        super().__init__(folder, name, promotes=True)


class Poor:
    def __init__(self, name, place): ...

    def push(self, candidate): ...


class Faulty(Named):
    def plan(self, candidate):
        raise OSError("no\\nnetwork")

    def push(self):
        pass

    def list_versions(self):
        print("printed")
        return None

    def promote(self, version=None, **options):
        raise SystemExit(1)
"""


def settings(path: Path, target: str, **config: object) -> str:
    (path / "targets.py").write_text(_OWN)
    flags = [f"push.target={path / 'targets.py'}:{target}", f"push.config={json.dumps(config)}"]
    return pipeline_config.load(CENSUS_CONFIG, flags).build_registry_settings(path).model_dump_json()


def test_a_class_of_the_users_own_is_asked(tmp_path: Path) -> None:
    registry = open_registry(settings(tmp_path, "Named", folder=str(tmp_path / "own")))
    assert registry.resource == str(tmp_path / "own" / "census-income")
    assert registry.plan(Candidate(pipeline="p")).version == 1


def test_a_method_that_raises_or_returns_another_type_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = open_registry(settings(tmp_path, "Faulty", folder=str(tmp_path / "own")))
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: registry.plan(Candidate(pipeline="p")), "targets.py:18: plan raised OSError: no; correct it there"),
        (lambda: registry.push(Candidate(pipeline="p")), "targets.py:20: push raised TypeError: Faulty.push() takes 1"),
        (registry.list_versions, "targets.py:23: list_versions returns NoneType; return list"),
        (registry.promote, "targets.py:28: promote raised SystemExit: 1; correct it there"),
    ]
    for call, message in calls:
        with pytest.raises(PipelineError, match=re.escape(f"push.target: {message}")) as error:
            call()
        assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
    assert registry.read_history() == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "Poor",
            "push.target: targets.py: Poor has no gc, inspect, is_remote, list_next_commands, list_versions, name, plan,",
        ),
        ("Nmed", "push.target: targets.py has no Nmed; did you mean 'Named'?"),
        ("Named", "push.target: targets.py:6: Named(...) raised TypeError: "),
    ],
)
def test_a_class_that_is_not_a_registry_is_one_line(tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(message)):
        open_registry(settings(tmp_path, target, place=1))


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ConfigError, match="push.target: 'vertx' is not a target; did you mean 'vertex'?"):
        pipeline_config.load(CENSUS_CONFIG, ["push.target=vertx"])
