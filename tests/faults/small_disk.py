"""A small disk of its own: a tmpfs, which needs root to be mounted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mount_small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount an empty disk over a folder until the block ends; skip the test where that needs another user."""
    before = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder)]
    done = subprocess.run([*before, *mount], capture_output=True, text=True, check=False)
    if done.returncode:
        # CI has to be able to; elsewhere it needs root.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([*before, "umount", str(folder)], check=True)
