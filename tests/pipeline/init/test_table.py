"""Tables that init reads: rows, columns, numbers as people write them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from cli.errors import DataError
from pipeline.init import table
from pipeline.init.notes import Notes
from pipeline.init.progress import ProgressLines
from pipeline.init.requests import Requests
from pipeline.init.source import find_source
from pipeline.init.table import RawTable, read_table
from schemas.tables.items import split_items


def read(data: Path, test: Path | None = None, notes: Notes | None = None, label: str = "y") -> RawTable:
    source = find_source(
        str(data), test=None if test is None else str(test), delimiter=None, column_names=(), header=True
    )
    return read_table(source, Requests(label), notes or Notes(), ProgressLines())


def test_numbers_as_people_write_them_become_numbers_and_options_of_csv(tmp_path: Path) -> None:
    lines = [f"1.{n:03d},5 €;{n % 60},5 %;{n};Bonn;{'ja' if n % 3 else 'nein'}" for n in range(100, 300)]
    (tmp_path / "a.csv").write_text("\n".join(["preis;rabatt;menge;ort;y", *lines]), encoding="utf-8")
    table = read(tmp_path / "a.csv")
    assert (table.csv.decimal, table.csv.thousands, table.csv.currency, table.csv.percent) == (",", ".", ("€",), True)
    assert table.columns["preis"].numbers[0] == 1100.5
    assert table.columns["rabatt"].numbers[0] == pytest.approx(0.405)
    assert table.columns["menge"].is_integer
    assert table.columns["ort"].texts[0].as_py() == "Bonn"


def test_a_label_of_few_amounts_keeps_its_spelling(tmp_path: Path) -> None:
    lines = [f"{n % 7},{('$1', '$2', '$5')[n % 3]}" for n in range(90)]
    (tmp_path / "a.csv").write_text("\n".join(["x,y", *lines]))
    assert {value for value, _ in read(tmp_path / "a.csv").columns["y"].values} == {"$1", "$2", "$5"}


def test_columns_that_cannot_be_read_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = pa.table({"tags": [{"a": 1}, {"a": 2}] * 30, "x": [1, 2] * 30, "y": ["p", "q"] * 30})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    notes = Notes()
    loaded = read(tmp_path / "a.parquet", notes=notes)
    assert set(loaded.columns) == {"x", "y"}
    assert loaded.unusable["tags"].startswith("holds struct<")
    assert notes.texts == [f"'tags' {loaded.unusable['tags']}: left out"]


def test_a_column_that_one_file_lacks_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("x,z,y\n1,2,a\n")
    (tmp_path / "2.csv").write_text("x,y,w\n1,a,2\n")
    table = read(tmp_path)
    assert table.unusable == {
        "z": f"is not in {tmp_path}/2.csv, which has 'x', 'y', 'w'",
        "w": f"is not in {tmp_path}/1.csv",
    }
    assert set(table.columns) == {"x", "y"}


def test_every_file_is_read_though_the_first_reaches_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        pyarrow.parquet.write_table(
            pa.table({"x": [number] * 20_000, "y": ["a"] * 20_000}), tmp_path / f"{number}.parquet"
        )
    monkeypatch.setattr(table, "_ROWS_READ", 40_000)
    loaded = read(tmp_path)
    assert not loaded.complete
    assert {value for value, _ in loaded.columns["x"].values} == {"0", "1", "2", "3"}
    monkeypatch.setattr(table, "_ROWS_READ", 80_000)
    assert read(tmp_path).complete


def test_a_row_with_a_string_among_numbers_is_no_row_of_test_either(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{n},a\n" for n in range(300)) + "oops,b\n")
    (tmp_path / "b.csv").write_text("x,y\n" + "".join(f"{n},a\n" for n in range(99)) + "oops,b\n")
    notes = Notes()
    table = read(tmp_path / "a.csv", tmp_path / "b.csv", notes)
    assert table.is_test is not None
    assert (table.rows, table.bad_rows, len(table.is_test), int(table.is_test.sum())) == (401, 2, 399, 99)
    assert table.mixed["x"] == (2, "oops")
    assert notes.texts == [
        f"strings among the numbers of 'x' ('oops' and 1 more), first in {tmp_path}/a.csv:302: correct them, or name what "
        "stands for a missing value with --missing-value"
    ]


def test_the_first_row_with_a_wrong_number_of_fields_is_named(tmp_path: Path) -> None:
    rows = [f'{n},"a\nb"\n' for n in range(99)]
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(rows) + "1,2,3\n1\n")
    notes = Notes()
    assert read(tmp_path / "a.csv", notes=notes).ragged == 2
    assert notes.texts == [
        f"2 rows have a wrong number of fields, first {tmp_path}/a.csv:200: expected 2 fields, found 3"
    ]


def read_with_notes(path: Path, values: list[str], delimiter: str = ";") -> tuple[RawTable, list[str]]:
    notes = Notes()
    lines = [f"{value}{delimiter}{number}{delimiter}{'ab'[number % 2]}" for number, value in enumerate(values)]
    path.write_text("\n".join([delimiter.join("vxy"), *lines]), encoding="utf-8")
    return read(path, notes=notes), notes.texts


def test_amounts_in_several_currencies_are_noted(tmp_path: Path) -> None:
    table, notes = read_with_notes(tmp_path / "a.csv", ["$1", "US$2", "€3", "€4"] * 25)
    assert notes == ["'v' has amounts in several currencies (25 in $, 25 in US$, 50 in €); they are not converted"]
    assert table.columns["v"].numbers[:4].tolist() == [1, 2, 3, 4]
    assert read_with_notes(tmp_path / "a.csv", ["$1", "$2"] * 50)[1] == []


def test_percent_and_plain_numbers_in_one_column_are_noted(tmp_path: Path) -> None:
    table, notes = read_with_notes(
        tmp_path / "a.csv", [*(f"{n}.5%" for n in range(60)), *(f"{n}.5" for n in range(1, 41)), "NA"]
    )
    assert notes == [
        "'v' has a percent sign in 60 rows and none in 40: '0.5%' is read as 0.005, and '1.5' as it is; write them in "
        "one way, or leave it out (--drop)"
    ]
    assert table.columns["v"].numbers[60] == 1.5
    # 0.25 is 25%.
    assert read_with_notes(tmp_path / "a.csv", ["25%", "0.25"] * 50)[1] == []


def test_the_delimiter_tells_that_a_comma_precedes_the_fraction(tmp_path: Path) -> None:
    values = [f"{n},{n:03d}" for n in range(100, 200)]
    table, notes = read_with_notes(tmp_path / "a.csv", values)
    assert (table.columns["v"].numbers[0], table.csv.decimal) == (100.1, ",")
    assert notes[0].startswith("numbers such as '12,345' are read as 12.345, since the delimiter is ';'; if they are")
    table, notes = read_with_notes(tmp_path / "a.csv", [f'"{value}"' for value in values], ",")
    assert (table.columns["v"].numbers[0], notes) == (100100, [])
    # Values that only a decimal comma reads need no note.
    assert read_with_notes(tmp_path / "a.csv", [*values, "1,5"])[1] == []


def test_numbers_in_two_formats_or_with_units_are_left_out_with_a_note(tmp_path: Path) -> None:
    for others, reason in (
        ([f"{n} kg" for n in range(40)], "has 60 numbers such as '0.25' and 40 with a unit such as '0 kg'"),
        ([f"{n},75" for n in range(40)], "has 60 numbers such as '0.25' and 40 in another format such as '0,75'"),
        ([f"({n}.5)" for n in range(40)], "has 60 numbers such as '0.25' and 40 in parentheses such as '(0.5)'"),
        (
            [f"{n}.5-" for n in range(40)],
            "has 60 numbers such as '0.25' and 40 with the sign at the end such as '0.5-'",
        ),
        ([f"{n}.5K" for n in range(40)], "has 60 numbers such as '0.25' and 40 with K, M or B such as '0.5K'"),
    ):
        table, notes = read_with_notes(tmp_path / "a.csv", [*(f"{n}.25" for n in range(60)), *others])
        assert table.unusable == {"v": reason}
        assert notes == [f"'v' {reason}: left out; write them in one way"]
    # Missing values count for neither.
    table, _ = read_with_notes(
        tmp_path / "a.csv", [*(f"{n}.25" for n in range(60)), *(f"{n},75" for n in range(40)), *["NA"] * 20]
    )
    assert "v" in table.unusable
    for others in ("A{}", "{}A", "{}-1"):
        values = [*(str(n) for n in range(60)), *(others.format(n) for n in range(40))]
        table, notes = read_with_notes(tmp_path / "a.csv", values)
        assert ("v" in table.columns, notes) == (True, [])


def test_records_of_bytes_leave_out_columns_and_those_of_lists_are_read(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for number in range(40):
            example = tf.train.Example()
            example.features.feature["emb"].float_list.value.extend([0.5] * 4)
            example.features.feature["img"].bytes_list.value.append(b"\xff\xd8")
            example.features.feature["x"].float_list.value.append(number)
            example.features.feature["y"].bytes_list.value.append(b"ab"[number % 2 :][:1])
            writer.write(example.SerializeToString())
    notes = Notes()
    table = read(tmp_path / "a.tfrecord", notes=notes)
    assert set(table.columns) == {"emb", "x", "y"}
    assert split_items(table.columns["emb"].texts[0].as_py()) == ["0.5"] * 4
    assert notes.texts == ["'img' holds bytes that are not UTF-8: left out"]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("y;x\na;1\nb;2\n", "has none of the columns of {folder}/a.csv; it has 'y;x', read with the delimiter ','"),
        ("x\n1\n2\n", "has no column 'y', the label (--test)"),
        ("x,y\n1\n2\n", "holds no rows that fit its header: all 2 have another number of fields, read with the"),
    ],
)
def test_a_test_file_that_is_written_in_another_way(test: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "b.csv").write_text(test)
    with pytest.raises(DataError) as refused:
        read(tmp_path / "a.csv", tmp_path / "b.csv")
    assert str(refused.value).startswith(f"{tmp_path}/b.csv: {message.format(folder=tmp_path)}")


def test_an_empty_list_is_a_missing_value(tmp_path: Path) -> None:
    rows = pa.table({"tags": [["a"], [], ["b", "c"], None] * 10, "y": ["p", "q"] * 20})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").columns["tags"].missing_share == 0.5
