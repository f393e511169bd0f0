"""A model's files, wherever TFX keeps them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


def copy_folder(source: str, target: Path) -> None:
    """Copy a folder from wherever TFX can read to this machine."""
    for folder, _, files in tf.io.gfile.walk(source):
        below = target / os.path.relpath(folder, source)
        below.mkdir(parents=True, exist_ok=True)
        for name in files:
            tf.io.gfile.copy(os.path.join(folder, name), str(below / name), overwrite=True)


@contextmanager
def open_local_folder(source: str) -> Iterator[Path]:
    """Yield the path of a folder on this machine; of a remote one, a copy that lasts as long as the block."""
    if "://" not in source:
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as temporary:
        copy_folder(source, Path(temporary) / "model")
        yield Path(temporary) / "model"


def read_bytes(path: str) -> bytes:
    """Return a file's content."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return bytes(file.read())


def read_tensorflow_version(folder: Path) -> tuple[int, int]:
    """Return (major, minor) of the TensorFlow that wrote a SavedModel."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    major, minor, *_ = saved.meta_graphs[0].meta_info_def.tensorflow_version.split(".")
    return int(major), int(minor)
