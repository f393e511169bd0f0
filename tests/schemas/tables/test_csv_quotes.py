"""Quotes that swallow rows, wherever a block ends."""

import csv
import io
import random

import pytest

from schemas.tables.csv_quotes import QuoteCheck

HEADER = "id,name,size,kind\n"
ROWS = "".join(f"{number},pipe {number},{number * 2},a\n" for number in range(50))


def problem(content: str, block: int | None = None, fields: int = 4, quote: str = '"') -> tuple[int, str] | None:
    check = QuoteCheck(",", quote, fields)
    encoded = content.encode()
    size = block or len(encoded)
    for start in range(0, len(encoded), size):
        check.add(encoded[start : start + size])
    check.add(b"")
    return check.problem


SWALLOWED = {
    "never closed": ('51,"nail,2,a\n' + ROWS, "opens a value and is never closed"),
    "closed by an inch mark": (
        '51,"5 nail,2,a\n' + ROWS + '52,5" nail,3,b\n',
        "opens a value that ends 51 lines further down, before ' nail,3,b'",
    ),
    "closed by the next value": (
        '51,"5 nail,2,a\n' + ROWS + '52,"big",3,b\n',
        "opens a value that ends 51 lines further down, before 'big\",3,b'",
    ),
    "closed where a value ends": (
        '51,"5 nail,2,a\n' + ROWS + '52,5",3,b\n',
        "opens a value of 52 lines, each of which has the 4 fields of a row",
    ),
}


@pytest.mark.parametrize("block", [None, 1, 7, 64])
@pytest.mark.parametrize(("rows", "reason"), SWALLOWED.values(), ids=SWALLOWED)
def test_a_quote_that_swallows_rows_is_found(rows: str, reason: str, block: int | None) -> None:
    assert problem(HEADER + ROWS + rows, block) == (52, reason)
    assert problem((HEADER + ROWS + rows).replace("\n", "\r\n"), block) == (52, reason)


HONEST = {
    "lines of text": '51,"nail\nwith a head, thick\n",2,a\n' * 9,
    "inch marks": '51,5" nail,2,a\n52,6" nail,2,a\n',
    "a quoted word": '51,"big" nail,2,a\n',
    "quotes in quotes": '51,"""nail""\n""x""",2,a\n',
    "a space after a quote": '51,"a\nb" ,2,a\n',
    "another quote": "51,'nail,2,a\n",
}


@pytest.mark.parametrize("block", [None, 1, 7, 64])
@pytest.mark.parametrize("rows", HONEST.values(), ids=HONEST)
def test_honest_values_pass(rows: str, block: int | None) -> None:
    assert problem(HEADER + ROWS + rows + ROWS, block) is None


def test_what_a_writer_of_csv_writes_passes() -> None:
    source = random.Random(3)
    for _ in range(200):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n", quoting=source.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        for _ in range(30):
            writer.writerow(["".join(source.choices('ab "\n,x', k=source.randrange(6))) for _ in range(4)])
        assert [problem(text.getvalue(), block) for block in (None, 3, 17)] == [None] * 3


def test_lines_that_end_in_carriage_returns() -> None:
    content = (HEADER + ROWS + '51,"5 nail,2,a\n' + ROWS + '52,5",3,b\n').replace("\n", "\r")
    message = problem(content)
    assert message is not None and message[0] == 52
