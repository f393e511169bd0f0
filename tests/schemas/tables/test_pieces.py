"""Where large files are cut."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from schemas.data import CsvOptions
from schemas.tables import pieces
from schemas.tables.pieces import Piece, split_csv, split_parquet

ROWS = [b"a,b\n", *(b"%d,x\n" % number for number in range(10_000, 10_300))]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 64)


def cut(content: bytes, encoding: str = "utf-8", piece_bytes: int = 500) -> list[Piece]:
    return split_csv(io.BytesIO(content), len(content), CsvOptions(encoding=encoding), piece_bytes)


def test_pieces_end_with_lines_and_know_the_lines_before() -> None:
    content = b"".join(ROWS)
    pieces = cut(content)
    assert len(pieces) == 5
    assert b"".join(content[piece.start : piece.end] for piece in pieces) == content
    for piece in pieces:
        assert content[piece.start - 1 : piece.start] in (b"", b"\n")
        assert piece.before == content[: piece.start].count(b"\n")
        assert 250 <= piece.end - piece.start < 1000


def test_no_row_is_cut_at_a_line_end_within_quotes() -> None:
    rows = [b"a,b\n", *(b'"%s\n""\n",x\n' % (b"y" * (number % 17)) for number in range(200))]
    content = b"".join(rows)
    pieces = cut(content)
    assert len(pieces) > 2
    for piece in pieces:
        assert content[: piece.start].count(b'",x\n') == len(content[: piece.start].split(b'",x\n')) - 1
        assert piece.start == 0 or content[: piece.start].endswith(b'",x\n')


WHOLE = {
    "quotes within values": b"".join(ROWS) + b'5" nail,x\n6" nail,x\n' + b"".join(ROWS),
    "a quote that is never closed": b"".join(ROWS) + b'"no end,x\n',
    "lines that end in carriage returns": b"".join(ROWS).replace(b"\n", b"\r"),
    "no line ends": b"1," * 2000,
    "small": b"".join(ROWS[:20]),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_what_cannot_be_cut_is_read_as_a_whole(content: bytes) -> None:
    assert cut(content) == []


def test_an_encoding_of_two_bytes_is_not_cut() -> None:
    assert cut(b"".join(ROWS).decode().encode("utf-16"), "utf-16") == []


def test_windows_line_ends_are_cut() -> None:
    assert len(cut(b"".join(ROWS).replace(b"\n", b"\r\n"))) > 2


def test_parquet_is_cut_between_row_groups(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"a": list(range(1000))}), tmp_path / "a.parquet", row_group_size=100)
    metadata = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").metadata
    group = metadata.row_group(0).total_byte_size
    assert split_parquet(metadata, 3 * group) == [
        Piece(0, 3, 0),
        Piece(3, 6, 300),
        Piece(6, 9, 600),
        Piece(9, 10, 900),
    ]
    assert split_parquet(metadata, 100 * group) == []
