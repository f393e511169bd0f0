"""Command line of the emulator of Vertex AI: start it, or inject faults into a running one."""

import fcntl
import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
from google.protobuf import json_format, struct_pb2

from emulators.vertex.faults import AFTER, BEFORE, OPERATION
from emulators.vertex.iam import IamTable, parse_table
from emulators.vertex.server import CONTROL, EmulatorServer
from emulators.vertex.service import METHODS
from schemas.declaration import suggest_name

ENDPOINT, ROOTS = "VERTEX_API_ENDPOINT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
NUMBERS = ("skip", "times", "delay_seconds")
KEYS = ("method", "code", "message", "when", *NUMBERS, "reason", "quota")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path("runs/vertex"),
    show_default=True,
    help="Folder of the state; it survives a restart.",
)
@click.option("--port", default=0, help="Port on loopback.  [default: a free one]")
@click.option(
    "--operation-seconds", default=2.0, show_default=True, help="Duration of a long-running operation, in seconds."
)
@click.option(
    "--warm-up-seconds",
    default=0.0,
    show_default=True,
    help="Time for which an endpoint answers 503 after a deployment or a change of its split.",
)
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="ID=NUMBER",
    help="Number of a project, which responses have in all names. May be repeated.  [default: derived from the id]",
)
@click.option(
    "--iam",
    "iam_file",
    type=click.Path(path_type=Path),
    help="JSON file with `caller`, `roles` and `act_as`; permissions are checked against it.  [default: no checks]",
)
@click.option(
    "--run-as",
    type=int,
    metavar="UID",
    help="User of the images, as with `rehearse`.  [default: your own]",
)
@click.option(
    "--tls", type=click.Path(path_type=Path), help="Folder of the CA and the certificate.  [default: STATE/tls]"
)
@click.pass_context
def main(
    context: click.Context,
    state: Path,
    port: int,
    operation_seconds: float,
    warm_up_seconds: float,
    projects: tuple[str, ...],
    iam_file: Path | None,
    run_as: int | None,
    tls: Path | None,
) -> None:
    """Emulate Vertex AI and Cloud Storage on this machine, until Ctrl-C.

    Prints one `export` line for each variable that clients need; gs://BUCKET/x is the file STATE/storage/BUCKET/x.
    """
    if context.invoked_subcommand:
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = {
        "tls": tls and tls.absolute(),
        "operation_seconds": operation_seconds,
        "warm_up_seconds": warm_up_seconds,
        "project_numbers": _parse_projects(projects),
        "iam": iam_file and _read_iam(iam_file),
        "run_as": run_as,
    }
    with _lock_state(state), _open_server(state.absolute(), port, settings) as server:
        lines = [f"export {key}={shlex.quote(value)}" for key, value in server.environment.items()]
        (state / "env.sh").write_text("\n".join(lines) + "\n")
        click.echo("\n".join(lines))
        click.echo(f"# ready; in another shell: source {shlex.quote(str(state))}/env.sh")
        stop.wait()


