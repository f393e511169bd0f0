"""The short form of `python -m benchmarks.coverage`, with a fixed seed."""

import pytest

from benchmarks import coverage as coverage_benchmark
from benchmarks.coverage import METRICS_BY_LABEL, measure_coverage
from schemas.features import LabelKind

# Of 200 data sets, the share has a standard error of 1.5 %.
_LOW, _HIGH = 0.9, 0.99


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("label", METRICS_BY_LABEL)
def test_the_intervals_of_200_rows_cover_the_true_values(
    label: LabelKind, is_weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Metrics of so many rows are known twenty times as exactly as those of 200.
    monkeypatch.setattr(coverage_benchmark, "_POPULATION_ROWS", 100_000)
    coverages = [*measure_coverage(label, 200, 200, is_weighted=is_weighted)]
    assert len(coverages) == 2 * len(METRICS_BY_LABEL[label])
    for coverage in coverages:
        assert _LOW <= coverage.share <= _HIGH, coverage
