"""Ours against stock Transform on the same files: the same artifacts, for every kind of feature and every odd value."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_transform.tf_metadata import schema_utils
from tfx.components.transform import executor as stock
from tfx.proto import transform_pb2
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from cli.errors import DataError
from components.transform import analyzers, component, preprocessing
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.model.served_model import ServedModel, TransformGraph

pytestmark = pytest.mark.integration

Row = dict[str, Any]

ALL_KINDS = FeatureSet.model_validate(
    {
        "features": {
            "z": {"kind": "numeric", "missing": "mean"},
            "log": {"kind": "numeric", "scale": "log_z_score", "missing": 0.0},
            "unit": {"kind": "numeric", "scale": "min_max", "missing": 3.0},
            "far": {"kind": "numeric"},
            "wide": {"kind": "numeric", "scale": "min_max"},
            "raw": {"kind": "numeric", "scale": "identity", "buckets": {"kind": "boundaries", "boundaries": [1, 2]}},
            "quarter": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 4}, "missing": "mean"},
            "gain": {"kind": "numeric", "scale": "none", "buckets": {"kind": "nonzero_quantiles", "count": 3}},
            "never a number": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 3}, "missing": 1.0},
            "never a range": {"kind": "numeric", "scale": "min_max", "missing": "mean"},
            "town": {"kind": "vocabulary", "max_size": 100},
            "few": {"kind": "vocabulary", "max_size": 3, "min_count": 2, "oov_ids": 3, "missing": "unknown"},
            "never a word": {"kind": "vocabulary", "max_size": 5, "missing": ""},
            "listed": {"kind": "vocabulary_list", "values": ["a", "b"], "oov_ids": 2, "missing": "a"},
            "grade": {"kind": "identity", "num_ids": 4, "missing": 3},
            "hashed": {"kind": "hash", "num_ids": 50},
            "robust": {"kind": "numeric", "scale": "robust", "missing": 0.0, "missing_indicator": True},
            "normal": {"kind": "numeric", "scale": "quantile_normal"},
            "at": {"kind": "timestamp", "parts": {"month": {}, "hour": {"cyclical": True}}, "missing": "own_id"},
            "tags": {"kind": "list", "max_values": 3},
            "text": {"kind": "text", "tokens": {"max_size": 30}},
            "vector": {"kind": "vector", "length": 2},
        },
        "crosses": [{"features": ["listed", "quarter", "town"], "num_ids": 500}],
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
MULTICLASS = FeatureSet.model_validate(
    {
        "features": {"town": {"kind": "hash", "num_ids": 9}},
        "label": {"kind": "multiclass", "column": "y", "classes": ["low", "middle", "high"]},
    }
)
REGRESSION = FeatureSet.model_validate(
    {"features": {"raw": {"kind": "numeric", "scale": "z_score"}}, "label": {"kind": "regression", "column": "y"}}
)
# Equals in frequency, other scripts, control characters, a line break, more than any buffer, and nothing at all.
TOWNS = [
    "Oslo",
    "Łódź",
    "東京",
    "a b",
    "tab\tin",
    "x\x1fy",
    "line\nbreak",
    "cr\rhere",
    "C:\\new",
    "\\e",
    "ß",
    "z" * 70_000,
    "",
    "🙂",
    "A",
    "a",
]
ODD_NUMBERS = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e15, 9.97e36, -1e-38]


def _rows(features: FeatureSet, count: int, seed: int) -> list[Row]:
    random = np.random.default_rng(seed)
    labels = {"binary": ["yes", "no"], "multiclass": ["low", "middle", "high"], "regression": [1.5, -2.0, 0.0]}
    rows = []
    for number in range(count):
        row: Row = {
            "z": float(random.normal(5, 2)),
            "log": float(random.lognormal(3, 2)),
            "unit": float(random.integers(0, 50)),
            # Neighbours in float32, and a range wider than float32.
            "far": 16_777_214.0 + number % 2,
            "wide": 3e38 * (number % 3 - 1),
            "raw": float(random.normal(1.5, 1)),
            "quarter": float(random.integers(0, 90)),
            "gain": float(random.choice([0, 0, 0, 1, 20, 300])),
            "town": TOWNS[int(random.integers(len(TOWNS)))],
            "few": str(random.choice(["x", "y", "z", "w", "v", f"only {number}"])),
            "listed": str(random.choice(["a", "b", "c", "d", "e"])),
            "grade": int(random.integers(-3, 9)),
            "hashed": str(random.integers(100)),
            "robust": float(random.normal(5, 2)),
            "normal": float(random.lognormal(0, 1)),
            "at": int(random.integers(1_700_000_000)),
            "tags": "|".join(random.choice(["x", "y", "z", "ä"], int(random.integers(1, 4)))),
            "text": " ".join(random.choice(["free", "call", "Ça", "me", f"w{number % 40}"], 4)),
            "vector": f"{number}, {number % 7}.5",
            "y": labels[features.label.kind][int(random.integers(len(labels[features.label.kind])))],
        }
        if number < len(ODD_NUMBERS):
            row["z"] = row["log"] = ODD_NUMBERS[number]
        for name, feature in features.features.items():
            if feature.missing is not None and random.random() < 0.2:
                row.pop(name, None)
        rows.append(row)
    return rows


def _example(row: Row, types: dict[str, str]) -> bytes:
    example = tf.train.Example()
    for name, kind in types.items():
        feature = example.features.feature[name]
        if name in row and kind == "float":
            feature.float_list.value.append(row[name])
        elif name in row and kind == "int":
            feature.int64_list.value.append(row[name])
        elif name in row:
            feature.bytes_list.value.append(row[name].encode())
    return bytes(example.SerializeToString())


class Place:
    """Raw examples in files, and what is made of them."""

    def __init__(self, folder: Path, features: FeatureSet, files: dict[str, list[list[Row]]]) -> None:
        self.folder = folder
        self.features = features
        for split, shards in files.items():
            (folder / "raw" / f"Split-{split}").mkdir(parents=True)
            for index, rows in enumerate(shards):
                path = folder / "raw" / f"Split-{split}" / f"data_tfrecord-{index:05d}-of-{len(shards):05d}.gz"
                with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
                    for row in rows:
                        writer.write(_example(row, dict(features.column_types)))
        dtypes = {"float": tf.float32, "int": tf.int64, "string": tf.string}
        optional = {name for name, feature in features.features.items() if feature.missing is not None}
        spec = {
            name: tf.io.VarLenFeature(dtypes[kind]) if name in optional else tf.io.FixedLenFeature([], dtypes[kind])
            for name, kind in features.column_types.items()
        }
        (folder / "schema").mkdir()
        schema = text_format.MessageToString(schema_utils.schema_from_feature_spec(spec))
        (folder / "schema" / "schema.pbtxt").write_text(schema)

    def run(self, executor: Any, name: str, transform_splits: tuple[str, ...] = ("train", "eval")) -> Path:
        examples, schema = standard_artifacts.Examples(), standard_artifacts.Schema()
        examples.uri, schema.uri = str(self.folder / "raw"), str(self.folder / "schema")
        examples.split_names = json.dumps(
            sorted(path.name[len("Split-") :] for path in (self.folder / "raw").iterdir())
        )
        examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
        graph, transformed = standard_artifacts.TransformGraph(), standard_artifacts.Examples()
        graph.uri, transformed.uri = str(self.folder / name / "graph"), str(self.folder / name / "examples")
        splits = transform_pb2.SplitsConfig(analyze=["train"], transform=list(transform_splits))
        executor().Do(
            {"examples": [examples], "schema": [schema]},
            {"transform_graph": [graph], "transformed_examples": [transformed]},
            {
                "preprocessing_fn": "components.transform.preprocessing.preprocessing_fn",
                "custom_config": json_utils.dumps({"feature_set": self.features.model_dump_json()}),
                "splits_config": proto_utils.proto_to_json(splits),
                "disable_statistics": 1,
            },
        )
        assert json.loads(transformed.split_names) == list(transform_splits)
        return self.folder / name


def read_columns(made: Path, split: str) -> dict[str, Any]:
    """Return the transformed columns, [rows], of all shards in order."""
    spec = tft.TFTransformOutput(str(made / "graph")).transformed_feature_spec()
    files = sorted(map(str, (made / "examples" / f"Split-{split}").iterdir()))
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    return {name: column.numpy() for name, column in tf.io.parse_example(records, spec).items()}


@pytest.fixture(
    scope="module", params=[ALL_KINDS, MULTICLASS, REGRESSION], ids=["all kinds", "multiclass", "regression"]
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Return the outputs of stock Transform, and ours."""
    features = request.param
    train = [_rows(features, 400, 1), [], _rows(features, 300, 2)]
    place = Place(tmp_path_factory.mktemp("made"), features, {"train": train, "eval": [[], _rows(features, 50, 3)]})
    return place.run(stock.Executor, "stock"), place.run(component.BatchedTransformExecutor, "ours")


