"""How a CSV file is written, by its content."""

import bz2
import codecs
import gzip
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError, DataError
from schemas.data import CsvOptions
from schemas.tables.csv_dialect import find_dialect
from schemas.tables.readers import open_table

ROWS = "city,size\n" + "Łódź,1\nTromsø,2\n" * 50
WEST = "city,size\n" + "Köln,1\nTromsø,2\n" * 50


def options(path: Path, content: bytes, **settings: Any) -> CsvOptions:
    path.write_bytes(content)
    dialect = find_dialect(str(path), **settings)
    assert dialect.notes == []
    return dialect.options


def column(path: Path, dialect: CsvOptions, name: str) -> list[str]:
    batches = open_table(str(path), "csv", dialect).read_batches()
    return [value for texts in batches for value in texts.columns.column(name).to_pylist()]


ENCODED = {
    "utf-8": (ROWS.encode(), "utf-8"),
    "utf-8 with a mark": (ROWS.encode("utf-8-sig"), "utf-8"),
    "utf-16": (ROWS.encode("utf-16"), "utf-16"),
    "utf-16, big end first": (codecs.BOM_UTF16_BE + ROWS.encode("utf-16-be"), "utf-16"),
    "utf-16 without a mark": (ROWS.encode("utf-16-le"), "utf-16-le"),
    "utf-16, big end first, without a mark": (ROWS.encode("utf-16-be"), "utf-16-be"),
    "utf-32": (ROWS.encode("utf-32"), "utf-32"),
    "gzip": (gzip.compress(ROWS.encode("utf-16")), "utf-16"),
    "bz2": (bz2.compress(ROWS.encode()), "utf-8"),
}


@pytest.mark.parametrize(("content", "encoding"), ENCODED.values(), ids=ENCODED)
def test_an_encoding_is_found_and_the_file_is_read_with_it(content: bytes, encoding: str, tmp_path: Path) -> None:
    dialect = options(tmp_path / "a.csv", content)
    assert (dialect.encoding, dialect.delimiter) == (encoding, ",")
    assert open_table(str(tmp_path / "a.csv"), "csv", dialect).read_names() == ["city", "size"]
    assert column(tmp_path / "a.csv", dialect, "city")[-2:] == ["Łódź", "Tromsø"]


def test_letters_are_whole_wherever_a_block_ends(tmp_path: Path) -> None:
    # Some block ends in each of the four bytes of a letter.
    for before in range(4):
        content = b"a,b\n" + b"x" * before + "🙂".encode() * 600_000 + b",1\n"
        assert options(tmp_path / "a.csv", content).encoding == "utf-8"


def test_a_file_that_is_utf_8_at_first_only_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(ROWS.encode() + b"Oslo,1\n" * 300_000 + "Köln,2\n".encode("latin-1"))
    dialect = find_dialect(str(path))
    assert dialect.options.encoding == "latin-1"
    assert dialect.notes == [
        f"{path}:300102: is not UTF-8; read as latin-1, it has 'Köln,2'. If that is wrong, name the encoding with "
        "--encoding"
    ]
    with pytest.raises(DataError, match=r"a\.csv:300102: is not text in utf-8; convert the file to UTF-8, or name its"):
        column(path, CsvOptions(), "city")


@pytest.mark.parametrize(("text", "encoding"), [(WEST, "latin-1"), (WEST.replace("Köln", "5 € Köln"), "cp1252")])
def test_text_of_one_byte_a_letter(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode("cp1252"))
    dialect = find_dialect(str(path))
    assert dialect.options.encoding == encoding
    assert f"a.csv:2: is not UTF-8; read as {encoding}, it has " in dialect.notes[0] and "Köln" in dialect.notes[0]
    assert column(path, dialect.options, "city")[1] == "Tromsø"
    assert find_dialect(str(path), encoding="cp850").options.encoding == "cp850"