@contextmanager
def _lock_state(state: Path) -> Iterator[None]:
    """Lock a folder of state: two emulators in one folder would end each other's jobs."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise click.ClickException(f"--state {state}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise click.ClickException(
                f"--state {state}: an emulator runs there already; use it (source {shlex.quote(str(state))}/env.sh), "
                "or another folder"
            ) from error
        yield


def _read_iam(file: Path) -> IamTable:
    try:
        return parse_table(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="--iam") from error


def _parse_projects(projects: Sequence[str]) -> dict[str, str]:
    numbers = {}
    for text in projects:
        match = re.fullmatch(r"([a-z][a-z0-9-]{4,28}[a-z0-9])=([1-9][0-9]{5,18})", text)
        if match is None:
            raise click.BadParameter(f"'{text}': expected such as my-project=697047613721", param_hint="--project")
        numbers[match[1]] = match[2]
    return numbers


def _open_server(state: Path, port: int, settings: dict[str, Any]) -> EmulatorServer:
    """Return the server, at its earlier ports if they are still free, so that shells with the old env.sh still work."""
    old_port, old_storage_port = _read_ports(state / "env.sh")
    for grpc_port, storage_port in dict.fromkeys([(port or old_port, old_storage_port), (port, 0)]):
        try:
            return EmulatorServer(state, port=grpc_port, storage_port=storage_port, **settings)
        except (RuntimeError, OSError) as error:
            problem = error
    raise click.ClickException(f"--port {port}: cannot be opened; is it in use? ({problem})")


def _read_ports(env_file: Path) -> tuple[int, int]:
    """Return the ports of Vertex AI and of Cloud Storage in an env.sh; 0 if there is none."""
    text = env_file.read_text() if env_file.exists() else ""
    matches = [re.search(rf"{key}=.*:(\d+)$", text, re.MULTILINE) for key in (ENDPOINT, "STORAGE_EMULATOR_HOST")]
    grpc_port, storage_port = (int(match[1]) if match else 0 for match in matches)
    return grpc_port, storage_port


@main.command()
@click.argument("fault", nargs=-1, metavar="KEY=VALUE...", required=True)
def inject(fault: tuple[str, ...]) -> None:
    """Inject a fault, such as: inject method=UploadModel code=UNAVAILABLE when=after times=2

    Keys: method (a name, `mutation` or `*`), code, message, when (before, after, operation), skip, times,
    delay_seconds, reason, quota. The running emulator is that of VERTEX_API_ENDPOINT.
    """
    click.echo(json.dumps(call_control("Inject", parse_fault(fault)), sort_keys=True))


def parse_fault(parts: Sequence[str]) -> dict[str, object]:
    """Return the values of a fault.

    Raises:
      click.BadParameter: the values describe no fault that can strike.
    """
    methods = [name.partition("/")[2] for name in METHODS]
    choices = {"code": [code.name for code in grpc.StatusCode], "when": [BEFORE, AFTER, OPERATION]}
    choices["method"] = [*methods, "mutation", "*"]
    values: dict[str, object] = {}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or key not in KEYS:
            raise click.BadParameter(f"'{part}': expected KEY=VALUE with one of {', '.join(KEYS)}")
        if key in choices and value not in choices[key]:
            raise click.BadParameter(f"{key}: {suggest_name(value, choices[key])}, found '{value}'")
        if key in NUMBERS and not re.fullmatch(r"\d+(\.\d+)?", value):
            raise click.BadParameter(f"{key}: expected a number, found '{value}'")
        values[key] = float(value) if key in NUMBERS else value
    if "method" not in values:
        raise click.BadParameter("method: is missing, such as method=UploadModel")
    if "code" not in values and "delay_seconds" not in values:
        raise click.BadParameter("expected a code, such as code=UNAVAILABLE, or delay_seconds")
    return values


@main.command()
def reset() -> None:
    """Remove all faults that have not struck."""
    call_control("Reset", {})
    click.echo("no fault is waiting")


def call_control(method: str, values: dict[str, object]) -> object:
    """Call a control method of the running emulator and return the response.

    Raises:
      click.ClickException: the environment does not name an emulator, or it does not respond.
    """
    endpoint, roots = os.environ.get(ENDPOINT), Path(os.environ.get(ROOTS, ""))
    if not endpoint or not roots.is_file():
        raise click.ClickException(
            f"{ENDPOINT} or {ROOTS} is not set, or is not the name of a file; source the env.sh of the running emulator"
        )
    request = struct_pb2.Struct()
    request.update(values)
    with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(roots.read_bytes())) as channel:
        call = channel.unary_unary(
            f"/{CONTROL}/{method}", struct_pb2.Struct.SerializeToString, struct_pb2.Struct.FromString
        )
        try:
            return json_format.MessageToDict(call(request))
        except grpc.RpcError as error:
            raise click.ClickException(
                f"no emulator answers at {endpoint} ({error.code().name}); start it, then source its env.sh"
            ) from error


if __name__ == "__main__":
    main()
