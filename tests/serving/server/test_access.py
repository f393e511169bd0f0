"""Access to the server: over TLS, with tokens, by its own names; and the errors of wrong files."""

import datetime
import http.client
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from cli.errors import ConfigError
from serving.server.access import AccessRules, TokenFile, build_rules, check_exposure
from serving.server.http_protocol import BODY_SECONDS
from serving.server.tls import TlsFiles
from tests.conftest import ROOT
from tests.serving.certificates import Certificates
from tests.serving.models import ROW, export_model, push
from tests.serving.running import RunningServer, ask, registry_of

TOKEN, OTHER_TOKEN = "first-token-of-the-tests", "c2Vjb25kLXRva2VuLW9mLXRoZS10ZXN0cw=="
BODY = json.dumps({"instances": [ROW]}).encode()


def write_tokens(path: Path, *tokens: str, mode: int = 0o600) -> Path:
    path.touch()
    path.chmod(mode)
    path.write_text("".join(f"{token}\n" for token in tokens))
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_tokens_are_taken_whichever_line_they_have(tmp_path: Path) -> None:
    tokens = TokenFile(write_tokens(tmp_path / "tokens", TOKEN, "", OTHER_TOKEN))
    for header, taken in {
        f"Bearer {TOKEN}": True,
        f"bearer  {OTHER_TOKEN}": True,
        f"Basic {TOKEN}": False,
        f"Bearer {TOKEN[:-1]}": False,
        "Bearer ": False,
        "Bearer": False,
        TOKEN: False,
        "": False,
        f"Bearer {TOKEN}\xff": False,
    }.items():
        assert tokens.has_token(header) is taken, header


@pytest.mark.parametrize(
    ("tokens", "mode", "message"),
    [
        ([], 0o600, "has no token; expected one a line, such as of: openssl rand -hex 32"),
        (["", " "], 0o600, "has no token"),
        ([TOKEN], 0o644, "is readable by every user; run: chmod o= "),
        ([TOKEN, "short"], 0o600, "token 2 is not one: expected at least 16 letters"),
        (["two words are no token"], 0o600, "token 1 is not one"),
        (["Łódź-Łódź-Łódź-Łódź"], 0o600, "token 1 is not one"),
        (["x" * 2**20], 0o600, "has more than 1,048,576 bytes"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used_is_named(
    tmp_path: Path, tokens: list[str], mode: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        TokenFile(write_tokens(tmp_path / "tokens", *tokens, mode=mode))
    assert str(refused.value).startswith(f"--token-file {tmp_path / 'tokens'}: ")
    assert not any(token.strip() and token in str(refused.value) for token in tokens)


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("none", "cannot be read: No such file"), ("pipe", "is not a file"), (".", "is not a file")):
        with pytest.raises(ConfigError, match=message):
            TokenFile(tmp_path / name)


def test_tokens_are_read_again_and_kept_if_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = TokenFile(write_tokens(tmp_path / "tokens", TOKEN))
    for written, are_changed in ((OTHER_TOKEN[:16], False), (OTHER_TOKEN, False), (OTHER_TOKEN, True)):
        # A part of it is there while it is written.
        if not are_changed:
            write_tokens(tmp_path / "tokens", written)
        tokens.refresh()
        assert not tokens.has_token(f"Bearer {OTHER_TOKEN[:16]}")
        assert (tokens.has_token(f"Bearer {TOKEN}"), tokens.has_token(f"Bearer {OTHER_TOKEN}")) == (
            not are_changed,
            are_changed,
        )
    with caplog.at_level(logging.ERROR):
        for change in (lambda: write_tokens(tmp_path / "tokens"), (tmp_path / "tokens").unlink):
            change()
            tokens.refresh()
            tokens.refresh()
            assert tokens.has_token(f"Bearer {OTHER_TOKEN}")
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "has no token; expected one a line, such as of: openssl rand -hex 32; the tokens before are still taken",
        "cannot be read: No such file or directory; the tokens before are still taken",
    ]
    write_tokens(tmp_path / "tokens", TOKEN)
    tokens.refresh()
    tokens.refresh()
    assert tokens.has_token(f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("localhost", True),
        ("LocalHost:8501", True),
        ("127.0.0.1:8501", True),
        ("127.1.2.3", True),
        ("[::1]:8501", True),
        ("mine.example.org.:8501", True),
        ("evil.example.org", False),
        ("evil.example.org:8501", False),
        ("localhost.evil.example.org", False),
        ("127.0.0.1.evil.example.org", False),
        ("8.8.8.8", False),
        ("", False),
    ],
)
def test_on_the_loopback_the_host_is_one_of_the_list(host: str, taken: bool) -> None:
    rules = build_rules("127.0.0.1", token_file=None, allowed_hosts=["mine.example.org"], open_paths=[])
    assert rules.is_host_allowed(host) is taken
    assert AccessRules().is_host_allowed(host)
    assert build_rules("0.0.0.0", token_file=None, allowed_hosts=[], open_paths=[]).is_host_allowed(host)
    assert not build_rules("0.0.0.0", token_file=None, allowed_hosts=["a.org"], open_paths=[]).is_host_allowed("b.org")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "model.example.org", "localhost.example.org"])
