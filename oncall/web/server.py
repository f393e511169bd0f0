"""`web`: the pages, until Ctrl-C, for this machine alone."""

import json
import signal
import socket
import sys

import click
import uvicorn

from cli.errors import ConfigError
from oncall.evidence import Evidence
from oncall.web.app import application
from oncall.web.start import Place

_HOST = "127.0.0.1"
_DRAIN_SECONDS = 2


def serve(evidence: Evidence, place: Place, *, port: int, as_json: bool) -> int:
    """Serve until Ctrl-C or SIGTERM, which are no failure.

    Args:
      evidence: evidence of the run root.
      place: place of the registry and of a model server.
      port: 0 for any that is free.
      as_json: whether the address is printed as a JSON document.

    Raises:
      ConfigError: the port cannot be listened at.
    """
    listening = _bound(port)
    address = f"http://{_HOST}:{listening.getsockname()[1]}/"
    config = uvicorn.Config(
        application(evidence, place),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    # Uvicorn raises the signal again once it has stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        with listening:
            listening.listen()
            click.echo(json.dumps({"url": address}) if as_json else f"{address}    Ctrl-C ends it")
            uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    return 0


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"--port {port}: {_HOST}:{port} cannot be listened at: {error.strerror}; --port 0 takes any that is free"
        ) from error
    return listening
