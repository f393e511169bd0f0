"""The statistics are those of the stock component on the same examples, from one pass over each shard."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.components.statistics_gen import executor as stock
from tfx.types import artifact_utils, standard_artifacts

from cli.errors import DataError
from components.histograms import QUANTILES, read_category_counts, read_number_counts, read_quantile
from components.schema_gen.component import infer
from components.statistics_gen import component
from components.statistics_gen.component import WRITTEN_BINS, StatisticsExecutor
from tests.statistics import statistics_of

pytestmark = pytest.mark.integration

TYPES = {"age": "float", "id": "string", "job": "string", "kids": "int", "late": "string", "nobody": "string"}
SHARDS, ROWS = 3, 2500


def example(random: np.random.Generator, row: int) -> tf.train.Example:
    features: dict[str, tf.train.Feature] = {name: tf.train.Feature() for name in TYPES}
    if random.random() < 0.9:
        features["age"].float_list.value.append(random.gamma(3, 15))
    features["id"].bytes_list.value.append(f"id-{row}".encode())
    features["job"].bytes_list.value.append([b"cook", b"clerk", b"\xff\xfe", "Bäcker".encode()][random.integers(4)])
    features["kids"].int64_list.value.append(int(random.poisson(1.5)))
    # More rows without one than the stock component reads at once.
    if row > 2000:
        features["late"].bytes_list.value.append(b"since")
    return tf.train.Example(features=tf.train.Features(feature=features))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Examples of two splits: three shards of `train`, one of `eval`."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(3)
    for split, shards in (("train", SHARDS), ("eval", 1)):
        (folder / f"Split-{split}").mkdir()
        for shard in range(shards):
            path = str(folder / f"Split-{split}" / f"data_tfrecord-{shard:05d}-of-{shards:05d}.gz")
            with tf.io.TFRecordWriter(path, "GZIP") as writer:
                for row in range(ROWS):
                    writer.write(example(random, row).SerializeToString())
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    artifact.span = 7
    return artifact


PROPERTIES = {"column_types": json.dumps(TYPES), "sensitive_columns": "[]"}


def execute(executor: Any, examples: Any, folder: Path, **properties: Any) -> Any:
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder)
    executor.Do({"examples": [examples]}, {"statistics": [statistics]}, properties)
    return statistics


def ours(examples: Any, folder: Path) -> Any:
    return execute(StatisticsExecutor(), examples, folder, **PROPERTIES)


def features(statistics: Any, split: str) -> dict[str, Any]:
    (dataset,) = tfdv.load_stats_binary(f"{statistics.uri}/Split-{split}/FeatureStats.pb").datasets
    assert dataset.num_examples == ROWS * (SHARDS if split == "train" else 1)
    return {feature.path.step[0]: feature for feature in dataset.features}


def test_statistics_are_those_of_the_stock_component(examples: Any, tmp_path: Path) -> None:
    mine = ours(examples, tmp_path / "ours")
    expected = execute(stock.Executor(), examples, tmp_path / "stock")
    assert (mine.split_names, mine.span) == (expected.split_names, 7)
    for split in ("train", "eval"):
        actual, reference = features(mine, split), features(expected, split)
        assert list(actual) == list(reference) == sorted(TYPES)
        for name in ("id", "job", "late", "nobody"):
            # Of values that are equally frequent, as ids are, the stock component names the last.
            assert actual[name] == reference[name], name
        for name in ("age", "kids"):
            actual_stats, reference_stats = actual[name].num_stats, reference[name].num_stats
            for field in ("min", "max", "num_zeros", "common_stats"):
                assert getattr(actual_stats, field) == getattr(reference_stats, field), name
            # Sums of floats in another order.
            assert actual_stats.mean == pytest.approx(reference_stats.mean, rel=1e-12)
            assert actual_stats.std_dev == pytest.approx(reference_stats.std_dev, rel=1e-12)
            # TFDV's quantiles are within a hundredth of the rows; so are both.
            assert actual_stats.median == pytest.approx(reference_stats.median, abs=0.02 * reference_stats.std_dev)
            for mine_bucket, stock_bucket in zip(
                actual_stats.histograms[1].buckets, reference_stats.histograms[1].buckets, strict=True
            ):
                assert mine_bucket.high_value == pytest.approx(
                    stock_bucket.high_value, abs=0.1 * reference_stats.std_dev
                )


def test_weighted_statistics_are_those_of_the_stock_component(examples: Any, tmp_path: Path) -> None:
    """By `kids`: any column of numbers can be a weight, and this one has zeros."""
    mine = execute(StatisticsExecutor(), examples, tmp_path / "ours", **PROPERTIES, weight="kids")
    options = tfdv.StatsOptions(weight_feature="kids").to_json()
    expected = execute(stock.Executor(), examples, tmp_path / "stock", stats_options_json=options)
    for split in ("train", "eval"):
        actual, reference = features(mine, split), features(expected, split)
        for name in ("job", "late"):
            assert actual[name].string_stats.weighted_string_stats.rank_histogram.buckets
            assert actual[name] == reference[name], name
        for name in ("age", "kids"):
            actual_stats, reference_stats = actual[name].num_stats, reference[name].num_stats
            assert actual_stats.common_stats == reference_stats.common_stats
            assert actual_stats.common_stats.weighted_common_stats.num_non_missing > 0
            assert actual_stats.mean == pytest.approx(reference_stats.mean, rel=1e-12)
            for field in ("mean", "std_dev"):
                weighted, expected_value = (
                    getattr(side.weighted_numeric_stats, field) for side in (actual_stats, reference_stats)
                )
                assert weighted == pytest.approx(expected_value, rel=1e-9)
        totals = [
            tfdv.load_stats_binary(f"{side.uri}/Split-{split}/FeatureStats.pb").datasets[0].weighted_num_examples
            for side in (mine, expected)
        ]
        assert totals[0] == totals[1] == pytest.approx(values(examples, split, "kids").sum())


def test_values_of_lists_are_counted_and_have_a_domain(examples: Any, tmp_path: Path) -> None:
    """Split at `e` and `n`: `clerk` is `cl` and `rk`, and `since` is `si` and `ce`."""
    jobs = read_category_counts(features(ours(examples, tmp_path / "plain"), "train")["job"])
    delimiters = json.dumps({"job": "e", "late": "n"})
    split = execute(StatisticsExecutor(), examples, tmp_path / "lists", **PROPERTIES, delimiters=delimiters)
    job = features(split, "train")["job"]
    assert job.string_stats.common_stats.num_non_missing == sum(jobs.values())
    values = read_category_counts(job)
    expected = {"cook": jobs["cook"], "cl": jobs["clerk"], "rk": jobs["clerk"], "Bäck": jobs["Bäcker"]}
    assert {name: values[name] for name in expected} == expected
    train = tfdv.load_stats_binary(f"{split.uri}/Split-train/FeatureStats.pb")
    schema = infer(train, TYPES, optional=["age", "late", "nobody"])
    assert [[*domain.value] for domain in schema.string_domain if domain.name == "late"] == [["ce", "si"]]
    assert not tfdv.validate_statistics(train, schema).anomaly_info


def values(examples: Any, split: str, name: str) -> Any:
    """Return what is written in the examples."""
    numbers: list[float] = []
    for path in sorted(Path(examples.uri, f"Split-{split}").glob("*")):
        for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature[name]
            numbers += [*feature.float_list.value, *feature.int64_list.value]
    return np.array(numbers)


def test_numbers_have_true_counts_and_quantiles(examples: Any, tmp_path: Path) -> None:
    mine = ours(examples, tmp_path)
    for split in ("train", "eval"):
        actual = features(mine, split)
        assert [name for name, feature in actual.items() if feature.custom_stats] == ["age", "kids"]
        kids = values(examples, split, "kids")
        counts = read_number_counts(actual["kids"])
        assert counts.is_exact
        assert dict(zip(counts.low, counts.count, strict=True)) == dict(Counter(kids.tolist()))
        ages = values(examples, split, "age")
        counts = read_number_counts(actual["age"])
        # Bins of the artifact are bounded; the quantiles are from many more.
        assert len(counts.low) <= WRITTEN_BINS and counts.total == len(ages)
        edges = np.linspace(ages.min(), ages.max(), 25)[1:]
        assert np.abs(counts.count_up_to(edges) - (ages[:, None] <= edges).sum(axis=0)).max() <= 0.002 * len(ages)
        for column, numbers in (("kids", kids), ("age", ages)):
            expected = [np.quantile(numbers, share, method="inverted_cdf") for share in QUANTILES]
            assert [read_quantile(actual[column], share) for share in QUANTILES] == expected


def test_the_readers_of_tfdv_read_the_artifact(examples: Any, tmp_path: Path) -> None:
    mine = ours(examples, tmp_path)
    train = tfdv.load_stats_binary(f"{mine.uri}/Split-train/FeatureStats.pb")
    schema = tfdv.infer_schema(train)
    assert {feature.name for feature in schema.feature} == set(TYPES)
    assert not tfdv.validate_statistics(train, schema).anomaly_info
    assert "value_counts" in {custom.name for custom in features(mine, "train")["age"].custom_stats}


@pytest.mark.parametrize("shards", [1, 3])
def test_one_two_three(shards: int) -> None:
    (dataset,) = statistics_of({"n": [1, 2, 3, None] * 1000, "x": [1.0, 2.0, 3.0, None] * 1000}, shards=shards).datasets
    for feature in dataset.features:
        assert [read_quantile(feature, share) for share in QUANTILES] == [1, 1, 2, 3, 3]
        assert read_number_counts(feature).count.tolist() == [1000, 1000, 1000]


def test_whole_numbers_are_exact_up_to_the_bound() -> None:
    ids = np.random.default_rng(1).permutation(50_000) * 7919
    (dataset,) = statistics_of({"id": ids}, shards=2).datasets
    expected = [np.quantile(ids, share, method="inverted_cdf") for share in QUANTILES]
    assert [read_quantile(dataset.features[0], share) for share in QUANTILES] == expected


def test_a_shard_is_read_once_and_by_the_thousand(
    examples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    rows: list[int] = []

    def count_batches(path: str, *columns: Any) -> Iterator[pa.RecordBatch]:
        read[path] += 1
        for batch in read_record_batches(path, *columns):
            rows.append(len(batch))
            yield batch

    read_record_batches = component.read_record_batches
    monkeypatch.setattr(component, "read_record_batches", count_batches)
    ours(examples, tmp_path)
    assert len(read) == SHARDS + 1 and set(read.values()) == {1}
    assert rows == [ROWS] * (SHARDS + 1)


def test_a_damaged_shard_stops_the_run(examples: Any, tmp_path: Path) -> None:
    damaged = standard_artifacts.Examples()
    damaged.uri = str(tmp_path)
    damaged.split_names = artifact_utils.encode_split_names(["train"])
    (tmp_path / "Split-train").mkdir()
    (tmp_path / "Split-train" / "data_tfrecord-00000-of-00001.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"^\S*data_tfrecord-00000-of-00001.gz: cannot be read"):
        ours(damaged, tmp_path / "out")