def test_an_address_that_others_reach_needs_both(host: str) -> None:
    def check(**changes: bool) -> None:
        defaults = {"has_tls": True, "has_clients_known": True, "insecure": False, "in_vertex": False}
        check_exposure(host, **{**defaults, **changes})

    check()
    check(has_tls=False, has_clients_known=False, insecure=True)
    check(has_tls=False, has_clients_known=False, in_vertex=True)
    for changes, message in (
        ({"has_tls": False}, r"expected a certificate \(--tls-cert-file, --tls-private-key-file\), or --insecure"),
        ({"has_clients_known": False}, r"expected tokens \(--token-file\) or clients' certificates \(--client-ca"),
        (
            {"has_tls": False, "has_clients_known": False},
            "a certificate .* and tokens .*, or --insecure behind a proxy",
        ),
    ):
        with pytest.raises(ConfigError, match=f"--host {host}: other machines can reach it; .*{message}"):
            check(**changes)
    for loopback in ("localhost", "127.0.0.1", "127.0.0.2", "::1"):
        check_exposure(loopback, has_tls=False, has_clients_known=False, insecure=False, in_vertex=False)


def test_files_of_tls_that_cannot_be_used_are_named(certificates: Certificates, tmp_path: Path) -> None:
    TlsFiles(certificates.server, certificates.server_key, certificates.authority).check()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    old, old_key = Certificates(tmp_path).issue("old", "localhost", end=past)
    text = tmp_path / "text"
    text.touch(0o600)
    text.write_text("no certificate")
    open_key = tmp_path / "open.key"
    open_key.write_bytes(certificates.server_key.read_bytes())
    open_key.chmod(0o644)
    encrypted = tmp_path / "encrypted.key"
    command = [
        "openssl",
        "rsa",
        "-aes256",
        "-passout",
        "pass:secret",
        "-in",
        certificates.server_key,
        "-out",
        encrypted,
    ]
    is_rsa = b"RSA" in certificates.server_key.read_bytes()
    subprocess.run(command if is_rsa else ["openssl", "ec", *command[2:]], check=True, capture_output=True)
    server, key, none = certificates.server, certificates.server_key, tmp_path / "none"
    for files, message in (
        (TlsFiles(old, old_key), rf"--tls-cert-file {old}: expired at {past:%Y-%m-%d %H:%M} UTC; renew it"),
        (TlsFiles(server, old_key), f"--tls-private-key-file {old_key}: is not the key of {server}; give"),
        (TlsFiles(text, key), f"--tls-cert-file {text}: holds no certificate in PEM"),
        (TlsFiles(server, text), f"--tls-private-key-file {text}: holds no private key in PEM without a password"),
        (TlsFiles(server, encrypted), f"--tls-private-key-file {encrypted}: holds no private key in PEM without"),
        (TlsFiles(server, open_key), f"--tls-private-key-file {open_key}: is readable by every user; run: chmod o="),
        (TlsFiles(none, key), f"--tls-cert-file {none}: cannot be read: No such file"),
        (TlsFiles(server, none), f"--tls-private-key-file {none}: cannot be read: No such file"),
        (TlsFiles(server, key, text), f"--client-ca-file {text}: holds no certificate in PEM"),
    ):
        with pytest.raises(ConfigError, match=message):
            files.check()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines can reach it; expected a certificate"),
        (["--tls-cert-file", "x"], "expected both --tls-cert-file and --tls-private-key-file"),
        (["--client-ca-file", "x"], "--client-ca-file needs both --tls-cert-file and --tls-private-key-file"),
        (["--token-file", "/none"], "--token-file /none: cannot be read: No such file or directory"),
        (["--tls-cert-file", "/none", "--tls-private-key-file", "/none"], "/none: cannot be read: No such file"),
    ],
)
def test_a_wrong_flag_ends_in_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIP_")}
    command = [sys.executable, "-m", "serving", "--model-dir", str(tmp_path), *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = registry_of(tmp_path_factory.mktemp("registry"))
    push(registry, export_model(tmp_path_factory.mktemp("exported") / "model"))
    return Path(registry.folder)


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens") / "tokens", TOKEN)


@pytest.fixture(scope="module")
def serving(folder: Path, certificates: Certificates, token_file: Path) -> Iterator[RunningServer]:
    flags = [*certificates.flags(), "--token-file", str(token_file), "--grpc-port", "0", "--host", "127.0.0.1"]
    with RunningServer("--model-dir", str(folder), *flags) as running:
        assert running.url.startswith("https://")
        yield running


def request(serving: RunningServer, path: str, *, token: str | None = None, body: bytes | None = None) -> Any:
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    return urllib.request.Request(f"{serving.url}{path}", body, headers)


@pytest.mark.integration
def test_requests_over_tls_need_a_token_and_probes_do_not(serving: RunningServer, certificates: Certificates) -> None:
    context = certificates.client_context()
    for path in ("/health", "/live", "/v2/health/live", "/v2/health/ready"):
        assert ask(request(serving, path), context)[0] == 200
    code, content = ask(request(serving, "/predict", token=TOKEN, body=BODY), context)
    assert (code, len(content["predictions"])) == (200, 1)
    for path in ("/predict", "/v1/models/shop-model:predict", "/v2/models/shop-model/infer", "/metrics", "/", "/none"):
        for token in (None, OTHER_TOKEN, ""):
            code, content = ask(request(serving, path, token=token, body=BODY), context)
            assert (code, content) == (401, {"error": "expected the header Authorization: Bearer TOKEN"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request(serving, "/metrics"), timeout=30, context=context)
    with refused.value as answer:
        assert answer.headers["www-authenticate"] == "Bearer"
    _, text = ask(request(serving, "/metrics", token=TOKEN), context)
    assert 'model_server_requests_total{route="rejected",status="401"}' in text


@pytest.mark.integration
@pytest.mark.parametrize(("token", "status"), [(TOKEN, 413), (OTHER_TOKEN, 401)])
def test_a_refused_body_over_tls_ends_soon_for_a_client_that_reads_to_the_end(
    serving: RunningServer, certificates: Certificates, token: str, status: int
) -> None:
    """TLS has no half-close; a client that has sent all waits for the server's close."""
    host, port = serving.url.removeprefix("https://").split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    with (
        socket.create_connection((host, int(port)), timeout=BODY_SECONDS / 2) as plain,
        certificates.client_context().wrap_socket(plain, server_hostname=host) as client,
    ):
        client.sendall(f"{head}Content-Length: 2000000\r\n\r\n".encode())
        for _ in range(20):
            client.sendall(b" " * 100_000)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert int(answer.split()[1]) == status


@pytest.mark.integration
def test_plain_connections_and_unknown_authorities_fail(serving: RunningServer) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(request(serving, "/health"), timeout=30)
    connection = http.client.HTTPConnection(serving.url.removeprefix("https://"), timeout=30)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/health")
        connection.getresponse()
    with grpc.insecure_channel(serving.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status_request(), timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def status_request() -> Any:
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = "shop-model"
    return message


@pytest.mark.integration
def test_calls_over_tls_need_a_token(serving: RunningServer, certificates: Certificates) -> None:
    with grpc.secure_channel(
        serving.grpc, grpc.ssl_channel_credentials(certificates.authority.read_bytes())
    ) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        for metadata in ((), (("authorization", f"Bearer {OTHER_TOKEN}"),), (("authorization", TOKEN),)):
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetModelStatus(status_request(), timeout=30, metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert refused.value.details() == "expected the metadata authorization: Bearer TOKEN"
        answer = stub.GetModelStatus(status_request(), timeout=30, metadata=(("authorization", f"Bearer {TOKEN}"),))
    assert [status.version for status in answer.model_version_status] == [1]
    # As gRPC's own credentials send a token.
    tls = grpc.ssl_channel_credentials(certificates.authority.read_bytes())
    both = grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(TOKEN))
    with grpc.secure_channel(serving.grpc, both) as channel:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status_request(), timeout=30)
    assert [status.version for status in answer.model_version_status] == [1]


@pytest.mark.integration
def test_new_tokens_are_taken_without_a_restart(
    serving: RunningServer, certificates: Certificates, token_file: Path
) -> None:
    context = certificates.client_context()
    assert ask(request(serving, "/v1/models", token=OTHER_TOKEN), context)[0] == 401
    write_tokens(token_file, TOKEN, OTHER_TOKEN)
    deadline = time.monotonic() + 20
    while ask(request(serving, "/v1/models", token=OTHER_TOKEN), context)[0] == 401 and time.monotonic() < deadline:
        time.sleep(0.05)
    for token in (TOKEN, OTHER_TOKEN):
        assert ask(request(serving, "/v1/models", token=token), context)[0] == 200


@pytest.mark.integration
def test_a_renewed_certificate_is_taken_without_a_restart(folder: Path, tmp_path: Path) -> None:
    before, after = Certificates(tmp_path / "before"), Certificates(tmp_path / "after")
    flags = [*before.flags(), "--grpc-port", "0"]
    with RunningServer("--model-dir", str(folder), *flags) as running:
        assert ask(request(running, "/health"), before.client_context())[0] == 200
        # First the certificate alone: no key fits it, so it is not taken.
        before.server.write_bytes(after.server.read_bytes())
        wait_for_error(running, "is not the key of", before)
        assert ask(request(running, "/health"), before.client_context())[0] == 200
        before.server_key.write_bytes(after.server_key.read_bytes())
        deadline = time.monotonic() + 20
        while not trusts(running, after) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert trusts(running, after)
        assert not trusts(running, before)
        deadline = time.monotonic() + 20
        while not answers_calls(running, after) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answers_calls(running, after)
        assert not answers_calls(running, before)


def wait_for_error(running: RunningServer, message: str, certificates: Certificates) -> None:
    """Connect until the log has a message: the files are looked at when a client connects."""
    deadline = time.monotonic() + 20
    while not any(message in line for line in running.errors) and time.monotonic() < deadline:
        trusts(running, certificates)
        time.sleep(0.05)
    assert any(message in line for line in running.errors), running.errors


def trusts(running: RunningServer, certificates: Certificates) -> bool:
    try:
        return ask(request(running, "/health"), certificates.client_context())[0] == 200
    except urllib.error.URLError as error:
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        return False


def answers_calls(running: RunningServer, certificates: Certificates) -> bool:
    credentials = grpc.ssl_channel_credentials(certificates.authority.read_bytes())
    # Channels of one process share their connections.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(running.grpc, credentials, options) as channel:
        try:
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status_request(), timeout=10)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return False
    return True


@pytest.mark.integration
def test_clients_show_their_certificates_if_an_authority_is_given(folder: Path, certificates: Certificates) -> None:
    flags = [*certificates.flags(), "--client-ca-file", str(certificates.authority), "--grpc-port", "0"]
    with RunningServer("--model-dir", str(folder), *flags) as running:
        context = certificates.client_context(with_certificate=True)
        assert ask(request(running, "/predict", body=BODY), context)[0] == 200
        with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
            ask(request(running, "/health"), certificates.client_context())
        authority = certificates.authority.read_bytes()
        pair = (certificates.client_key.read_bytes(), certificates.client.read_bytes())
        for credentials, code in (
            (grpc.ssl_channel_credentials(authority, *pair), None),
            (grpc.ssl_channel_credentials(authority), grpc.StatusCode.UNAVAILABLE),
        ):
            with grpc.secure_channel(running.grpc, credentials) as channel:
                stub = model_service_pb2_grpc.ModelServiceStub(channel)
                if code is None:
                    stub.GetModelStatus(status_request(), timeout=30)
                    continue
                with pytest.raises(grpc.RpcError) as refused:
                    stub.GetModelStatus(status_request(), timeout=10)
                assert refused.value.code() == code


@pytest.mark.integration
def test_a_page_of_another_site_is_turned_away_on_the_loopback(folder: Path) -> None:
    with RunningServer("--model-dir", str(folder), "--allowed-host", "mine.example.org") as running:
        for host, code in (("evil.example.org:80", 421), ("mine.example.org:80", 200), ("localhost", 200)):
            asked = urllib.request.Request(f"{running.url}/predict", BODY, {"Host": host})
            status, content = ask(asked)
            assert status == code, content
        asked = urllib.request.Request(f"{running.url}/health", headers={"Host": "evil.example.org"})
        message = "the host 'evil.example.org' is not one of this server; --allowed-host adds a name"
        assert ask(asked) == (421, {"error": message})


@pytest.mark.integration
def test_an_address_of_others_is_served_if_it_is_meant(folder: Path) -> None:
    with RunningServer("--model-dir", str(folder), "--host", "0.0.0.0", "--insecure") as running:
        port = running.url.rpartition(":")[2]
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", BODY, {"Host": "model.example.org"})
        assert ask(asked)[0] == 200
    assert any("--insecure: 0.0.0.0 can be reached without TLS" in line for line in running.errors)
