"""Command line of the emulator of Cloud Storage."""

import signal
import threading
from pathlib import Path

import click

from emulators.storage.server import StorageServer


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of the buckets: gs://BUCKET/x is FOLDER/BUCKET/x.",
)
@click.option("--port", default=0, help="Port on loopback.  [default: a free one]")
def main(folder: Path, port: int) -> None:
    """Emulate Cloud Storage on this machine, until Ctrl-C.

    Prints the `export` line that clients need.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = StorageServer(folder, port)
    except OSError as error:
        raise click.ClickException(f"--port {port}: cannot be opened: {error.strerror}; use another port") from error
    with server:
        click.echo(f"export STORAGE_EMULATOR_HOST={server.url}")
        stop.wait()


if __name__ == "__main__":
    main()
