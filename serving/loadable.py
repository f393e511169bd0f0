"""A folder of a SavedModel or a checkpoint under a name that TensorFlow can load it from."""

import os
import re
import threading

# RestoreV2 looks for the checkpoint with a glob, in which [b] stands for b and \ for what follows it; a * and a ? match
# themselves. tensorflow/core/kernels/save_restore_tensor.cc, RestoreTensorsV2 and RestoreOp.
_PATTERN = re.compile(r"[\[\]\\]")
_opened: dict[tuple[int, int], int] = {}
_lock = threading.Lock()


def loadable(folder: str | os.PathLike[str]) -> str:
    """Return a path of a folder that TensorFlow does not take for a pattern; mostly the folder's own.

    Otherwise it is the name of a descriptor, which stays open until the process ends: a loaded model reads its assets
    when it is called. No such name is ever written, and another process asks for its own.

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
    return f"/proc/self/fd/{number}"
