"""A fingerprint of our own code, for TFX's cache.

TFX's cache key covers a component's parameters, but a function named by its dotted path is the same parameter whatever
it does. The fingerprint is put among the parameters, so that a changed function is never reused from the cache.
"""

import types
from pathlib import Path

from cli.fingerprint import hash_sources


def hash_code(*packages: types.ModuleType) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the Python source of whole packages."""
    return hash_sources({package.__name__: Path(str(package.__file__)).parent for package in packages})
