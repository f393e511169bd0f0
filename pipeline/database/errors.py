"""The error of a database, with the kind of its fault."""

import enum

from cli.errors import RunRootError


class DatabaseFault(enum.Enum):
    """Why a database cannot be used; each kind has its own remedy."""

    LOCKED = enum.auto()
    DENIED = enum.auto()
    DAMAGED = enum.auto()
    UNFINISHED = enum.auto()
    OTHER_RELEASE = enum.auto()
    # Its message has the remedy.
    OTHER = enum.auto()


class DatabaseError(RunRootError):
    """A database cannot be used.

    Attributes:
      fault: Kind of the fault.
    """

    def __init__(self, message: str, fault: DatabaseFault = DatabaseFault.OTHER) -> None:
        super().__init__(message)
        self.fault = fault
