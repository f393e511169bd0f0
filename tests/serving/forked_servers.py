"""Model servers that fork from one process, which has loaded TensorFlow with the packages of the server's image alone.

They are children of the process of the tests, as processes that it starts itself.
"""

import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cli.interrupts import skip_teardown

_MAX_MESSAGE_BYTES = 1 << 20
_LOADED = ("serving.server.command", "serving.server.worker")
# OpenBLAS and Arrow's allocator start threads as they load, with which a fork would not be sound.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
_PR_SET_CHILD_SUBREAPER = 36


@functools.cache
def _connect(python_path: str) -> socket.socket:
    """Start the process that servers fork from, which ends with this one; return the socket for its commands."""
    commands, received = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with received:
        subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({received.fileno()})"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": python_path, **ONE_THREAD},
            pass_fds=[received.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return commands


class ForkedServer(subprocess.Popen[str]):
    """`python -m serving` with pipes, or other files, for its standard output and errors."""

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        *,
        constants: Mapping[str, float] = MappingProxyType({}),
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> None:
        """Args:
        arguments: arguments of the command.
        environment: variables of the process.
        constants: values for constants of modules, by MODULE:NAME, where the product's own would only take time.
        stdout, stderr: files as of `subprocess.Popen`.
        """
        self._environment, self._constants = dict(environment), dict(constants)
        super().__init__(arguments, stdout=stdout, stderr=stderr, text=True)

    def _execute_child(self, args: list[str], *rest: Any) -> None:
        streams = rest[9:15]
        *_, stdout, _, stderr = streams
        server = _connect(self._environment["PYTHONPATH"])
        prctl = ctypes.CDLL(None).prctl
        # The server's parent ends before the answer, and this process takes its place.
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            message = json.dumps([args, self._environment, self._constants])
            socket.send_fds(server, [message.encode()], [stdout, stderr])
            self.pid, self._child_created = int(server.recv(16)), True
        finally:
            prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]


def serve(descriptor: int) -> None:
    """Start a server for each command of a socket, and send its process ID."""
    for module in _LOADED:
        importlib.import_module(module)
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    commands = socket.socket(fileno=descriptor)
    # The collector would copy the pages of all that is loaded into each server.
    gc.freeze()
    while True:
        message, streams, _, _ = socket.recv_fds(commands, _MAX_MESSAGE_BYTES, 2)
        if not message:
            return
        reader, writer = os.pipe()
        parent = os.fork()
        if parent == 0:
            server = os.fork()
            if server:
                os.write(writer, str(server).encode())
                os._exit(0)
            for descriptor in (reader, writer, commands.detach()):
                os.close(descriptor)
            _become_server(*json.loads(message), streams)
        os.waitpid(parent, 0)
        commands.send(os.read(reader, 16))
        for descriptor in (reader, writer, *streams):
            os.close(descriptor)


def _become_server(
    arguments: list[str], environment: dict[str, str], constants: dict[str, float], streams: list[int]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    for place, value in constants.items():
        module, _, name = place.partition(":")
        setattr(sys.modules[module], name, value)
    sys.argv[1:] = arguments
    # As in a terminal: the tests may run under nohup, whose SIG_IGN a server respects.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with skip_teardown():
        from serving.server.command import main

        main(arguments)
