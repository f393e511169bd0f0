"""Runs of the smallest pipeline in processes that fork from one which has TFX loaded (tests/forked.py)."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import yaml
from click.testing import CliRunner

from oncall.__main__ import main as oncall_main
from pipeline.run.records import RunRecord
from pipeline.run.run_root import RunRoot
from serving.registry import LocalRegistry
from tests.conftest import ROOT
from tests.faults.small import NAME
from tests.forked import Fault, call, context

TIMEOUT_SECONDS = 300


def _child(command: list[str], output: Path, fault: Fault | None) -> None:
    """Run a whole command line in this process, after a fault was planted in it."""
    os.setsid()
    os.chdir(ROOT)
    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    name, *arguments = command
    call(name, arguments, fault)


@dataclass
class Running:
    """A command that was started."""

    process: BaseProcess
    output: Path

    def wait(self) -> int:
        """Wait for the end and return the exit code; negative for the signal that killed it."""
        self.process.join(TIMEOUT_SECONDS)
        if self.process.exitcode is None:
            assert self.process.pid is not None
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"the run hangs: {self.read_output()[-2000:]}")
        until = time.monotonic() + 20
        while left := self._list_processes():
            assert time.monotonic() < until, f"the run has ended, and its child processes still run: {left}"
            time.sleep(0.01)
        return self.process.exitcode

    def _list_processes(self) -> list[list[str]]:
        """Return the command lines of processes that the command has started and that still run."""
        command_lines = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    command_lines.append(process.cmdline())
        return command_lines

    def read_output(self) -> str:
        """Return the output so far."""
        return self.output.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert self.process.is_alive() and time.monotonic() < until, self.read_output()[-2000:]
            time.sleep(0.001)


@dataclass(frozen=True)
class Place:
    """A config and a run root, and the commands that are run there.

    Attributes:
      config: config of the runs.
      folder: the run root.
      outputs: folder of the outputs; None for beside the run root.
    """

    config: Path
    folder: Path
    outputs: Path | None = None

    @property
    def root(self) -> RunRoot:
        return RunRoot(self.folder)

    @property
    def registry(self) -> LocalRegistry:
        return LocalRegistry(self.folder / "registry", NAME)

    def _start(self, command: list[str], fault: Fault | None) -> Running:
        output = (self.outputs or self.folder.parent) / f"output-{time.monotonic_ns()}"
        output.touch()
        process = context().Process(target=_child, args=(command, output, fault))
        process.start()
        return Running(process, output)

    def start(
        self, *settings: str, fault: Fault | None = None, config: Path | None = None, cache: bool = True
    ) -> Running:
        """Start a run."""
        flags = [flag for setting in settings for flag in ("--set", setting)] + ([] if cache else ["--no-cache"])
        place = ["--config", str(config or self.config), "--run-root", str(self.folder)]
        return self._start(["local_runner.py", *place, *flags], fault)

    def run(self, *settings: str, fault: Fault | None = None, cache: bool = True) -> tuple[int, str]:
        """Run the pipeline and return the exit code and the output."""
        running = self.start(*settings, fault=fault, cache=cache)
        return running.wait(), running.read_output()

    def start_again(self, fault: Fault | None = None) -> Running:
        """Start a run with the config of the newest run; if that succeeded, all of it is reused."""
        config = self.config.with_name("again.yaml")
        config.write_text(yaml.safe_dump(self.record().config, sort_keys=False))
        return self.start(fault=fault, config=config)

    def run_again(self, fault: Fault | None = None) -> tuple[int, str]:
        """Run the config of the newest run and return the exit code and the output."""
        running = self.start_again(fault)
        return running.wait(), running.read_output()

    def resume(self, fault: Fault | None = None) -> tuple[int, str]:
        """Resume the newest run and return the exit code and the output."""
        running = self._start(["oncall", "resume", "latest", "--run-root", str(self.folder)], fault)
        return running.wait(), running.read_output()

    def oncall(self, *arguments: str, code: int = 0) -> Any:
        """Return the JSON document of a command, which ends with `code`."""
        done = CliRunner().invoke(oncall_main, [*arguments, "--run-root", str(self.folder), "--json"])
        assert done.exit_code == code, (arguments, done.output)
        return json.loads(done.stdout)

    def record(self) -> RunRecord:
        """Return the record of the newest run."""
        return RunRecord.model_validate_json(max(self.root.records.glob("*.json")).read_bytes())

    def states(self) -> dict[str, str]:
        """Return the state of each node of the newest run."""
        return {name: node.state for name, node in self.record().nodes.items()}
