"""The script that sets up a Google Cloud project: its syntax, and the commands that it gives."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "docs" / "set_up_vertex.sh"


def test_the_script_has_no_mistakes() -> None:
    """shellcheck where it is installed, else bash's own parser."""
    checker = ["shellcheck"] if shutil.which("shellcheck") else ["bash", "-n"]
    done = subprocess.run([*checker, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture
def commands(tmp_path: Path) -> list[str]:
    """Return the calls of `gcloud`, by a program of that name that writes them down; nothing exists yet."""
    log, program = tmp_path / "log", tmp_path / "gcloud"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *" describe "*) exit 1;; esac\n')
    program.chmod(0o755)
    done = subprocess.run(
        [str(SCRIPT), "my-project", "europe-west4", "my-bucket", "ada@example.com"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines()


def test_the_script_grants_what_the_page_lists(commands: list[str]) -> None:
    runner = "runner@my-project.iam.gserviceaccount.com"
    assert "auth configure-docker europe-west4-docker.pkg.dev --quiet" in commands
    (enabled,) = [line for line in commands if line.startswith("services enable")]
    assert {"compute.googleapis.com", "iam.googleapis.com", "aiplatform.googleapis.com"} <= {*enabled.split()}
    granted = [line for line in commands if "add-iam-policy-binding" in line and f"serviceAccount:{runner}" in line]
    roles = {line.partition("--role ")[2].split()[0] for line in granted}
    assert roles >= {
        "roles/aiplatform.user",
        "roles/artifactregistry.reader",
        "roles/iam.serviceAccountUser",
        "roles/storage.objectAdmin",
        "roles/storage.objectViewer",
    }
    page = (ROOT / "docs" / "vertex.md").read_text()
    assert all(f"`{role}`" in page for role in roles)
    assert not any("worker" in line for line in commands)
