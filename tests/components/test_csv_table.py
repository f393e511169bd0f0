from pathlib import Path

import pytest

from components.csv_table import Columns, CsvTable
from schemas.errors import DataError

COLUMNS = Columns(
    types={"age": "float", "grade": "int", "job": "string", "y": "string"},
    required=["age", "y"],
    allowed={"y": ["no", "yes"]},
    missing_values=["", "?"],
    ignored=["id"],
)
GOOD = "age,grade,job,id,y\n39,1,clerk,a,no\n50.5,?,,b,yes\n"


def read(path: Path, content: str | bytes) -> list[dict[str, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [row for batch in CsvTable(str(path), COLUMNS).batches() for row in batch.lists.to_pylist()]


@pytest.mark.parametrize(
    "content",
    [GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.replace("\n", "\n\n")],
    ids=["plain", "byte-order mark", "carriage returns", "blank lines"],
)
def test_rows_become_lists_with_null_for_a_missing_value(content: str, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", content) == [
        {"age": [39.0], "grade": [1], "job": [b"clerk"], "y": [b"no"]},
        {"age": [50.5], "grade": None, "job": None, "y": [b"yes"]},
    ]


def test_quoted_commas_and_newlines_stay_inside_their_field(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", GOOD.replace("clerk", '"clerk, senior\nfull time"'))
    assert rows[0]["job"] == [b"clerk, senior\nfull time"]


def test_the_key_of_a_row_covers_ignored_columns(tmp_path: Path) -> None:
    read(tmp_path / "a.csv", GOOD)
    (batch,) = CsvTable(str(tmp_path / "a.csv"), COLUMNS).batches()
    assert batch.keys == [b"39\x1f1\x1fclerk\x1fa\x1fno", b"50.5\x1f\x1f\x1fb\x1fyes"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.replace("a,no", "a,no,1"), "row 2: expected 5 fields, found 6: '39,1,clerk,a,no,1'"),
        (GOOD.replace(",a,no", ""), "row 2: expected 5 fields, found 3: '39,1,clerk'"),
        (
            GOOD.replace("age,", "", 1).replace("39,", "").replace("50.5,", ""),
            "row 1: there is no column 'age', which the config declares",
        ),
        (
            GOOD.replace("grade", "grades"),
            "row 1: there is no column 'grade', which the config declares; did you mean 'grades'?",
        ),
        (
            GOOD.replace("id", "ident"),
            "row 1: column 'ident' is not declared; declare it under features, or name it in",
        ),
        (GOOD.replace("id", "age"), "the header names age twice"),
        ("", "holds no rows; expected a header with age, grade, job, y, and rows"),
        ("age,grade,job,id,y\n", "holds no rows; expected a header with age, grade, job, y, and rows"),
        (GOOD.replace("39", "NaN"), "row 2: age: expected a finite number, found 'NaN'; correct the row, or name"),
        (GOOD.replace("39", "inf"), "row 2: age: expected a finite number, found 'inf'; correct the row, or name"),
        (GOOD.replace("50.5", "old"), "row 3: age: expected a finite number, found 'old'; correct the row, or name"),
        (GOOD.replace("39,1,", "39,1.5,"), "row 2: grade: expected an integer, found '1.5'; correct the row, or name"),
        (
            GOOD.replace("50.5", "?"),
            "row 3: age: the value is missing; correct the row, or declare what a missing value",
        ),
        (GOOD.replace("b,yes", "b,"), "row 3: y: the label is missing; correct or remove the row"),
        (GOOD.replace("yes", "yes."), "row 3: y: expected 'no' or 'yes', found 'yes.'"),
        (GOOD.replace("clerk", "caf\xe9").encode("latin-1"), "cannot be read as CSV in UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_with_its_row(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    with pytest.raises(DataError) as refused:
        read(path, content)
    assert str(refused.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refused.value)


def test_a_truncated_compressed_file_is_refused(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress((GOOD * 50).encode())[:-20])
    with pytest.raises(DataError, match="cut.csv.gz: cannot be read: Truncated compressed stream"):
        list(CsvTable(str(path), COLUMNS).batches())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.csv: cannot be read"):
        CsvTable(str(tmp_path / "none.csv"), COLUMNS).check_header()