DELIMITED = {
    "tabs": ("a\tb\tc\n" + "1\tan apple, a pear, and so on\t2\n" * 9, "\t"),
    "semicolons": ("a;b;c\n" + "1;an apple, a pear;2\n" * 9, ";"),
    "bars": ("a|b\n" + "1|x\n" * 9, "|"),
    "decimal commas": ("a;b;c\n" + "x;1,5;2,5\n" * 9, ";"),
    "decimal commas only": ("1,5;2,5;3,5\n" * 9, ";"),
    "a delimiter within quotes": ('a,b\n"1;2;3;4","x;y;z;w"\n' * 9, ","),
    "line ends within quotes": ("a,b\n" + '"1\n2;3\n",x\n' * 9, ","),
    "prose": ("a,b\n" + "1,x;y;z\n" * 5 + "2,x\n" * 4, ","),
    "one column": ("a\n" + "one\ntwo\n" * 5, ","),
    "one column of prose": ("a\n" + "one; two\nthree, four\nfive\n" * 5, ","),
    "a bad row": ("a,b\n" + "1,x\n" * 30 + "1,2,3\n", ","),
    "empty lines": ("\n\na;b\n\n" + "1;x\n\n" * 9, ";"),
    "windows": ("a;b\r\n" + "1;x\r\n" * 9, ";"),
    "old macs": ("a;b\r" + "1;x\r" * 9, ";"),
    "no line end": ("a;b\n1;2", ";"),
}


@pytest.mark.parametrize(("content", "delimiter"), DELIMITED.values(), ids=DELIMITED)
def test_a_delimiter_is_found(content: str, delimiter: str, tmp_path: Path) -> None:
    dialect = options(tmp_path / "a.csv", content.encode())
    assert (dialect.delimiter, dialect.quote, dialect.strip_spaces) == (delimiter, '"', False)


def test_what_is_given_is_taken(tmp_path: Path) -> None:
    dialect = options(tmp_path / "a.csv", b"a;b\n1;2\n", delimiter=",", encoding="ascii", quote="'")
    assert (dialect.delimiter, dialect.encoding, dialect.quote) == (",", "ascii", "'")
    dialect = options(tmp_path / "a.csv", b"1;2\n3;4\n", column_names=["x", "y"])
    assert (dialect.delimiter, dialect.column_names) == (";", ("x", "y"))
    assert options(tmp_path / "a.csv", b"1;2\n3;4\n", header=False).column_names == ("column_1", "column_2")


def test_what_is_not_possible_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a;b\n1;2\n")
    for settings, message in (
        ({"encoding": "utf-9"}, "--encoding: 'utf-9' is not an encoding of Python, such as utf-8 or latin-1,"),
        ({"delimiter": "||"}, "--delimiter: String should have at most 1 character, found '||'"),
    ):
        with pytest.raises(ConfigError) as refused:
            find_dialect(str(tmp_path / "a.csv"), **settings)  # type: ignore[arg-type]
        assert str(refused.value).startswith(message)


def test_spaces_after_delimiters(tmp_path: Path) -> None:
    assert options(tmp_path / "a.csv", b"a, b\n" + b"1, x\n" * 9).strip_spaces


def test_single_quotes(tmp_path: Path) -> None:
    dialect = options(tmp_path / "a.csv", b"a,b\n" + b"'1,5','x'\n" * 9)
    assert (dialect.delimiter, dialect.quote) == (",", "'")
    assert column(tmp_path / "a.csv", dialect, "a")[0] == "1,5"
    assert options(tmp_path / "a.csv", b"a,b\n" + b"'tis,'twas\n" * 9).quote == '"'


def test_quotes_that_are_characters_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,name,size\n" + '1,"5 nail,2\n2,pipe,3\n' * 50 + '3,5" nail,2\n')
    dialect = find_dialect(str(path))
    assert dialect.options.quote == "none"
    assert dialect.notes[0].startswith(
        f"{path}:2: a quote opens a value that ends 2 lines further down, before '5 nail,2'"
    )
    assert column(path, dialect.options, "name")[0] == '"5 nail'
    assert len(column(path, dialect.options, "name")) == 101
    with pytest.raises(
        DataError, match=r"a\.csv:2: a quote opens a value that ends .*, or set data.csv.quote: none if"
    ):
        column(path, CsvOptions(), "name")


