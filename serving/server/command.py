"""The command that serves a model over HTTP and gRPC.

python -m serving --model-dir runs/census-income/registry/census-income
"""

import contextlib
import functools
import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.errors import ConfigError, PipelineError, PushError
from cli.terminal import print_error
from serving.server import tracing

if TYPE_CHECKING:
    from serving.request_log.settings import RequestLogSettings
    from serving.server.access import AccessRules
    from serving.server.settings import ServerSettings
    from serving.server.tls import TlsFiles

_BACKLOG = 2048
# Twice the connections that are kept.
_MAX_OPEN_FILES = 8192
_FILE = click.Path(path_type=Path)

EPILOG = """\b
Endpoints:
  POST /v1/models/NAME[/versions/N|/labels/L]:predict   as TF Serving, also :classify and :regress; GET without it, or
                                                        /metadata
  POST /v2/models/NAME[/versions/N]/infer               as KServe, by the open inference protocol; GET /v2/...
  POST /predict, GET /health                            as in Vertex AI's containers; AIP_* variables set their paths
  GET  /  /openapi.json  /metrics  /live                a page to try it, the API, Prometheus
  gRPC PredictionService and ModelService               as TF Serving
  gRPC GRPCInferenceService                             as KServe and Triton, by the open inference protocol

\b
A container of Vertex AI needs no flags: it sets AIP_STORAGE_URI, AIP_HTTP_PORT, AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE.
Standard output has one JSON object a line: ready, request, stopped. Exit codes: 0 stopped; 2 a flag is wrong; 5 no
version can be served, or the port is taken."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--model-dir",
    envvar="AIP_STORAGE_URI",
    required=True,
    help="Folder of versions (a registry's, or TF Serving's base path), or of one version; gs:// too.  [env: "
    "AIP_STORAGE_URI]",
)
@click.option("--model-name", help="NAME in the paths.  [default: the folder's name]")
@click.option(
    "--host",
    help="Address to bind. Any other than the loopback needs a certificate and tokens, or --insecure.  [default: "
    "127.0.0.1; 0.0.0.0 in a container of Vertex AI]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    envvar="AIP_HTTP_PORT",
    default=8080,
    show_default=True,
    help="Port of HTTP; 0 takes any free one.",
)
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), help="Port of gRPC; 0 takes any free one.  [default: no gRPC]"
)
@click.option(
    "--versions",
    "policy",
    default="champion",
    show_default=True,
    help="champion (the latest, if a folder has no record of one), labels (also previous and candidate), latest, "
    "latest:N, all, or numbers such as 1,3. New versions are loaded as they come.",
)
@click.option("--tls-cert-file", type=_FILE, help="Certificate of the server, in PEM: HTTPS, and gRPC over TLS.")
@click.option("--tls-private-key-file", type=_FILE, help="Its private key.")
@click.option("--client-ca-file", type=_FILE, help="Authorities of clients' certificates, which are asked for then.")
@click.option(
    "--token-file",
    type=_FILE,
    help="Bearer tokens, one a line; read again when it changes. The probes /health and /live need none.",
)
@click.option("--insecure", is_flag=True, help="Let other machines connect without TLS or tokens, such as a proxy.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    help="Name of the server that a request may have in its header Host, beside localhost.",
)
@click.option("--allow-unvalidated", is_flag=True, help="Serve models that no push of this product wrote, unchecked.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--max-batch-rows", type=click.IntRange(1), default=512, show_default=True, help="Rows in one call of the model."
)
@click.option(
    "--max-waiting-rows",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Rows that may wait; further requests get 503.",
)
@click.option(
    "--max-request-rows", type=click.IntRange(1), default=4096, show_default=True, help="Rows of one request."
)
@click.option(
    "--max-request-bytes",
    type=click.IntRange(1),
    default=1_500_000,
    show_default=True,
    help="Size of one request; Vertex AI sends no larger ones.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds that rows may wait for the model.",
)
@click.option(
    "--poll",
    "poll_seconds",
    type=click.FloatRange(0.05),
    default=1.0,
    show_default=True,
    help="Seconds between two reads of the folder.",
)
@click.option(
    "--drain",
    "drain_seconds",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds to continue serving after SIGTERM, while /health returns 503.",
)
@click.option(
    "--oncall-url",
    metavar="URL",
    help="Address of `python -m oncall web`, which the page links to.  [default: no link]",
)
@click.option(
    "--log-requests",
    "log_folder",
    type=_FILE,
    metavar="FOLDER",
    help="Folder of a log of the requests and their predictions, in Parquet: docs/monitoring.md.  [default: no log]",
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the requests that are logged, or of the keys, by a hash.",
)
@click.option(
    "--log-key",
    default="",
    metavar="COLUMN",
    help="Column of a request that outcomes are joined by, or header:NAME. The model need not use it.",
)
@click.option("--log-sensitive", is_flag=True, help="Log sensitive columns, too.")
@click.option(
    "--log-budget",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="MB",
    help="Size of the log, beyond which its oldest shards are deleted.",
)
@click.option(
    "--log-shard-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="MB",
    help="Size beyond which a new shard is begun.",
)
@click.option(
    "--log-shard-age",
    type=click.FloatRange(0, min_open=True),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Age beyond which a new shard is begun.",
)
@click.option(
    "--shadow",
    metavar="LABEL=SHARE",
    help="Ask the version with a label, candidate or previous, for a share of the requests, such as candidate=0.2, "
    "after the answer has gone out; /metrics compares the answers.",
)
@click.option(
    "--split",
    metavar="LABEL=SHARE",
    help="Let the version with a label answer a share of the requests that name no version, such as candidate=0.1: by "
    "the header x-split-key, else by --split-key, else by the request's ID.",
)
@click.option("--split-key", metavar="COLUMN", help="Column whose value is the key of a split.")
@click.option(
    "--otlp-endpoint",
    metavar="URL",
    help="Collector that traces are sent to, such as http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT and "
    "OpenTelemetry's other variables do the same.  [default: no traces]",
)
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="A line for each request.")
@click.option(
    "--until-stdin-ends",
    is_flag=True,
    help="Stop, too, when standard input ends, with the process that started the server.",
)
@click.option("--check", is_flag=True, help="Load and check the versions, print them, and stop.")
def main(
    model_dir: str,
    host: str | None,
    port: int,
    grpc_port: int | None,
    workers: int,
    check: bool,
    until_stdin_ends: bool,
    tls_cert_file: Path | None,
    tls_private_key_file: Path | None,
    client_ca_file: Path | None,
    token_file: Path | None,
    insecure: bool,
    allowed_hosts: tuple[str, ...],
    shadow: str | None,
    split: str | None,
    otlp_endpoint: str | None,
    **settings: Any,
) -> None:
    """Serve predictions until Ctrl-C or SIGTERM.

    A version is served only if it is, byte for byte, the pushed one, and answers its golden requests as the evaluated
    model did. If not, the error is logged, and the serving version is unchanged.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if until_stdin_ends:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    try:
        settings["traces_endpoint"] = tracing.find_endpoint(otlp_endpoint)
        address = host or ("0.0.0.0" if "AIP_HTTP_PORT" in os.environ else "127.0.0.1")
        tls = _read_tls(tls_cert_file, tls_private_key_file, client_ca_file)
        access = _read_access(address, tls, token_file, allowed_hosts, insecure=insecure)
        settings |= _read_experiments(shadow, split, settings["split_key"])
        with contextlib.ExitStack() as stack:
            _serve(model_dir, address, port, grpc_port, workers, check, settings, stack, tls, access)
    except PipelineError as error:
        print_error(error, as_json=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(0)


def _read_experiments(shadow: str | None, split: str | None, split_key: str | None) -> dict[str, Any]:
    from serving.server.label_share import LabelShare

    if split_key is not None and split is None:
        raise ConfigError(f"--split-key {split_key}: there is no --split that it would be the key of")
    flags = {"shadow": shadow, "split": split}
    return {name: None if text is None else LabelShare.parse(f"--{name}", text) for name, text in flags.items()}


def _stop_with_stdin() -> None:
    """End this process as SIGTERM does, once the other end of standard input is closed."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _read_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> "TlsFiles | None":
    from serving.server.tls import CERTIFICATE_FLAG, CLIENT_CA_FLAG, KEY_FLAG, TlsFiles

    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        reason = f"{CLIENT_CA_FLAG} needs" if certificate is key else "expected"
        raise ConfigError(f"{reason} both {CERTIFICATE_FLAG} and {KEY_FLAG}")
    files = TlsFiles(certificate.absolute(), key.absolute(), client_ca.absolute() if client_ca else None)
    files.check()
    return files


def _read_access(
    host: str, tls: "TlsFiles | None", token_file: Path | None, allowed_hosts: tuple[str, ...], *, insecure: bool
) -> "AccessRules":
    from serving.server.access import TokenFile, build_rules, check_exposure

    token_file = token_file.absolute() if token_file is not None else None
    if token_file is not None:
        TokenFile(token_file)
    check_exposure(
        host,
        has_tls=tls is not None,
        has_clients_known=token_file is not None or (tls is not None and tls.client_ca is not None),
        insecure=insecure,
        in_vertex="AIP_HTTP_PORT" in os.environ,
    )
    health_route = os.environ.get("AIP_HEALTH_ROUTE") or "/health"
    open_paths = (health_route, "/live", "/v2/health/live", "/v2/health/ready")
    return build_rules(host, token_file=token_file, allowed_hosts=allowed_hosts, open_paths=open_paths)


def _serve(
    model_dir: str,
    host: str,
    port: int,
    grpc_port: int | None,
    workers: int,
    check: bool,
    values: dict[str, Any],
    stack: contextlib.ExitStack,
    tls: "TlsFiles | None",
    access: "AccessRules",
) -> None:
    from serving.request_log.settings import FOLDER_FLAG
    from serving.request_log.streams import check_model
    from serving.server.settings import ServerSettings, find_model_name

    settings = ServerSettings(model_dir=model_dir, request_log=_read_log_settings(values, workers), **values)
    if settings.oncall_url is not None and not settings.oncall_url.startswith(("http://", "https://")):
        raise ConfigError(f"--oncall-url: {settings.oncall_url} is not an address such as http://127.0.0.1:8502")
    folder = _find_folder(model_dir, stack)
    if settings.model_name is None and model_dir.startswith("gs://"):
        settings = replace(settings, model_name=os.environ.get("AIP_MODEL_NAME") or "model")
    if check:
        _check(settings, folder)
        return
    if (log := settings.request_log) is not None:
        check_model(log.folder, FOLDER_FLAG, settings.model_name or find_model_name(folder))
    if workers > 1 and grpc_port == 0:
        raise ConfigError("--grpc-port 0: several workers share one port; give its number")
    _warn_of_root()
    _allow_connections()
    if grpc_port:
        _bind(host, grpc_port, "--grpc-port").close()
    with _bind(host, port, "--port") as listening:
        _run(settings, folder, host, listening, grpc_port, workers, stack, tls, access)


def _read_log_settings(values: dict[str, Any], workers: int) -> "RequestLogSettings | None":
    """Return the settings of the request log, whose flags are taken out of `values`; None without a folder.

    Raises:
      ConfigError: the folder or a flag cannot be used.
    """
    from serving.request_log.settings import FOLDER_FLAG, MEGABYTE, RequestLogSettings

    folder: Path | None = values.pop("log_folder")
    if folder is not None and re.match(r"[a-z0-9]+:/", str(folder)):
        raise ConfigError(f"{FOLDER_FLAG} {folder}: expected a folder of this machine; copy its shards to a bucket")
    settings = RequestLogSettings(
        folder=Path() if folder is None else folder.absolute(),
        sample=values.pop("sample"),
        key=values.pop("log_key"),
        log_sensitive=values.pop("log_sensitive"),
        budget_bytes=values.pop("log_budget") * MEGABYTE,
        shard_bytes=values.pop("log_shard_size") * MEGABYTE,
        shard_seconds=values.pop("log_shard_age"),
    )
    if folder is None:
        if settings != RequestLogSettings(Path()):
            raise ConfigError(f"the flags of the request log need {FOLDER_FLAG} FOLDER")
        return None
    settings.check(workers)
    return settings


def _run(
    settings: "ServerSettings",
    folder: Path,
    host: str,
    listening: socket.socket,
    grpc_port: int | None,
    workers: int,
    stack: contextlib.ExitStack,
    tls: "TlsFiles | None",
    access: "AccessRules",
) -> None:
    from serving.server import processes

    # https://www.rfc-editor.org/rfc/rfc3986#section-3.2.2: an IPv6 address in a URL stands in brackets.
    host = f"[{host}]" if ":" in host else host
    listen = processes.ListenOptions(
        host=host,
        grpc_port=grpc_port,
        share_grpc_port=workers > 1,
        health_route=os.environ.get("AIP_HEALTH_ROUTE") or "/health",
        predict_route=os.environ.get("AIP_PREDICT_ROUTE") or "/predict",
        url=f"{'https' if tls is not None else 'http'}://{host}:{listening.getsockname()[1]}",
        tls=tls,
        access=access,
    )
    if workers == 1:
        # Uvicorn raises the signal again once it has stopped; a requested stop is not a failure.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        application = processes.make_application(settings, str(folder), listen)
        # After the model is loaded, so that no client waits for it, and before the event `ready`.
        _listen(listening)
        config = processes.build_config(application, workers=1, factory=False, tls=tls)
        processes.Server(config).run(sockets=[listening])
        return
    # Checked once in a process of its own, rather than by each worker.
    check = subprocess.run([sys.executable, "-m", "serving", *_build_flags(settings, folder), "--check"], check=False)
    if check.returncode:
        sys.exit(check.returncode)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_make_temporary_folder(stack))
    _listen(listening)
    create_application = functools.partial(processes.make_worker_application, settings, str(folder), listen)
    config = processes.build_config(create_application, workers=workers, factory=True, tls=tls)
    parent = processes.Workers(config, [listening], settings.drain_seconds)
    parent.run()
    if parent.has_failed:
        raise PushError("no worker can start; their own messages are above")


def _check(settings: "ServerSettings", folder: Path) -> None:
    from serving.request_log.worker_log import check_version
    from serving.server.metrics import Metrics
    from serving.server.model_versions import END
    from serving.server.service import open_versions
    from serving.server.split import check_split_key

    versions = open_versions(settings, str(folder), Metrics())
    snapshot = versions.snapshot
    check_split_key(settings, snapshot.find(None, None))
    # A shadow, or the smaller part of a split, keeps no server from starting.
    is_strict = not settings.experiment_labels
    if snapshot.default is None or (is_strict and any(state.state == END for state in snapshot.states.values())):
        raise PushError(versions.explain())
    if settings.request_log is not None:
        check_version(settings.request_log, snapshot.served[snapshot.default])
    click.echo(json.dumps({"event": "checked", "versions": sorted(snapshot.served), "default": snapshot.default}))


def _build_flags(settings: "ServerSettings", folder: Path) -> list[str]:
    """Return the flags that decide whether a version can be served."""
    flags = ["--model-dir", str(folder), "--versions", settings.policy]
    if settings.allow_unvalidated:
        flags.append("--allow-unvalidated")
    for flag, value in (("shadow", settings.shadow), ("split", settings.split), ("split-key", settings.split_key)):
        flags += [f"--{flag}", str(value)] if value is not None else []
    if (log := settings.request_log) is not None:
        flags += ["--log-requests", str(log.folder), *(["--log-key", log.key] if log.key else [])]
        flags += ["--log-sensitive"] if log.log_sensitive else []
    return flags


def _make_temporary_folder(stack: contextlib.ExitStack) -> Path:
    """Return a new folder, which is removed as the stack is closed."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))
    except OSError as error:
        raise PushError(f"no temporary folder can be made: {error}; name one that can be written by TMPDIR") from error


def _find_folder(model: str, stack: contextlib.ExitStack) -> Path:
    if not model.startswith("gs://"):
        if not Path(model).is_dir():
            raise PushError(f"--model-dir {model}: there is no such folder")
        return Path(model).absolute()
    from serving.registry.vertex import staging

    target = _make_temporary_folder(stack) / "model"
    staging.fetch(model, target)
    return target


def _bind(host: str, port: int, flag: str) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise PushError(f"{flag} {port}: {host}:{port} cannot listen: {error.strerror}") from error
    return listening


def _listen(listening: socket.socket) -> None:
    try:
        listening.listen(_BACKLOG)
    except OSError as error:
        # Two servers that start at the same time can both bind.
        port = listening.getsockname()[1]
        raise PushError(f"--port {port}: cannot listen: {error.strerror}") from error


def _allow_connections() -> None:
    """Raise the number of files that this process and its workers may open, as far as it can be raised."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, _MAX_OPEN_FILES)), most))


def _warn_of_root() -> None:
    if os.getuid() == 0:
        logging.getLogger(__name__).warning("runs as root; an account without rights is enough, as in the Dockerfile")


if __name__ == "__main__":
    main()
