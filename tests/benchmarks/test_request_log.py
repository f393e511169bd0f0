"""The interval of a median of ratios is that of the binomial distribution, and a writer's memory is printed."""

import re
import subprocess

import psutil
import pytest

from benchmarks.request_log import MeasuredServer, find_interval


@pytest.mark.parametrize(("rounds", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (10, 2, 9), (12, 3, 10)])
def test_ordered_ratios_bound_the_median(rounds: int, low: int, high: int) -> None:
    interval = find_interval([float(number) for number in range(rounds, 0, -1)])
    assert interval.median == (rounds + 1) / 2
    # Conover, Practical Nonparametric Statistics, 1999, section 3.2.
    assert (interval.low, interval.high) == (low, high)


def test_the_memory_of_the_process_that_writes_is_printed() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        process = psutil.Process(server.pid)
        (writer,) = process.children()
        try:
            assert re.fullmatch(r"writer uss \d+ MB, rss \d+ MB", MeasuredServer("", process).describe_writer())
            assert MeasuredServer("", writer).describe_writer() == ""
        finally:
            writer.kill()