def test_every_row_is_encoded_as_stock_transform_does_it(made: tuple[Path, Path]) -> None:
    for split, rows in (("train", 700), ("eval", 50)):
        theirs, ours = read_columns(made[0], split), read_columns(made[1], split)
        assert {len(column) for column in ours.values()} == {rows}
        assert theirs.keys() == ours.keys()
        for name, expected in theirs.items():
            if expected.dtype == np.float32:
                # Moments are of float64, though of batches of other sizes; their quotient is rounded to float32.
                np.testing.assert_allclose(ours[name], expected, rtol=2e-7, atol=1e-12, err_msg=name)
            else:
                np.testing.assert_array_equal(ours[name], expected, err_msg=name)


def test_what_tfx_reads_beside_the_rows_is_stock_transforms(made: tuple[Path, Path]) -> None:
    theirs, ours = made[0] / "graph", made[1] / "graph"
    for name in ("metadata/schema.pbtxt", "transformed_metadata/schema.pbtxt", "transformed_metadata/asset_map"):
        if (theirs / name).exists() or (ours / name).exists():
            assert (ours / name).read_text() == (theirs / name).read_text(), name
    assets = theirs / "transform_fn" / "assets"
    vocabularies = {path.name: path.read_bytes() for path in assets.iterdir()} if assets.exists() else {}
    assert {p.name: p.read_bytes() for p in (ours / "transform_fn" / "assets").glob("*")} == vocabularies
    graphs = [tf.saved_model.load(str(graph / "transform_fn")).transform_fn for graph in (theirs, ours)]
    assert graphs[0].structured_input_signature == graphs[1].structured_input_signature
    assert graphs[0].structured_outputs == graphs[1].structured_outputs
    # Nothing temporary is left.
    assert sorted(path.name for path in ours.iterdir()) == ["metadata", "transform_fn", "transformed_metadata"]
    assert all(path.name.endswith(".gz") for path in (made[1] / "examples").rglob("*") if path.is_file())


