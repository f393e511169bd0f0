"""Progress of the training, reported to the listeners of this process."""

import sys
from collections.abc import Callable

listeners: list[Callable[[str], None]] = []


def report(text: str) -> None:
    """Print a line to the log and pass it to the listeners."""
    print(text, file=sys.stderr, flush=True)
    for listener in listeners:
        listener(text)
