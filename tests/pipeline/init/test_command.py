"""The flags, the output and the exit codes of `python -m pipeline init`."""

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from pipeline.init.command import _write_together
from schemas.data import ColumnSplit, HashSplit
from schemas.features import BinaryLabel, MulticlassLabel, RegressionLabel
from tests.commands import parse_command
from tests.conftest import ROOT
from tests.pipeline.init.test_starter import init, load_and_check, orders, write

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write(tmp_path / "orders.csv", orders())
    return tmp_path


def init_and_load(folder: Path, *flags: str) -> pipeline_config.PipelineConfig:
    done = init(folder, "orders.csv", "--label", "returned?", "--force", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return load_and_check(folder, "orders")


def test_columns_are_kept_and_dropped(shop: Path) -> None:
    loaded = init_and_load(shop, "--keep", "refund", "--drop", "class,größe", "--drop", "items")
    assert "refund" in loaded.features
    assert {"class", "größe", "items"} <= {*loaded.data.ignored_columns}


def test_a_name_with_a_comma_is_one_column(tmp_path: Path) -> None:
    rows = [{"a,b": number % 7, "a": number % 5, "b": number % 3, "y": number % 2} for number in range(300)]
    write(tmp_path / "orders.csv", rows)
    assert init(tmp_path, "orders.csv", "--label", "y", "--drop", "a,b").returncode == 0
    loaded = load_and_check(tmp_path, "orders")
    assert ("a,b" in loaded.data.ignored_columns, {"a", "b"} <= {*loaded.features}) == (True, True)


def test_a_missing_value_that_the_user_names(shop: Path) -> None:
    loaded = init_and_load(shop, "--missing-value", "bronze", "--missing-value", "0")
    assert loaded.data.missing_values == ("", "bronze", "0", "NA")
    assert loaded.features["class"].missing == "unknown"
    assert loaded.features["discount"].missing == "mean"


def test_a_split_by_time(shop: Path) -> None:
    loaded = init_and_load(shop, "--time", "day")
    test, evaluated = loaded.data.splits["test"], loaded.data.splits["eval"]
    assert isinstance(test, ColumnSplit) and isinstance(evaluated, ColumnSplit)
    assert (test.column, evaluated.below) == ("day", test.at_least)
    assert "day" not in {*loaded.features, *loaded.data.ignored_columns}


def test_a_split_by_groups(shop: Path) -> None:
    loaded = init_and_load(shop, "--group", "ship to city")
    assert loaded.data.group_column == "ship to city"
    assert isinstance(loaded.data.splits["test"], HashSplit)
    assert "ship to city" not in {*loaded.features, *loaded.data.ignored_columns}


@pytest.mark.parametrize(
    ("kind", "label"), [("multiclass", MulticlassLabel), ("regression", RegressionLabel), ("binary", None)]
)
def test_the_kind_of_the_label(shop: Path, kind: str, label: Any) -> None:
    done = init(shop, "orders.csv", "--label", "items", "--kind", kind)
    if label is None:
        assert done.returncode == 2
        assert "--kind binary: label 'items' has 8 values" in done.stderr
        return
    assert done.returncode == 0
    assert isinstance(load_and_check(shop, "orders").label, label)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--drop", "itmes"], "--drop itmes: the data has no such column; did you mean 'items'?"),
        (["--keep", "class,itmes"], "--keep itmes: the data has no such column; did you mean 'items'?"),
        (["--group", "citi"], "--group citi: the data has no such column"),
        (["--time", "dey"], "--time dey: the data has no such column; did you mean 'day'?"),
        (["--keep", "items", "--drop", "items"], "--drop items: is named by --keep too"),
        (["--drop", "returned?"], "--drop returned?: is named by --label too"),
        (["--group", "returned?"], "--group returned?: is the label"),
        (["--time", "class"], "--time class: holds "),
        (["--kind", "triple"], "'triple' is not one of 'binary', 'multiclass', 'regression'"),
    ],
)
def test_flags_that_do_not_fit(shop: Path, flags: list[str], message: str) -> None:
    done = init(shop, "orders.csv", "--label", "returned?", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shop / "configs").exists()


def write_table_with_notes(folder: Path) -> None:
    """Write a table that gives more than five notes."""
    rows = orders()
    for number, row in enumerate(rows):
        row["returned?"] = number % 6
        for digits, name in enumerate(("p", "q", "r", "s", "t", "u"), start=3):
            row[name] = -(10**digits - 1) if number % 9 == 0 else f"{number % 89}.5"
    write(folder / "orders.csv", rows)


