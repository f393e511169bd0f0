"""The files in an artifact's folder, whose name may hold what `tf.io.gfile.glob` would take as a pattern."""

import os

import tensorflow as tf


def list_files(folder: str, *, prefix: str = "", suffix: str = "") -> list[str]:
    """Return the paths of the files directly in a folder, in a stable order; none where it does not exist.

    Args:
      folder: Path or URI.
      prefix: Start of their names.
      suffix: End of their names.
    """
    try:
        names = tf.io.gfile.listdir(folder)
    except tf.errors.NotFoundError:
        return []
    return [os.path.join(folder, name) for name in sorted(names) if name.startswith(prefix) and name.endswith(suffix)]
