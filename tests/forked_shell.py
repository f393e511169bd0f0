"""A `python` for the commands of a page: those that load TFX fork from the process of tests/forked.py, as its others do.

The rest, such as scripts of a page, is left to the interpreter.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path

from tests import prepared_server
from tests.forked import context

_MAX_MESSAGE_BYTES = 1 << 20
_PROGRAMS = ("local_runner.py", "pipeline", "oncall", "serving", "serving.registry", "vertex_runner.py")
# Hands its arguments, environment and standard streams over, and ends as the process that gets them does.
_SCRIPT = """#!{python} -SE
import json, os, socket, sys
words = sys.argv[2:] if sys.argv[1] == "-m" else sys.argv[1:]
if words[0] not in {programs}:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    message = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [message], [0, 1, 2])
    os._exit(int(server.recv(16) or 1))
"""


@contextlib.contextmanager
def open_shell() -> Iterator[str]:
    """Yield the line of a bash script that puts this `python` first on the path of the lines below it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening,
    ):
        address, script = f"{folder}/socket", Path(folder) / "python"
        script.write_text(_SCRIPT.format(python=sys.executable, programs=_PROGRAMS, address=address))
        script.chmod(0o755)
        listening.bind(address)
        listening.listen()
        thread = threading.Thread(target=_accept, args=(listening,))
        thread.start()
        try:
            yield f"export PATH={folder}:$PATH"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listening: socket.socket) -> None:
    """Run a process for each command until the socket is shut down."""
    threads = []
    with contextlib.suppress(OSError):
        while True:
            command, _ = listening.accept()
            threads.append(threading.Thread(target=_run, args=(command,)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _run(command: socket.socket) -> None:
    """Run a command to its end, or until the shell ends it, and send its exit code."""
    with command:
        message, descriptors, _, _ = socket.recv_fds(command, _MAX_MESSAGE_BYTES, 3)
        streams = [connection.Connection(descriptor) for descriptor in descriptors]
        process = context().Process(target=_child, args=(*json.loads(message), streams))
        process.start()
        for stream in streams:
            stream.close()
        if command in connection.wait([command, process.sentinel]):
            assert process.pid is not None
            os.kill(process.pid, signal.SIGTERM)
        process.join()
        code = process.exitcode or 0
        with contextlib.suppress(BrokenPipeError):
            command.send(str(code if code >= 0 else 128 - code).encode())


def _child(
    words: list[str], folder: str, environment: dict[str, str], streams: list["connection.Connection[bytes, bytes]"]
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    program, *sys.argv[1:] = words
    prepared_server.prepare()
    if program.endswith(".py"):
        runpy.run_path(os.path.abspath(program), run_name="__main__")
    else:
        # It is run as the program, whatever was imported.
        sys.modules.pop(f"{program}.__main__", None)
        runpy.run_module(program, run_name="__main__", alter_sys=True)
