"""Redaction of secrets in texts that others wrote."""

import pytest

from oncall.web.redaction import redact, redact_value


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://me:hunter2@db/x", "postgresql://(hidden)@db/x"),
        ("ftp:/me:hunter2@host/x", "ftp:/(hidden)@host/x"),
        ("https://user@host/path", "https://(hidden)@host/path"),
        ("MYSQL_PASSWORD=hunter2 started", "MYSQL_PASSWORD=(hidden) started"),
        ("{'password': 'hunter2', 'user': 'me'}", "{'password': (hidden), 'user': 'me'}"),
        ('{"api_key": "a b", "n": 1}', '{"api_key": (hidden), "n": 1}'),
        ("Authorization: Bearer abc.def, next", "Authorization: (hidden), next"),
        ("client_secret=abc;x=1", "client_secret=(hidden);x=1"),
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/path@v1",
        "https://example.com/a?b=c",
        "root@vm: bad predictions",
        "the token was refused",
        "L-infinity 0.2, at most 0.1: 'Private' 64.4% to 72.2%",
    ],
)
def test_what_is_none_is_shown(text: str) -> None:
    assert redact(text) == text


def test_control_characters_are_shown_and_lines_are_kept() -> None:
    assert redact("a\x00b\x1b[31m\u202ec\nd\udc80") == "a\\x00b\\x1b[31m\\u202ec\nd\\udc80"


def test_a_value_by_the_name_of_a_secret_is_left_out() -> None:
    assert [redact_value(name, "x") for name in ("database.password", "API_KEY", "alerts.token")] == ["(hidden)"] * 3
    assert [redact_value(name, "x") for name in ("passwords_file", "training.epochs", "tokenizer")] == ["x"] * 3
