"""The set-up script: what it says on hosts it cannot serve. That it works is what every other test shows."""

import platform
import subprocess
import sys
from types import ModuleType

import pytest

from tests.conftest import ROOT


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "requirements"))
    import install

    return install


def test_the_c_runtime_is_recognised(install: ModuleType) -> None:
    assert install.parse_glibc_version("glibc 2.36") == (2, 36)
    assert install.parse_glibc_version("musl 1.2.4") is None


@pytest.mark.parametrize(
    ("python", "system", "machine", "message"),
    [
        ((3, 12, 1), "Linux", "x86_64", "needs Python 3.11 (tfx[kfp] exists for no later one)"),
        (
            (3, 11, 1),
            "Darwin",
            "arm64",
            "needs Linux on x86-64 (ml-metadata has no other wheels); found Darwin on arm64",
        ),
        ((3, 11, 1), "Linux", "aarch64", "found Linux on aarch64"),
    ],
)
def test_another_host_is_refused_in_one_line(
    python: tuple[int, int, int],
    system: str,
    machine: str,
    message: str,
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "version_info", python)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(install.SetUpError) as caught:
        install.check_host()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_make_says_which_python_it_needs() -> None:
    # As on a machine where nothing was set up yet.
    command = ["make", "--always-make", "PYTHON=python0.0", ".venv/installed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert done.stderr.startswith("set-up stopped: needs Python 3.11, found no python0.0")
