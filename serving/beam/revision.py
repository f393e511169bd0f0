"""Revision of the product's code, which has to be the same on the launcher and its workers."""

from pathlib import Path

from cli.fingerprint import hash_sources

# All that components run on workers.
_PACKAGES = ("cli", "components", "schemas", "serving", "trainer")


def compute_revision() -> str:
    """Return the fingerprint of the code that this process has, or would load."""
    root = Path(__file__).parents[2]
    return hash_sources({name: root / name for name in _PACKAGES})
