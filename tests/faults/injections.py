"""Faults that a run plants in itself before it starts: the product has no hooks for them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Act = Callable[[], None]
FILLER = "filler"


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    """End this process as an operator or a shutdown does."""
    os.kill(os.getpid(), signal.SIGTERM)


def wait_for(file: Path) -> Act:
    """Return a function that waits until a file exists."""
    return partial(_wait_for, file)


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def mark(file: Path, act: Act) -> Act:
    """Return a function that creates a file, and then acts."""
    return partial(_mark, file, act)


def _mark(file: Path, act: Act) -> None:
    file.touch()
    act()


def spin_until(file: Path) -> Act:
    """Return a function that uses a core until a file exists."""
    return partial(_spin_until, file)


def _spin_until(file: Path) -> None:
    while not file.exists():
        pass


_HOLDS = (
    "import sqlite3, sys, time; database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60); "
    "database.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(float(sys.argv[2]))"
)


def lock(database: Path, seconds: float) -> "subprocess.Popen[str]":
    """Return another process, which holds a database from now on."""
    command = [sys.executable, "-c", _HOLDS, str(database), str(seconds)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    database.with_name("holder").write_text(str(holder.pid))
    return holder


def shorten_wait(seconds: float, then: Act) -> None:
    """Make this process wait that long for a database that another one holds, and plant another fault."""
    from pipeline.run import locks

    locks.LIMIT_SECONDS = seconds
    then()


def nothing() -> None:
    """Plant no fault."""


def remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(folder: Path) -> None:
    """Take all space that is free on the disk of a folder."""
    with (folder / FILLER).open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def after(node: str, act: Act) -> None:
    """Plant a fault that acts when a node has ended and its record is written."""
    from pipeline.run.records import RecordFile

    original = RecordFile.on_node_end

    def act_after_node(self: Any, name: str, *arguments: Any) -> None:
        original(self, name, *arguments)
        if name == node:
            act()

    RecordFile.on_node_end = act_after_node  # type: ignore[method-assign]


def at_driver(node: str, act: Act) -> None:
    """Plant a fault that acts when a node's execution is registered as RUNNING, before its inputs are read."""
    from tfx.orchestration.portable import execution_publish_utils, launcher, resolver_node_handler

    registered = execution_publish_utils.register_execution

    def register(*arguments: Any, **named: Any) -> Any:
        execution = registered(*arguments, **named)
        act()
        return execution

    def of_node(original: Any, patched: Any) -> Any:
        def run(self: Any, *arguments: Any) -> Any:
            execution_publish_utils.register_execution = patched if _node(self, arguments) == node else registered
            return original(self, *arguments)

        return run

    handler = resolver_node_handler.ResolverNodeHandler
    launcher.Launcher._prepare_execution = of_node(launcher.Launcher._prepare_execution, register)
    handler.run = of_node(handler.run, register)


def at_executor(node: str, act: Act) -> None:
    """Plant a fault that acts before a node's executor."""
    from tfx.orchestration.portable import launcher

    original = launcher.Launcher._run_executor

    def run(self: Any, execution_info: Any) -> Any:
        if _node(self, ()) == node:
            act()
        return original(self, execution_info)

    launcher.Launcher._run_executor = run


def in_executor(node: str, act: Act) -> None:
    """Plant a fault that acts when a node's executor has written a file, or else when it ends; resolvers have none.

    In InfraValidator, it acts while the model server answers.
    """
    if node == "InfraValidator":
        from components.infra_validator import component

        component._predict = partial(_before, act, component._predict)
        return
    from tfx.orchestration.portable import launcher

    original = launcher.Launcher._run_executor

    def run(self: Any, execution_info: Any) -> Any:
        if _node(self, ()) != node:
            return original(self, execution_info)
        folders = [Path(artifact.uri) for artifacts in execution_info.output_dict.values() for artifact in artifacts]
        done = threading.Event()
        watcher = threading.Thread(target=_act_when_written, args=(folders, done, act))
        watcher.start()
        try:
            return original(self, execution_info)
        finally:
            done.set()
            watcher.join()

    launcher.Launcher._run_executor = run


def _act_when_written(folders: list[Path], done: threading.Event, act: Act) -> None:
    while not done.is_set() and not any(map(_has_file, folders)):
        time.sleep(0.001)
    act()


def _has_file(folder: Path) -> bool:
    try:
        return any(path.is_file() for path in folder.rglob("*"))
    except FileNotFoundError:
        # Replaced by its component meanwhile, as TFX's copy of a folder does.
        return False


def at_publish(node: str, act: Act) -> None:
    """Plant a fault that acts after a node's work and before it is published to ML Metadata."""
    from tfx.orchestration.portable import execution_publish_utils, launcher, resolver_node_handler

    publishes = {
        launcher.Launcher: "publish_succeeded_execution",
        resolver_node_handler.ResolverNodeHandler: "publish_internal_execution",
    }
    for owner, name in publishes.items():
        published = getattr(execution_publish_utils, name)
        method = "launch" if owner is launcher.Launcher else "run"
        original = getattr(owner, method)

        def run(
            self: Any, *arguments: Any, _original: Any = original, _name: str = name, _real: Any = published
        ) -> Any:
            here = _node(self, arguments) == node
            setattr(execution_publish_utils, _name, partial(_before, act, _real) if here else _real)
            return _original(self, *arguments)

        setattr(owner, method, run)


def _before(act: Act, function: Any, *arguments: Any, **named: Any) -> Any:
    act()
    return function(*arguments, **named)


def _node(owner: Any, arguments: Any) -> str:
    """Return the id of the node of a launcher, or of a call of a resolver's handler."""
    node = owner._pipeline_node if hasattr(owner, "_pipeline_node") else arguments[1]
    return str(node.node_info.id)
