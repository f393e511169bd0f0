"""Prose check: plain sentences, one word for one thing, and names that tell the content.

python -m checks.prose               # counts by rule and room
python -m checks.prose --list words  # the places of a rule
python -m checks.prose --lower       # lower the limits to the counts

A count above its limit fails. Limits only fall: they are a ratchet until all are 0.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
LIMITS_FILE = ROOT / "checks" / "prose_limits.json"

# A word, and the standard one.
WORDS = {
    r"anew": "again",
    r"goes on|go on|went on": "continue",
    r"mend(s|ed)?": "fix",
    r"[Ww]hat serves|[Ww]hat served": "serving version",
    r"(?<!there )is no(?= [a-z])(?! (longer|more|other|one|less|further|later|better|worse|narrower))": "is not a",
    r"(is|are|was) there(?=[.,;:)]| (is|are|and|or)\b)": "exists",
    r"Left out,|left out, (?=[a-z`])": "if omitted",
    r"answered from the cache|answered from earlier": "reused",
    r"stands? twice": "duplicate",
    r"say more": "ambiguous",
    r"crown(s|ed)?": "promote",
    r"who(ever)? is on call": "on-call engineer",
}
RULES = ("start", "entries", "long", "words", "names")
# Names for how a value came, which do not tell its content.
NAMES = frozenset({"found", "known", "wanted", "given", "said", "shown", "told", "one", "there"})
# Participles, which do not tell an action: a function is a verb, and a predicate starts with `is_` or `has_`.
_PARTICIPLE = re.compile(
    r"begun|bound|built|chosen|drawn|found|given|held|kept|known|made|missing|overridden|rewritten|said|sent|seen|shown|"
    r"taken|thrown|told|understood|waiting|written|"
    r"(?!(?:embed|exceed|feed|need|proceed|seed|shed|speed|succeed)$)[a-z]+ed"
)
_WORDS = re.compile("|".join(rf"\b(?:{pattern})" for pattern in WORDS), re.IGNORECASE)
_START = re.compile(r"\s*(What|Who|Of|For|That|Those|As|So)\b")
_ENTRY = re.compile(r"^\s+[a-z_*][\w*, ]*: (of|what|how|where|that|which|who|when|as|those)\b", re.MULTILINE)
# The words themselves, their tests, pages that are written from the code, and the past.
_NOT_CHECKED = ("checks/prose.py", "tests/checks/test_prose.py", "docs/commands.md", "docs/config.md", "CHANGELOG.md")
_MAX_WORDS_OF_DOCS, _MAX_WORDS_OF_DOCSTRINGS = 25, 30
# The end of a sentence, of a paragraph, or of an item.
_SENTENCE_END = re.compile(r"[.!?][\"*)]*(?=\s|$)|\n\s*\n|\n\s*[-*|\d]")


@dataclass(frozen=True)
class Violation:
    """A place that breaks a rule.

    Attributes:
      rule: one of `RULES`.
      file: path below the root.
      line: line of the file, from 1.
      text: the words.
    """

    rule: str
    file: str
    line: int
    text: str

    @property
    def room(self) -> str:
        """The top-level folder, or `root`."""
        return self.file.partition("/")[0] if "/" in self.file else "root"


def check_python(file: str, source: str) -> Iterator[Violation]:
    """Yield the places of a Python file that break a rule."""
    tree = ast.parse(source)
    for line, text in _find_docstrings(tree):
        if _START.match(text):
            yield Violation("start", file, line, text.strip().splitlines()[0])
        for entry in _ENTRY.finditer(text):
            yield Violation("entries", file, line, entry.group().strip())
        yield from _find_long(file, line, text, _MAX_WORDS_OF_DOCSTRINGS)
    for node in ast.walk(tree):
        name = _read_name(node)
        if name in NAMES or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_participle(node)):
            yield Violation("names", file, getattr(node, "lineno", 0), name)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for word in _WORDS.finditer(token.string):
                yield Violation("words", file, token.start[0], word.group())


def _read_name(node: ast.AST) -> str:
    """Return the name that a node defines; empty if it defines none."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.alias(asname=str(name)):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
    return ""


