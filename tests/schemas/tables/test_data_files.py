"""Files by pattern: spans, versions, windows, gaps, and one file in two splits."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from cli.errors import DataError
from schemas.data import Data
from schemas.tables.data_files import guess_format, list_files, name_next_file, resolve_inputs


def data(base: Path, pattern: str, **settings: Any) -> Data:
    splits = {"train": {"files": pattern}, "eval": {"source": "train", "fraction": 0.1}}
    return Data.model_validate({"base": str(base), "splits": splits, **settings})


def touch(base: Path, *names: str) -> None:
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()


def read(config: Data) -> list[tuple[int | None, list[str]]]:
    return [
        (split_input.span, [str(Path(file).relative_to(config.base)) for file in split_input.files])
        for split_input in resolve_inputs(config)
    ]


def test_a_glob_takes_all_files_in_a_stable_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.csv", "a.csv", "c.txt")
    assert read(data(tmp_path, "*.csv")) == [(None, ["a.csv", "b.csv"])]


def test_the_latest_span_in_its_highest_version(tmp_path: Path) -> None:
    touch(tmp_path, "span-2/v1/a.csv", "span-10/v2/a.csv", "span-10/v11/a.csv", "span-10/v11/b.csv", "span-x/v1/a.csv")
    pattern = "span-{SPAN}/v{VERSION}/*.csv"
    assert read(data(tmp_path, pattern)) == [(10, ["span-10/v11/a.csv", "span-10/v11/b.csv"])]
    assert read(data(tmp_path, pattern, span=2)) == [(2, ["span-2/v1/a.csv"])]


def test_a_window_of_spans_and_a_gap_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "3.csv", "4.csv", "5.csv", "7.csv")
    assert read(data(tmp_path, "{SPAN}.csv", span=5, window=3)) == [(3, ["3.csv"]), (4, ["4.csv"]), (5, ["5.csv"])]
    with pytest.raises(DataError, match="span 6 is missing; data.window asks for 5 to 7, and there are: 3, 4, 5, 7"):
        read(data(tmp_path, "{SPAN}.csv", window=3))
    with pytest.raises(DataError, match="span 6 is missing"):
        read(data(tmp_path, "{SPAN}.csv", span=6))


def test_dates_are_spans_of_a_day(tmp_path: Path) -> None:
    touch(tmp_path, "2026-02-28/a.csv", "2026-03-01/a.csv", "2026-13-01x/a.csv")
    inputs = read(data(tmp_path, "{YYYY}-{MM}-{DD}/a.csv", window=2))
    assert inputs == [(20512, ["2026-02-28/a.csv"]), (20513, ["2026-03-01/a.csv"])]
    touch(tmp_path, "2026-02-30/a.csv")
    with pytest.raises(DataError, match="2026-02-30 is not a date"):
        read(data(tmp_path, "{YYYY}-{MM}-{DD}/a.csv"))


def test_no_file_and_a_file_of_two_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\{SPAN\}.csv: no such file|\*.csv: no such file"):
        resolve_inputs(data(tmp_path, "{SPAN}.csv"))
    touch(tmp_path, "a.csv", "test.csv")
    both = {"train": {"files": "*.csv"}, "eval": {"files": "test.csv"}}
    with pytest.raises(DataError, match="test.csv: is in the files of both 'train' and 'eval'"):
        resolve_inputs(data(tmp_path, "*.csv", splits=both))


def test_a_file_a_pattern_or_a_folder_is_listed_in_a_stable_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.csv", "a.csv", "deep/c.csv", "_SUCCESS", ".hidden", "odd[1].csv")
    folder = str(tmp_path)
    assert list_files(f"{folder}/b.csv") == [f"{folder}/b.csv"]
    assert list_files(f"{folder}/odd[1].csv") == [f"{folder}/odd[1].csv"]
    assert list_files(f"{folder}/?.csv") == [f"{folder}/a.csv", f"{folder}/b.csv"]
    assert list_files(f"{folder}/**/c.csv") == [f"{folder}/deep/c.csv"]
    assert list_files(folder) == [f"{folder}/a.csv", f"{folder}/b.csv", f"{folder}/odd[1].csv"]
    assert list_files(f"file://{folder}/?.csv") == [f"file://{folder}/a.csv", f"file://{folder}/b.csv"]
    assert list_files(f"file://{folder}/deep") == [f"file://{folder}/deep/c.csv"]
    assert list_files(f"file://{folder}/b.csv") == [f"file://{folder}/b.csv"]
    for source, reason in ((f"{folder}/x.csv", "no such file"), (f"{folder}/empty", "holds no files")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=reason):
            list_files(source)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"),
        ("a.CSV.gz", "csv"),
        ("a.tsv", "csv"),
        ("a.parquet", "parquet"),
        ("a.tfrecord", "tfrecord"),
        ("a.tfrecords.gz", "tfrecord"),
        ("data_tfrecord-00000-of-00001.gz", "tfrecord"),
        ("part-00000-of-00002", "tfrecord"),
        ("a.xlsx", None),
        ("a.gz", None),
    ],
)
def test_a_format_is_guessed_from_the_name(name: str, format: str | None) -> None:
    assert guess_format(f"folder.csv/{name}") == format


@pytest.mark.parametrize(
    ("pattern", "existing", "expected"),
    [
        ("span-{SPAN}/*.parquet", (), "span-1/outcomes.parquet"),
        ("span-{SPAN}/*.parquet", ("span-2/a.parquet", "span-11/b.parquet"), "span-12/outcomes.parquet"),
        ("{SPAN:4}-v{VERSION:2}.parquet", ("0007-v03.parquet",), "0008-v01.parquet"),
        ("{YYYY}/{MM}-{DD}.parquet", (), "2026/03-09.parquet"),
        ("train-*.parquet", ("train-1.parquet",), "train-outcomes.parquet"),
    ],
)
def test_the_next_file_is_of_a_new_span(tmp_path: Path, pattern: str, existing: tuple[str, ...], expected: str) -> None:
    touch(tmp_path, *existing)
    assert name_next_file(data(tmp_path, pattern), "train", datetime.date(2026, 3, 9)) == str(tmp_path / expected)


def test_a_pattern_of_folders_leaves_the_name_of_a_new_file_open(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'\*\*/\*\.parquet' leaves the name of a new file open; give it: --output"):
        name_next_file(data(tmp_path, "**/*.parquet"), "train")
