import datetime

import numpy as np
import pytest
import tensorflow as tf

from schemas.tables.time_parts import PARTS

EPOCH = datetime.datetime(1970, 1, 1)
# Each day from 1900 to 2100, at a time of day that differs from day to day.
MOMENTS = [
    datetime.datetime(1900, 1, 1) + datetime.timedelta(days=day, seconds=day * 7_919 % 86_400) for day in range(73_414)
]
EXPECTED = {
    "days_since_1970": lambda moment: (moment - EPOCH).days,
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month - 1,
    "day_of_month": lambda moment: moment.day - 1,
    "day_of_year": lambda moment: moment.timetuple().tm_yday - 1,
    "week": lambda moment: moment.isocalendar().week - 1,
    "weekday": lambda moment: moment.weekday(),
    "hour": lambda moment: moment.hour,
    "minute_of_day": lambda moment: moment.hour * 60 + moment.minute,
}


@pytest.mark.parametrize("library", ["numpy", "tensorflow"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_that_of_python_on_every_day_of_two_centuries(part: str, library: str) -> None:
    seconds = np.array([(moment - EPOCH) // datetime.timedelta(seconds=1) for moment in MOMENTS])
    assert MOMENTS[-1].date() == datetime.date(2100, 12, 31)
    values = PARTS[part](seconds if library == "numpy" else tf.constant(seconds))
    np.testing.assert_array_equal(np.asarray(values), [EXPECTED[part](moment) for moment in MOMENTS])
