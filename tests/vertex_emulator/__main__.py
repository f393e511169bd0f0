"""Starts the emulator, or asks a running one for faults.

python -m tests.vertex_emulator --state runs/vertex
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import click
import grpc
from google.protobuf import json_format, struct_pb2

from tests.vertex_emulator.server import CONTROL, Server


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path("runs/vertex"),
    show_default=True,
    help="Folder of the state; it survives a restart.",
)
@click.option("--port", default=0, help="Port on loopback.  [default: a free one]")
@click.option("--operation-seconds", default=2.0, show_default=True, help="How long a long-running operation takes.")
@click.option(
    "--tls", type=click.Path(path_type=Path), help="Folder of the CA and the certificate.  [default: STATE/tls]"
)
@click.pass_context
def main(context: click.Context, state: Path, port: int, operation_seconds: float, tls: Path | None) -> None:
    """Emulate Vertex AI and Cloud Storage on this machine, until Ctrl-C.

    Prints one `export` line for each variable that clients need; gs://BUCKET/x lies in STATE/storage/BUCKET/x.
    """
    if context.invoked_subcommand:
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Server(state.absolute(), tls=tls and tls.absolute(), port=port, operation_seconds=operation_seconds) as server:
        lines = [f"export {key}={value}" for key, value in server.environment().items()]
        (state / "env.sh").write_text("\n".join(lines) + "\n")
        click.echo("\n".join(lines))
        click.echo(f"# ready; in another shell: source {state}/env.sh")
        stop.wait()


@main.command()
@click.argument("fault", nargs=-1, metavar="KEY=VALUE...", required=True)
def inject(fault: tuple[str, ...]) -> None:
    """Order a fault, such as: inject method=UploadModel code=UNAVAILABLE when=after times=2

    Keys: method (a name, `mutation` or `*`), code, message, when (before, after, operation), skip, times,
    delay_seconds, reason, quota. The running emulator is that of VERTEX_API_ENDPOINT.
    """
    values: dict[str, object] = dict(part.split("=", 1) for part in fault)
    for key in ("skip", "times", "delay_seconds"):
        if key in values:
            values[key] = float(str(values[key]))
    click.echo(json.dumps(control("Inject", values)))


@main.command()
def reset() -> None:
    """Forget all faults that wait."""
    control("Reset", {})


def control(method: str, values: dict[str, object]) -> object:
    """Asks the running emulator."""
    endpoint = os.environ.get("VERTEX_API_ENDPOINT")
    if not endpoint:
        sys.exit("error: VERTEX_API_ENDPOINT is not set; source the env.sh of the running emulator")
    roots = Path(os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]).read_bytes()
    request = struct_pb2.Struct()
    request.update(values)
    with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(roots)) as channel:
        call = channel.unary_unary(
            f"/{CONTROL}/{method}", struct_pb2.Struct.SerializeToString, struct_pb2.Struct.FromString
        )
        return json_format.MessageToDict(call(request))


if __name__ == "__main__":
    main()
