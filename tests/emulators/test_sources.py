"""Each rule of the emulator of Vertex AI has its source, or is marked as a guess."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = sorted((ROOT / "emulators" / "vertex").glob("*.py"))
# Injected faults have no rule.
_EXEMPT = {"_raise_fault"}
ERRORS = {"StatusError", "NotFoundError", "InvalidArgumentError", "FailedPreconditionError"}
# A document's address, a field or method of the protos (Model.version_aliases, EndpointService.DeployModel), or a guess.
_SOURCE = re.compile(r"https://|\b[A-Z]\w+\.\w+|\w\.proto\b|\bguess")


def list_rules(source: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each function that raises the status of a call, with its docstring and its comments."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and any(_is_rule(inner) for inner in ast.walk(node)):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield node.name, "\n".join([ast.get_docstring(node) or "", *(comments.get(line, "") for line in lines)])


def _is_rule(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
        return False
    return isinstance(node.exc.func, ast.Name) and node.exc.func.id in ERRORS


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_each_rule_has_a_source_or_is_a_guess(file: Path) -> None:
    rules = [rule for rule in list_rules(file.read_text()) if rule[0] not in _EXEMPT]
    without = [name for name, text in rules if not _SOURCE.search(text)]
    assert not without, f"{file.relative_to(ROOT)}: {', '.join(without)}: name the source of the rule, or say `guess`"


def test_a_rule_without_a_source_is_found() -> None:
    source = 'def f():\n    """Check."""\n    # comment\n    raise NotFoundError("x")\n'
    assert [(name, bool(_SOURCE.search(text))) for name, text in list_rules(source)] == [("f", False)]
    for comment in ("a guess", "Model.name", "https://google.aip.dev/193"):
        ((_, text),) = list_rules(source.replace("comment", comment))
        assert _SOURCE.search(text)
