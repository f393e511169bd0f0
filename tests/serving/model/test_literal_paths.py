"""TensorFlow and Beam work below folders whose names they would take for patterns."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf

from serving.model.literal_paths import make_literal_path

ODD = ("a [b]", "a*", "a?", "a\\b", "[!x]")


def test_plain_paths_are_their_own(tmp_path: Path) -> None:
    assert make_literal_path(tmp_path) == str(tmp_path)
    assert make_literal_path("gs://bucket/a [b]") == "gs://bucket/a [b]"
    assert make_literal_path(tmp_path / "a [b]") == str(tmp_path / "a [b]")


@pytest.mark.parametrize("name", ODD)
def test_a_model_is_loaded(name: str, tmp_path: Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(3.0)

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
        def times(self, x: Any) -> Any:
            return self.factor * x

    folder = tmp_path / name / "model"
    tf.saved_model.save(Module(), str(folder))
    assert tf.saved_model.load(make_literal_path(folder)).times(2.0) == 6.0
    assert make_literal_path(folder) == make_literal_path(folder)


@pytest.mark.parametrize("name", ODD)
def test_beam_writes_there_and_deletes_nothing_elsewhere(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    # What the name would match as a pattern.
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "out.txt").write_text("mine")
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | beam.Create(["1"])
            | beam.io.WriteToText(f"{make_literal_path(folder)}/out.txt", shard_name_template="")
        )
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"out.txt": "1\n"}
    assert (tmp_path / "a b" / "out.txt").read_text() == "mine"


def test_another_process_can_use_it(tmp_path: Path) -> None:
    (tmp_path / "a [b]").mkdir()
    (tmp_path / "a [b]" / "x").write_text("y")
    read = [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())"]
    path = os.path.join(make_literal_path(tmp_path / "a [b]"), "x")
    assert subprocess.run([*read, path], capture_output=True, text=True, check=True).stdout == "y\n"
