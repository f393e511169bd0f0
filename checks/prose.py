"""Prose check: plain sentences, one word for one thing, and names that tell the content.

python -m checks.prose               # counts by rule, word and package
python -m checks.prose --list words  # the places of a rule

A place that breaks a rule fails the check.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("oncall", "pipeline", "trainer", "components", "serving", "schemas")

# Words that have a standard one: "again", "continue", "fix", "serving version", "is not a", "exists", "if omitted",
# "reused", "duplicate", "ambiguous", "promote", "on-call engineer".
WORDS = {
    "anew": r"anew",
    "goes on": r"goes on|go on|went on",
    "mend": r"mend(s|ed)?",
    "what serves": r"[Ww]hat serves|[Ww]hat served",
    "is no": r"(?<!there )is no(?= [a-z])(?! (longer|more|other|one|less|further|later|better|worse|narrower))",
    "is there": r"(is|are|was) there(?=[.,;:)]| (is|are|and|or)\b)",
    "left out": r"Left out,|left out, (?=[a-z`])",
    "answered from": r"answered from the cache|answered from earlier",
    "stands twice": r"stands? twice",
    "say more": r"say more",
    "crown": r"crown(s|ed)?",
    "who is on call": r"who(ever)? is on call",
}
# The rules of style.md, and ruff's.
RULES = {
    "start": "docstrings that start with What, Who, Of and the like, or of functions without a verb",
    "entries": "entries of Args and Attributes without a noun",
    "long": "long sentences",
    "words": "words that have a standard one",
    "names": "names that do not tell the content",
    "functions": "names of functions that do not start with a verb of checks/verbs.txt",
    "D401": "docstrings of functions that are not imperative, by ruff",
}
# Names for how a value came, which do not tell its content.
NAMES = frozenset({"found", "known", "wanted", "given", "said", "shown", "told", "one", "there"})
# Participles, which do not tell an action: a function is a verb, and a predicate starts with `is_` or `has_`.
_PARTICIPLE = re.compile(
    r"begun|bound|built|chosen|drawn|found|given|held|kept|known|made|missing|overridden|rewritten|said|sent|seen|shown|"
    r"taken|thrown|told|understood|waiting|written|"
    r"(?!(?:embed|exceed|feed|need|proceed|seed|shed|speed|succeed)$)[a-z]+ed"
)
# Verbs with which a function's name may start.
_VERBS = frozenset((ROOT / "checks" / "verbs.txt").read_text().split())
# Names that start otherwise: predicates, conversions, handlers of events, and those that a framework looks up.
_NAME_START = re.compile(r"(is|are|has|can|to|from|as|with|without|on)_[a-z]|test_|[A-Z]|main$|__")
_FRAMEWORK_NAMES = frozenset(
    {
        "_maybe_symbolic_build",
        "_random_values",
        "connection_lost",
        "connection_made",
        "data_received",
        "default_job_server",
        "do_POST",
        "eof_received",
        "gc",
        "getvalue",
        "init_processes",
        "metrics",
        "output_tensor_infos",
        "preprocessing_fn",
        "run_fn",
        "service",
        "setup",
        "shutdown",
        "tuner_fn",
    }
)
_WORDS = {word: re.compile(rf"\b(?:{pattern})", re.IGNORECASE) for word, pattern in WORDS.items()}
_START = re.compile(r"\s*(What|Who|Of|For|That|Those|As|So)\b")
# The third person, a value, and words that are no verbs, at the start of a function's docstring.
_NO_VERB = re.compile(
    r"(?!Args)[A-Z][a-z]*[^s\W]s\b|[A-Za-z]+'s\b|[(`]|[A-Z]{2}|"
    r"(A|After|All|An|Are|Before|Both|Each|Every|From|How|If|Is|It|No|Nothing|One|Only|Our|The|They|When|Where|Whether|"
    r"Which|Why|With)\b"
)
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
    def package(self) -> str:
        """The top-level folder, or `root`."""
        return self.file.partition("/")[0] if "/" in self.file else "root"


def check_python(file: str, source: str) -> Iterator[Violation]:
    """Yield the places of a Python file that break a rule."""
    tree = ast.parse(source)
    is_product = not file.startswith(("benchmarks/", "tests/"))
    for line, text in _find_docstrings(tree):
        if _START.match(text):
            yield Violation("start", file, line, text.strip().splitlines()[0])
        for entry in _ENTRY.finditer(text):
            yield Violation("entries", file, line, entry.group().strip())
        yield from _find_long(file, line, text, _MAX_WORDS_OF_DOCSTRINGS)
    for node in ast.walk(tree):
        docstring = _read_docstring(node)
        if _NO_VERB.match(docstring):
            yield Violation("start", file, getattr(node, "lineno", 0), docstring.splitlines()[0])
        name = _read_name(node)
        if name in NAMES or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_participle(node)):
            yield Violation("names", file, getattr(node, "lineno", 0), name)
        if is_product and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _has_verb(node):
            yield Violation("functions", file, node.lineno, node.name)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from _find_words(file, token.start[0], token.string)


def _find_words(file: str, line: int, text: str) -> Iterator[Violation]:
    for word, pattern in _WORDS.items():
        for _ in pattern.finditer(text):
            yield Violation("words", file, line, word)


def _read_docstring(node: ast.AST) -> str:
    """Return the docstring of a function that is named for an action; empty for a property, a fixture or a test."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_named_otherwise(node):
        return ""
    return ast.get_docstring(node) or ""


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
    """Return whether a function has a participle for its name."""
    return not _is_named_otherwise(function) and _PARTICIPLE.fullmatch(function.name.strip("_")) is not None


