"""The model server, in which one feature is switched off and on, for benchmarks.

    python -m benchmarks.switched_server request_log --model-dir REGISTRY/NAME --log-requests FOLDER

It is `python -m serving` with one process and the same flags. The feature is an attribute of the service, such as
request_log, shadow or split. A line `off` or `on` on standard input switches it. The event `switched` on standard
output follows.
"""

import asyncio
import os
import sys
from functools import partial
from typing import Any

# The command sets it later than the import below.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from serving.server import command, events, worker
from serving.server.service import Service


class SwitchedService(Service):
    """A service that switches a feature as lines of standard input ask for it.

    Attributes:
      feature: Name of the attribute that is None if the feature is off.
    """

    feature = ""

    async def watch(self) -> None:
        """Watch the folder and standard input."""
        switch = partial(self._switch, getattr(self, self.feature))
        # In the event loop, so that no request sees both states.
        asyncio.get_running_loop().add_reader(sys.stdin, switch)
        await super().watch()

    def _switch(self, value: Any) -> None:
        line = sys.stdin.readline()
        if not line:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            return
        setattr(self, self.feature, value if line == "on\n" else None)
        events.write("switched", state=line.strip())


if __name__ == "__main__":
    SwitchedService.feature = sys.argv.pop(1)
    worker.Service = SwitchedService  # type: ignore[attr-defined]
    command.main()
