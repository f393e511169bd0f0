"""The time and the user of a change, for the histories of the registries."""

import calendar
import getpass
import os
import socket
import time


def get_timestamp() -> str:
    """Return the current time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def parse_timestamp(text: str) -> float:
    """Return seconds since 1970; 0 for text that `get_timestamp` did not write."""
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return 0.0


def get_user_and_host() -> str:
    """Return USER@HOST; in a container the user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
