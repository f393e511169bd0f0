"""The prose check: each rule finds a text that breaks it, and nothing else."""

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
        ('def f():\n    """Refuses a row."""', "start", "Refuses a row."),
        ('def f():\n    """Whether it is.\n\n    Too.\n    """', "start", "Whether it is."),
        ("async def written(): ...", "names", "written"),
        ("def merged_rows(): ...", "functions", "merged_rows"),
        ("class Table:\n    def _columns(self): ...", "functions", "_columns"),
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
        "def merge_rows(): ...",
        "def _is_merged(): ...",
        "class Rows:\n    def __len__(self): ...\n    def to_json(self): ...",
        "@main.command()\ndef traffic(): ...",
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


def test_all_counts_are_printed_also_those_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "list_files", lambda: ["oncall/__init__.py", "docs/index.md"])
    result = CliRunner().invoke(prose.main, [])
    assert result.exit_code == 0, result.output
    counts = {line.split()[0]: line.split()[1] for line in result.output.splitlines()}
    lines = (prose.ROOT / "oncall" / "__init__.py").read_text().count("\n")
    assert counts == {**dict.fromkeys(prose.RULES, "0"), "verbs": "0", "lines": str(lines)}
    assert "anew 0, goes on 0, mend 0, what serves 0, is no 0" in result.output
    assert f"packages: oncall {lines}, pipeline 0, trainer 0, components 0, serving 0, schemas 0\n" in result.output


def test_a_violation_fails_with_the_command_that_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "found = 1  # It is made anew, and anew."
    monkeypatch.setattr(prose, "list_files", list)
    monkeypatch.setattr(prose, "find_violations", lambda files: list(prose.check_python("oncall/a.py", source)))
    result = CliRunner().invoke(prose.main, [])
    assert result.exit_code == 1
    assert "names          1  names that do not tell the content: oncall 1\n" in result.output
    assert "words          2  words that have a standard one: anew 2, goes on 0," in result.output
    assert "error: places break the rule 'names'; list them: python -m checks.prose --list names\n" in result.output
    listing = CliRunner().invoke(prose.main, ["--list", "words"])
    assert (listing.exit_code, listing.output) == (0, "oncall/a.py:1: anew\n" * 2)


def test_modules_of_a_package_are_two_letters_apart() -> None:
    files = ["a/check.py", "a/checks.py", "a/checker.py", "b/checks.py", "b/check.md", "check.py"]
    assert [(place.file, place.text) for place in prose.find_close_modules(files)] == [("a/checks.py", "checks, check")]


def test_a_public_class_has_one_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    files = ["a.py", "b.py", "tests/c.py"]
    (tmp_path / "tests").mkdir()
    for file in files:
        (tmp_path / file).write_text("class Version: ...\nclass _Own: ...\ndef f():\n    class Inner: ...\n")
    places = [(place.file, place.text) for place in prose.find_equal_classes([*files, "d.md"])]
    assert places == [("b.py", "Version, as in a.py")]


def test_docstrings_are_counted_by_their_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docstrings = (
        "Return it.",
        "Pass it on.",
        "Process it.",
        "Refuses it.",
        "Whether it is.",
        "(a, b) of it.",
        "ML's b.",
    )
    functions = [f'def f():\n    """{text}"""' for text in docstrings]
    functions += ['@property\ndef f(self):\n    """A value."""', 'def test_a():\n    """A case."""', "def f(): ..."]
    (tmp_path / "a.py").write_text("\n\n".join(functions))
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    assert prose.count_verbs(["a.py", "b.md"]) == (3, 7)
