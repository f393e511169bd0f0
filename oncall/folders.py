"""Where TFX puts artifacts: ARTIFACTS/NODE/OUTPUT/EXECUTION_ID, and what is below."""

from collections.abc import Iterable, Iterator
from pathlib import Path

_DEPTH = 3
MOVED = "was moved or copied: to ML Metadata its artifacts are below {}"


def execution_folder(artifacts: Path, uri: str) -> Path | None:
    """Return the folder of an output of one execution; None for what is elsewhere, which is nobody's to remove."""
    path = Path(uri)
    if ".." in path.parts or not path.is_relative_to(artifacts):
        return None
    parts = path.relative_to(artifacts).parts
    if len(parts) < _DEPTH or not _is_number(parts[_DEPTH - 1]):
        return None
    return artifacts.joinpath(*parts[:_DEPTH])


def execution_folders(artifacts: Path) -> Iterator[Path]:
    """All that are on disk."""
    for path in sorted(artifacts.glob("*/*/*")):
        # TFX's own notes are below `.system`.
        if _is_number(path.name) and not path.parent.name.startswith(".") and path.is_dir():
            yield path


def moved_from(artifacts: Path, uris: Iterable[str]) -> Path | None:
    """Where a run root was when it made its artifacts, if it was moved or copied since; None if it was not."""
    for uri in uris:
        path = Path(uri)
        if "://" in uri or path.is_relative_to(artifacts):
            continue
        for end in range(len(path.parts), _DEPTH, -1):
            if (artifacts.joinpath(*path.parts[end - _DEPTH :])).exists() and _is_number(path.parts[end - 1]):
                return Path(*path.parts[: end - _DEPTH]).parent
    return None


def is_gone(uri: str) -> bool:
    """Whether the files of an artifact of this machine are not there; of others it is not known."""
    return "://" not in uri and not Path(uri).exists()


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
