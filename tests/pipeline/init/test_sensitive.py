"""`init --sensitive`: the columns are marked, and neither output nor files show their values."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.init.test_starter import init, load_and_check, write

pytestmark = pytest.mark.integration

# As they are written and as a profile may format them.
_CANARY = re.compile(r"CANARY|987[,.]?654|9\.877e\+0?5|1987-0[65]")


def values_of(number: int) -> dict[str, Any]:
    """Return the values of a row, of which each column has something that is worth a note, a reason or a bound."""
    return {
        "text": f"CANARY wrote a long letter about number {number} to us",
        "constant": "CANARY",
        "day": f"1987-0{5 + number % 2}-{number % 28 + 1:02}",
        "place": f"CANARY {number % 7}",
        "two": f"CANARY {number % 2}",
        "few": 987654 + number % 5,
        "amount": 987654 + number * 0.37,
        "mixed": "CANARY" if number % 50 == 7 else 987654 + number,
        "words": "CANARY" if number % 9 == 7 else 987654 + number,
        "filled": 987654999 if number % 6 == 3 else number % 13,
        "unit": f"{987654 + number} kg",
        "x": number * 7919 % 101,
        "y": "yes" if number * 7919 % 101 > 50 + number % 9 else "no",
    }


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write(tmp_path / "orders.csv", [values_of(number) for number in range(600)])
    return tmp_path


SENSITIVE = [name for name in values_of(0) if name not in ("x", "y")]
FLAGS = [part for name in SENSITIVE for part in ("--sensitive", name)]


def read_files(folder: Path) -> str:
    files = [folder / "configs" / "orders.yaml", folder / "schemas" / "orders.pbtxt"]
    return "".join(file.read_text() for file in files if file.exists())


@pytest.mark.parametrize("flags", [("--verbose",), ("--json",), ("--keep", "text", "--keep", "day", "--verbose")])
def test_no_note_reason_bound_or_category_is_shown(table: Path, flags: tuple[str, ...]) -> None:
    done = init(table, "orders.csv", "--label", "y", *FLAGS, *flags)
    assert done.returncode == 0, done
    assert _CANARY.findall(done.stdout + done.stderr + read_files(table)) == []
    config = load_and_check(table, "orders")
    assert {*config.sensitive_columns} == {*SENSITIVE}
    assert all(feature.sensitive for name, feature in config.features.items() if name != "x")
    assert "constant" in config.data.sensitive_columns and "amount" in config.features
    # The search would find them.
    init(table, "orders.csv", "--label", "y", "--force", *flags)
    assert len(_CANARY.findall(read_files(table))) > 10


@pytest.mark.parametrize(
    ("label", "flags", "message"),
    [
        ("constant", (), "error: 'constant': <masked>, since it may show values; without --sensitive it is shown\n"),
        (
            "two",
            ("--kind", "regression"),
            "error: 'two': <masked>, since it may show values; without --sensitive it is shown\n",
        ),
        (
            "y",
            ("--time", "place"),
            "error: 'place': <masked>, since it may show values; without --sensitive it is shown\n",
        ),
        (
            "y",
            ("--sensitive", "plac"),
            "error: --sensitive plac: ./orders.csv has no such column; its 13 names are not",
        ),
    ],
)
def test_an_error_about_a_sensitive_column_is_masked(table: Path, label: str, flags: Any, message: str) -> None:
    done = init(table, "orders.csv", "--label", label, *FLAGS, *flags)
    assert done.returncode != 0 and message in done.stderr
    assert not _CANARY.search(done.stdout + done.stderr)


def test_a_sensitive_number_is_a_label_without_its_range(table: Path) -> None:
    done = init(table, "orders.csv", "--label", "amount", "--drop", "y", *FLAGS)
    assert done.returncode == 0 and "label: amount, regression: <masked>" in done.stdout
    assert _CANARY.findall(done.stdout + done.stderr + read_files(table)) == []
    assert load_and_check(table, "orders").label.sensitive


@pytest.mark.parametrize("start", [b"", b"place,x,y\n"])
def test_a_file_in_another_encoding_or_without_a_header_is_not_quoted(tmp_path: Path, start: bytes) -> None:
    rows = b"".join(b"CANARY \xe9t\xe9 %d,%d,%d\n" % (n % 7, n, n % 2) for n in range(100))
    (tmp_path / "orders.csv").write_bytes(start + rows)
    done = init(tmp_path, "orders.csv", "--label", "y", "--sensitive", "place", "--verbose")
    assert (done.returncode == 0) == bool(start), done
    assert not _CANARY.search(done.stdout + done.stderr + read_files(tmp_path))
    assert "read as latin-1, it has <masked>" in done.stdout if start else "--no-header" in done.stderr


def test_a_weight_can_be_sensitive(table: Path) -> None:
    done = init(table, "orders.csv", "--label", "y", "--weight", "x", "--sensitive", "x")
    assert done.returncode == 0, done
    assert load_and_check(table, "orders").sensitive_columns == ("x",)
