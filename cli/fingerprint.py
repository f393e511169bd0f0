"""Fingerprint of source code, by which a change of it is noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def hash_sources(folders: Mapping[str, Path]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the Python source of whole packages.

    Args:
      folders: folder of each package, by its name.
    """
    digest = hashlib.sha256()
    for name, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
