import datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tables.time_format import TimeFormat, check_format, check_time_zone, has_date
from schemas.tables.times import are_times, read_times

EPOCH = datetime.datetime(1970, 1, 1)
MOMENTS = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 12, 31, 23, 59, 59))


def seconds(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // datetime.timedelta(seconds=1)


def read(values: list[str | None], time_format: str, time_zone: str = "UTC") -> list[int | None]:
    times, faults = read_times(pa.array(values, pa.string()), TimeFormat(time_format, time_zone))
    assert not faults
    written = [
        None if value is None else TimeFormat(time_format, time_zone).write(value) for value in times.to_pylist()
    ]
    # What is written is read again as the same wall seconds.
    assert read_times(pa.array(written, pa.string()), TimeFormat(time_format, time_zone))[0] == times
    assert are_times(pa.array(values).drop_null().cast(pa.string()), TimeFormat(time_format, time_zone)).all()
    return times.to_pylist()


def fault(value: str, time_format: str) -> str:
    strings = pa.array(["", value], pa.string()).filter(pa.array([False, True]))
    times, faults = read_times(strings, TimeFormat(time_format))
    assert times.to_pylist() == [None]
    assert are_times(strings, TimeFormat(time_format)).tolist() == [False]
    return faults[0]


@given(MOMENTS)
@pytest.mark.parametrize(
    "time_format", ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y, %I:%M:%S %p", "%a %b %d %H:%M:%S %Y", "%B %d %Y %H %M %S"]
)
def test_formats_are_read_as_python_reads_them(time_format: str, moment: datetime.datetime) -> None:
    text = moment.strftime(time_format)
    assert read([text], time_format) == [seconds(datetime.datetime.strptime(text, time_format))]


@given(
    MOMENTS,
    st.integers(-15 * 60, 15 * 60),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)
def test_an_offset_gives_the_wall_clock_of_the_zone(moment: datetime.datetime, minutes: int, zone: str) -> None:
    aware = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes)), microsecond=0)
    # Zones had other rules before 1970, which two copies of the tz database need not have alike.
    if 1971 <= moment.year <= 2036:
        wall = aware.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert read([aware.isoformat()], "iso8601", zone) == [seconds(wall)]
        assert read([f"{int(aware.timestamp())}"], "epoch_seconds", zone) == [seconds(wall)]
        assert read([f"{int(aware.timestamp()) * 1000}"], "epoch_milliseconds", zone) == [seconds(wall)]


def test_a_value_without_an_offset_is_of_the_zone_itself() -> None:
    assert read(["2024-07-01 10:00"], "iso8601", "Asia/Tokyo") == [seconds(datetime.datetime(2024, 7, 1, 10))]


def test_times_of_day_are_seconds_since_midnight() -> None:
    assert read(["00:00", "13:45", "1:45 pm", "12:00 AM", "23:59:59.9", None], "time_of_day") == [
        0, 49_500, 49_500, 0, 86_399, None,
    ]  # fmt: skip
    assert not has_date("time_of_day")
    assert not has_date("%H:%M")


def test_two_digits_of_a_year_are_read_as_posix_has_them() -> None:
    assert read(["01/02/68", "01/02/69"], "%d/%m/%y") == [
        seconds(datetime.datetime(2068, 2, 1)),
        seconds(datetime.datetime(1969, 2, 1)),
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2023-02-29", "expected a day that exists, found '2023-02-29'"),
        ("2024-13-01", "expected a day that exists, found '2024-13-01'"),
        ("0001-01-01", "expected a year from 1900 to 2100, found '0001-01-01'"),
        ("2101-01-01", "expected a year from 1900 to 2100, found '2101-01-01'"),
        ("2024-02-29T10:00+99:00", "expected an offset from UTC of at most 16 hours, found '2024-02-29T10:00+99:00'"),
        ("2024-02-29T10:00+01:75", "expected an offset from UTC of at most 16 hours, found '2024-02-29T10:00+01:75'"),
        (
            "29.02.2024",
            "expected a date or a time such as 2024-02-29 or 2024-02-29T13:45:00+01:00, found '29.02.2024'",
        ),
        (
            "2024-02-29 24:00",
            "expected a date or a time such as 2024-02-29 or 2024-02-29T13:45:00+01:00, found '2024-02-29 24:00'",
        ),
    ],
)
def test_what_is_not_a_time_is_named(value: str, reason: str) -> None:
    assert fault(value, "iso8601") == reason


def test_an_epoch_is_a_whole_number() -> None:
    assert fault("1.5", "epoch_seconds") == "expected epoch seconds, a whole number, found '1.5'"
    assert fault("9" * 18, "epoch_seconds") == f"expected a year from 1900 to 2100, found '{'9' * 18}'"
    assert read(["-86400", "+86400", "5.0"], "epoch_seconds") == [-86_400, 86_400, 5]


@pytest.mark.parametrize(
    ("time_format", "message"),
    [
        ("%Q", "'%Q' is not supported"),
        ("%d/%m", "needs a year and a month"),
        ("%I:%M", "%I and %p need each other"),
        ("day", "has neither a date nor an hour"),
        ("%Y %y %m", "two codes of one part"),
        ("%Y-%m %m", "two codes of one part"),
    ],
)
def test_a_format_that_reads_no_time_is_rejected(time_format: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_format(time_format)


def test_a_zone_that_does_not_exist_is_rejected() -> None:
    check_time_zone("Europe/Berlin")
    for name in ("Europe/Atlantis", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="not in the tz database"):
            check_time_zone(name)
