"""The prose check: each rule finds a text that breaks it, and nothing else."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from checks import prose

LONG = " ".join(["word"] * 31)


@pytest.mark.parametrize(
    ("source", "rule", "text"),
    [
        ('"""What a module holds."""', "start", "What a module holds."),
        ('x: int = 1\n"""For regression: a number."""', "start", "For regression: a number."),
        ('def f(a):\n    """Return a.\n\n    Args:\n      a: of the run.\n    """', "entries", "a: of"),
        (f'"""{LONG}."""', "long", f"{LONG}."),
        ("# It is made anew.", "words", "anew"),
        ('raise ValueError("there is no model, so what serves goes on")', "words", "what serves"),
        ("found = 1", "names", "found"),
        ("def f(known): ...", "names", "known"),
        ("try: ...\nexcept ValueError as one: ...", "names", "one"),
        ("self.there = 1", "names", "there"),
        ("class A:\n    shown: int", "names", "shown"),
        ("match x:\n    case str() as said: ...", "names", "said"),
        ("import a as found", "names", "found"),
        ("def _noted(): ...", "names", "_noted"),
        ("async def written(): ...", "names", "written"),
    ],
)
def test_each_rule_finds_its_place(source: str, rule: str, text: str) -> None:
    places = [(place.rule, place.text) for place in prose.check_python("a/b.py", source)]
    assert (rule, text) in places


def test_plain_sentences_and_names_pass() -> None:
    source = (
        '"""Rows of a table."""\n\n\ndef read(path):\n    """Return the rows again.\n\n    Args:\n'
        '      path: path of the file.\n    """\n    # The file exists.\n    rows = [path]\n    return rows\n'
    )
    assert list(prose.check_python("a/b.py", source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "def need(): ...",
        "def merged_rows(): ...",
        "def test_it_is_refused(): ...",
        "@property\ndef required(self): ...",
        "@pytest.fixture\ndef registered(): ...",
        "rows = table.found",
    ],
)
def test_verbs_properties_fixtures_and_names_of_others_pass(source: str) -> None:
    assert list(prose.check_python("a/b.py", source)) == []


def test_a_sentence_continues_after_a_colon() -> None:
    page = f"{' '.join(['word'] * 15)}: {' '.join(['word'] * 15)}."
    assert [place.rule for place in prose.check_markdown("a.md", page)] == ["long"]


def test_code_of_a_page_is_left_out() -> None:
    page = "It is `anew`.\n\n    anew\n\n```text\nanew\n```\n\nIt runs anew."
    assert [(place.rule, place.line) for place in prose.check_markdown("docs/a.md", page)] == [("words", 9)]
    assert [place.rule for place in prose.check_markdown("a.md", f"{' '.join(['word'] * 26)}. It ends.")] == ["long"]
    # Lines of a table are no words of the sentence before it.
    table = "\n".join(["    loss 0.5"] * 30)
    assert list(prose.check_markdown("a.md", f"It prints\n\n{table}\n\nand ends.")) == []


def test_a_count_above_its_limit_fails_with_the_command_that_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prose, "LIMITS_FILE", tmp_path / "limits.json")
    monkeypatch.setattr(prose, "find_violations", lambda: list(prose.check_python("oncall/a.py", "found = known = 1")))
    (tmp_path / "limits.json").write_text(json.dumps({"names": {"oncall": 1}}))
    result = CliRunner().invoke(prose.main, [])
    assert result.exit_code == 1
    line = "error: oncall: 2 places break the rule 'names', at most 1 expected; list them: python -m checks.prose --list names"
    assert line in result.output
    # Limits do not rise.
    CliRunner().invoke(prose.main, ["--lower"])
    assert json.loads((tmp_path / "limits.json").read_text()) == {"names": {"oncall": 1}}
    (tmp_path / "limits.json").write_text(json.dumps({"names": {"oncall": 3}}))
    assert CliRunner().invoke(prose.main, ["--lower"]).exit_code == 0
    assert json.loads((tmp_path / "limits.json").read_text()) == {"names": {"oncall": 2}}
