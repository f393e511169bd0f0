"""A fingerprint of our own code, for TFX's cache.

TFX's cache key covers a component's parameters, but a function named by its dotted path is the same parameter whatever
it does. The fingerprint is put among the parameters, so that a changed function is never reused from the cache.
"""

import hashlib
import types
from pathlib import Path


def code_fingerprint(*packages: types.ModuleType) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the Python source of whole packages."""
    digest = hashlib.sha256()
    for package in packages:
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package.__name__}/{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
