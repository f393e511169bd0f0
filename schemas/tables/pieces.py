"""Cuts large files into pieces that can be read by themselves, on any machine. Imports no TensorFlow.

CSV is cut at ends of lines, Parquet between row groups. Compressed files and TFRecord are read as a whole. So are
encodings in which a byte of a line's end may be part of a letter, and CSV with quotes within values.
"""

import codecs
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.data import CsvOptions

PIECE_BYTES = 64 << 20
_BLOCK_BYTES = 4 << 20
_CUT_ENCODINGS = ("utf-8", "ascii", "iso8859-1", "cp1252")
_LINE_END = b"\n"[0]


@dataclass(frozen=True)
class Piece:
    """A part of a file.

    Attributes:
      start: the first byte of CSV, the first row group of Parquet.
      end: the byte or row group after the last.
      before: the lines of CSV, the rows of Parquet before it.
    """

    start: int
    end: int
    before: int


def split_csv(file: Any, size: int, options: CsvOptions, piece_bytes: int) -> list[Piece]:
    """Return the pieces of an uncompressed CSV file, from one pass over its bytes; none if it is best read as a whole.

    A line's end within quotes ends no row. The number of quotes before it decides, if every quote that opens a
    value is at its beginning and every one that closes it is at its end. Otherwise nothing is cut.

    Args:
      file: its bytes, binary.
      size: number of bytes.
      options: How it is written.
      piece_bytes: a piece has so many bytes or a little more, and no less than half of it.
    """
    if size < 2 * piece_bytes or codecs.lookup(options.encoding).name not in _CUT_ENCODINGS:
        return []
    pieces: list[Piece] = []
    start = offset = lines = before = quotes = 0
    reader = io.BufferedReader(file)
    while block := reader.read(_BLOCK_BYTES) + reader.readline(_BLOCK_BYTES):
        offset += len(block)
        ends = block.count(b"\n")
        if block[-1] != _LINE_END and offset < size:
            return []
        if not _is_plain(block, options, quotes % 2):
            return []
        quotes += block.count(options.quote.encode()) if options.quote != "none" else 0
        lines += ends
        if quotes % 2 == 0 and offset - start >= piece_bytes and size - offset >= piece_bytes // 2:
            pieces.append(Piece(start, offset, before))
            start, before = offset, lines
    return [] if quotes % 2 or not pieces else [*pieces, Piece(start, size, before)]


def split_parquet(metadata: Any, piece_bytes: int) -> list[Piece]:
    """Return the pieces of a Parquet file, each of one row group or more; none if it is best read as a whole."""
    pieces: list[Piece] = []
    start = rows = before = together = 0
    for group in range(metadata.num_row_groups):
        together += metadata.row_group(group).total_byte_size
        rows += metadata.row_group(group).num_rows
        if together >= piece_bytes or group == metadata.num_row_groups - 1:
            pieces.append(Piece(start, group + 1, before))
            start, before, together = group + 1, rows, 0
    return pieces if len(pieces) > 1 else []


def _is_plain(block: bytes, options: CsvOptions, within: int) -> bool:
    """Return whether quotes open and close values where values begin and end, and lines end in line feeds.

    Args:
      block: whole lines.
      options: How the file is written.
      within: 1 if it begins within quotes, else 0.
    """
    if block.count(b"\r") != block.count(b"\r\n"):
        return False
    if options.quote == "none" or options.quote.encode() not in block:
        return True
    content = np.frombuffer(block, np.uint8)
    places = np.flatnonzero(content == ord(options.quote))
    borders = np.frombuffer(f"{options.quote}\r\n{options.delimiter}".encode(), np.uint8)
    padded: NDArray[np.uint8] = np.concatenate([[_LINE_END], content, [_LINE_END]]).astype(np.uint8)
    opening, closing = places[within::2], places[1 - within :: 2]
    return bool(np.isin(padded[opening], borders).all() and np.isin(padded[closing + 2], borders).all())
