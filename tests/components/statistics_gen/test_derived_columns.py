"""Derived features in statistics, schema and gate: their values are those of the Transform graph."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tensorflow_transform.graph_context import TFGraphContext
from tensorflow_transform.tf_metadata import schema_utils
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from components.config import Comparison
from components.example_validator.anomalies import list_anomalies
from components.example_validator.validation import find_anomalies
from components.gate.comparison import compute_shifts
from components.histograms import read_category_counts, read_number_counts
from components.schema_gen.component import infer
from components.sensitive_statistics import is_sensitive
from components.statistics_gen.component import StatisticsExecutor, StatisticsGen
from components.statistics_gen.record_batches import read_record_batches
from components.transform.category_tables import compute_fingerprint_ids
from components.transform.preprocessing import preprocessing_fn
from schemas.curated.derived_features import complete_schema, find_curated
from schemas.curated.schema_file import check_schema
from schemas.features import FeatureSet
from tests.components.transform.test_expressions import NUMBERS, STRINGS, expressions

pytestmark = pytest.mark.integration

LABEL = {"column": "label", "positive": "yes", "negative": "no"}
DTYPES = {"float": tf.float32, "int": tf.int64, "string": tf.string}
# Values that no expression of the tests has.
NO_NUMBER, NO_ID, NUM_IDS = -7.25, 2**31 - 2, 2**31 - 1
RAW: dict[str, Any] = {
    "x": {"kind": "input", "type": "number", "missing": "allowed"},
    "y": {"kind": "numeric", "missing": "mean", "scale": "identity"},
    "s": {"kind": "input", "type": "string", "missing": "allowed"},
    "r": {"kind": "hash", "num_ids": 9, "missing": "?"},
    "t": {"kind": "timestamp", "missing": "own_id"},
    "u": {"kind": "timestamp", "missing": "own_id"},
    "c": {"kind": "timestamp", "format": "time_of_day", "missing": "own_id"},
    "d": {"kind": "timestamp", "format": "time_of_day", "missing": "own_id"},
    "k": {"kind": "identity", "num_ids": 9, "missing": 8},
}
SECONDS = st.one_of(st.none(), st.integers(-(10**9), 10**9))
ROWS = st.fixed_dictionaries(
    {
        "x": NUMBERS, "y": NUMBERS, "s": STRINGS, "r": STRINGS, "t": SECONDS, "u": SECONDS,
        "c": st.one_of(st.none(), st.integers(0, 86_399)), "d": st.one_of(st.none(), st.integers(0, 86_399)),
        "k": st.one_of(st.none(), st.integers(0, 2)),
    }
)  # fmt: skip


def declare(features: dict[str, Any]) -> FeatureSet:
    """Return the derived features, and the raw ones that they use."""
    text = " ".join(feature["expression"] for feature in features.values())
    raw = {name: feature for name, feature in RAW.items() if re.search(rf"\b{name}\b", text)}
    return FeatureSet.model_validate({"features": {**raw, **features}, "label": LABEL})


def write_examples(path: Path, features: FeatureSet, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in rows:
            example = tf.train.Example()
            for name, kind in features.column_types.items():
                value = {"label": "no", **row}.get(name)
                # As ExampleGen does, with an entry for a value that is missing.
                feature = example.features.feature[name]
                if kind == "string" and value:
                    feature.bytes_list.value.append(value.encode())
                elif kind == "float" and value is not None:
                    feature.float_list.value.append(value)
                elif kind == "int" and value is not None:
                    feature.int64_list.value.append(value)
            writer.write(example.SerializeToString())


def read_statistics_columns(path: Path, features: FeatureSet) -> dict[str, list[Any]]:
    """Return the values of the derived features that are counted, None where there is none."""
    (batch,) = read_record_batches(str(path), features.column_types, {}, features.derived_columns)
    assert batch.schema.names == [*features.column_types, *features.derived_columns]
    columns = {name: batch.column(name).to_pylist() for name in features.derived_columns}
    return {name: [value if value is None else value[0] for value in column] for name, column in columns.items()}


def transform(path: Path, features: FeatureSet) -> dict[str, list[Any]]:
    """Return what `preprocessing_fn` gives for the examples of a file."""
    spec = {name: tf.io.VarLenFeature(DTYPES[kind]) for name, kind in features.column_types.items()}
    config = {"feature_set": features.model_dump_json()}

    @tf.function(autograph=False)
    def encode(records: tf.Tensor) -> Any:
        # A context that has ended in this thread leaves TFT without any.
        with TFGraphContext(tf.Module()):
            outputs = preprocessing_fn(tf.io.parse_example(records, spec), config)
        return {name: outputs[name] for name in features.derived_columns}

    records = list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())
    return {name: column.numpy().tolist() for name, column in encode(tf.constant(records)).items()}


def encode(values: list[Any], kind: str) -> list[Any]:
    """Return values as the features of `KINDS` encode them."""
    if kind == "hash":
        strings = [value or b"?" for value in values]
        return compute_fingerprint_ids(tf.constant([strings]), [10**9])[0].numpy().tolist()  # type: ignore[no-any-return]
    return [{"numeric": NO_NUMBER, "identity": NO_ID}[kind] if value is None else value for value in values]


KINDS: dict[str, dict[str, Any]] = {
    "numeric": {"kind": "numeric", "scale": "identity", "missing": NO_NUMBER},
    "hash": {"kind": "hash", "num_ids": 10**9, "missing": "?"},
    "identity": {"kind": "identity", "num_ids": NUM_IDS, "missing": NO_ID},
}
_RESULTS = {"numeric": ["number", "boolean"], "hash": ["string", "boolean"], "identity": ["boolean"]}


@given(st.data(), st.lists(ROWS, min_size=2, max_size=4))
@settings(max_examples=5)
def test_the_values_of_the_statistics_are_those_of_the_graph(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: list[dict[str, Any]]
) -> None:
    derived = {}
    for kind, types in _RESULTS.items():
        text = re.sub(r"\bb\b", "(k == 1)", data.draw(expressions(data.draw(st.sampled_from(types)))))
        # At least one column, which random expressions of constants have not.
        column = {"numeric": "x", "hash": "s", "identity": "k"}[kind]
        keep = f"is_missing({column}) or True"
        derived[kind] = {**KINDS[kind], "expression": f"coalesce({text} if {keep} else {text}, {text})"}
    features = declare(derived)
    path = tmp_path_factory.mktemp("examples") / "a.gz"
    write_examples(path, features, rows)
    counted, encoded = read_statistics_columns(path, features), transform(path, features)
    for kind, values in counted.items():
        assert encode(values, kind) == encoded[kind], (derived[kind]["expression"], values)


FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "fare": {"kind": "numeric", "missing": "mean"},
            "miles": {"kind": "input", "type": "number", "missing": "allowed"},
            "genres": {"kind": "input", "type": "string", "missing": "allowed"},
            "rate": {"kind": "numeric", "expression": "fare / miles", "missing": "mean"},
            "is_far": {
                "kind": "vocabulary_list", "values": ["false", "true"], "expression": "miles > 5", "missing": "?"
            },
            "is_dear": {"kind": "identity", "num_ids": 2, "expression": "fare > 20", "missing": 0},
            "tags": {"kind": "list", "expression": "lower(genres)"},
            "never": {"kind": "numeric", "expression": "fare / 0", "missing": "mean"},
        },
        "label": LABEL,
        "weight": "w",
    }
)  # fmt: skip
SENSITIVE = ["is_far", "rate"]
ROW_COUNT = 300


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Examples of two splits; in those of `later`, each column has the same values, and `rate` has others."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(5)
    fares = np.exp2(random.integers(0, 6, ROW_COUNT)).tolist()
    for split in ("train", "later"):
        # The ratio is 2 in most rows of `train`, and anything in `later`.
        miles = [fare / 2 for fare in fares] if split == "train" else random.permutation(fares) / 2
        rows = [
            {"fare": fare, "miles": None if row % 10 == 0 else float(mile), "genres": "A|b", "w": 1.0 + row % 2}
            for row, (fare, mile) in enumerate(zip(fares, miles, strict=True))
        ]
        for shard in range(2):
            write_examples(folder / f"Split-{split}" / f"data_tfrecord-{shard}.gz", FEATURES, rows[shard::2])
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "later"])
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    return artifact


def execute(examples: Any, folder: Path, **arguments: Any) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Return the statistics of each split, as the component with these arguments takes them."""
    component = StatisticsGen(
        examples=_channel(examples),
        column_types=FEATURES.column_types,
        weight=FEATURES.weight,
        delimiters=FEATURES.list_delimiters,
        derived_columns=FEATURES.derived_columns,
        sensitive_columns=SENSITIVE,
        **arguments,
    )
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder)
    StatisticsExecutor().Do({"examples": [examples]}, {"statistics": [statistics]}, dict(component.exec_properties))
    return {split: tfdv.load_stats_binary(f"{folder}/Split-{split}/FeatureStats.pb") for split in ("train", "later")}


