"""The console scripts of a wheel that is built and installed into a folder."""

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cli.terminal import RUNNER_SCRIPTS, SCRIPT_PREFIX, get_runner
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = PROJECT["project"]["scripts"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the installed wheel; the build runs in a copy, since it writes beside the sources."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installation")
    for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]:
        package = pattern.rstrip("*")
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "local_runner.py", "vertex_runner.py"):
        shutil.copy(ROOT / name, source / name)
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", folder, source], check=True)
    return folder


def run(installation: Path, folder: Path, *command: object) -> str:
    """Run a program in another folder than the checkout; return its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(installation)}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.integration
@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("refpipe-run", "Usage: refpipe-run [OPTIONS]"),
        ("refpipe-registry", "Usage: refpipe-registry [OPTIONS] COMMAND"),
    ],
)
def test_an_installed_script_prints_its_help(script: str, text: str, installation: Path, tmp_path: Path) -> None:
    assert text in run(installation, tmp_path, installation / "bin" / script, "--help")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("refpipe init --help", "    refpipe-run --config configs/orders.yaml"),
        ("refpipe retrain --help", "As refpipe-run takes it."),
        ("refpipe-oncall resume --help", "refpipe-vertex"),
    ],
)
def test_the_help_of_an_installed_product_names_no_file_of_a_checkout(
    line: str, text: str, installation: Path, tmp_path: Path
) -> None:
    script, *arguments = line.split()
    page = run(installation, tmp_path, installation / "bin" / script, *arguments)
    assert text in page
    assert "_runner.py" not in page


@pytest.mark.integration
def test_commands_to_type_name_the_script_of_an_installed_product(installation: Path, tmp_path: Path) -> None:
    code = (
        "from cli.terminal import get_runner\n"
        "from pipeline.run.records import format_command_line\n"
        "print(*get_runner('local_runner.py'))\n"
        "print(format_command_line(['/opt/bin/refpipe-run', '--config', 'a.yaml']))\n"
    )
    assert run(installation, tmp_path, sys.executable, "-c", code).splitlines() == [
        "refpipe-run",
        "refpipe-run --config a.yaml",
    ]


def test_commands_to_type_name_the_file_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert get_runner("local_runner.py") == ["python", "local_runner.py"]
    monkeypatch.chdir(tmp_path)
    assert get_runner("local_runner.py") == ["python", str(ROOT / "local_runner.py")]


@pytest.mark.parametrize("target", SCRIPTS.values(), ids=list(SCRIPTS))
def test_the_target_of_a_script_exists(target: str) -> None:
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_script_has_the_prefix_and_every_runner_a_script() -> None:
    assert all(name == SCRIPT_PREFIX or name.startswith(f"{SCRIPT_PREFIX}-") for name in SCRIPTS)
    modules = {f"{target.partition(':')[0]}.py": name for name, target in SCRIPTS.items()}
    assert modules.items() >= RUNNER_SCRIPTS.items()
