"""TLS of the server: its certificate, its private key, and the authorities of its clients' certificates."""

import datetime
import logging
import ssl
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from cli.errors import ConfigError

CERTIFICATE_FLAG, KEY_FLAG, CLIENT_CA_FLAG = "--tls-cert-file", "--tls-private-key-file", "--client-ca-file"
_MAX_BYTES = 1 << 20
_POLL_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """Files of TLS, in PEM.

    Attributes:
      certificate: certificate of the server, and those between it and its authority.
      key: its private key.
      client_ca: certificates of the authorities that sign clients' certificates; None asks for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Reject files with which no connection could be made.

        Raises:
          ConfigError: a file cannot be read or is not what it should be, the certificate is expired, or the key is
            another's, encrypted, or readable by every user.
        """
        read_private_file(self.key, KEY_FLAG)
        _check_certificates(self.certificate, CERTIFICATE_FLAG)
        if self.client_ca is not None:
            _check_certificates(self.client_ca, CLIENT_CA_FLAG)
        try:
            # Without a function for it, OpenSSL would ask the terminal for a password.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=lambda: "")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                message = f"is not the key of {self.certificate}; give the one that was made with it"
            else:
                message = "holds no private key in PEM without a password"
            raise ConfigError(f"{KEY_FLAG} {self.key}: {message}") from error

    def read_stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return times, sizes and inodes of the files; None for one that does not exist."""
        return tuple(_read_stamp(path) for path in (self.certificate, self.key, self.client_ca) if path is not None)

    def build_context(self) -> ssl.SSLContext:
        """Return the context of an HTTP server; check the files before."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.client_ca)
        return context


class CertificateWatch:
    """Notices that the files of TLS were replaced, as they are when a certificate is renewed."""

    def __init__(self, files: TlsFiles) -> None:
        self._files, self._stamp, self._next_look = files, files.read_stamp(), 0.0

    def has_renewal(self) -> bool:
        """Return whether there are new files since the last renewal that can be used.

        If they cannot, the log has the reason.
        """
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _POLL_SECONDS
        stamp = self._files.read_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._files.check()
        except ConfigError as error:
            # A certificate comes before its key, or after it.
            _LOG.error("%s; the certificate before is still used", error)
            return False
        _LOG.info("%s %s: was read again", CERTIFICATE_FLAG, self._files.certificate)
        return True


def build_http_context(files: TlsFiles, *_: Any) -> ssl.SSLContext:
    """Return a context whose connections get the latest certificate; Uvicorn calls it with its own settings, too."""
    watch, first = CertificateWatch(files), files.build_context()
    latest = first

    def use_latest(connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        nonlocal latest
        if watch.has_renewal():
            latest = files.build_context()
        connection.context = latest

    # OpenSSL calls it for every connection, also without a name.
    first.sni_callback = use_latest
    return first


def build_grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials whose connections get the latest certificate."""
    watch = CertificateWatch(files)

    def read() -> Any:
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        client_ca = files.client_ca.read_bytes() if files.client_ca is not None else None
        return grpc.ssl_server_certificate_configuration([pair], client_ca)

    return grpc.dynamic_ssl_server_credentials(
        read(), lambda: read() if watch.has_renewal() else None, files.client_ca is not None
    )


def read_private_file(path: Path, flag: str) -> bytes:
    """Return the content of a small file that holds a secret.

    Raises:
      ConfigError: it cannot be read, is not a file, or is readable by every user.
    """
    content = _read(path, flag)
    if path.stat().st_mode & stat.S_IROTH:
        raise ConfigError(
            f"{flag} {path}: is readable by every user; run: chmod o= {path} (in Kubernetes: defaultMode: 0440)"
        )
    return content


def _read(path: Path, flag: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # A pipe would block for ever.
            raise ConfigError(f"{flag} {path}: is not a file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{flag} {path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{flag} {path}: has more than {_MAX_BYTES:,} bytes")
    return content


def _read_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _check_certificates(path: Path, flag: str) -> None:
    try:
        certificates = x509.load_pem_x509_certificates(_read(path, flag))
    except ValueError as error:
        raise ConfigError(f"{flag} {path}: holds no certificate in PEM") from error
    now = datetime.datetime.now(datetime.UTC)
    for certificate in certificates:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > end:
            raise ConfigError(f"{flag} {path}: expired at {end:%Y-%m-%d %H:%M} UTC; renew it")
        if now < start:
            raise ConfigError(f"{flag} {path}: is valid from {start:%Y-%m-%d %H:%M} UTC on; check the clock")