def _channel(artifact: Any) -> Any:
    return channel_utils.as_channel([artifact])


def by_name(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> dict[str, Any]:
    return {feature.path.step[0]: feature for feature in statistics.datasets[0].features}


@pytest.fixture(scope="module", params=["fast", "stock"])
def statistics(
    request: pytest.FixtureRequest, examples: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    return execute(examples, tmp_path_factory.mktemp("statistics"), implementation=request.param)


Splits = dict[str, statistics_pb2.DatasetFeatureStatisticsList]


def test_derived_features_have_statistics(statistics: Splits) -> None:
    features = by_name(statistics["train"])
    assert list(features) == [*sorted(FEATURES.column_types), *sorted(FEATURES.derived_columns)]
    assert {name for name, feature in features.items() if feature.HasField("validation_derived_source")} == {
        *FEATURES.derived_columns
    }
    source = features["rate"].validation_derived_source
    assert (source.description, [path.step[0] for path in source.source_path]) == ("fare / miles", ["fare", "miles"])
    rate = features["rate"].num_stats
    assert (rate.common_stats.num_non_missing, rate.common_stats.num_missing) == (270, 30)
    assert (rate.min, rate.mean, rate.max) == (2.0, 2.0, 2.0)
    # Rows of odd numbers weigh 2, and the missing ones are even.
    assert rate.common_stats.weighted_common_stats.num_non_missing == 450 - 30
    assert read_number_counts(features["rate"]).low.tolist() == [2.0]
    assert set(read_category_counts(features["is_far"])) == {"false", "true"}
    assert set(read_category_counts(features["tags"])) == {"a", "b"}
    assert features["is_dear"].type == statistics_pb2.FeatureNameStatistics.INT
    # Of a column without any value TFDV does not know the type.
    assert features["never"].string_stats.common_stats.num_missing == ROW_COUNT
    assert [name for name, feature in features.items() if is_sensitive(feature)] == SENSITIVE


def infer_types(train: statistics_pb2.DatasetFeatureStatisticsList) -> schema_pb2.Schema:
    optional = [name for name, feature in FEATURES.features.items() if feature.missing is not None]
    return infer(train, FEATURES.validated_types, optional=optional)


def test_an_inferred_schema_has_derived_features_that_nobody_reads_from_examples(statistics: Splits) -> None:
    schema = infer_types(statistics["train"])
    described = {feature.name: feature for feature in schema.feature}
    assert set(described) == set(FEATURES.validated_types)
    assert {
        name for name, feature in described.items() if feature.lifecycle_stage == schema_pb2.VALIDATION_DERIVED
    } == {*FEATURES.derived_columns}
    assert sorted(schema_utils.schema_as_feature_spec(schema).feature_spec) == sorted(FEATURES.column_types)
    assert schema_pb2.FeatureType.Name(described["never"].type) == "FLOAT"
    assert not find_anomalies(statistics["train"].datasets[0], schema).anomaly_info


def test_the_gate_measures_derived_features(statistics: Splits) -> None:
    comparison = Comparison.model_validate({"default": {"threshold": 0.05}})
    schema = infer_types(statistics["train"])
    for side in ("drift", "skew"):
        distances = compute_shifts(statistics["train"], statistics["later"], schema, comparison, side)  # type: ignore[arg-type]
        assert [shift.feature for shift in distances if shift.exceeded] == ["rate"]
        assert distances[0].moved[0][0] == "<masked>"
        # No value of it is anywhere, so there is nothing to measure.
        assert {shift.feature for shift in distances} == set(FEATURES.validated_types) - {"never"}


CURATED = """
feature { name: "fare" type: FLOAT } feature { name: "miles" type: FLOAT } feature { name: "genres" type: BYTES }
feature { name: "label" type: BYTES } feature { name: "w" type: FLOAT }
"""


def parse(text: str) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


def test_a_curated_schema_needs_no_derived_feature_and_may_bound_one(statistics: Splits) -> None:
    later = statistics["later"].datasets[0]
    without = parse(CURATED)
    check_schema("a.pbtxt", without, FEATURES)
    complete = complete_schema(without, FEATURES)
    assert {feature.name for feature in complete.feature} == set(FEATURES.validated_types)
    assert not find_anomalies(later, complete).anomaly_info
    assert sorted(schema_utils.schema_as_feature_spec(complete).feature_spec) == sorted(FEATURES.column_types)
    # What is compared with the file knows nothing of what was added to it.
    assert tfdv.update_schema(without, _wrap(find_curated(later, without))) == without

    bounded = parse(CURATED + 'feature { name: "rate" type: FLOAT float_domain { min: 1.0 max: 3.0 } }')
    check_schema("a.pbtxt", bounded, FEATURES)
    anomalies = list_anomalies(find_anomalies(later, complete_schema(bounded, FEATURES)), "later")
    assert {(anomaly.feature, anomaly.kind) for anomaly in anomalies} == {
        ("rate", "FLOAT_TYPE_BIG_FLOAT"),
        ("rate", "FLOAT_TYPE_SMALL_FLOAT"),
    }
    updated = tfdv.update_schema(bounded, _wrap(find_curated(later, bounded)))
    assert [feature.name for feature in updated.feature] == [feature.name for feature in bounded.feature]
    (rate,) = (feature for feature in updated.feature if feature.name == "rate")
    assert (rate.float_domain.min, rate.float_domain.max) == (0.0625, 64.0)
    assert not any(feature.HasField("validation_derived_source") for feature in updated.feature)


def _wrap(split: statistics_pb2.DatasetFeatureStatistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[split])


def test_arguments_that_exclude_each_other_are_rejected(examples: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="derived_columns need column_types, which name the columns to read"):
        StatisticsGen(examples=_channel(examples), derived_columns=FEATURES.derived_columns)
    with pytest.raises(ValueError, match="derived_columns are not computed, because stats_options are given; remove"):
        execute(examples, tmp_path, stats_options=tfdv.StatsOptions(num_top_values=3))


def test_no_parameter_of_the_component_changes_without_derived_features(examples: Any) -> None:
    component = StatisticsGen(examples=_channel(examples), column_types={"x": "float"})
    assert "derived_columns" not in {name for name, value in component.exec_properties.items() if value is not None}
    derived = StatisticsGen(
        examples=_channel(examples), column_types=FEATURES.column_types, derived_columns=FEATURES.derived_columns
    )
    assert json.loads(derived.exec_properties["derived_columns"])["rate"] == {
        "expression": "fare / miles",
        "operands": {"fare": "number", "miles": "number"},
        "column_type": "float",
    }
