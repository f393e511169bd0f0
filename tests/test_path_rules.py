"""No code gives a path to what takes it for a pattern or a URI; what to call instead is in the rules."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("components", "trainer", "serving", "schemas", "pipeline", "oncall", "benchmarks")
# TFX's own way and that of other servers, for comparison.
EXEMPT = (ROOT / "benchmarks" / "stock", ROOT / "benchmarks" / "serving_peer_program.py")
RULES = {
    "components.artifact_files.list_files": (r"(?:gfile|fileio)\.glob\(", ()),
    "schemas.tables.locations.open_filesystem": (r"FileSystem\.from_uri\(", ("schemas/tables/locations.py",)),
    "serving.model.literal_paths.make_literal_path": (
        # That of TensorFlow 1 takes a session first.
        r"(?:(?<!v1\.)saved_model\.load|TFTransformOutput)\((?!make_literal_path\()",
        (),
    ),
    "cli.terminal.format_command": (r"f\"[^\"]*python -m [^\"]*\{(?:root|folder|path|file|registry|output)\b", ()),
    "Path.as_uri": (r"f\"file:", ()),
}


def sources() -> list[Path]:
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return [file for file in files if not any(file.is_relative_to(folder) for folder in EXEMPT)]


@pytest.mark.parametrize("instead", RULES)
def test_paths_are_no_patterns_and_no_uris(instead: str) -> None:
    pattern, allowed = RULES[instead]
    violations = [
        f"{file.relative_to(ROOT)}:{number}: call {instead} here"
        for file in sources()
        if str(file.relative_to(ROOT)) not in allowed
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not violations, "\n".join(violations)
