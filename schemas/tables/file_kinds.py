"""Recognises files by their content: compressed ones, tables, and those that no reader of this project reads.

Imports no TensorFlow.
"""

import codecs
import json
import os
import re
import struct
from dataclasses import dataclass

import google_crc32c
import pyarrow as pa
import pyarrow.fs

from cli.errors import DataError
from schemas.data import Format
from schemas.tables import locations

START_BYTES = 1 << 16
# A few control characters are a large share of less text.
_LEAST_BYTES = 256
_COMPRESSIONS = {
    rb"\x1f\x8b": "gzip",
    rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)": "bz2",
    rb"\x28\xb5\x2f\xfd": "zstd",
    rb"\x04\x22\x4d\x18": "lz4",
}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CRC_MASK_DELTA = 0xA282EAD8
_SAS_MAGIC = bytes.fromhex("00000000000000000000 0000c2ea8160b31411cfbd92080009c7318c181f1011")
_TO_CSV, _TO_PARQUET = ".to_csv('{stem}.csv', index=False)", ".to_parquet('{stem}.parquet')"
# In text, other control characters than these are rare.
_TEXT_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1e\x7f]")


@dataclass(frozen=True)
class FileKind:
    """A kind of file that is not read.

    Attributes:
      name: Noun phrase.
      remedy: How to make a table of it; {path} and {stem} are the file's, the latter without its ending.
    """

    name: str
    remedy: str

    def build_error(self, path: str) -> DataError:
        """Return the error for a file of this kind."""
        stem = os.path.basename(path).split(".")[0] or "table"
        remedy = self.remedy.format(path=path, stem=stem)
        return DataError(f"{path}: is {self.name}; expected CSV, Parquet or TFRecord. {remedy}")


def _build_pandas_kind(name: str, call: str, written: str = _TO_CSV) -> FileKind:
    return FileKind(name, f"Convert it, as in pandas.{call}{written}")


def _build_archive_kind(name: str, command: str) -> FileKind:
    return FileKind(name, f"Unpack it ({command}) and name the file in it")


_EXCEL = _build_pandas_kind("an Excel workbook", "read_excel('{path}')")
_ODS = _build_pandas_kind("an OpenDocument spreadsheet", "read_excel('{path}', engine='odf')")
_FEATHER = _build_pandas_kind("an Arrow or Feather file", "read_feather('{path}')", _TO_PARQUET)
_ZIP = _build_archive_kind("a zip archive", "unzip '{path}'")
_NPZ = _build_pandas_kind(
    "an archive of NumPy arrays (.npz)",
    "DataFrame(numpy.load('{path}')[NAME]).add_prefix('column_')",
    _TO_PARQUET,
)
_TAR = _build_archive_kind("a tar archive", "tar xf '{path}'")
_R = FileKind("data of R", "Write it in R: write.csv(NAME, '{stem}.csv', row.names = FALSE)")
_JSON = _build_pandas_kind("JSON", "read_json('{path}')")
_JSON_LINES = _build_pandas_kind("JSON lines", "read_json('{path}', lines=True)")
_STATA = _build_pandas_kind("a Stata file", "read_stata('{path}')")
_SAS = _build_pandas_kind("a SAS file", "read_sas('{path}')")
_PICKLE = _build_pandas_kind("a Python pickle", "read_pickle('{path}')", _TO_PARQUET)
_BINARY = FileKind("binary data of an unknown kind", "Name another file")
_BY_MAGIC = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _EXCEL,
    b"ARROW1\x00\x00": _FEATHER,
    b"\xff\xff\xff\xff": _build_pandas_kind(
        "an Arrow stream", "DataFrame(pyarrow.ipc.open_stream('{path}').read_pandas())", _TO_PARQUET
    ),
    b"\x93NUMPY": _build_pandas_kind(
        "a NumPy array (.npy)", "DataFrame(numpy.load('{path}')).add_prefix('column_')", _TO_PARQUET
    ),
    b"SQLite format 3\x00": _build_pandas_kind(
        "an SQLite database", "read_sql('select * from NAME', sqlite3.connect('{path}'))"
    ),
    b"\x89HDF\r\n\x1a\n": _build_pandas_kind("an HDF5 file", "read_hdf('{path}')", _TO_PARQUET),
    b"Obj\x01": _build_pandas_kind("an Avro file", "DataFrame(fastavro.reader(open('{path}', 'rb')))", _TO_PARQUET),
    _SAS_MAGIC: _SAS,
    b"HEADER RECORD*******": _SAS,
    b"<stata_dta>": _STATA,
    b"$FL2": _build_pandas_kind("an SPSS file", "read_spss('{path}')"),
    b"$FL3": _build_pandas_kind("an SPSS file", "read_spss('{path}')"),
    b"RDX2\n": _R,
    b"RDX3\n": _R,
    b"X\n\x00\x00\x00": _R,
    b"MATLAB 5.0 MAT-file": _build_pandas_kind(
        "a MATLAB file", "DataFrame(scipy.io.loadmat('{path}')[NAME]).add_prefix('column_')", _TO_PARQUET
    ),
    b"7z\xbc\xaf\x27\x1c": _build_archive_kind("a 7z archive", "7z x '{path}'"),
    b"Rar!\x1a\x07": _build_archive_kind("a RAR archive", "unrar x '{path}'"),
    b"\xfd7zXZ\x00": FileKind("compressed by xz", "Decompress it: unxz '{path}'"),
    b"%PDF-": FileKind("a PDF document", "Name another file"),
    b"\x89PNG\r\n": FileKind("an image", "Name another file"),
    b"\xff\xd8\xff": FileKind("an image", "Name another file"),
    b"version https://git-lfs": FileKind("a pointer of Git LFS", "Fetch the file itself: git lfs pull"),
}