def test_five_notes_are_printed_and_the_config_has_all(tmp_path: Path) -> None:
    write_table_with_notes(tmp_path)
    done = init(tmp_path, "orders.csv", "--label", "returned?")
    printed_notes = [line.removeprefix("note: ") for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert len(printed_notes) == 5
    # The label comes first.
    assert printed_notes[0].startswith("label 'returned?': 6 whole numbers taken as ")
    everything = init(tmp_path, "orders.csv", "--label", "returned?", "--verbose", "--force")
    notes = [line.removeprefix("note: ") for line in everything.stdout.splitlines() if line.startswith("note: ")]
    assert notes[:5] == printed_notes and len(notes) > 5
    assert f"{len(notes) - 5} more notes: in configs/orders.yaml, or print all with --verbose\n" in done.stdout
    assert "more notes" not in everything.stdout
    text = (tmp_path / "configs" / "orders.yaml").read_text()
    assert all(f"# - {note}\n" in text for note in notes)


def test_more_than_twenty_notes_stand_at_the_end_of_the_config(tmp_path: Path) -> None:
    fills = [sign * (10**digits - 1) for digits in range(3, 15) for sign in (-1, 1)]
    rows = [
        {**{f"x{c}": fill if row % 9 == 0 else f"{(row * 7 + c) % 89}.5" for c, fill in enumerate(fills)}, "y": row % 2}
        for row in range(300)
    ]
    write(tmp_path / "orders.csv", rows)
    assert init(tmp_path, "orders.csv", "--label", "y").returncode == 0
    lines = (tmp_path / "configs" / "orders.yaml").read_text().splitlines()
    at = lines.index("# Please check, the most important first:")
    assert at > lines.index("push:")
    assert len(lines[at + 1 :]) >= 24
    assert f"# The {len(lines[at + 1 :])} notes of `init` are at the end of this file." in lines


def test_json_has_every_decision(shop: Path) -> None:
    done = init(shop, "orders.csv", "--label", "returned?", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["config"], document["schema"], document["exit_code"]) == (
        "configs/orders.yaml",
        "schemas/orders.pbtxt",
        0,
    )
    assert (document["rows"], document["splits"]) == (600, {"train": 420, "eval": 60, "test": 120})
    assert (document["label"]["kind"], document["label"]["positive"]) == ("binary", "returned")
    assert document["features"]["unit.price"]["kind"] == "numeric"
    assert document["ignored"]["shop"].startswith("constant")
    assert document["notes"]
    assert parse_command(" ".join(document["next"]))["config_file"] == "configs/orders.yaml"
    failed = init(shop, "orders.csv", "--label", "nothing", "--json", "--force")
    assert failed.returncode == 2
    assert json.loads(failed.stdout)["exit_code"] == 2
    assert "--label nothing: the data has no such column" in json.loads(failed.stdout)["error"]


def test_the_summary_names_the_label_and_the_splits(shop: Path) -> None:
    done = init(shop, "orders.csv", "--label", "returned?")
    assert "splits: train about 420, eval about 60, test about 120 rows\n" in done.stdout
    assert "label: returned?, binary: two values, the positive one in " in done.stdout
    assert isinstance(load_and_check(shop, "orders").label, BinaryLabel)


def test_the_help_has_a_section_for_every_flag() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "init", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sections = [line for line in done.stdout.splitlines() if line in ("Files:", "Decisions:", "Results:", "Other:")]
    assert sections == ["Files:", "Decisions:", "Results:", "Other:"]
    other = done.stdout.split("\nOther:\n")[1]
    assert [line.split()[0] for line in other.splitlines() if line.startswith("  -")] == ["-h,"]
    for flag in ("--keep", "--drop", "--kind", "--encoding", "--missing-value", "--group", "--time", "--test"):
        assert f"  {flag} " in done.stdout


def has_open(process_id: int, name: str) -> bool:
    """Return whether a process has opened a file of this name."""
    for link in Path(f"/proc/{process_id}/fd").iterdir():
        with contextlib.suppress(OSError):
            if link.readlink().name == name:
                return True
    return False


def test_an_interrupt_leaves_no_file(tmp_path: Path) -> None:
    rows = [{f"x{number}": (row * number) % 97 / 10 for number in range(40)} | {"y": row % 2} for row in range(60_000)]
    write(tmp_path / "orders.csv", rows)
    command = [sys.executable, "-m", "pipeline", "init", "orders.csv", "--label", "y"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not has_open(process.pid, "orders.csv"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["orders.csv"]


def test_an_error_names_the_config_and_not_its_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        _write_together({tmp_path / "a.yaml": "name: [", tmp_path / "a.pbtxt": ""})
    assert str(refused.value).startswith(f"{tmp_path}/a.yaml:") and ".new" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_classes_of_test_that_are_written_in_another_way(shop: Path) -> None:
    rows = orders()
    swapped = [{**row, "returned?": str(row["returned?"]).swapcase()} for row in rows]
    write(shop / "test.csv", swapped)
    done = init(shop, "orders.csv", "--test", "test.csv", "--label", "returned?")
    train, test = (sorted({str(row["returned?"]) for row in some}) for some in (rows, swapped))
    actual, expected = (", ".join(map(repr, some)) for some in (test, train))
    assert done.stderr == (
        f"error: label 'returned?': test has {actual}, and train has {expected}; write both in one way\n"
    )


def test_a_split_by_dates_with_the_months_spelled_out(shop: Path) -> None:
    rows = orders()
    start = datetime.date(2022, 1, 1)
    for number, row in enumerate(rows):
        row["when"] = (start + datetime.timedelta(days=number)).strftime("%d %B %Y")
    write(shop / "orders.csv", rows)
    split = init_and_load(shop, "--time", "when").data.splits["test"]
    assert isinstance(split, ColumnSplit)
    assert split.date_format == "%d %B %Y"
