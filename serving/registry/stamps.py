"""The time and the user of a change, for the histories of the registries."""

import getpass
import os
import socket
import time


def timestamp() -> str:
    """Return the current time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def user_and_host() -> str:
    """Return USER@HOST; in a container the user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
