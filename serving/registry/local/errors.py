"""The error of a file or folder of a registry, with its place and the kind of its fault."""

import enum
from pathlib import Path

from cli.errors import PushError
from serving.registry.local import disk


class RegistryFault(enum.Enum):
    """Why a file or folder cannot be used; each kind has its own remedy."""

    DAMAGED = enum.auto()
    DENIED = enum.auto()
    MOUNTED_READ_ONLY = enum.auto()
    UNREADABLE = enum.auto()


class RegistryFileError(PushError):
    """A file or folder of a registry cannot be used.

    Attributes:
      path: File or folder.
      fault: Kind of the fault.
    """

    def __init__(self, message: str, path: Path, fault: RegistryFault) -> None:
        super().__init__(message)
        self.path, self.fault = path, fault


def explain_unreadable(path: Path, error: OSError) -> RegistryFileError:
    """Return the error of a file or folder that the system does not let read."""
    fault = RegistryFault.DENIED if isinstance(error, PermissionError) else RegistryFault.UNREADABLE
    return RegistryFileError(f"{path}: cannot be read: {disk.describe_error(error)}", path, fault)
