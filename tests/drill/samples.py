"""The sample outputs of docs/oncall.md, held against what the commands print on a run root that is broken that way."""

import re

from tests.conftest import ROOT

_PAGE = ROOT / "docs" / "oncall.md"
_COMMAND = re.compile(r"    \$ python -m oncall (.+)")
# Patterns of values that differ from run to run, with their names; the order matters.
_VARIES = (
    (r"http://\S+", "URL"),
    (r"\S+@\S+", "WHO"),
    (r"\b\d{8}T\d[\d.]*\d", "RUN"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?", "TIME"),
    (r"(?<!\S)(/|runs/|reports/)[^\s:;,]*[^\s:;,.]", "PATH"),
    (r"\b[0-9a-f]{12}\b", "HASH"),
    (r"\b\d[\d.,]* (days?|hours?|weeks?|min|h|s)\b", "DURATION"),
    (r"\b\d[\d.,]* [kMG]?B\b", "SIZE"),
    (r"[-+]?\b\d+([.,]\d+)*", "N"),
)


def read_samples() -> dict[str, list[str]]:
    """Return the lines that the page shows below each command."""
    samples: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in _PAGE.read_text().splitlines():
        command = _COMMAND.fullmatch(line)
        if command:
            lines = samples.setdefault(command.group(1), [])
        elif not line.startswith("    ") and line:
            lines = None
        elif lines is not None:
            lines.append(line)
    return samples


def assert_sample(command: str, output: str) -> None:
    """Check that an output has the lines of the page's sample, in this order, each from its start to where it is cut.

    Args:
      command: arguments of the command on the page.
      output: output of the command.
    """
    printed = [shape for shape in map(_shape, output.splitlines()) if shape]
    rest = iter(printed)
    for line in read_samples()[command]:
        shape = _shape(line.partition("...")[0])
        assert not shape or any(other.startswith(shape) for other in rest), (line, shape, printed)


def _shape(line: str) -> str:
    """Return a line without what varies, and without the lines of a table."""
    text = " ".join(re.sub(r"[─-╿]", " ", line).split())
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return text
