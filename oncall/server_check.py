"""The check of a model server: its default version, its pin, the bytes that it holds, its start command and its log."""

import itertools
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from cli.errors import ConfigError, PipelineError
from cli.terminal import format_command
from oncall.model_versions import ModelVersions
from oncall.results import Check

_NAME = "model server"
_TIMEOUT_SECONDS = 5.0
_MAX_READ_BYTES = 1 << 16
_DEFAULT_PORT = 8501
_LOCAL = ("localhost", "127.0.0.1", "::1")
_FOLLOWING = ("champion", "labels")


@dataclass(frozen=True)
class _Server:
    """A process of this machine that listens on the server's port: its command and the file of its log."""

    pid: int
    arguments: list[str]
    log: str
    working_folder: Path
    is_stopped: bool

    @property
    def pin(self) -> str:
        """The versions that its command asks for; empty if it follows the champion."""
        pin = self._get_value("--versions")
        return "" if pin in _FOLLOWING else pin

    @property
    def model_folder(self) -> str:
        """The folder of the model that its command names; empty if it names none."""
        folder = self._get_value("--model-dir")
        return str((self.working_folder / folder).resolve()) if folder else ""

    def _get_value(self, flag: str) -> str:
        arguments = [part for argument in self.arguments for part in argument.split("=", 1)]
        return next((value for name, value in itertools.pairwise(arguments) if name == flag), "")


