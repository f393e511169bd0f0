"""The Dockerfile: linted, not root, pinned, and with all that is packaged. `make test-images` builds it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

HADOLINT = str(Path(sys.executable).parent / "hadolint")


def lint(text: str) -> tuple[int, str]:
    done = subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def test_the_dockerfile_passes_the_linter() -> None:
    assert lint((ROOT / "Dockerfile").read_text()) == (0, "")


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [("USER 1000", "USER root", "DL3002"), ("WORKDIR /home/runner", "RUN cd /home/runner", "DL3003")],
)
def test_the_linter_can_say_no(before: str, after: str, rule: str) -> None:
    code, output = lint((ROOT / "Dockerfile").read_text().replace(before, after))
    assert code != 0
    assert rule in output


def test_the_image_holds_every_package_and_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {pattern.rstrip("*") for pattern in project["packages"]["find"]["include"]} | {
        f"{m}.py" for m in project["py-modules"]
    }
    dockerfile, context = (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    copied = {word for line in dockerfile.splitlines() if line.startswith("COPY ") for word in line.split()}
    assert packages <= copied
    assert {f"!{name}" for name in packages} <= set(context)


def test_bases_come_by_argument_and_beams_is_the_release_of_the_lock() -> None:
    dockerfile, lock = (ROOT / "Dockerfile").read_text(), (ROOT / "requirements" / "lock.txt").read_text()
    bases = {line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")}
    assert bases == {"${BASE}", "${BEAM}", "builder", "pipeline"}
    (beam,) = re.findall(r"^apache-beam\[gcp\]==(\S+)", lock, re.MULTILINE) or re.findall(
        r"^apache-beam==(\S+)", lock, re.MULTILINE
    )
    assert f"ARG BEAM=apache/beam_python3.11_sdk:{beam}\n" in dockerfile


def test_the_server_has_the_versions_that_the_tests_run_with() -> None:
    locks = {name: read_lock(name) for name in ("lock.txt", "serving.txt")}
    served = locks["serving.txt"] | {"tensorflow": locks["serving.txt"]["tensorflow-cpu"]}
    del served["tensorflow-cpu"]
    assert served.items() <= locks["lock.txt"].items()


def read_lock(name: str) -> dict[str, str]:
    """Return the version of each package in a lock."""
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))
