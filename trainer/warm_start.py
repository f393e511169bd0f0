"""Starting a network from the weights of an exported model, if those mean the same."""

import os
from dataclasses import dataclass

import keras
import tensorflow as tf
import tensorflow_transform as tft

from cli.errors import PipelineError
from schemas.features import FREQUENCIES_SUFFIX, FeatureSet
from serving.model.literal_paths import make_literal_path
from serving.registry import DECLARATION_FILE, VERSION_FILE

_ADVICE = "start from random weights: --set training.warm_start=false"


def name_weights(network: keras.Model) -> dict[str, tf.Variable]:
    """Return the weights of a network by the names of its layers, as `serving.model.served_model` saves them."""
    return {weight.path.replace("/", "."): weight.value for weight in network.weights}


@dataclass(frozen=True)
class WarmStart:
    """A SavedModel whose weights are taken over.

    Attributes:
      path: the exported model.
      features: declaration of the network that is to start from it.
      transform_output: the Transform graph it will be trained behind.
    """

    path: str
    features: FeatureSet
    transform_output: tft.TFTransformOutput

    def restore(self, network: keras.Model) -> None:
        """Copy the weights into a network.

        Raises:
          PipelineError: the model has other features, another vocabulary (an id would stand for another category), or
            another shape; the message names the first difference.
        """
        self._check_features()
        self._check_vocabularies()
        checkpoint = tf.train.Checkpoint(weights=name_weights(network))
        variables = os.path.join(make_literal_path(self.path), "variables", "variables")
        try:
            checkpoint.read(variables).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise PipelineError(
                f"warm start: the network has another shape than {self.path}: {reason}; {_ADVICE}"
            ) from error

    def _check_features(self) -> None:
        file = os.path.join(self.path, DECLARATION_FILE)
        if not tf.io.gfile.exists(file):
            raise PipelineError(f"warm start: {file} is missing; {_ADVICE}")
        with tf.io.gfile.GFile(file) as opened:
            before = FeatureSet.model_validate_json(opened.read())
        if before == self.features:
            return
        sections = ((before.features, self.features.features), (before.crosses, self.features.crosses))
        for old, new in (*sections, (before.label, self.features.label)):
            if old != new:
                named = (
                    [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
                    if isinstance(old, dict) and isinstance(new, dict)
                    else ["the crosses" if isinstance(old, tuple) else "the label"]
                )
                raise PipelineError(f"warm start: {', '.join(named)} changed since {self.path}; {_ADVICE}")

    def _check_vocabularies(self) -> None:
        before = _read_assets(os.path.join(self.path, "assets"))
        # No vocabulary, but the place of the served model's version.
        before.pop(os.path.basename(VERSION_FILE), None)
        now = _read_assets(os.path.join(self.transform_output.transform_savedmodel_dir, "assets"))
        # How often a token occurs changes with each window, and its weights mean the same.
        names = {name for name in (*before, *now) if not name.endswith(FREQUENCIES_SUFFIX)}
        for name in sorted(names):
            old, new = before.get(name, []), now.get(name, [])
            if old != new:
                changed = sum(a != b for a, b in zip(old, new, strict=False)) + abs(len(old) - len(new))
                raise PipelineError(
                    f"warm start: the vocabulary '{name}' has {changed:,} other entries than in {self.path}, whose "
                    f"weights would stand for other categories; {_ADVICE}"
                )


def _read_assets(folder: str) -> dict[str, list[bytes]]:
    """Return the lines of each vocabulary file."""
    files = {}
    for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else ():
        with tf.io.gfile.GFile(os.path.join(folder, name), "rb") as file:
            files[name] = file.read().splitlines()
    return files
