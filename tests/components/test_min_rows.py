"""The least number of rows that a model is judged on."""

import pytest

from components.config import Evaluation
from components.min_rows import check_rows

EVALUATION = Evaluation.model_validate({"split": "test", "thresholds": [{"metric": "log_loss", "upper_bound": 1}]})
TWO, FOUR = ("no", "yes"), ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("labels", "classes", "failures", "warnings"),
    [
        ({"no": 15, "yes": 5}, TWO, [], []),
        (
            {"no": 9, "yes": 3},
            TWO,
            [
                "rows of test: 12, must be at least 20 (evaluation.min_rows); give 'test' more rows",
                "rows of test by class: 'yes' 3, each class must have at least 5 (evaluation.min_rows_per_class); give "
                "'test' more rows",
            ],
            [],
        ),
        (
            {"no": 30},
            TWO,
            [
                "rows of test by class: 'yes' 0, each class must have at least 5 (evaluation.min_rows_per_class); give "
                "'test' more rows"
            ],
            [],
        ),
        (
            {"a": 16, "b": 5, "c": 4, "d": 0},
            FOUR,
            [],
            ["rows of test by class: 'c' 4, 'd' 0; the metrics of these classes are uncertain"],
        ),
        (
            {"a": 30, "b": 4, "c": 4, "d": 0},
            FOUR,
            [
                "rows of test by class: 'b' 4, 'c' 4, 'd' 0, 2 classes must have at least 5 "
                "(evaluation.min_rows_per_class); give 'test' more rows"
            ],
            [],
        ),
        ({"rows": 20, "mean": 1.0, "std": 2.0}, (), [], []),
        (
            {"rows": 19, "mean": 1.0, "std": 2.0},
            (),
            ["rows of test: 19, must be at least 20 (evaluation.min_rows); give 'test' more rows"],
            [],
        ),
    ],
)
def test_too_few_rows(
    labels: dict[str, float], classes: tuple[str, ...], failures: list[str], warnings: list[str]
) -> None:
    check = check_rows(labels, classes, EVALUATION)
    assert (list(check.failures), list(check.warnings)) == (failures, warnings)


def test_the_numbers_are_configurable() -> None:
    smaller = EVALUATION.model_copy(update={"min_rows": 12, "min_rows_per_class": 3})
    assert check_rows({"no": 9, "yes": 3}, TWO, smaller).failures == []