def _has_verb(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether the name of a function starts with a verb, if it must."""
    name = function.name.strip("_")
    if function.name in _FRAMEWORK_NAMES or _NAME_START.match(name) or function.name.startswith("__"):
        return True
    decorators = " ".join(map(ast.unparse, function.decorator_list))
    return (
        name.partition("_")[0] in _VERBS
        or re.search(r"property|fixture|\.setter|\.command|\.group|override", decorators) is not None
    )


def _is_named_otherwise(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is a property, a fixture or a test, which are not named for an action."""
    decorators = " ".join(map(ast.unparse, function.decorator_list))
    return function.name.startswith("test_") or re.search(r"property|fixture|\.setter", decorators) is not None


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
        yield from _find_words(file, number, line)
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


def list_files() -> list[str]:
    """Return the Python files and pages that git lists, without those that were deleted since."""
    command = ["git", "ls-files", "*.py", "*.md"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [file for file in files if (ROOT / file).exists()]


def find_violations(files: Sequence[str]) -> list[Violation]:
    """Return all places of files that break a rule."""
    violations = [*_run_ruff(), *find_close_modules(files), *find_equal_classes(files)]
    for file in files:
        if file not in _NOT_CHECKED:
            source = (ROOT / file).read_text()
            violations += check_python(file, source) if file.endswith(".py") else check_markdown(file, source)
    return violations


def find_close_modules(files: Iterable[str]) -> Iterator[Violation]:
    """Yield the modules of a package that are one letter apart from another one, such as `check` and `checks`."""
    packages: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        if name.endswith(".py"):
            packages.setdefault(folder, set()).add(name.removesuffix(".py"))
    for folder, modules in sorted(packages.items()):
        for name in sorted(modules):
            shorter = {name[:place] + name[place + 1 :] for place in range(len(name))} & modules
            for other in sorted(shorter):
                yield Violation("names", f"{folder}/{name}.py", 1, f"{name}, {other}")


def find_equal_classes(files: Iterable[str]) -> Iterator[Violation]:
    """Yield the public classes of the product whose name another module has, too."""
    modules: dict[str, list[str]] = {}
    for file in files:
        if not file.endswith(".py") or file.startswith(("benchmarks/", "tests/")):
            continue
        for node in ast.parse((ROOT / file).read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules.setdefault(node.name, []).append(file)
    for name, places in sorted(modules.items()):
        for file in places[1:]:
            yield Violation("names", file, 1, f"{name}, as in {places[0]}")


def _run_ruff() -> Iterator[Violation]:
    command = [sys.executable, "-m", "ruff", "check", "--select", "D401", "--output-format", "json", "."]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for finding in json.loads(output):
        file = os.path.relpath(finding["filename"], ROOT)
        yield Violation("D401", file, finding["location"]["row"], finding["message"])


def count_verbs(files: Iterable[str]) -> tuple[int, int]:
    """Return the number of docstrings of functions that start with a verb, and the number of all."""
    trees = (ast.parse((ROOT / file).read_text()) for file in files if file.endswith(".py"))
    docstrings = [text for tree in trees for text in map(_read_docstring, ast.walk(tree)) if text]
    return sum(not _NO_VERB.match(text) for text in docstrings), len(docstrings)


def count_lines(files: Iterable[str]) -> dict[str, int]:
    """Return the lines of Python by package."""
    lines = Counter[str]()
    for file in files:
        package = file.partition("/")[0]
        if package in PACKAGES and file.endswith(".py"):
            lines[package] += (ROOT / file).read_text().count("\n")
    return {package: lines[package] for package in PACKAGES}


def format_counts(violations: Sequence[Violation]) -> Iterator[str]:
    """Yield a line for each rule: its count, by package or by word."""
    for rule, meaning in RULES.items():
        places = [violation for violation in violations if violation.rule == rule]
        parts = Counter(violation.text if rule == "words" else violation.package for violation in places)
        if rule == "words":
            parts = Counter({word: parts[word] for word in WORDS})
        by_part = ": " + ", ".join(f"{part} {number}" for part, number in parts.items()) if parts else ""
        yield f"{rule:8} {len(places):7,}  {meaning}{by_part}"


@click.command(help=__doc__)
@click.option("--list", "rule", type=click.Choice([*RULES]), help="Print the places of a rule.")
def main(rule: str | None) -> None:
    files = list_files()
    violations = find_violations(files)
    if rule:
        for violation in violations:
            if violation.rule == rule:
                click.echo(f"{violation.file}:{violation.line}: {violation.text}")
        return
    for line in format_counts(violations):
        click.echo(line)
    verbs, docstrings = count_verbs(files)
    click.echo(f"{'verbs':8} {verbs:7,}  of {docstrings:,} docstrings of functions start with a verb")
    lines = count_lines(files)
    by_package = ", ".join(f"{package} {number:,}" for package, number in lines.items())
    click.echo(f"{'lines':8} {sum(lines.values()):7,}  of Python in the six packages: {by_package}")
    for name in dict.fromkeys(violation.rule for violation in violations):
        click.echo(f"error: places break the rule '{name}'; list them: python -m checks.prose --list {name}", err=True)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
