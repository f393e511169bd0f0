"""What init reads of the files: rows, columns, numbers as people write them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from pipeline.init import table
from pipeline.init.notes import Notes
from pipeline.init.progress import Progress
from pipeline.init.requests import Requests
from pipeline.init.source import find_source
from pipeline.init.table import RawTable, read_table


def read(data: Path, test: Path | None = None, notes: Notes | None = None, label: str = "y") -> RawTable:
    source = find_source(
        str(data), test=None if test is None else str(test), delimiter=None, column_names=(), header=True
    )
    return read_table(source, Requests(label), notes or Notes(), Progress())


def test_numbers_as_people_write_them_become_numbers_and_options_of_csv(tmp_path: Path) -> None:
    lines = [f"1.{n:03d},5 €;{n % 60},5 %;{n};Bonn;{'ja' if n % 3 else 'nein'}" for n in range(100, 300)]
    (tmp_path / "a.csv").write_text("\n".join(["preis;rabatt;menge;ort;y", *lines]), encoding="utf-8")
    found = read(tmp_path / "a.csv")
    assert (found.csv.decimal, found.csv.thousands, found.csv.currency, found.csv.percent) == (",", ".", ("€",), True)
    assert found.columns["preis"].numbers[0] == 1100.5
    assert found.columns["rabatt"].numbers[0] == pytest.approx(0.405)
    assert found.columns["menge"].is_integer
    assert found.columns["ort"].texts[0].as_py() == "Bonn"


def test_a_label_of_few_amounts_keeps_its_spelling(tmp_path: Path) -> None:
    lines = [f"{n % 7},{('$1', '$2', '$5')[n % 3]}" for n in range(90)]
    (tmp_path / "a.csv").write_text("\n".join(["x,y", *lines]))
    assert {value for value, _ in read(tmp_path / "a.csv").columns["y"].values} == {"$1", "$2", "$5"}


def test_columns_that_cannot_be_read_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = pa.table({"tags": [["a"], ["b", "c"]] * 30, "x": [1, 2] * 30, "y": ["p", "q"] * 30})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    notes = Notes()
    found = read(tmp_path / "a.parquet", notes=notes)
    assert set(found.columns) == {"x", "y"}
    assert found.unusable["tags"].startswith("holds list<")
    assert notes.texts() == [f"'tags' {found.unusable['tags']}: left out"]


def test_a_column_that_one_file_lacks_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("x,z,y\n1,2,a\n")
    (tmp_path / "2.csv").write_text("x,y,w\n1,a,2\n")
    found = read(tmp_path)
    assert found.unusable == {"z": f"is not in {tmp_path}/2.csv", "w": f"is not in {tmp_path}/1.csv"}
    assert set(found.columns) == {"x", "y"}


def test_every_file_is_read_though_the_first_reaches_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        pyarrow.parquet.write_table(
            pa.table({"x": [number] * 20_000, "y": ["a"] * 20_000}), tmp_path / f"{number}.parquet"
        )
    monkeypatch.setattr(table, "_ROWS_READ", 40_000)
    found = read(tmp_path)
    assert not found.complete
    assert {value for value, _ in found.columns["x"].values} == {"0", "1", "2", "3"}
    monkeypatch.setattr(table, "_ROWS_READ", 80_000)
    assert read(tmp_path).complete


def test_a_row_with_a_string_among_numbers_is_no_row_of_test_either(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{n},a\n" for n in range(300)) + "oops,b\n")
    (tmp_path / "b.csv").write_text("x,y\n" + "".join(f"{n},a\n" for n in range(99)) + "oops,b\n")
    found = read(tmp_path / "a.csv", tmp_path / "b.csv")
    assert found.is_test is not None
    assert (found.rows, found.bad_rows, len(found.is_test), int(found.is_test.sum())) == (401, 2, 399, 99)
    assert found.mixed["x"] == (2, "oops")
