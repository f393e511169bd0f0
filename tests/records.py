"""Results of the tests that need root, kept in the repository for as long as their parts do not change.

    python -m tests.records images
    python -m tests.records hosts

Exit codes: 0 the parts are those of the kept result; 1 they changed, and the test has to run again.
"""

import datetime
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tests.conftest import ROOT

# The files that a result depends on, by the name of its folder in tests/ and of its target, test-NAME.
PARTS: Mapping[str, Sequence[str]] = {
    "images": (
        "Dockerfile",
        ".dockerignore",
        "requirements/lock.txt",
        "requirements/serving.txt",
        "requirements/tools.txt",
        "tests/images/*.py",
    ),
    "hosts": (
        "requirements/lock.txt",
        "serving/beam/*.py",
        "serving/batch/*.py",
        "pipeline/run/beam_workers.py",
        "components/*/component.py",
        "benchmarks/two_hosts.py",
        "tests/hosts/*.py",
    ),
}


def hash_parts(name: str) -> str:
    """Return a hash of the files that a result depends on."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in PARTS[name] for path in ROOT.glob(pattern)):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def write(name: str, measured: Mapping[str, Any]) -> None:
    """Keep the result of a test that passed today."""
    record = {"parts": hash_parts(name), "day": datetime.date.today().isoformat(), **measured}
    (ROOT / "tests" / name / "record.json").write_text(json.dumps(record, indent=2) + "\n")


def main(name: str) -> int:
    """Print the kept result, and whether the test has to run again."""
    file = ROOT / "tests" / name / "record.json"
    if not file.exists():
        click.echo(f"{name}: runs; there is no result yet")
        return 1
    record = json.loads(file.read_text())
    for key, value in record.items():
        if key not in ("parts", "day"):
            values = value.items() if isinstance(value, dict) else [("", value)]
            click.echo(f"{name}: {key} {', '.join(f'{part} {number:,}'.strip() for part, number in values)}")
    if record["parts"] == hash_parts(name):
        click.echo(f"{name}: not run; its parts are those of {record['day']}")
        return 0
    click.echo(f"{name}: runs; its parts changed since {record['day']}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
