"""Result of the last build of the images, and whether their parts changed since: `python -m tests.images.record`.

Exit codes: 0 the parts are those of the last build; 1 they changed, and `make test-images` has to build them again.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tests.conftest import ROOT

FILE = Path(__file__).with_name("record.json")
PARTS = (
    "Dockerfile",
    ".dockerignore",
    "requirements/lock.txt",
    "requirements/serving.txt",
    "tests/images/builder.py",
    "tests/images/test_images.py",
)


@dataclass(frozen=True)
class Record:
    """Attributes:
    parts: Hash of the files that an image is made of.
    day: Date of the build, as YYYY-MM-DD.
    megabytes: Size of the files of each target's image, in 10^6 bytes.
    build_seconds: Time that each target took, after those before it.
    serving_start_seconds: Time from the start of the serving image's container to its event `ready`.
    """

    parts: str
    day: str
    megabytes: dict[str, int]
    build_seconds: dict[str, int]
    serving_start_seconds: float

    def write(self) -> None:
        """Write the record beside this module."""
        FILE.write_text(json.dumps(asdict(self), indent=2) + "\n")


def hash_parts() -> str:
    """Return a hash of the files that decide what the images are, but for the product's own code."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(f"{part}\0".encode() + hashlib.sha256((ROOT / part).read_bytes()).digest())
    return digest.hexdigest()[:16]


def main() -> int:
    """Print whether the images have to be built again."""
    record = Record(**json.loads(FILE.read_text()))
    sizes = ", ".join(f"{target} {size:,} MB" for target, size in record.megabytes.items())
    click.echo(f"images: {sizes}; serving starts in {record.serving_start_seconds} s")
    if record.parts == hash_parts():
        click.echo(f"images: not built; locks and Dockerfile are those of the build of {record.day}")
        return 0
    click.echo(f"images: will be built; locks, Dockerfile or their test changed since the build of {record.day}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
