"""Folders under names that TensorFlow and Beam do not take for patterns.

TensorFlow looks for a checkpoint with a glob (RestoreV2 in tensorflow/core/kernels/save_restore_tensor.cc), and so does
Beam for what it has written, and for what it deletes before (apache_beam/io/filebasedsink.py). Below a folder `a [b]`
they find nothing, or what is in a folder `a b`.
"""

import os
import re
import threading

_PATTERN = re.compile(r"[][*?\\]")
_opened: dict[tuple[int, int], int] = {}
_lock = threading.Lock()


def literal_path(folder: str | os.PathLike[str]) -> str:
    """Return a path of a folder that is not a pattern; mostly the folder's own.

    Otherwise it is that of a descriptor of this process, which stays open until the process ends: a loaded model reads
    its assets when it is called. Other processes of this machine can use it meanwhile, such as Beam's workers. It must
    not be written into artifacts.

    Args:
      folder: Path of a folder that exists, or URI.
    """
    path = os.fspath(folder)
    if "://" in path or not _PATTERN.search(path) or not os.path.isdir(path):
        return path
    found = os.stat(path)
    with _lock:
        number = _opened.get((found.st_dev, found.st_ino))
        if number is None:
            number = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            _opened[found.st_dev, found.st_ino] = number
    return f"/proc/{os.getpid()}/fd/{number}"
