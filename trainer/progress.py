"""Tells whoever listens in this process how far the training is."""

import sys
from collections.abc import Callable

listeners: list[Callable[[str], None]] = []


def report(text: str) -> None:
    """Prints a line to the log and hands it to the listeners."""
    print(text, file=sys.stderr, flush=True)
    for listener in listeners:
        listener(text)
