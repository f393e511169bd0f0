"""Commands of this repository in processes that fork from one which has TFX loaded: none waits ten seconds for its imports.

It is sound because the server that they fork from only imports: it starts no TensorFlow runtime, no gRPC, and no thread
(`test_the_process_that_runs_fork_from_has_one_thread`).
"""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests import prepared_server
from tests.conftest import ROOT
from tests.serving.forked_servers import ONE_THREAD

Fault = Callable[[], None]
# The fork server passes over a name that it cannot import.
LOADED = [
    "pipeline.run.local",
    "pipeline.run.dag_runner",
    "pipeline.create_pipeline",
    "pipeline.run.node_summaries",
    "local_runner",
    "oncall.__main__",
    "pipeline.__main__",
    "pipeline.vertex.compiler",
    "serving.registry.__main__",
    "serving.registry.vertex.registry",
    "serving.server.command",
    "serving.server.worker",
    "vertex_runner",
    # Last, with all of them loaded.
    "tests.freeze",
]
_ENVIRONMENT = {**ONE_THREAD, "PYTHONPATH": str(ROOT)}


def context() -> ForkServerContext:
    """Return the context that commands fork from; its server starts with the first one."""
    os.environ.update(_ENVIRONMENT)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(LOADED)
    return server


def call(program: str, arguments: list[str], fault: Fault | None = None) -> None:
    """Call the main function of a program in this process, which then looks as if it had been started for it.

    Args:
      program: Script of the repository's root, such as `local_runner.py`, or name of a package with `__main__`.
      arguments: Arguments of the program.
      fault: Function that is called before.
    """
    script = program.removesuffix(".py")
    main = importlib.import_module(script if script != program else f"{program}.__main__").main
    sys.argv = [program if script != program else f"{program}/__main__.py", *arguments]
    if not program.startswith("serving"):
        prepared_server.prepare()
    if fault is not None:
        fault()
    main(arguments)


class Command:
    """A command that runs, in a session of its own, with what tests need of `subprocess.Popen`.

    Attributes:
      pid: ID of the process and its group.
    """

    def __init__(self, program: str, *arguments: str, folder: Path = ROOT) -> None:
        """Args:
        program: Script of the repository's root or name of a package, as `call` takes it.
        arguments: Arguments of the program.
        folder: Working directory.
        """
        self._words = [program, *arguments]
        self._outputs = tempfile.TemporaryDirectory()
        self._files = (Path(self._outputs.name) / "stdout", Path(self._outputs.name) / "stderr")
        self._process = context().Process(
            target=_child, args=(program, arguments, folder, dict(os.environ), self._files)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self._process.exitcode

    def finish(self, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Wait for the end.

        Raises:
          subprocess.TimeoutExpired: the command was killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(self._words, timeout)
        out, err = (file.read_text() for file in self._files)
        self._outputs.cleanup()
        return subprocess.CompletedProcess(self._words, self._process.exitcode, out, err)


def run(program: str, *arguments: str, folder: Path = ROOT, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does.

    Args:
      program: Script of the repository's root or name of a package, as `call` takes it.
      arguments: Arguments of the program.
      folder: Working directory.
      timeout: Number of seconds after which the command is killed.

    Raises:
      subprocess.TimeoutExpired: the command was killed.
    """
    return Command(program, *arguments, folder=folder).finish(timeout)


def _child(
    program: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], files: tuple[Path, Path]
) -> None:
    os.setsid()
    os.chdir(folder)
    # The server was started with another environment.
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        with file.open("wb") as opened:
            os.dup2(opened.fileno(), number)
    call(program, list(arguments))
