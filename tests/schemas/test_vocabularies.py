"""Vocabulary files: what users write, and what Transform writes."""

from pathlib import Path

import pytest

from schemas.vocabularies import EMPTY_CATEGORY, ESCAPES, read_vocabulary, unescape


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_are_categories_whatever_editor_wrote_them(tmp_path: Path, end: str, mark: bytes) -> None:
    categories = [
        "plain",
        "a\x0bb",
        "form\x0cfeed",
        "next\x85line",
        "para\u2029graph",
        " spaces ",
        "\ufeffmark",
        "東京",
    ]
    path = tmp_path / "a.txt"
    path.write_bytes(mark + end.join([*categories, "", ""]).encode())
    assert read_vocabulary(path) == categories


@pytest.mark.parametrize("category", ["", "plain", "two\nlines", "\r\n", "\\", "C:\\new", "\\e", "\\b\\n", "\x85"])
def test_a_line_that_was_escaped_is_the_category_again(category: str) -> None:
    line = category
    for character, escape in ESCAPES:
        line = line.replace(character, escape)
    line = line or EMPTY_CATEGORY
    assert line and len(line.split("\n")) == 1 and "\r" not in line
    assert unescape(line) == category
