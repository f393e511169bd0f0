"""`web`: serves the pages until Ctrl-C, for this machine alone."""

import json
import signal
import socket
import sys

import click
import uvicorn

from cli.errors import ConfigError
from oncall.local.run_store import LocalRunStore
from oncall.web.app import create_application
from oncall.web.options import PageOptions

_HOST = "127.0.0.1"
_DRAIN_SECONDS = 2


def serve(store: LocalRunStore, options: PageOptions, *, port: int, as_json: bool) -> int:
    """Serve until Ctrl-C or SIGTERM; return exit code 0 then.

    Args:
      store: runs of the run root.
      options: options of the command.
      port: port to listen on; 0 for any that is free.
      as_json: whether the address is printed as a JSON document.

    Raises:
      ConfigError: the port cannot be opened.
    """
    listener = _listen(port)
    address = f"http://{_HOST}:{listener.getsockname()[1]}/"
    config = uvicorn.Config(
        create_application(store, options),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    # Uvicorn raises the signal again once it has stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        with listener:
            listener.listen()
            click.echo(json.dumps({"url": address}) if as_json else f"{address}    Ctrl-C ends it")
            uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    return 0


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"--port {port}: {_HOST}:{port} cannot be opened: {error.strerror}; --port 0 takes any that is free"
        ) from error
    return listener