def open_decompressed(path: str) -> pa.NativeFile:
    """Open a file, decompressed if its content is compressed, whatever its name.

    Raises:
      OSError, pyarrow.ArrowException: The file cannot be opened.
    """
    filesystem, location = locations.open_filesystem(path)
    return filesystem.open_input_stream(location, compression=_detect_compression(path))


def is_compressed(path: str) -> bool:
    """Return whether a file's content is compressed.

    Raises:
      OSError, pyarrow.ArrowException: The file cannot be opened.
    """
    return _detect_compression(path) is not None


def read_start(path: str) -> bytes:
    """Return the first bytes of a file, decompressed; none if they cannot be decompressed.

    Raises:
      DataError: The file cannot be opened.
    """
    try:
        with open_decompressed(path) as file:
            try:
                return bytes(file.read(START_BYTES))
            except (OSError, pa.ArrowException):
                # Whoever reads the file reports how far it can be read.
                return b""
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {locations.describe_cause(error)}") from error


def detect_table_format(path: str) -> Format:
    """Return the format of a file by its content; any text may be CSV.

    Raises:
      DataError: The file cannot be read, or is not a table.
    """
    start = read_start(path)
    kind = recognize_other_kind(start)
    if kind is not None:
        raise kind.build_error(path)
    return recognize_format(start)


def check_format(path: str, expected: Format, option: str) -> bytes:
    """Return the first bytes of a file, decompressed.

    Args:
      path: Path or URI of the file.
      expected: Format that is going to be read.
      option: Setting of the format, as it stands before its value, for the error.

    Raises:
      DataError: The file cannot be read, is not a table, or has another format.
    """
    start = read_start(path)
    kind = recognize_other_kind(start)
    if kind is _BINARY and expected != "csv":
        # It may be damaged: its reader reports where.
        return start
    if kind is not None:
        raise kind.build_error(path)
    actual = recognize_format(start)
    if start and actual != expected:
        names = {"csv": "CSV or other text", "parquet": "Parquet", "tfrecord": "TFRecord"}
        raise DataError(
            f"{path}: is {names[actual]}; expected {names[expected]}. Set {option} {actual}, or name another file"
        )
    return start


def recognize_format(start: bytes) -> Format:
    """Return the format that the first bytes of a file have; CSV if nothing else is recognised."""
    if _has_first_word(start, b"PAR1"):
        return "parquet"
    return "tfrecord" if _is_tfrecord(start) else "csv"


