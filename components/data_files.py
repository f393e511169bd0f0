"""Finds input files, local or remote, by pattern."""

import fnmatch
import glob
import os

import pyarrow.fs

from schemas.errors import DataError


def matching_files(base: str, pattern: str, split: str) -> list[str]:
    """The files below `base` that match, in a stable order.

    Raises:
      DataError: there are none.
    """
    if "://" in base:
        files = _remote(base, pattern)
    else:
        files = sorted(path for path in glob.glob(os.path.join(base, pattern)) if os.path.isfile(path))
    if not files:
        raise DataError(f"{os.path.join(base, pattern)}: no such file (data.splits.{split}.files)")
    return files


def _remote(base: str, pattern: str) -> list[str]:
    filesystem, folder = pyarrow.fs.FileSystem.from_uri(base)
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True))
    wanted = f"{folder}/{pattern}"
    return sorted(f"{base.split('://')[0]}://{i.path}" for i in found if i.is_file and fnmatch.fnmatch(i.path, wanted))
