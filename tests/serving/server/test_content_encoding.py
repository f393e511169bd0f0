"""Compressed bodies are decompressed, and never to more than the bound."""

import gzip
import tracemalloc
import zlib

import pytest

from serving.model.inputs import RequestError
from serving.server.content_encoding import UnsupportedEncodingError, decode_body

BODY = b'{"instances": []}' * 20


def _compress(body: bytes) -> bytes:
    """Return gzip without its time, which would be in the names of the tests."""
    return gzip.compress(body, mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BODY, ""),
        (BODY, "identity"),
        (_compress(BODY), "gzip"),
        (_compress(BODY), " GZip "),
        (_compress(BODY), "x-gzip"),
        (_compress(BODY[:100]) + _compress(BODY[100:]), "gzip"),
    ],
)
def test_a_body_is_what_was_compressed(body: bytes, encoding: str) -> None:
    assert decode_body(body, encoding, len(BODY)) == BODY


@pytest.mark.parametrize("members", [1, 100])
def test_a_bomb_is_not_unpacked(members: int) -> None:
    bomb = gzip.compress(bytes(50_000_000 // members)) * members
    tracemalloc.start()
    content = decode_body(bomb, "gzip", 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(content) == 1001
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODY, "the body is not gzip: "),
        (zlib.compress(BODY), "the body is not gzip: "),
        (_compress(BODY)[:-9], "the body is cut off: its gzip stream does not end"),
        (_compress(BODY) + b"more", "the body is not gzip: "),
        (_compress(BODY)[:-8] + bytes(8), "the body is not gzip: .*incorrect data check"),
        (gzip.compress(b"") * 100, "the body has more than 64 members of gzip"),
    ],
)
def test_a_damaged_body_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_body(body, "gzip", 1000)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_encodings_are_named(encoding: str) -> None:
    with pytest.raises(UnsupportedEncodingError, match=f"expected gzip or none, found '{encoding}'"):
        decode_body(BODY, encoding, 1000)