def recognize_other_kind(start: bytes) -> FileKind | None:
    """Return the kind of a file that is not a table, by its first bytes, decompressed; None if it may be a table."""
    if _has_first_word(start, b"PAR1") or _is_tfrecord(start):
        return None
    for magic, kind in _BY_MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _recognize_zip(start)
    if start[257:262] == b"ustar":
        return _TAR
    if _has_first_word(start, b"FEA1"):
        return _FEATHER
    if _has_first_word(start, b"ORC"):
        return _build_pandas_kind("an ORC file", "read_orc('{path}')", _TO_PARQUET)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 2:
        return _PICKLE
    if start[:1] in (b"\x71", b"\x72", b"\x73") and start[1:4] in (b"\x01\x01\x00", b"\x02\x01\x00"):
        return _STATA
    return _recognize_text(start) or (_BINARY if _is_binary(start) else None)


def detect_encoding_mark(start: bytes) -> str | None:
    """Return the encoding that a file's byte order mark, or its zeros, give away; None if nothing does.

    Args:
      start: First bytes of the file.
    """
    for mark, name in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return name
    if b"\x00" not in start:
        return None
    whole = start[: len(start) - len(start) % 2]
    for name in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(name)().decode(whole)
        except UnicodeDecodeError:
            continue
        # Read in the wrong order, a line feed is a letter of another script.
        if "\x00" not in text and "\n" in text:
            return name
    return None


def _detect_compression(path: str) -> str | None:
    filesystem, location = locations.open_filesystem(path)
    with filesystem.open_input_stream(location, compression=None) as file:
        start = file.read(10)
    return next((name for magic, name in _COMPRESSIONS.items() if re.match(magic, start)), None)


def _has_first_word(start: bytes, word: bytes) -> bool:
    """Return whether binary data starts with a word that a header of CSV may start with, too."""
    return start.startswith(word) and _TEXT_CONTROLS.search(start[len(word) : 64]) is not None


def _recognize_zip(start: bytes) -> FileKind:
    if b"[Content_Types].xml" in start or b"xl/" in start or b"docProps/" in start:
        return _EXCEL
    if b"opendocument.spreadsheet" in start[:200]:
        return _ODS
    return _NPZ if re.match(rb"PK.{28}[^\x00]{1,200}?\.npy", start, re.DOTALL) else _ZIP


def _recognize_text(start: bytes) -> FileKind | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text[:200].lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<table")):
        return _build_pandas_kind("HTML", "read_html('{path}')[0]")
    if lower.startswith(b"<?xml"):
        return _build_pandas_kind("XML", "read_xml('{path}')")
    if re.match(rb"(%[^\n]*\n|\s)*@relation\s", text[:4096], re.IGNORECASE):
        return _build_pandas_kind("an ARFF file", "DataFrame(scipy.io.arff.loadarff('{path}')[0])")
    if re.match(rb"\{\s*(\"|\}\s*$)|\[\s*(\{|\[)", text):
        first, _, rest = text.partition(b"\n")
        return _JSON_LINES if _is_json(first) and rest.lstrip().startswith((b"{", b"[")) else _JSON
    return None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _is_binary(start: bytes) -> bool:
    """Return whether bytes are not text: in no encoding has text many control characters."""
    if detect_encoding_mark(start) is not None or len(start) < _LEAST_BYTES:
        return False
    return len(_TEXT_CONTROLS.findall(start)) > len(start) / 20


def _is_tfrecord(start: bytes) -> bool:
    """Return whether a file starts with the length of a record and the checksum of that length."""
    return len(start) >= 12 and compute_masked_crc(start[:8]) == struct.unpack("<I", start[8:12])[0]


def compute_masked_crc(content: bytes) -> int:
    """Return the checksum that TFRecord has of bytes."""
    crc = int(google_crc32c.value(content))
    return (((crc >> 15) | (crc << 17)) + _CRC_MASK_DELTA) & 0xFFFFFFFF
