import pytest

from cli.counts import format_count


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "row"), "1 row"),
        ((0, "row"), "0 rows"),
        ((2000, "row", "have"), "2,000 rows have"),
        ((1, "row", "do"), "1 row does"),
        ((1, "class"), "1 class"),
        ((3, "class", "are"), "3 classes are"),
    ],
)
def test_a_count_agrees_with_its_noun_and_verb(arguments: tuple[int, str], text: str) -> None:
    assert format_count(*arguments) == text
