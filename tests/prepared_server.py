"""InfraValidator's model server in a process that forks before its run starts TensorFlow, and imports nothing.

The tests of InfraValidator, and those that start `local_runner.py` as a user does, use the server that the product starts.
"""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from cli.interrupts import skip_teardown

_MAX_MESSAGE_BYTES = 1 << 16


def prepare() -> None:
    """Fork the process that the first server of this process's InfraValidator runs in; it ends with this process."""
    from components.infra_validator import component

    sender, receiver = socket.socketpair()
    prepared = os.fork()
    if prepared == 0:
        sender.close()
        _wait_for_command(receiver)
    receiver.close()

    class ForkedServer(subprocess.Popen[str]):
        """A server that gets its command and its standard streams by a message, and is a child process as any other."""

        def _execute_child(self, args: list[str], *rest: Any) -> None:
            component.subprocess = subprocess
            stdin, _, _, stdout, _, stderr = rest[9:15]
            socket.send_fds(sender, [json.dumps(args).encode()], [stdin, stdout, stderr])
            sender.close()
            self.pid, self._child_created = prepared, True
            os.close(stdin)
            os.close(stdout)

    component.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": ForkedServer})


def _wait_for_command(receiver: socket.socket) -> None:
    message, streams, _, _ = socket.recv_fds(receiver, _MAX_MESSAGE_BYTES, 3)
    receiver.close()
    if not message:
        # The run has ended.
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    _, _, program, *sys.argv[1:] = json.loads(message)
    with skip_teardown():
        from serving.server.command import main

        assert program == "serving"
        main(sys.argv[1:])
