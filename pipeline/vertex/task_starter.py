"""Starts the tasks of a rehearsal by forks of one process that has TFX loaded, each of which would import it for ten
seconds otherwise.

The process loads what is not this product's, in a container's environment, and nothing else: what an image lacks is
still missed by the task that needs it. It forks only while it has one thread.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from cli.interrupts import skip_teardown
from pipeline.run.fast_imports import pause_garbage_collection

# OpenBLAS and Arrow's allocator start threads as they load.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
_THREADS = Path("/proc/self/task")


class TaskStarter:
    """The process that tasks fork from, which starts with the first of them.

    Args:
      modules: Modules outside of this product that are loaded before the tasks fork.
      environment: Environment of the process.
      folder: Working directory of the process.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._modules = modules
        self._environment = {**environment, **_ONE_THREAD}
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        started: Callable[[int], None],
    ) -> int | None:
        """Run a command to its end and return its exit code; None if it has to be started in the usual way.

        Args:
          command: Words of the command.
          environment: Environment of the task.
          folder: Working directory of the task.
          log: File that its output is added to.
          started: Function that gets the ID of the process, which leads a group.
        """
        match command:
            case ("python", "-m", module, *arguments):
                pass
            case _:
                return None
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, *self._modules],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                # An interrupt of the terminal is for the rehearsal, which ends its tasks.
                start_new_session=True,
            )
        task = {
            "module": module,
            "arguments": arguments,
            "environment": {**environment, **_ONE_THREAD},
            "folder": str(folder),
            "log": str(log),
        }
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        pid = process.stdout.readline()
        if not pid:
            return None
        started(int(pid))
        code = process.stdout.readline()
        if code:
            return int(code)
        # The process has been killed, as for want of memory. Nothing waits for its task any more.
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        return -signal.SIGKILL

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process.stdin = None
            self._process = None


def main(modules: Sequence[str]) -> None:
    """Load the modules, then run each task that a line of standard input describes, in a process of its own.

    Standard output has the ID of that process and its exit code, a line each.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # The collector would copy the pages of all that is loaded into each task.
    with pause_garbage_collection():
        for module in modules:
            importlib.import_module(module)
    if not _THREADS.exists() or len(list(_THREADS.iterdir())) > 1:
        sys.exit("several threads: a fork would not be sound")
    for line in sys.stdin:
        task = json.loads(line)
        pid = os.fork()
        if pid == 0:
            answers.close()
            _become(task)
            with skip_teardown():
                runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
        _send_number(answers, pid)
        _send_number(answers, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(task: Mapping[str, Any]) -> None:
    """Make this process look as if it had been started for a task."""
    os.setsid()
    os.chdir(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"])
    with open(os.devnull, "rb") as nothing, open(task["log"], "ab") as log:
        for number, file in enumerate((nothing, log, log)):
            os.dup2(file.fileno(), number)
    sys.argv = [task["module"], *task["arguments"]]
    # It is run as the program, whatever was imported.
    sys.modules.pop(task["module"], None)


def _send_number(answers: IO[str], number: int) -> None:
    answers.write(f"{number}\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