def _is_participle(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function has a participle for its name; properties, fixtures and tests are named otherwise."""
    decorators = " ".join(map(ast.unparse, function.decorator_list))
    if function.name.startswith("test_") or re.search(r"property|fixture|\.setter", decorators):
        return False
    return _PARTICIPLE.fullmatch(function.name.strip("_")) is not None


def check_markdown(file: str, source: str) -> Iterator[Violation]:
    """Yield the places of a page that break a rule; a block of code ends a sentence, and code in a line is a word."""
    text = re.sub(
        r"^```.*?^```|^(    |\t).*?$",
        lambda code: re.sub(r"[^\n]+", "", code.group()),
        source,
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"`[^`\n]*`", "x", text)
    for number, line in enumerate(text.splitlines(), 1):
        for word in _WORDS.finditer(line):
            yield Violation("words", file, number, word.group())
    yield from _find_long(file, 1, text, _MAX_WORDS_OF_DOCS)


def _find_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield docstrings with their lines; a string below an attribute is one, too."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        # The body of a lambda is an expression.
        for statement in body if isinstance(body, list) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def _find_long(file: str, line: int, text: str, limit: int) -> Iterator[Violation]:
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        sentence = text[start:end]
        if len(re.findall(r"[A-Za-z][\w'-]*", sentence)) > limit and "|" not in sentence:
            first = start + len(sentence) - len(sentence.lstrip())
            yield Violation("long", file, line + text.count("\n", 0, first), " ".join(sentence.split()))
        start = end


def find_violations() -> list[Violation]:
    """Return all places of the repository that break a rule."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    violations: list[Violation] = []
    for file in listed:
        # A file that git lists may have been deleted since.
        if file in _NOT_CHECKED or not (ROOT / file).exists():
            continue
        source = (ROOT / file).read_text()
        violations += check_python(file, source) if file.endswith(".py") else check_markdown(file, source)
    return violations


def count_by_rule(violations: list[Violation]) -> dict[str, dict[str, int]]:
    """Return the number of places by rule and room."""
    counted: dict[str, dict[str, int]] = {}
    for (rule, room), number in sorted(Counter((violation.rule, violation.room) for violation in violations).items()):
        counted.setdefault(rule, {})[room] = number
    return counted


def list_excess(counted: dict[str, dict[str, int]], limits: dict[str, dict[str, int]]) -> list[str]:
    """Return a line for each count above its limit."""
    return [
        f"{room}: {count} places break the rule '{rule}', at most {limits.get(rule, {}).get(room, 0)} expected; "
        f"list them: python -m checks.prose --list {rule}"
        for rule, rooms in counted.items()
        for room, count in rooms.items()
        if count > limits.get(rule, {}).get(room, 0)
    ]


@click.command(help=__doc__)
@click.option("--list", "rule", type=click.Choice(RULES), help="Print the places of a rule.")
@click.option("--lower", is_flag=True, help="Lower the limits to the counts.")
def main(rule: str | None, *, lower: bool) -> None:
    violations = find_violations()
    if rule:
        for violation in violations:
            if violation.rule == rule:
                click.echo(f"{violation.file}:{violation.line}: {violation.text}")
        return
    counted, limits = count_by_rule(violations), json.loads(LIMITS_FILE.read_text())
    for name, rooms in counted.items():
        click.echo(
            f"{name:8} {sum(rooms.values()):5}  " + ", ".join(f"{room} {count}" for room, count in rooms.items())
        )
    above = list_excess(counted, limits)
    if lower and not above:
        LIMITS_FILE.write_text(json.dumps(counted, indent=1) + "\n")
        return
    for line in above:
        click.echo(f"error: {line}", err=True)
    sys.exit(bool(above))


if __name__ == "__main__":
    main()
