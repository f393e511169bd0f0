"""The short form of `python -m benchmarks.traffic`, with fixed seeds."""

import pytest

from benchmarks.traffic import SHIFTS, STEPS, WINDOW_ROWS, count_false_alarms, find_rows_needed
from tests.oncall.traffic_logs import census


@pytest.mark.integration
def test_windows_of_unchanged_rows_have_no_finding() -> None:
    assert [*count_false_alarms(census(), 20, WINDOW_ROWS, seed=1)] == [[]] * 20
    assert [*count_false_alarms(census(), 40, STEPS[0], seed=1)] == [[]] * 40


@pytest.mark.parametrize("shift", [name for name in SHIFTS["census"] if name != "5 % more missing"])
def test_a_planted_shift_is_a_finding_within_a_thousand_rows(shift: str) -> None:
    column, change = SHIFTS["census"][shift]
    for seed in (100, 101, 102):
        rows = find_rows_needed(census(), column, change, seed)
        assert rows is not None and rows <= STEPS[-1], (shift, seed)
