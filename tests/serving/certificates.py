"""Certificates of an authority of the tests' own, for servers and their clients."""

import datetime
import ssl
from pathlib import Path

import trustme


class Certificates:
    """An authority, and a server and a client that it has signed.

    Attributes:
      authority: certificate of the authority.
      server, server_key: certificate and key of 127.0.0.1 and localhost.
      client, client_key: certificate and key of a client.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._authority = folder, trustme.CA()
        self.authority = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.authority))
        self.server, self.server_key = self.issue("server", "127.0.0.1", "localhost")
        self.client, self.client_key = self.issue("client", "client@example.org")

    def issue(self, file: str, *names: str, end: datetime.datetime | None = None) -> tuple[Path, Path]:
        """Return the files of a certificate and its key, which only their owner reads."""
        leaf = self._authority.issue_cert(*names, not_after=end)
        certificate, key = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
        return certificate, key

    def flags(self) -> list[str]:
        """Return the flags of the server's certificate."""
        return ["--tls-cert-file", str(self.server), "--tls-private-key-file", str(self.server_key)]

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """Return what a client of HTTP trusts."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if with_certificate:
            context.load_cert_chain(self.client, self.client_key)
        return context
