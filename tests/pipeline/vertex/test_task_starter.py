"""Tasks of a rehearsal that fork from one process."""

import os
import select
from contextlib import suppress
from pathlib import Path

from pipeline.vertex.task_starter import TaskStarter
from tests.conftest import ROOT


def test_a_task_whose_starter_is_killed_has_failed_and_is_ended(tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    starter = TaskStarter([], environment, tmp_path)
    pids: list[int] = []
    command = ["python", "-m", "killer"]
    try:
        assert starter.run(command, environment, tmp_path, tmp_path / "log", pids.append) == -9
        # The next one is started in the usual way.
        assert starter.run(command, environment, tmp_path, tmp_path / "log", pids.append) is None
    finally:
        starter.close()
    with suppress(ProcessLookupError):
        assert select.select([os.pidfd_open(pids[0])], [], [], 60)[0], "the task has ended"
