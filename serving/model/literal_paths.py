"""Paths of folders that TensorFlow and Beam do not take for glob patterns.

TensorFlow finds a checkpoint with a glob (RestoreV2 in tensorflow/core/kernels/save_restore_tensor.cc). So does Beam
with the files that it writes and deletes (apache_beam/io/filebasedsink.py). Below a folder `a [b]` they find nothing,
or the files of a folder `a b`.
"""

import os
import re
import threading

_PATTERN = re.compile(r"[][*?\\]")
_descriptors: dict[tuple[int, int], int] = {}
_lock = threading.Lock()


def make_literal_path(folder: str | os.PathLike[str]) -> str:
    """Return a path of a folder that is not a pattern: the folder's own, or that of a file descriptor.

    The descriptor stays open until this process ends, since a loaded model reads its assets when it is called. Other
    processes of this machine, such as Beam's workers, can use it meanwhile. It must not be written into artifacts.

    Args:
      folder: Path of a folder that exists, or URI.
    """
    path = os.fspath(folder)
    if "://" in path or not _PATTERN.search(path) or not os.path.isdir(path):
        return path
    status = os.stat(path)
    with _lock:
        number = _descriptors.get((status.st_dev, status.st_ino))
        if number is None:
            number = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            _descriptors[status.st_dev, status.st_ino] = number
    return f"/proc/{os.getpid()}/fd/{number}"
