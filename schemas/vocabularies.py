"""Vocabulary files: text, one category a line, in order of the IDs. Imports no TensorFlow.

Files that users write hold their categories as they are. In files that Transform learns, a category is escaped, so that
one with a line break, or the empty one, is a line too.
"""

from pathlib import Path

# (character, escape), in the order of escaping; with the backslash first, and last on the way back, none is ambiguous.
ESCAPES = (("\\", "\\b"), ("\n", "\\n"), ("\r", "\\r"))
# The line of the empty category; no other category is escaped to it.
EMPTY_CATEGORY = "\\e"


def unescape(line: str) -> str:
    r"""Return the category of a line that Transform wrote.

    >>> unescape(r"C:\bnew\nline"), unescape(r"\e")
    ('C:\\new\nline', '')
    """
    for character, escape in (("", EMPTY_CATEGORY), *reversed(ESCAPES)):
        line = line.replace(escape, character)
    return line


def read_vocabulary(path: Path) -> list[str]:
    """Return the categories of a file that a user wrote; lines end as Unix, Windows or nothing ends them.

    Raises:
      OSError: the file cannot be read.
      UnicodeDecodeError: it is not UTF-8 text.
    """
    # Not `splitlines`: it breaks categories that hold a form feed, U+0085 or U+2028. Editors of Windows write a BOM.
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    return [line for line in (line.removesuffix("\r") for line in lines) if line]
