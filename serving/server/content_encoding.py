"""Bodies of requests that are compressed, decompressed within a bound.

https://www.rfc-editor.org/rfc/rfc9110#section-8.4
"""

import zlib

from serving.model.inputs import RequestError

GZIP = "gzip"
_GZIP_NAMES = {GZIP, "x-gzip"}
# zlib's way to ask for gzip's header and trailer.
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
# An empty one has twenty bytes, and each takes a copy of all that follow it.
_MAX_MEMBERS = 64


class UnsupportedEncodingError(Exception):
    """The body has an encoding that the server does not read."""


def decode_body(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Return a body without its compression; at most one byte more than `most_bytes`, however much it stands for.

    Args:
      body: body as it came.
      encoding: value of the header Content-Encoding; empty for none.
      most_bytes: limit on the result.

    Raises:
      RequestError: the body is damaged or cut off.
      UnsupportedEncodingError: it is compressed in another way.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _GZIP_NAMES:
        raise UnsupportedEncodingError(f"Content-Encoding: expected {GZIP} or none, found '{encoding[:80]}'")
    content, rest = b"", body
    try:
        # A file of gzip may have several members.
        for _ in range(_MAX_MEMBERS):
            if not rest or len(content) > most_bytes:
                return content
            decompressor = zlib.decompressobj(_GZIP_WINDOW_BITS)
            content += decompressor.decompress(rest, most_bytes + 1 - len(content))
            if not decompressor.eof and len(content) <= most_bytes:
                raise RequestError("the body is cut off: its gzip stream does not end")
            rest = decompressor.unused_data
    except zlib.error as error:
        raise RequestError(f"the body is not gzip: {error}") from error
    if rest:
        raise RequestError(f"the body has more than {_MAX_MEMBERS} members of gzip")
    return content
