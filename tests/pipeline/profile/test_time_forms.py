"""Which columns are times, and how they write them."""

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.profile.columns import Column
from pipeline.profile.time_forms import TimeForm, TimeKind

START = datetime.datetime(2011, 3, 1, 0, 7, 31)
TIMES = [START + datetime.timedelta(days=3 * n, hours=7 * n, minutes=11 * n) for n in range(300)]


def form(values: Sequence[Any], name: str = "x") -> TimeForm | None:
    return Column(name, pa.array([None if value is None else str(value) for value in values], pa.string())).time_form


@pytest.mark.parametrize(
    ("written", "kind", "date_format", "is_ordered"),
    [
        ("%Y-%m-%d", TimeKind.DATE, "%Y-%m-%d", True),
        ("%Y/%m/%d", TimeKind.DATE, "%Y/%m/%d", True),
        ("%Y.%m.%d", TimeKind.DATE, "%Y.%m.%d", True),
        ("%d.%m.%Y", TimeKind.DATE, "%d.%m.%Y", False),
        ("%m/%d/%Y", TimeKind.DATE, "%m/%d/%Y", False),
        ("%d/%m/%Y", TimeKind.DATE, "%d/%m/%Y", False),
        ("%d-%m-%Y", TimeKind.DATE, "%d-%m-%Y", False),
        ("%d/%m/%y", TimeKind.DATE, "%d/%m/%y", False),
        ("%m/%d/%y", TimeKind.DATE, "%m/%d/%y", False),
        ("%d.%m.%y", TimeKind.DATE, "%d.%m.%y", False),
        ("%d-%b-%Y", TimeKind.DATE, "%d-%b-%Y", False),
        ("%d-%b-%y", TimeKind.DATE, "%d-%b-%y", False),
        ("%d %B %Y", TimeKind.DATE, "%d %B %Y", False),
        ("%b %d, %Y", TimeKind.DATE, "%b %d, %Y", False),
        ("%B %d, %Y", TimeKind.DATE, "%B %d, %Y", False),
        ("%Y%m%d", TimeKind.DATE, "%Y%m%d", True),
        ("%Y%m%d%H%M%S", TimeKind.DATE_TIME, "%Y%m%d%H%M%S", True),
        ("%Y-%m-%d %H:%M:%S", TimeKind.DATE_TIME, "%Y-%m-%d %H:%M:%S", True),
        ("%Y-%m-%d %H:%M", TimeKind.DATE_TIME, "%Y-%m-%d %H:%M", True),
        ("%Y-%m-%dT%H:%M:%S", TimeKind.DATE_TIME, "%Y-%m-%dT%H:%M:%S", True),
        ("%Y-%m-%dT%H:%M:%SZ", TimeKind.DATE_TIME, None, True),
        ("%Y-%m-%d %H:%M:%S.000Z", TimeKind.DATE_TIME, None, True),
        ("%Y-%m-%d %H:%M:%S.250", TimeKind.DATE_TIME, None, True),
        ("%Y-%m-%d %H:%M:%S+00:00", TimeKind.DATE_TIME, None, True),
        ("%m/%d/%Y %I:%M:%S %p", TimeKind.DATE_TIME, "%m/%d/%Y %I:%M:%S %p", False),
        ("%d.%m.%Y %H:%M", TimeKind.DATE_TIME, "%d.%m.%Y %H:%M", False),
        ("%a, %d %b %Y %H:%M:%S GMT", TimeKind.DATE_TIME, None, False),
        ("%a %b %d %H:%M:%S %Y", TimeKind.DATE_TIME, None, False),
        ("[%d/%b/%Y:%H:%M:%S +0000]", TimeKind.DATE_TIME, None, False),
        ("%Y-%m", TimeKind.MONTH, "%Y-%m", True),
        ("%Y%m", TimeKind.MONTH, "%Y%m", True),
        ("%b-%Y", TimeKind.MONTH, "%b-%Y", False),
        ("%m/%Y", TimeKind.MONTH, "%m/%Y", False),
        ("%G-W%V", TimeKind.WEEK, None, False),
        ("%H:%M", TimeKind.TIME, None, False),
        ("%H:%M:%S", TimeKind.TIME, None, False),
        ("%I:%M %p", TimeKind.TIME, None, False),
        ("%I %p", TimeKind.TIME, None, False),
    ],
)
def test_forms_of_dates_and_times(written: str, kind: TimeKind, date_format: str | None, is_ordered: bool) -> None:
    times = form([time.strftime(written) for time in TIMES])
    assert times is not None
    assert (times.kind, times.is_ambiguous) == (kind, False)
    if times.kind is not TimeKind.TIME:
        assert (times.date_format, times.is_ordered) == (date_format, is_ordered)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda time: f"{time.year}Q{(time.month + 2) // 3}", TimeKind.QUARTER),
        (lambda time: f"Q{(time.month + 2) // 3} {time.year}", TimeKind.QUARTER),
        (lambda time: f"{time.hour}:{time.minute:02}:00", TimeKind.TIME),
        (lambda time: f"{time.day} days {time:%H:%M:%S}", TimeKind.TIME),
        (lambda time: f"{time.day}th of {time:%B} {time.year}", TimeKind.DATE),
        (lambda time: f"{time.year}-{time.month}-{time.day}", TimeKind.DATE),
        (lambda time: int(time.timestamp()), TimeKind.EPOCH_SECONDS),
        (lambda time: f"{time.timestamp() + 0.25:.2f}", TimeKind.EPOCH_SECONDS),
        (lambda time: int(time.timestamp() * 10**3), TimeKind.EPOCH_MILLISECONDS),
        (lambda time: int(time.timestamp() * 10**6), TimeKind.EPOCH_MICROSECONDS),
        (lambda time: int(time.timestamp()) * 10**9, TimeKind.EPOCH_NANOSECONDS),
    ],
)
def test_forms_without_a_format(write: Callable[[datetime.datetime], Any], kind: TimeKind) -> None:
    times = form([write(time) for time in TIMES])
    assert times is not None and times.kind is kind


