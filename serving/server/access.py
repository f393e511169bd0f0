"""Access to the server: bearer tokens, the names that clients may call it, and the addresses that need both.

https://www.rfc-editor.org/rfc/rfc6750
"""

import hashlib
import hmac
import ipaddress
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import orjson

from cli.errors import ConfigError
from serving.server.tls import CERTIFICATE_FLAG, CLIENT_CA_FLAG, KEY_FLAG, read_private_file

TOKEN_FLAG, INSECURE_FLAG = "--token-file", "--insecure"
_LOG = logging.getLogger(__name__)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_MIN_TOKEN_CHARS = 16
_POLL_SECONDS = 1.0
# Kubernetes' probes have no token.
_HEALTH_SERVICE = "/grpc.health.v1.Health/"

Count = Callable[[str, str], None]


class TokenFile:
    """The bearer tokens of a file, one a line; the file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
          ConfigError: it cannot be read, is readable by every user, or has no token, or one that is none.
        """
        self._path = path
        self._stamp = self._last_stamp = self._read_stamp()
        self._digests = self._read()

    def watch(self) -> None:
        """Follow the file in a thread of its own, until the process ends."""
        threading.Thread(target=self._follow, name="tokens", daemon=True).start()

    def has_token(self, authorization: str) -> bool:
        """Return whether a header's value has one of the tokens; takes the same time whichever it is."""
        scheme, _, token = authorization.partition(" ")
        digest = _hash_token(token.strip())
        # No early end, which would reveal how far the list was compared.
        matches = [hmac.compare_digest(digest, other) for other in self._digests]
        return scheme.lower() == "bearer" and any(matches)

    def _read(self) -> list[bytes]:
        where = f"{TOKEN_FLAG} {self._path}"
        lines = read_private_file(self._path, TOKEN_FLAG).decode("ascii", errors="replace").splitlines()
        tokens = [line.strip() for line in lines if line.strip()]
        if not tokens:
            raise ConfigError(f"{where}: has no token; expected one a line, such as of: openssl rand -hex 32")
        for number, token in enumerate(tokens, start=1):
            # The message does not hold the token: it goes to logs.
            if not _TOKEN.fullmatch(token) or len(token) < _MIN_TOKEN_CHARS:
                raise ConfigError(
                    f"{where}: token {number} is not one: expected at least {_MIN_TOKEN_CHARS} letters, digits and "
                    "-._~+/ without spaces"
                )
        return [_hash_token(token) for token in tokens]

    def _read_stamp(self) -> tuple[int, int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode

    def refresh(self) -> None:
        """Read the file again if it changed before the last call; if it cannot be read, the tokens are unchanged."""
        stamp = self._read_stamp()
        # A file that is being written has a part of a token.
        is_written, self._last_stamp = stamp == self._last_stamp, stamp
        if stamp == self._stamp or not is_written:
            return
        self._stamp = stamp
        try:
            self._digests = self._read()
            _LOG.info("%s %s: was read again", TOKEN_FLAG, self._path)
        except ConfigError as error:
            _LOG.error("%s; the tokens before are still taken", error)

    def _follow(self) -> None:
        timer = threading.Event()
        while not timer.wait(_POLL_SECONDS):
            self.refresh()


def _hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


@dataclass(frozen=True)
class AccessRules:
    """Rules of the access to a server.

    Attributes:
      token_file: file of the bearer tokens; None asks for none.
      checks_hosts: whether the header Host is checked.
      hosts: names that it may have, beside those of the loopback.
      open_paths: paths that need no token.
    """

    token_file: Path | None = None
    checks_hosts: bool = False
    hosts: frozenset[str] = frozenset()
    open_paths: frozenset[str] = frozenset()

    def is_host_allowed(self, header: str) -> bool:
        """Return whether a header Host names this server.

        A page of another site can have its own name point to 127.0.0.1, and then send requests with that name.
        """
        name = _read_name(header)
        return not self.checks_hosts or name in self.hosts or is_loopback(name)


def _read_name(header: str) -> str:
    """Return a header Host without its port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, *, has_tls: bool, has_clients_known: bool, insecure: bool, in_vertex: bool) -> None:
    """Reject an address that others can reach, unless what they send is encrypted and they are known.

    Args:
      host: address to bind.
      has_tls: whether there is a certificate.
      has_clients_known: whether there are tokens, or clients' certificates are asked for.
      insecure: whether the user wants it so.
      in_vertex: whether Vertex AI runs the container, whose front end has both.

    Raises:
      ConfigError: something is missing.
    """
    if is_loopback(host) or in_vertex:
        return
    if insecure:
        if not (has_tls and has_clients_known):
            _LOG.warning("%s: %s can be reached without TLS, or without a token", INSECURE_FLAG, host)
        return
    missing = [] if has_tls else [f"a certificate ({CERTIFICATE_FLAG}, {KEY_FLAG})"]
    missing += [] if has_clients_known else [f"tokens ({TOKEN_FLAG}) or clients' certificates ({CLIENT_CA_FLAG})"]
    if missing:
        raise ConfigError(
            f"--host {host}: other machines can reach it; expected {' and '.join(missing)}, or {INSECURE_FLAG} behind "
            "a proxy that has them"
        )


class GuardedApplication:
    """An ASGI application that only requests by the rules reach."""

    def __init__(self, application: Any, rules: AccessRules, tokens: TokenFile | None, count: Count) -> None:
        """Args:
        application: application behind it.
        rules: rules of the access.
        tokens: tokens of the rules' file.
        count: called with the route and the status of each rejected request.
        """
        self._application, self._rules, self._tokens, self._count = application, rules, tokens, count

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        rejection = self._find_rejection(scope) if scope["type"] == "http" else None
        if rejection is None:
            await self._application(scope, receive, send)
            return
        status, reason, headers = rejection
        self._count("rejected", str(status))
        body = orjson.dumps({"error": reason})
        fields = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    def _find_rejection(self, scope: Any) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        hosts = _list_values(scope, b"host")
        if len(hosts) != 1 and scope["http_version"] == "1.1":
            # https://www.rfc-editor.org/rfc/rfc9112#section-3.2
            return 400, f"expected one header Host, found {len(hosts)}", []
        if any(not self._rules.is_host_allowed(host) for host in hosts):
            name = _read_name(hosts[0])[:80]
            return 421, f"the host '{name}' is not one of this server; --allowed-host adds a name", []
        if self._tokens is None or scope["path"] in self._rules.open_paths:
            return None
        authorizations = _list_values(scope, b"authorization")
        if len(authorizations) == 1 and self._tokens.has_token(authorizations[0]):
            return None
        return 401, "expected the header Authorization: Bearer TOKEN", [(b"www-authenticate", b"Bearer")]


def _list_values(scope: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Rejects gRPC calls without a token."""

    def __init__(self, tokens: TokenFile, count: Count) -> None:
        self._tokens, self._count = tokens, count

        async def reject(_: Any, context: Any) -> Any:
            count("rejected", grpc.StatusCode.UNAUTHENTICATED.name)
            reason = "expected the metadata authorization: Bearer TOKEN"
            return await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)

        self._rejection = grpc.unary_unary_rpc_method_handler(reject)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a call, or the one that rejects it."""
        details = handler_call_details
        values = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        is_open = details.method.startswith(_HEALTH_SERVICE)
        if is_open or (len(values) == 1 and self._tokens.has_token(str(values[0]))):
            return await continuation(details)
        return self._rejection


def build_rules(
    host: str, *, token_file: Path | None, allowed_hosts: Sequence[str], open_paths: Sequence[str]
) -> AccessRules:
    """Return the rules of a server.

    Args:
      host: address to bind; on the loopback, the header Host is checked.
      token_file: file of the tokens.
      allowed_hosts: further names of the server; if there are any, the header is checked on every address.
      open_paths: paths that need no token.
    """
    names = frozenset(_read_name(name) for name in (host, *allowed_hosts))
    return AccessRules(token_file, is_loopback(host) or bool(allowed_hosts), names, frozenset(open_paths))
