"""Small models that were exported as a Trainer exports them, for tests of whatever serves them."""

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np

from components.transform.preprocessing import FEATURE_SET_KEY, preprocessing_fn
from schemas.data import ReadOptions
from schemas.decision import DecisionCosts, DecisionThreshold
from schemas.features import FeatureSet
from serving.model.golden_requests import GoldenRequests
from serving.registry import Candidate, LocalRegistry

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "color": {"kind": "hash", "num_ids": 3},
            "size": {"kind": "numeric", "scale": "identity"},
            "shop name": {"kind": "hash", "num_ids": 5, "missing": "none"},
            "rank": {"kind": "identity", "num_ids": 4, "missing": 0},
            "weight": {"kind": "numeric", "scale": "identity", "missing": 7.5},
        },
        "label": {"column": "bought", "positive": "yes", "negative": "no"},
    }
)
ROW = {"color": "green", "size": 2.5, "shop_name": "north", "rank": 2, "weight": 1.0}
SCHEMA_HASH = "00112233aabbccdd"


class Transform:
    """Stands for a `TransformGraph`: the same code, without anything learned."""

    def __init__(self) -> None:
        import tensorflow as tf

        self.raw_feature_spec = {
            "color": tf.io.FixedLenFeature([], tf.string),
            "size": tf.io.FixedLenFeature([], tf.float32),
            "shop name": tf.io.VarLenFeature(tf.string),
            "rank": tf.io.VarLenFeature(tf.int64),
            "weight": tf.io.VarLenFeature(tf.float32),
        }

    def __call__(self, raw: dict[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        label = tf.fill([tf.shape(raw["color"])[0]], "no")
        config = {FEATURE_SET_KEY: FEATURES.model_dump_json()}
        return preprocessing_fn({**raw, "bought": label}, config)


def export_model(folder: Path, offset: float = 0.0, decision: DecisionThreshold | None = None) -> Path:
    """Return a model whose logit is offset + color + size + rank + weight, colors and shops by their ids."""
    import tensorflow as tf

    from serving.model.served_model import ServedModel

    def network(inputs: dict[str, Any], training: bool) -> Any:
        del training
        sums = [tf.reduce_sum(tf.cast(value, tf.float32), axis=1, keepdims=True) for value in inputs.values()]
        return offset + tf.add_n(sums)

    ServedModel(network, {}, Transform(), FEATURES, SCHEMA_HASH, ReadOptions(), decision).export(str(folder))
    return folder


def decided_at(threshold: float) -> DecisionThreshold:
    """Return a threshold that was chosen by some costs."""
    costs = DecisionCosts(cost_false_positive=1, cost_false_negative=5)
    return DecisionThreshold(
        threshold=float(np.float32(threshold)),
        costs=costs,
        chosen_by="eval",
        rows=3269,
        mean_cost=0.25,
        mean_cost_at_default=0.375,
    )


def golden_answers(folder: Path, rows: list[dict[str, Any]]) -> GoldenRequests:
    """Return what a model answers to rows."""
    from serving.model.predictor import Predictor

    answers = Predictor(folder).predict(rows)
    for answer in answers:
        del answer["model_version"]
    return GoldenRequests(rows, answers)


@functools.cache
def _answers_to_two_rows(folder: Path) -> GoldenRequests:
    return golden_answers(folder, [ROW, {"color": "red", "size": 0.0}])


def golden(folder: Path, wrong: float = 0.0) -> GoldenRequests:
    """Return what a model answers to two rows, one without what may be missing; or something else."""
    requests = copy.deepcopy(_answers_to_two_rows(folder))
    for answer in requests.predictions:
        assert isinstance(answer, dict)
        answer["probability"] += wrong
    return requests


def push(
    registry: LocalRegistry, model: Path, *, run_id: str = "run-1", wrong: float = 0.0, promote: bool = True
) -> int:
    """Push a model with its golden requests; return the version."""
    candidate = Candidate("shop", run_id=run_id, model_id=1, folder=model, golden=golden(model, wrong).to_json())
    return LocalRegistry(registry.folder.parent, registry.name, promotes=promote).push(candidate).version


def example(row: dict[str, Any]) -> bytes:
    """Return a row as a serialized tf.Example."""
    import tensorflow as tf

    def feature(value: Any) -> tf.train.Feature:
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    named = {name: feature(value) for name, value in row.items()}
    return bytes(tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString())
