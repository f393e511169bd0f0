"""TLS of the server: its certificate, its private key, and the authorities of its clients' certificates."""

import datetime
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from cli.errors import ConfigError

CERTIFICATE_FLAG, KEY_FLAG, CLIENT_CA_FLAG = "--tls-cert-file", "--tls-private-key-file", "--client-ca-file"
_MAX_BYTES = 1 << 20


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

    def uvicorn_options(self) -> dict[str, Any]:
        """Return the options of Uvicorn; check the files before."""
        client_ca = {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED} if self.client_ca else {}
        return {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key), **client_ca}

    def grpc_credentials(self) -> Any:
        """Return the credentials of a gRPC server; check the files before."""
        import grpc

        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        client_ca = self.client_ca.read_bytes() if self.client_ca is not None else None
        return grpc.ssl_server_credentials([pair], client_ca, client_ca is not None)


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
            raise ConfigError(f"{flag} {path}: is valid from {start:%Y-%m-%d %H:%M} UTC on; look at the clock")
