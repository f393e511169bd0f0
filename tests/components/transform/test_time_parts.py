import datetime

import numpy as np
import pytest
import tensorflow as tf

from components.transform.time_parts import PARTS

EPOCH = datetime.datetime(1970, 1, 1)
# Each day from 1900 to 2100, at a time of day that differs from day to day.
MOMENTS = [
    datetime.datetime(1900, 1, 1) + datetime.timedelta(days=day, seconds=day * 7_919 % 86_400) for day in range(73_414)
]
EXPECTED = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month - 1,
    "day_of_month": lambda moment: moment.day - 1,
    "day_of_year": lambda moment: moment.timetuple().tm_yday - 1,
    "week": lambda moment: moment.isocalendar().week - 1,
    "weekday": lambda moment: moment.weekday(),
    "hour": lambda moment: moment.hour,
    "minute_of_day": lambda moment: moment.hour * 60 + moment.minute,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_that_of_python_on_every_day_of_two_centuries(part: str) -> None:
    seconds = tf.constant([(moment - EPOCH) // datetime.timedelta(seconds=1) for moment in MOMENTS], tf.int64)
    assert MOMENTS[-1].date() == datetime.date(2100, 12, 31)
    np.testing.assert_array_equal(PARTS[part](seconds).numpy(), [EXPECTED[part](moment) for moment in MOMENTS])
