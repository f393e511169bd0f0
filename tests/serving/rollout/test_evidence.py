"""Metrics are read over TLS, too."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli.errors import ConfigError, DataError
from serving.rollout.evidence import read_servers
from tests.serving.certificates import Certificates

METRICS = b"""# TYPE model_server_shadow_rows_total counter
model_server_shadow_rows_total{version="2"} 7.0
"""


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(METRICS)))
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, *args: object) -> None:
        pass


def test_the_authority_of_a_server_may_be_a_file(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}"
        try:
            evidence = read_servers([url], "", certificates.authority)
            with pytest.raises(DataError, match=r"CERTIFICATE_VERIFY_FAILED.*; name the authority with --ca-file"):
                read_servers([url], "")
        finally:
            server.shutdown()
    assert evidence[2].shadow_rows == 7
    with pytest.raises(
        ConfigError, match=r"--ca-file .*server\.key: has no certificates; expected certificates as PEM"
    ):
        read_servers([url], "", certificates.server_key)
    with pytest.raises(ConfigError, match=r"--ca-file .*nowhere: No such file or directory; expected certificates"):
        read_servers([url], "", tmp_path / "nowhere")
