"""A webhook is tried again while that may help, within its time, and its address is told to nobody."""

import email.utils
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import trustme

from pipeline.alerts.config import Alerts
from pipeline.alerts.webhook import NotPostedError, post, read_address
from tests.pipeline.alerts.webhooks import SECRET, Answer, babbles, closes, drips, hangs, receiver, status

pytestmark = pytest.mark.integration
DOCUMENT = {"text": "Gate: the data does not fit — 430 > 120"}


def not_posted(url: str, seconds: float = 5.0) -> str:
    with pytest.raises(NotPostedError) as caught:
        post(url, DOCUMENT, seconds=seconds)
    assert SECRET not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    return str(caught.value)


def test_a_document_is_posted_once() -> None:
    with receiver() as hook:
        post(hook.url, DOCUMENT, seconds=5)
    assert hook.documents == [DOCUMENT]
    assert hook.headers[0]["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "first",
    [status(503), status(500), status(408), status(429), closes, babbles],
    ids=["503", "500", "408", "429", "closes", "babbles"],
)
def test_what_may_be_over_soon_is_tried_again(first: Answer) -> None:
    with receiver(first, first, status(204)) as hook:
        post(hook.url, DOCUMENT, seconds=20)
    assert hook.documents == [DOCUMENT] * 3


@pytest.mark.parametrize(
    ("code", "phrase"), [(400, "Bad Request"), (403, "Forbidden"), (404, "Not Found"), (410, "Gone")]
)
def test_what_will_not_change_is_not_tried_again(code: int, phrase: str) -> None:
    with receiver(status(code)) as hook:
        assert not_posted(hook.url) == f"the webhook answered HTTP {code} {phrase}"
    assert len(hook.documents) == 1


def test_a_code_without_a_name_is_shown_as_it_is() -> None:
    with receiver(status(499)) as hook:
        assert not_posted(hook.url) == "the webhook answered HTTP 499"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_to_no_other_host(code: int) -> None:
    with receiver() as other, receiver(status(code, Location=other.url)) as hook:
        message = not_posted(hook.url)
    assert message.startswith(f"the webhook answered HTTP {code} ")
    assert message.endswith("; a redirect is not followed")
    assert (len(hook.documents), other.documents) == (1, [])


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_it_waits_as_long_as_the_answer_asks_for(form: str) -> None:
    # A date has no fractions of a second.
    asked = "2" if form == "seconds" else email.utils.formatdate(time.time() + 3, usegmt=True)
    with receiver(status(429, Retry_After=asked), status(200)) as hook:
        began = time.monotonic()
        post(hook.url, DOCUMENT, seconds=20)
        assert 1.9 < time.monotonic() - began < 15
    assert len(hook.documents) == 2


def test_it_gives_up_at_once_when_it_would_have_to_wait_too_long() -> None:
    with receiver(status(503, Retry_After="3600")) as hook:
        began = time.monotonic()
        assert not_posted(hook.url, seconds=60) == "the webhook answered HTTP 503 Service Unavailable"
        assert time.monotonic() - began < 20
    assert len(hook.documents) == 1


@pytest.mark.parametrize("asked", ["soon", "-5", "1e9", ""])
def test_a_wait_that_makes_no_sense_is_not_heeded(asked: str) -> None:
    with receiver(status(503, Retry_After=asked), status(200)) as hook:
        post(hook.url, DOCUMENT, seconds=20)
    assert len(hook.documents) == 2


def test_it_says_how_often_it_tried() -> None:
    with receiver(status(502)) as hook:
        message = not_posted(hook.url, seconds=3)
    assert (
        message
        == f"the webhook answered HTTP 502 Bad Gateway; tried {len(hook.documents)} times in {message.split()[-2]} s"
    )
    assert len(hook.documents) > 1


@pytest.mark.parametrize("answer", [hangs, drips])
def test_no_receiver_holds_a_run_for_longer_than_its_time(answer: Answer) -> None:
    with receiver(answer) as hook:
        began = time.monotonic()
        assert "answer" in not_posted(hook.url, seconds=1.5)
        # Before the receiver hangs up by itself.
        assert time.monotonic() - began < 8


def test_nobody_listens() -> None:
    with receiver() as hook:
        pass
    assert not_posted(hook.url, seconds=1).startswith("the webhook cannot be reached: Connection refused")


def test_a_server_without_tls_and_one_that_nobody_vouches_for(tmp_path: Path) -> None:
    with receiver() as hook:
        assert not_posted(hook.url.replace("http:", "https:"), seconds=1).startswith("the webhook cannot be reached")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(accepted, server_side=True)
            accepted.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/{SECRET}"
        assert not_posted(url) == "the webhook's certificate is not to be trusted"
        thread.join()


def test_the_address_is_taken_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"https://hooks.example/{SECRET}"
    monkeypatch.setenv("HOOK", f" {url}\n")
    assert read_address(Alerts(webhook_env="HOOK")) == url
    (tmp_path / "hook").write_text(f"{url}\n")
    assert read_address(Alerts(webhook_file=str(tmp_path / "hook"))) == url
    assert read_address(Alerts()) is None


@pytest.mark.parametrize(
    "text",
    [
        f"ftp://hooks.example/{SECRET}",
        f"file:///etc/{SECRET}",
        f"hooks.example/{SECRET}",
        f"https:///{SECRET}",
        f"https://me:{SECRET}@hooks.example/",
        f"https://hooks.example/{SECRET}\nhttps://hooks.example/",
        f"https://hooks.example/{SECRET} x",
        f"https://hooks.example:port/{SECRET}",
        f"https://[{SECRET}",
        f"https://hooks.example/{SECRET}é",
    ],
)
def test_what_is_no_address_is_not_called_and_not_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", text)
    with pytest.raises(NotPostedError) as caught:
        read_address(Alerts(webhook_env="HOOK"))
    expected = "alerts.webhook_env: the environment variable HOOK holds no address such as https://HOST/PATH"
    assert str(caught.value) == expected


def test_an_address_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    file = tmp_path / "hook"

    def why(section: Alerts) -> str:
        with pytest.raises(NotPostedError) as caught:
            read_address(section)
        return str(caught.value)

    assert why(Alerts(webhook_env="HOOK")) == "alerts.webhook_env: the environment variable HOOK is not set"
    named = Alerts(webhook_file=str(file))
    assert why(named) == f"alerts.webhook_file: {file} cannot be read: No such file or directory"
    file.write_text("\n")
    assert why(named) == f"alerts.webhook_file: {file} is empty"
    file.write_bytes(b"\xff\xfe")
    assert why(named) == f"alerts.webhook_file: {file} is not text"
    file.write_text("x" * 100_000)
    assert why(named).endswith("holds no address such as https://HOST/PATH")