def test_one_file_for_each_file_of_a_split_even_if_it_has_no_rows(made: tuple[Path, Path]) -> None:
    names = [path.name for path in sorted((made[1] / "examples" / "Split-eval").iterdir())]
    assert names == [f"transformed_examples-0000{index}-of-00002.gz" for index in range(2)]


def test_the_data_is_read_once_to_learn_and_once_to_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that grow with work, not with the mood of the machine."""
    read: Counter[str] = Counter()
    graphs: Counter[str] = Counter()

    def counted_batches(file: str, function: Any, columns: int) -> Iterator[Any]:
        read[Path(file).parent.name] += sum(1 for _ in tf.data.TFRecordDataset(file, "GZIP"))
        for batch in whole_batches(file, function, columns):
            graphs["runs"] += 1
            yield batch

    def counted_preprocessing(inputs: Any, custom_config: Any) -> Any:
        graphs["traces"] += 1
        return whole_preprocessing(inputs, custom_config)

    whole_batches, whole_preprocessing = analyzers.map_batches, preprocessing.preprocessing_fn
    for module in (analyzers, component):
        monkeypatch.setattr(module, "map_batches", counted_batches)
    monkeypatch.setattr(preprocessing, "preprocessing_fn", counted_preprocessing)
    train = [_rows(REGRESSION, 300, 1), _rows(REGRESSION, 200, 2)]
    place = Place(tmp_path, REGRESSION, {"train": train, "eval": [_rows(REGRESSION, 50, 3)]})
    place.run(component.BatchedTransformExecutor, "ours")
    assert read == {"Split-train": 2 * 500, "Split-eval": 50}
    # To find the analyzers, and to write the graph.
    assert graphs == {"runs": 2 + 2 + 1, "traces": 2}


def test_a_split_whose_files_are_gone_is_refused_by_name(tmp_path: Path) -> None:
    place = Place(tmp_path, REGRESSION, {"train": [_rows(REGRESSION, 5, 1)], "eval": []})
    (tmp_path / "raw" / "Split-eval").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="split 'eval' has no files"):
        place.run(component.BatchedTransformExecutor, "ours")


def test_a_served_model_loads_every_category_in_a_process_of_its_own(tmp_path: Path) -> None:
    """A table of TFT's format `tfrecord_gzip` cannot be exported; this one is read where nothing of ours is imported."""
    features = FeatureSet.model_validate(
        {"features": {"town": {"kind": "vocabulary", "max_size": 100}}, "label": {"kind": "regression", "column": "y"}}
    )
    # The most frequent first, so that the ids are known.
    rows: list[Row] = [{"town": town, "y": 0.0} for n, town in enumerate(TOWNS) for _ in range(len(TOWNS) - n)]
    made = Place(tmp_path, features, {"train": [rows]}).run(component.BatchedTransformExecutor, "ours", ("train",))

    def network(inputs: dict[str, Any], training: bool) -> Any:
        del training
        return tf.cast(inputs["ids"], tf.float32)

    graph = TransformGraph(tft.TFTransformOutput(str(made / "graph")))
    ServedModel(network, {}, graph, features, "0" * 16, ReadOptions()).export(str(tmp_path / "model"))
    code = (
        "import json, sys, tensorflow as tf; model = tf.saved_model.load(sys.argv[1])\n"
        "answer = model.signatures['serving_default'](town=tf.constant(json.loads(sys.argv[2])))\n"
        "print(json.dumps(answer['prediction'].numpy().tolist()))"
    )
    # An argument of a process has at most 128 KiB.
    asked = [*(town[:70] if len(town) > 70 else town for town in TOWNS), "Oslo"]
    numbers = [float(n) for n in range(len(TOWNS))]
    long = TOWNS.index("z" * 70_000)
    numbers[long] = len(TOWNS)
    command = [sys.executable, "-c", code, str(tmp_path / "model"), json.dumps(asked)]
    answered = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(answered.stdout.splitlines()[-1]) == [*numbers, 0.0]
