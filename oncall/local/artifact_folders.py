"""The folders in which TFX puts artifacts: ARTIFACTS/NODE/OUTPUT/EXECUTION_ID."""

from collections.abc import Iterable, Iterator
from pathlib import Path

_DEPTH = 3
_MOVED = "was moved or copied: to ML Metadata its artifacts are below {}"
NOT_THERE = "there is no such folder, and ML Metadata has artifacts in it; mount it, or restore it from a backup"
_OTHER_NAME = "is another path of {}, by which ML Metadata names the artifacts"


def get_execution_folder(artifacts: Path, uri: str) -> Path | None:
    """Return the folder of an output of one execution; None for a URI elsewhere, which `gc` must not remove."""
    path = Path(uri)
    if ".." in path.parts or not path.is_relative_to(artifacts):
        return None
    parts = path.relative_to(artifacts).parts
    if len(parts) < _DEPTH or not _is_number(parts[_DEPTH - 1]):
        return None
    return artifacts.joinpath(*parts[:_DEPTH])


def list_execution_folders(artifacts: Path) -> Iterator[Path]:
    """Yield the folders of executions that are on disk."""
    for path in sorted(artifacts.glob("*/*/*")):
        # TFX keeps files of its own below `.system`.
        if _is_number(path.name) and not path.parent.name.startswith(".") and path.is_dir():
            yield path


def find_earlier_root(artifacts: Path, uris: Iterable[str]) -> Path | None:
    """Return the run root's path when it made its artifacts; None if it has not been moved or copied since."""
    for uri in uris:
        path = Path(uri)
        if "://" in uri or path.is_relative_to(artifacts):
            continue
        for end in range(len(path.parts), _DEPTH, -1):
            if (artifacts.joinpath(*path.parts[end - _DEPTH :])).exists() and _is_number(path.parts[end - 1]):
                return Path(*path.parts[: end - _DEPTH]).parent
    return None


def describe_earlier_root(root: Path, earlier: Path) -> str:
    """Return what a run root is beside the one by whose path its artifacts are named."""
    text = _OTHER_NAME if is_same_folder(root, earlier) else _MOVED
    return f"{root}: {text.format(earlier)}"


def is_same_folder(root: Path, other: Path) -> bool:
    """Return True if two paths name one folder, as a symbolic link does."""
    return other.exists() and root.samefile(other)


def is_missing(uri: str) -> bool:
    """Return True if an artifact's files on this machine are missing; False for files elsewhere."""
    return "://" not in uri and not Path(uri).exists()


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
