"""Command line of the emulator of BigQuery."""

import signal
import threading
from pathlib import Path

import click

from emulators.bigquery.server import BigQueryServer


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of the tables: PROJECT.DATASET.TABLE is FOLDER/PROJECT/DATASET/TABLE.csv, .csv.gz, .parquet, an "
    "Arrow stream in .arrows, or a view in .sql.",
)
@click.option("--port", default=0, help="Port of the REST API on loopback.  [default: a free one]")
@click.option("--storage-port", default=0, help="Port of the Storage Read API on loopback.  [default: a free one]")
@click.option("--deny", "denied", multiple=True, metavar="DATASET", help="Deny access to a dataset. May be repeated.")
@click.option("--interrupt", "interruptions", default=0, metavar="N", help="Interrupt the first N streams once.")
def main(folder: Path, port: int, storage_port: int, denied: tuple[str, ...], interruptions: int) -> None:
    """Emulate BigQuery on this machine, until Ctrl-C: tables, simple queries and Arrow streams.

    Prints one `export` line for each variable that clients need.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = BigQueryServer(folder, port, storage_port, denied, interruptions)
    except OSError as error:
        raise click.ClickException(
            f"--port {port} --storage-port {storage_port}: cannot be opened: {error.strerror}; use other ports"
        ) from error
    with server:
        for key, value in server.environment.items():
            click.echo(f"export {key}={value}")
        stop.wait()


if __name__ == "__main__":
    main()