def test_the_day_or_the_month_first() -> None:
    both = form([f"{time.month}/{time.day % 12 + 1}/{time.year}" for time in TIMES])
    assert both == TimeForm(TimeKind.DATE, "%m/%d/%Y", is_ambiguous=True)
    assert str(both) == "date, the day or the month first (ambiguous)"
    german = form([f"{time.day % 12 + 1:02}.{time.month:02}.{time.year}" for time in TIMES])
    assert german == TimeForm(TimeKind.DATE, "%d.%m.%Y", is_ambiguous=True)
    mixed = form(["5/12/2013", "31.12.2013"])
    assert mixed == TimeForm(TimeKind.DATE)


def test_a_few_other_texts_and_missing_values_are_allowed() -> None:
    dates = [time.strftime("%Y-%m-%d") for time in TIMES]
    times = form([*dates, "soon", None])
    assert times is not None and times.kind is TimeKind.DATE
    assert form([*dates, *(["soon"] * 40)]) is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year", range(1980, 2014)),
        ("price", np.random.default_rng(1).lognormal(13, 1, 300).round(2)),
        ("population", np.random.default_rng(2).integers(10**4, 10**10, 300)),
        ("zip", np.random.default_rng(3).integers(10**7, 10**8, 300)),
        ("postcode", np.random.default_rng(4).integers(200_000, 203_000, 300)),
        ("account", range(1_000_000_001, 1_000_000_500)),
        ("phone", np.random.default_rng(5).integers(2_010_000_000, 9_890_000_000, 300)),
        ("size", [f"{n % 9}/{n % 7}" for n in range(99)]),
        ("version", [f"{n % 9}.{n % 40}.{n % 11}" for n in range(99)]),
        ("address", [f"10.0.{n}.1" for n in range(99)]),
        ("part", [f"{n + 10}-{n % 70 + 20}-{n % 30 + 40}" for n in range(80)]),
        ("word", ["may", "march", "other"]),
        ("code", ["2013-A", "2014-B"]),
        ("nothing", [None]),
    ],
)
def test_what_is_no_time(name: str, values: Sequence[Any]) -> None:
    assert form(values, name) is None


def test_the_name_is_evidence() -> None:
    assert form([1_380_000_000, 1_380_000_600]) is None
    times = form([1_380_000_000, 1_380_000_600], "created_at")
    assert times is not None and times.kind is TimeKind.EPOCH_SECONDS
    assert form([201_301, 201_302]) is None
    times = form([201_301, 201_302], "month")
    assert times is not None and times.kind is TimeKind.MONTH


def test_only_times_of_day_come_again() -> None:
    assert Column("x", pa.array(["3:22 PM", "11:05 AM"])).is_date is False
    assert Column("x", pa.array(["2013Q1", "2013Q2"])).is_date is True


def test_months_are_spelled_out_or_short() -> None:
    for values, date_format in (
        (["3 May 2023", "25 April 2022", "1 May 2021"], "%d %B %Y"),
        (["3 May 2023", "25 Apr 2022", "1 May 2021"], "%d %b %Y"),
        (["3 May 2023", "25 April 2022", "1 Jun 2021"], None),
        (["July 11, 2022", "May 3, 2023"], "%B %d, %Y"),
    ):
        times = form(values)
        assert times is not None
        assert times.date_format == date_format
