"""How init divides rows: by shares, files, time and groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cli.errors import ConfigError
from pipeline.init.notes import Notes
from pipeline.init.requests import Requests
from pipeline.init.splits import SplitPlan, plan_splits
from pipeline.profile.columns import Column
from schemas.data import ColumnSplit


def plan(is_test: Any = None, notes: Notes | None = None, **columns: Sequence[Any]) -> SplitPlan:
    requests = Requests(
        "y", time="when" if "when" in columns else None, group="customer" if "customer" in columns else None
    )
    rows = len(next(iter(columns.values())))
    columns = {"y": ["a", "b"] * (rows // 2) + ["a"] * (rows % 2), **columns}
    table = {
        name: Column(name, pa.array([None if value is None else str(value) for value in values], pa.string()))
        for name, values in columns.items()
    }
    return plan_splits(table, is_test, requests, notes or Notes())


@pytest.mark.parametrize(("rows", "share"), [(344, 0.2), (4_999, 0.2), (5_000, 0.1), (50_000, 0.1)])
def test_small_tables_are_tested_on_a_fifth(rows: int, share: float) -> None:
    split_plan = plan(x=range(rows))
    assert split_plan.declared["test"][0] == {"source": "train", "fraction": share}
    assert split_plan.declared["eval"][0] == {"source": "train", "fraction": 0.1}
    assert [part.expected_rows for part in split_plan.parts.values()] == [
        round((0.9 - share) * rows),
        round(0.1 * rows),
        round(share * rows),
    ]
    assert split_plan.is_test is None


DAYS = [np.datetime64("2023-01-01") + day for day in range(300)]


@pytest.mark.parametrize(
    ("when", "at_least", "date_format"),
    [
        (DAYS, "2023-08-29", None),
        ([f"{day} 10:30:00.000Z" for day in DAYS], "2023-08-29", None),
        ([f"2023-01-01T{n // 60:02d}:{n % 60:02d}:00" for n in range(300)], "2023-01-01T04:00:00", None),
        ([day.astype(object).strftime("%d/%m/%Y") for day in DAYS], "29/08/2023", "%d/%m/%Y"),
        ([day.astype(object).strftime("%d-%b-%Y") for day in DAYS], "29-Aug-2023", "%d-%b-%Y"),
        ([day.astype(object).strftime("%d %b %Y") for day in DAYS], "29 Aug 2023", "%d %b %Y"),
        ([day.astype(object).strftime("%d %B %Y") for day in DAYS], "29 August 2023", "%d %B %Y"),
        ([day.astype(object).strftime("%B %d, %Y") for day in DAYS], "August 29, 2023", "%B %d, %Y"),
        ([day.astype(object).strftime("%Y%m%d") for day in DAYS], 20230829, None),
        ([1_600_000_000 + 86_400 * number for number in range(300)], 1_600_000_000 + 86_400 * 240, None),
        ([1990 + number // 30 for number in range(300)], 1998, None),
        ([number / 2 for number in range(300)], 120, None),
    ],
)
def test_the_latest_fifth_is_the_test_split(when: list[Any], at_least: Any, date_format: str | None) -> None:
    shuffled = np.random.default_rng(1).permutation(len(when))
    split_plan = plan(when=[when[number] for number in shuffled])
    test, evaluated = split_plan.declared["test"][0], split_plan.declared["eval"][0]
    assert test["at_least"] == at_least
    assert test.get("date_format") == date_format
    assert split_plan.is_test is not None
    assert split_plan.is_test.tolist() == (shuffled >= 240).tolist()
    # Early stopping watches the rows before.
    assert evaluated["below"] == at_least
    assert split_plan.parts["eval"].rows.tolist() == ((shuffled >= 210) & (shuffled < 240)).tolist()
    assert split_plan.parts["train"].rows.tolist() == (shuffled < 210).tolist()
    for declared in (test, evaluated):
        ColumnSplit.model_validate(declared)


def test_few_times_leave_eval_to_chance() -> None:
    split_plan = plan(when=[2008] * 60 + [2009] * 40)
    assert split_plan.declared["test"][0]["at_least"] == 2009
    assert split_plan.declared["eval"][0] == {"source": "train", "fraction": 0.1}
    assert (split_plan.parts["eval"].expected_rows, split_plan.parts["test"].expected_rows) == (6, 40)


def test_a_date_whose_day_or_month_may_be_first_is_noted() -> None:
    notes = Notes()
    plan(notes=notes, when=[f"{1 + number % 12:02d}/{1 + number // 12 % 12:02d}/2023" for number in range(144)])
    (note,) = notes.texts
    assert "the day or the month may be first" in note


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"when": ["2023-01-01"] * 50}, "--time when: all values are '2023-01-01'"),
        ({"when": ["soon", "later"] * 25}, "--time when: holds 'soon'; expected numbers, or dates"),
        ({"when": [f"{hour % 24}:15" for hour in range(50)]}, "expected numbers, or dates"),
        ({"when": [None] * 30 + [*range(20)]}, "--time when: 60% of the rows have no value"),
        ({"when": [1] * 10 + [2] * 90}, "the rows from '2' on are 90.0% of all"),
        ({"customer": ["a"] * 50}, "--group customer: holds 1 values"),
        ({"when": [*range(50)], "customer": ["a", "b"] * 25}, "2 of 2 values of test are in train too, by --time when"),
    ],
)
def test_rows_that_cannot_be_divided(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=".") as raised:
        plan(**columns)
    assert message in str(raised.value)


_DAYS = [f"2023-{1 + number // 28:02d}-{1 + number % 28:02d}" for number in range(300)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2023-02-29", "expected a day that exists, found '2023-02-29'"),
        ("2023-13-01", "found '2023-13-01'"),
        ("2023-02-28T10:00:00+99:00", "found '2023-02-28T10:00:00+99:00'"),
    ],
)
def test_dates_that_are_in_no_calendar_are_noted(value: str, reason: str) -> None:
    notes = Notes()
    plan(notes=notes, when=[*_DAYS, value, value])
    (note,) = notes.texts
    assert note.startswith("'when' has 2 dates that are in no calendar of 1900 to 2100 (") and reason in note
    plan(notes=(quiet := Notes()), when=[*_DAYS, "2024-02-29", "2023-02-28T10:00:00+02:00"])
    assert quiet.texts == []


@pytest.mark.parametrize("value", ["soon", "29.02.2024", "99999-01-01"])
def test_a_date_in_another_format_stops_init(value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        plan(when=[*_DAYS, value])
    assert str(raised.value).startswith(
        f"--time when: expected a date as date_format '%Y-%m-%d' describes it, found '{value}'; correct the row"
    )


def test_files_of_a_test_split() -> None:
    is_test = np.arange(1_000) >= 800
    split_plan = plan(is_test=is_test, x=range(1_000))
    assert [part.expected_rows for part in split_plan.parts.values()] == [720, 80, 200]
    assert set(split_plan.declared) == {"eval"}
    with pytest.raises(ConfigError, match="--time: the test split is read from files"):
        plan(is_test=is_test, when=range(1_000))
    with pytest.raises(ConfigError, match="10 of 10 values of test are in train too, by --test"):
        plan(is_test=is_test, customer=[number % 10 for number in range(1_000)])


def test_rows_without_a_time_are_in_train_with_a_note() -> None:
    notes = Notes()
    split_plan = plan(notes=notes, when=[None if number % 4 == 0 else number for number in range(400)])
    assert "'when' has no value in 100 rows (25.0%): all of them are in train" in notes.texts
    assert split_plan.parts["train"].rows[::4].all()
    assert split_plan.parts["test"].expected_rows == 60
