"""Hides from a server what its image does not install: Python imports this module at its start, if it is on the path.

https://docs.python.org/3/library/site.html#module-sitecustomize
"""

import importlib.machinery
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType

_LOCK = Path(__file__).resolve().parents[3] / "requirements" / "serving.txt"
# The environment of the tests has the build for GPUs.
_OTHER_BUILD = {"tensorflow-cpu": "tensorflow"}


class LockFinder:
    """Finds modules as Python does, but no file of a distribution that is not in the lock."""

    def __init__(self) -> None:
        self._root = sysconfig.get_path("purelib") + "/"
        names = re.findall(r"^([\w.-]+)==", _LOCK.read_text(), re.MULTILINE)
        self._files = {
            str(file) for name in names for file in metadata.files(_OTHER_BUILD.get(name, name)) or () if file.suffix in (".py", ".so")
        }  # fmt: skip

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, or None if a distribution has it that is not in the lock."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        origin = spec.origin or "" if spec else ""
        if origin.startswith(self._root) and origin.removeprefix(self._root) not in self._files:
            return None
        return spec


try:
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = LockFinder()  # type: ignore[call-overload]
except (OSError, ValueError, metadata.PackageNotFoundError):
    # Python itself would continue, with all packages.
    traceback.print_exc()
    os._exit(1)
