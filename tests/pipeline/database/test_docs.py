"""docs/metadata.md is held against the code: what it quotes is what is said."""

import ast
import re

import yaml

from pipeline.database.config import MySQL, PostgreSQL
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "metadata.md").read_text()
# Stand for what differs.
_PLACES = re.compile(r"\.\.\.|\b(?:RUN_ROOT|OTHER|HOST|X|\d+)\b")


def collect_messages() -> str:
    """Return every text of the code that may be printed, without the values in it."""
    texts = []
    for file in (ROOT / "pipeline" / "database").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(p.value for p in node.values if isinstance(p, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_every_line_that_the_page_quotes_is_said() -> None:
    message = collect_messages()
    quoted = re.findall(r"^\| (`.+`) \|", PAGE, flags=re.MULTILINE) + re.findall(
        r"\| (`.+`) \|$", PAGE, flags=re.MULTILINE
    )
    phrases = [phrase for cell in quoted for phrase in re.findall(r"`([^`]+)`", cell)]
    assert len(phrases) > 18
    for phrase in phrases:
        for part in _PLACES.split(phrase):
            assert part.strip(" ,;") in message, (phrase, part)


def test_the_config_of_the_page_is_one() -> None:
    (block,) = re.findall(r"((?:^    .*\n)+)\nThe database is made once", PAGE, flags=re.MULTILINE)
    values = yaml.safe_load(block)["metadata"]
    assert MySQL(**values).port == 3306
    del values["tls"]
    assert PostgreSQL(**{**values, "kind": "postgresql"}).port == 5432
