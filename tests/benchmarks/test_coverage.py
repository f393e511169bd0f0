"""The short form of `python -m benchmarks.coverage`, with a fixed seed."""

import pytest
from click.testing import CliRunner

from benchmarks import coverage as coverage_benchmark
from benchmarks.coverage import METRICS_BY_LABEL, Coverage, main, measure_coverage
from schemas.features import LabelKind


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
        assert coverage.is_right, coverage


@pytest.mark.parametrize(
    ("share", "datasets", "is_right"), [(0.98, 2000, True), (0.99, 2000, False), (0.99, 200, True), (0.88, 200, False)]
)
def test_fewer_data_sets_have_wider_bounds(share: float, datasets: int, is_right: bool) -> None:
    assert Coverage("auc", 200, False, share, datasets).is_right == is_right


@pytest.mark.parametrize("arguments", [["--rows", "300"], ["--datasets", "0"]])
def test_wrong_flags_are_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2
