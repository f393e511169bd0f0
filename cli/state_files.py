"""State files: small files that a program replaces as a whole and reads again later."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)


def write_atomically(file: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replace a file in one step: a reader sees the old content or the new, and never half of it.

    Args:
      file: Path in an existing folder.
      content: Bytes, or text that is written as UTF-8.
      durable: Whether the content is on disk when the function returns, so that it survives a power failure.

    Raises:
      OSError: The file cannot be written; `filename` is the file's own path.
    """
    # Two processes, or two threads, may replace the same file at once.
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        try:
            with temporary.open("wb") as opened:
                opened.write(content.encode() if isinstance(content, str) else content)
                if durable:
                    opened.flush()
                    os.fsync(opened.fileno())
            os.replace(temporary, file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            flush_folder(file.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(file: Path, model: "type[Model]") -> "Model | None":
    """Return the content of a file that the program can do without; None if it is missing or damaged."""
    try:
        return model.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None
