"""Tasks as the user of their image, and the mount `/gcs`: both positions of the build argument RUN_AS."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError
from pipeline.vertex.rehearsal import Rehearsal, TaskResult
from tests.pipeline.vertex.test_rehearsal import job, task
from tests.vertex_fixtures import BUCKET

pytestmark = pytest.mark.integration

USER = 1000
# Writes below `/gcs`, as images of Kubeflow Pipelines do.
ON_THE_MOUNT = "with open(request['outputs']['outputFile'], 'w') as mounted: json.dump(said, mounted)"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that another user may enter; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_root() -> None:
    """Skip the test where no task can be run as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a task as another user")
    entered = subprocess.run([sys.executable, "-c", "import json, numpy"], user=USER, group=USER, extra_groups=[])
    if entered.returncode:
        pytest.skip(f"user {USER} cannot read this Python")


def run(folder: Path, task_: dict[str, Any], run_as: int) -> TaskResult:
    return Rehearsal(job(task_), folder, job_id="small-1", run_as=run_as).run()["a"]


@pytest.mark.usefixtures("as_root")
def test_a_task_of_another_user_writes_through_the_bucket(folder: Path) -> None:
    code = f"assert (os.getuid(), os.getgid(), os.getgroups()) == ({USER}, {USER}, [])"
    result = run(folder, task("a", code), USER)
    assert (result.state, result.error) == ("SUCCEEDED", "")
    model = Path(result.outputs["model"][0]["uri"]) / "saved_model.pb"
    assert model.stat().st_uid == USER


@pytest.mark.usefixtures("as_root")
def test_a_task_of_another_user_may_not_write_the_mount(folder: Path) -> None:
    result = run(folder, task("a", "os.makedirs(os.path.dirname(request['outputs']['outputFile']))"), USER)
    assert result.state == "FAILED"
    assert result.error.startswith("a: PermissionError: [Errno 13] Permission denied: ")


def test_a_task_of_root_writes_the_mount_and_the_bucket_has_it(folder: Path) -> None:
    result = run(folder, task("a", f"{ON_THE_MOUNT}; sys.exit()"), 0)
    assert (result.state, result.error) == ("SUCCEEDED", "")
    (written,) = (folder / "storage" / BUCKET / "root").rglob("executor_output.json")
    assert "model" in json.loads(written.read_text())["artifacts"]


@pytest.mark.usefixtures("as_root")
def test_a_task_by_its_module_is_run_as_the_user_too(folder: Path) -> None:
    """Run in a process of its own what a task of the starting user would be forked for."""
    setup = "import os; open('user', 'w').write(f'{os.getuid()} {os.getgid()} {os.getgroups()}')"
    container = {"image": "i", "command": ["python", "-m", "timeit"], "args": ["-n1", "-r1", "-s", setup]}
    run(folder, task("a", executor={"container": container}), USER)
    assert (folder / "work" / "a" / "user").read_text() == f"{USER} {USER} []"


def test_another_user_takes_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(ConfigError, match=f"--run-as {USER}: only root can run tasks as another user; found user 1234"):
        run(folder, task("a"), USER)
