"""The text of a config."""

import pytest

from pipeline.init.config_text import _epochs


@pytest.mark.parametrize(
    ("rows", "columns", "epochs"),
    [
        (344, 7, 60),
        (8_645, 12, 60),
        (53_940, 9, 41),
        (10_000, 250, 10),
        (10_000, 2_000, 10),
        (100_000, 40, 5),
        (2_000_000, 20, 5),
    ],
)
def test_a_narrow_table_is_read_until_early_stopping_ends_it(rows: int, columns: int, epochs: int) -> None:
    assert _epochs(rows, columns) == epochs