def check_server(url: str, model_versions: ModelVersions | None) -> list[Check]:
    """Check that the model server's default version is the champion, and that it holds the bytes that were pushed.

    Args:
      url: URL of the server.
      model_versions: versions of the model; None if they cannot be read.

    Raises:
      ConfigError: the URL is not an address.
    """
    address = url.rstrip("/") + "/health"
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"--url: {url} is not an address; expected one such as http://localhost:8501")
    server = _find_server(url)
    champion = model_versions.champion if model_versions is not None else None
    try:
        health = json.loads(_fetch(address))
        default, ready = health["default"], health["ready"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [_report_silence(url, address, getattr(error, "reason", None) or error, server, model_versions)]
    if not ready:
        message = f"{address}: is not ready; versions {health.get('versions')}{_describe_log(server)}"
        return [Check(_NAME, False, message, _read_log(server) or format_command("curl", address))]
    if server is not None and model_versions is not None and _is_elsewhere(server, model_versions):
        message = (
            f"serves another model: version {default} of {server.model_folder}; expected {model_versions.location}"
        )
        return [Check(_NAME, False, message, _format_restart(server, "--model-dir", model_versions.location))]
    expected = f"version {champion} is the champion" if champion is not None else "no version should serve"
    checks = [Check(_NAME, True, f"serves version {default}; {expected}")]
    if default != champion:
        checks = [_report_other_version(address, health, f"serves version {default}; {expected}", server)]
    return [*checks, *_check_bytes(health, model_versions)]


def _report_silence(
    url: str, address: str, reason: object, server: _Server | None, model_versions: ModelVersions | None
) -> Check:
    message = f"{address}: does not respond as a model server: {reason}"
    if server is not None and server.is_stopped:
        message += f"; process {server.pid} is stopped (SIGSTOP)"
        return Check(_NAME, False, message, format_command("kill", "-CONT", server.pid, note="it continues"))
    if server is not None:
        message += f"; process {server.pid} listens there{_describe_log(server)}"
        return Check(_NAME, False, message, _read_log(server) or format_command("ps", "-fp", server.pid))
    if urlsplit(url).hostname not in _LOCAL:
        return Check(_NAME, False, f"{message}; ask on that host", format_command("curl", "-i", address))
    folder = model_versions.location if model_versions is not None else "REGISTRY/MODEL"
    port = urlsplit(url).port or _DEFAULT_PORT
    note = "starts it; a service: systemctl status, journalctl -u"
    start = format_command("python", "-m", "serving", "--model-dir", folder, "--port", port, note=note)
    return Check(_NAME, False, f"{message}; no process of this machine listens there", start)


def _report_other_version(address: str, health: dict[str, Any], message: str, server: _Server | None) -> Check:
    policy = str(health.get("policy") or (server.pin if server is not None else ""))
    if policy and policy not in _FOLLOWING:
        where = f" (process {server.pid})" if server is not None else ""
        message += f"; it is pinned: --versions {policy}{where} follows no promotion"
        todo = _format_restart(server, "--versions") if server is not None else ""
        return Check(_NAME, False, message, todo or format_command("curl", address, note="start it without --versions"))
    message += f"; it follows within seconds, unless the version cannot be loaded{_describe_log(server)}"
    return Check(_NAME, False, message, _read_log(server) or format_command("curl", address))


def _is_elsewhere(server: _Server, model_versions: ModelVersions) -> bool:
    expected, served = Path(model_versions.location), server.model_folder
    # A version's folder, too, can be served.
    return bool(served) and expected.is_dir() and expected.resolve() not in (Path(served), Path(served).parent)


def _format_restart(server: _Server, flag: str, value: str = "") -> str:
    """Return the command that replaces a server by one with another value of a flag; without a value, by none."""
    arguments = list(server.arguments)
    for number, argument in enumerate(arguments):
        if argument == flag or argument.startswith(f"{flag}="):
            del arguments[number : number + (2 if argument == flag else 1)]
            break
    arguments += [flag, value] if value else []
    note = f"the same server, with {flag}" if value else "the same server, without the pin"
    return f"{format_command('kill', server.pid)} && {format_command(*arguments, note=note)}"


def _check_bytes(health: dict[str, Any], model_versions: ModelVersions | None) -> list[Check]:
    """Return a check only if the files of the version that the server holds are not those that were pushed."""
    default, content = health.get("default"), health.get("content")
    if model_versions is None or default is None or not isinstance(content, dict):
        return []
    try:
        if model_versions.is_intact(default) is not False:
            return []
        pushed = model_versions.get_content_hash(default)
    except PipelineError:
        # The check of the champion reports it.
        return []
    held = content.get(str(default), "")
    if held and held == pushed:
        message = (
            f"holds the bytes of version {default} that were pushed, and answers correctly; it cannot load them again: "
            "restore the files, or roll back, before it restarts"
        )
        return [Check("server's bytes", True, message)]
    message = f"holds other bytes of version {default} than were pushed"
    return [Check("server's bytes", False, message, model_versions.rollback_command)]


def _find_server(url: str) -> _Server | None:
    """Return the process of this machine that listens on the URL's port; None if it cannot be seen."""
    parts = urlsplit(url)
    if parts.hostname not in _LOCAL:
        return None
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return None
    port = parts.port or _DEFAULT_PORT
    listening = (c for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port)
    for connection in listening:
        if connection.pid is None:
            # Another user's process, which is not shown.
            continue
        try:
            process = psutil.Process(connection.pid)
            is_stopped = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
            working_folder = Path(process.cwd())
            return _Server(process.pid, process.cmdline(), _find_log(process.pid), working_folder, is_stopped)
        except (psutil.Error, ValueError, TypeError):
            continue
    return None


def _find_log(pid: int) -> str:
    """Return the file that a process writes its standard error to; empty if it is not a file."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/2")
    except OSError:
        return ""
    return target if Path(target).is_file() else ""


def _describe_log(server: _Server | None) -> str:
    if server is None:
        return "; its own log has the reason"
    return f"; its log is {server.log}" if server.log else f"; its log is that of process {server.pid}'s service"


def _read_log(server: _Server | None) -> str:
    if server is None:
        return ""
    if server.log:
        return format_command("tail", "-n", "20", server.log)
    return format_command("journalctl", f"_PID={server.pid}", "-n", "20")


def _fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            return bytes(response.read(_MAX_READ_BYTES))
    except urllib.error.HTTPError as error:
        # The body of a 503 names the versions that are not ready.
        return error.read(_MAX_READ_BYTES)
