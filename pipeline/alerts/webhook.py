"""A client that posts JSON to a webhook, with retries and a time limit; no message contains the secret address."""

import datetime
import email.utils
import http
import http.client
import json
import os
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tenacity

from pipeline.alerts.config import Alerts

_RETRIED = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.5, max=8)
_TRIES_IN_TIME = 3
_MAX_ADDRESS_CHARS = 4096


class NotPostedError(Exception):
    """An alert could not be posted; the text has the reason, and nothing of the address."""


class _TransientError(NotPostedError):
    """An error that a retry may solve; `seconds` is the pause that the answer asks for, if it does."""

    def __init__(self, text: str, seconds: float | None = None) -> None:
        super().__init__(text)
        self.seconds = seconds


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A handler that follows no redirect, so that an alert reaches no other host."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def read_address(section: Alerts) -> str | None:
    """Return the webhook's address; None if the config names none.

    Raises:
      NotPostedError: The address is missing, or is not a web address.
    """
    if section.webhook_env is not None:
        where = f"alerts.webhook_env: the environment variable {section.webhook_env}"
        text = os.environ.get(section.webhook_env, "")
    elif section.webhook_file is not None:
        where = f"alerts.webhook_file: {section.webhook_file}"
        text = _read(where, section.webhook_file)
    else:
        return None
    if not text.strip():
        raise NotPostedError(f"{where} is {'not set' if section.webhook_env else 'empty'}")
    if not _is_address(text.strip()):
        raise NotPostedError(f"{where} holds no address such as https://HOST/PATH")
    return text.strip()


def _read(where: str, path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(_MAX_ADDRESS_CHARS)
    except OSError as error:
        raise NotPostedError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotPostedError(f"{where} is not text") from error


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_web_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_web_address and text.isascii() and text.isprintable() and " " not in text and parts.username is None


def post(url: str, document: Mapping[str, Any], *, seconds: float) -> None:
    """Post a document.

    Args:
      url: Address of the webhook.
      document: Document, which is sent as JSON.
      seconds: Time limit of all of it, with retries and the look-up of the host's name.

    Raises:
      NotPostedError: it was not accepted in that time.
    """
    ended: queue.SimpleQueue[NotPostedError | None] = queue.SimpleQueue()
    # In a thread that may be left behind: nothing else bounds the look-up of a name, or an answer byte by byte.
    threading.Thread(target=lambda: ended.put(_post_with_retries(url, document, seconds)), daemon=True).start()
    try:
        failure = ended.get(timeout=seconds)
    except queue.Empty:
        raise NotPostedError(f"no answer within {seconds:g} s") from None
    if failure is not None:
        raise failure


def _post_with_retries(url: str, document: Mapping[str, Any], seconds: float) -> NotPostedError | None:
    """Post a document; return the error of the last try, None if it was accepted."""
    body = json.dumps(document).encode()
    started, tries = time.monotonic(), 0
    try:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            wait=_choose_wait,
            # The reason has to arrive before the caller's time limit.
            stop=tenacity.stop_before_delay(seconds * 0.95),
            reraise=True,
        ):
            with attempt:
                tries += 1
                left = seconds * 0.95 - (time.monotonic() - started)
                _try(url, body, max(0.1, min(left, seconds / _TRIES_IN_TIME)))
    except NotPostedError as error:
        times = f"; tried {tries} times in {time.monotonic() - started:.0f} s" if tries > 1 else ""
        return NotPostedError(f"{error}{times}")
    return None


def _choose_wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.seconds if isinstance(error, _TransientError) else None
    return _BACK_OFF(state) if asked is None else asked


def _try(url: str, body: bytes, timeout_seconds: float) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "reference-tfx-pipeline"}
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        _OPENER.open(request, timeout=timeout_seconds).close()
    except urllib.error.HTTPError as error:
        with error:
            raise _create_status_error(error) from None
    except (http.client.InvalidURL, ValueError):
        raise NotPostedError("the webhook's address cannot be called") from None
    except http.client.RemoteDisconnected:
        raise _TransientError("the webhook closed the connection without an answer") from None
    except http.client.HTTPException:
        raise _TransientError("the webhook answered with something that is not HTTP") from None
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _create_connection_error(reason, timeout_seconds) from None


def _create_status_error(error: urllib.error.HTTPError) -> NotPostedError:
    # Its own phrase and body are the server's to choose, and might repeat the address.
    text = f"the webhook answered HTTP {error.code} {_PHRASES.get(error.code, '')}".rstrip()
    if error.code in _RETRIED or error.code >= 500:
        return _TransientError(text, _parse_retry_after(error.headers.get("Retry-After")))
    if 300 <= error.code < 400:
        text += "; a redirect is not followed"
    return NotPostedError(text)


def _parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, which has seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - datetime.datetime.now(datetime.UTC)).total_seconds())


def _create_connection_error(reason: object, timeout_seconds: float) -> NotPostedError:
    match reason:
        case TimeoutError():
            return _TransientError(f"the webhook did not answer within {timeout_seconds:.1f} s")
        case ssl.SSLCertVerificationError():
            return NotPostedError("the webhook's certificate is not to be trusted")
        case socket.gaierror():
            return _TransientError("the webhook's host is not known")
        case OSError() if reason.strerror and not isinstance(reason, ssl.SSLError):
            return _TransientError(f"the webhook cannot be reached: {reason.strerror}")
        case _:
            return _TransientError("the webhook cannot be reached")
