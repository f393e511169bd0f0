"""Work on wide tables, counted: operations of graphs, which do not depend on the mood of the machine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.tf_metadata import schema_utils
from tfx.utils import json_utils

from benchmarks.wide import LABEL, write_table
from components.batch_rows import compute_batch_rows
from components.transform import analyzers, component
from components.transform.raw_matrix import build_raw_matrix
from schemas.features import FeatureSet
from serving.model.served_model import TransformGraph
from trainer.config import Model
from trainer.model import build_model

pytestmark = pytest.mark.integration

KINDS: list[dict[str, Any]] = [
    {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 8}, "embedding": 4},
    {"kind": "numeric", "scale": "log_z_score", "missing": "mean"},
    {"kind": "numeric", "scale": "none", "buckets": {"kind": "nonzero_quantiles", "count": 3}, "missing": 0.0},
    {"kind": "numeric", "scale": "min_max", "buckets": {"kind": "boundaries", "boundaries": [0, 1]}},
    {"kind": "identity", "num_ids": 5, "missing": 4, "embedding": "one_hot"},
    {"kind": "vocabulary", "max_size": 20, "missing": "unknown", "embedding": 4},
    {"kind": "vocabulary_list", "values": ["a", "b"], "embedding": "one_hot"},
    {"kind": "hash", "num_ids": 30},
]
DTYPES = {"float": tf.float32, "int": tf.int64, "string": tf.string}
# A vocabulary of TFT's has some thirty operations, one column of eight; others have their inputs and outputs.
_OPERATIONS_A_COLUMN = 8


def wide_features(columns: int) -> FeatureSet:
    features = {f"column {number}": KINDS[number % len(KINDS)] for number in range(columns)}
    return FeatureSet.model_validate({"features": features, "label": {"kind": "regression", "column": "y"}})


def preprocessing(features: FeatureSet) -> analyzers.Preprocessing:
    spec = {
        name: tf.io.VarLenFeature(DTYPES[kind])
        if name in features.features and features.features[name].missing is not None
        else tf.io.FixedLenFeature([], DTYPES[kind])
        for name, kind in features.column_types.items()
    }
    config = json_utils.dumps({"feature_set": features.model_dump_json()})
    schema = schema_utils.schema_from_feature_spec(spec).SerializeToString()
    return analyzers.Preprocessing("components.transform.preprocessing.preprocessing_fn", config, schema)


def operations(function: Any) -> int:
    return len(function.graph.get_operations())


def test_a_column_adds_few_operations_to_transforms_graphs(tmp_path: Path) -> None:
    analyzed, written = [], []
    for columns in (80, 240):
        asked = preprocessing(wide_features(columns))
        analysis = analyzers.load_analysis(asked)
        analyzed.append(operations(analysis._fed))
        empty = tmp_path / f"{columns}.gz"
        with tf.io.TFRecordWriter(str(empty), "GZIP"):
            pass
        folder = tmp_path / str(columns)
        component._trace_and_write(analysis.learn(str(empty)), asked, str(folder))
        written.append(operations(tf.saved_model.load(str(folder / "transform_fn")).transform_fn))
    analyzers.load_analysis.cache_clear()
    for small, large in (analyzed, written):
        assert large - small <= 160 * _OPERATIONS_A_COLUMN
    # The first columns of each kind have what all share.
    assert analyzed[0] < 2_000


def test_a_column_adds_no_operation_to_the_network() -> None:
    counts = []
    for columns in (80, 240):
        features = wide_features(columns)
        network = build_model(features, Model(hidden_units=(4,)))
        inputs = {
            "ids": tf.TensorSpec([None, len(features.id_columns)], tf.int64),
            "numbers": tf.TensorSpec([None, len(features.number_columns)], tf.float32),
        }
        traced = tf.function(lambda values, network=network: network(values, training=False), autograph=False)
        counts.append(operations(traced.get_concrete_function(inputs)))
    assert counts[0] == counts[1]


def test_one_hot_ids_stand_side_by_side() -> None:
    features = wide_features(8)
    layer = build_model(features, Model(hidden_units=(4,))).get_layer("one_hot")
    names = [column.name for column in features.id_columns]
    ids = np.zeros([2, len(names)], np.int64)
    ids[:, names.index("column_4")] = [1, 4]
    ids[:, names.index("column_6")] = [2, 0]
    np.testing.assert_array_equal(layer(ids), [[0, 1, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 0, 0]])


def test_columns_without_values_and_with_one_become_rows_in_their_order() -> None:
    sparse = [
        tf.SparseTensor(np.array([[0, 0], [2, 0]]).reshape(-1, 2), [1.0, 3.0], [3, 1]),
        tf.SparseTensor(np.zeros([0, 2], np.int64), np.zeros(0, np.float32), [3, 0]),
    ]
    actual = build_raw_matrix([sparse[0], tf.constant([7.0, 8.0, 9.0]), sparse[1]], -1.0)
    np.testing.assert_array_equal(actual, [[1, -1, 3], [7, 8, 9], [-1, -1, -1]])


def test_a_second_value_of_a_row_is_an_error() -> None:
    twice = tf.SparseTensor([[0, 0], [0, 1]], [1.0, 2.0], [1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="is repeated"):
        build_raw_matrix([twice], 0.0)


def test_wide_tables_have_smaller_batches() -> None:
    assert [compute_batch_rows(columns, 8192) for columns in (1, 500, 2_000, 10**9)] == [8192, 8192, 2097, 1]


def test_a_graph_without_the_label_answers_as_with_it(tmp_path: Path) -> None:
    asked = preprocessing(wide_features(8))
    analysis = analyzers.load_analysis(asked)
    empty = tmp_path / "empty.gz"
    with tf.io.TFRecordWriter(str(empty), "GZIP"):
        pass
    component._trace_and_write(analysis.learn(str(empty)), asked, str(tmp_path))
    analyzers.load_analysis.cache_clear()
    component.metadata_io.write_metadata(
        component.dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(asked.feature_spec)),
        str(tmp_path / "metadata"),
    )
    graph = TransformGraph(tft.TFTransformOutput(str(tmp_path)))
    raw = tf.io.parse_example([_example()] * 3, dict(asked.feature_spec))
    whole = graph(raw)
    part = graph({name: column for name, column in raw.items() if name != "y"})
    for name in whole.keys() - {"y"}:
        np.testing.assert_array_equal(whole[name], part[name])


def _example() -> bytes:
    example = tf.train.Example()
    for number in (0, 3):
        example.features.feature[f"column {number}"].float_list.value.append(0.5)
    for number in (6, 7):
        example.features.feature[f"column {number}"].bytes_list.value.append(b"b")
    example.features.feature["y"].float_list.value.append(2.0)
    return bytes(example.SerializeToString())


def test_the_seed_repeats_a_wide_table(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_table(tmp_path / f"{name}.csv", columns=40, rows=50, seed=seed)
    same, again, other = ((tmp_path / f"{name}.csv").read_text() for name in "abc")
    assert same == again != other
    header, *rows = same.splitlines()
    assert (len(header.split(",")), len(rows)) == (41, 50)
    assert LABEL in header