MISFITS = {
    "spaces before quotes": (
        '"id", "name", "x"\n' + '"1", "a, b", "2"\n' * 20,
        ": has spaces before its quotes; write it as RFC 4180 has it, as in pandas.read_csv('{path}', sep=',', "
        "skipinitialspace=True).to_csv(...)",
    ),
    "backslashes": (
        "id,text,y\n" + '1,"he said \\"hi, there\\" ok",0\n' * 20,
        ": has backslashes before quotes within values; write it as RFC 4180 has it, as in pandas.read_csv('{path}', "
        "sep=',', escapechar='\\\\').to_csv(...)",
    ),
    "a title": (
        "Sales report\n\na;b;c\n" + "1;2;3\n" * 20,
        ":1: the header has 1 of the 3 fields of a row; correct the header, or remove the lines before it",
    ),
    "row names of R": (
        "a,b,c\n" + "1,2,3,4\n" * 20,
        ":1: the header has 3 of the 4 fields of a row; correct the header, or remove the lines before it",
    ),
    "a line for Excel": ("sep=;\na;b\n1;2\n", ":1: is a line for Excel, 'sep=;'; remove it"),
}


@pytest.mark.parametrize(("content", "message"), MISFITS.values(), ids=MISFITS)
def test_a_file_whose_rows_do_not_fit_is_named_with_the_remedy(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        find_dialect(str(path))
    assert str(refused.value) == f"{path}{message.replace('{path}', str(path))}"


def test_a_few_rows_may_have_another_number_of_fields(tmp_path: Path) -> None:
    assert options(tmp_path / "a.csv", b"a b\n" + b"1 x\n" * 9).delimiter == " "
    assert options(tmp_path / "a.csv", b"a,b\n1,2,3\n").delimiter == ","
    assert options(tmp_path / "a.csv", b"a,b\n1,x\x00y\n").encoding == "utf-8"


def test_a_file_without_rows_or_with_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\n\n")
    with pytest.raises(DataError, match="a.csv: holds no rows"):
        find_dialect(str(path))
    path.write_bytes(WEST.encode("latin-1"))
    with pytest.raises(DataError, match="a.csv: is not text in utf-8"):
        find_dialect(str(path), encoding="utf-8")
    with pytest.raises(DataError, match="none.csv: cannot be read"):
        find_dialect(str(tmp_path / "none.csv"))


LVIV = "name,n\nЛьвів,1\nДніпро й Чернігів,2\n"  # noqa: RUF001
TOKYO = "名前,n\n東京都カタカナ,1\nソニー株式会社,2\n"
OTHER_ENCODINGS = {
    "shift_jis": (TOKYO, 1, "shift_jis reads '名前'"),
    "euc_jp": (TOKYO, 1, "euc_jp reads '名前'"),
    "gb18030": ("名称,n\n北京市朝阳区,1\n上海市浦东新区,2\n", 1, "gb18030 reads '名称'"),
    "cp1251": (LVIV, 2, "cp1251 reads 'Львів'"),
    "cp1250": ("name,n\nŁódź,1\nBiałystok,2\n", 2, "cp1250 reads 'Łódź'"),
}


@pytest.mark.parametrize("encoding", OTHER_ENCODINGS)
def test_text_that_is_not_of_western_europe_is_not_read_as_if_it_were(encoding: str, tmp_path: Path) -> None:
    text, line, candidate = OTHER_ENCODINGS[encoding]
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as refused:
        find_dialect(str(path))
    assert str(refused.value).startswith(f"{path}:{line}: is not UTF-8, nor an encoding of Western Europe such as")
    assert candidate in str(refused.value)
    dialect = find_dialect(str(path), encoding=encoding).options
    assert column(path, dialect, "n") == ["1", "2"]


@pytest.mark.parametrize("text", ["a,b\nKöln £3 m³,1\n¿Qué?,2\n", "a,b\n———————,1\nÅÄÖ,2\nx²y,3\n", "a,b\nété…,1\n"])
def test_signs_of_western_europe_are_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode("cp1252"))
    assert column(path, find_dialect(str(path)).options, "a")[0] == text.splitlines()[1].split(",")[0]


def test_a_sign_of_cp1252_far_behind_other_letters_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("a,b\nKöln,1\n" + "Oslo,1\n" * 300_000 + "5 €,2\n").encode("cp1252"))
    assert find_dialect(str(path)).options.encoding == "cp1252"


def test_names_of_columns_are_as_many_as_the_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1,2,3\n" * 20)
    with pytest.raises(ConfigError) as refused:
        find_dialect(str(path), column_names=["a", "b"])
    assert str(refused.value) == f"--column-names: names 2 columns, but the rows of {path} have 3 fields"
