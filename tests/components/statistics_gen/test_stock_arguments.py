"""Arguments of stock StatisticsGen: done by the fast executor, or by the stock one with a line in the log."""

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.statistics_gen import executor as stock
from tfx.types import artifact_utils, standard_artifacts

from cli.errors import DataError
from components.histograms import has_counts
from components.sensitive_statistics import is_sensitive
from components.statistics_gen import component
from components.statistics_gen.component import StatisticsExecutor

pytestmark = pytest.mark.integration

ROWS = 6


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Examples of two splits, whose records have lists and columns that others lack."""
    return write_examples(tmp_path_factory.mktemp("examples"))


def write_examples(folder: Path, suffix: str = ".gz", start: int = 0) -> Any:
    for split in ("train", "eval"):
        (folder / f"Split-{split}").mkdir()
        with tf.io.TFRecordWriter(
            str(folder / f"Split-{split}" / f"data{suffix}"), "GZIP" if suffix == ".gz" else ""
        ) as writer:
            for row in range(start, start + ROWS):
                example = tf.train.Example()
                example.features.feature["kids"].int64_list.value.append(row)
                example.features.feature["ages"].float_list.value.extend([1.5 * row] * (row % 3))
                example.features.feature["job"].bytes_list.value.append(b"cook" if row % 2 else b"clerk")
                if row == start + 4:
                    example.features.feature["rare"].bytes_list.value.append(b"once")
                writer.write(example.SerializeToString())
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    artifact.span = 7
    return artifact


def execute(executor: Any, inputs: dict[str, Any], folder: Path, **properties: Any) -> Any:
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder)
    executor.Do(inputs, {"statistics": [statistics]}, properties)
    return statistics


def features(statistics: Any, split: str = "train") -> dict[str, Any]:
    (dataset,) = tfdv.load_stats_binary(f"{statistics.uri}/Split-{split}/FeatureStats.pb").datasets
    return {feature.path.step[0]: feature for feature in dataset.features}


def common(statistics: Any, split: str = "train") -> dict[str, Any]:
    """Return by column its type, what TFDV counts of every column, and the counts of strings."""
    return {
        name: (f.type, (f.num_stats if f.HasField("num_stats") else f.string_stats).common_stats, f.string_stats)
        for name, f in features(statistics, split).items()
    }


def test_all_columns_are_read_as_the_records_have_them(
    examples: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = execute(StatisticsExecutor(), {"examples": [examples]}, tmp_path / "ours")
    theirs = execute(stock.Executor(), {"examples": [examples]}, tmp_path / "stock")
    assert common(ours) == common(theirs) and [*features(ours)] == ["ages", "job", "kids", "rare"]
    assert has_counts(features(ours)["ages"])
    assert "the executor of stock TFX" not in caplog.text
    assert (ours.split_names, ours.span) == (theirs.split_names, theirs.span)
    assert ours.mlmd_artifact.custom_properties == theirs.mlmd_artifact.custom_properties


def test_excluded_splits_have_no_statistics(examples: Any, tmp_path: Path) -> None:
    ours = execute(StatisticsExecutor(), {"examples": [examples]}, tmp_path, exclude_splits='["eval"]')
    assert ours.split_names == '["train"]'
    assert [path.name for path in tmp_path.iterdir()] == ["Split-train"]
    with pytest.raises(ValueError, match="no split is left"):
        execute(StatisticsExecutor(), {"examples": [examples]}, tmp_path, exclude_splits='["eval", "train"]')


def test_several_artifacts_are_counted_together_and_records_may_be_plain(examples: Any, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    more = write_examples(tmp_path / "more", suffix="", start=100)
    ours = execute(StatisticsExecutor(), {"examples": [examples, more]}, tmp_path / "ours")
    kids = features(ours)["kids"].num_stats
    assert (kids.common_stats.num_non_missing, kids.min, kids.max) == (2 * ROWS, 0, 105)


def test_the_stock_executor_does_what_options_ask_for(
    examples: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inputs, options = {"examples": [examples]}, tfdv.StatsOptions(num_top_values=1).to_json()
    properties = {"stats_options_json": options, "sample_rate_by_split": '{"train": 1.0}'}
    ours = execute(StatisticsExecutor(), inputs, tmp_path / "ours", **properties)
    theirs = execute(stock.Executor(), inputs, tmp_path / "stock", **properties)
    assert features(ours) == features(theirs)
    assert "StatisticsGen: the executor of stock TFX does the work, since stats_options are given" in caplog.text
    assert component._explain_stock(inputs, {"sample_rate_by_split": '{"train": 1.0}'}) == "sample rates are given"
    assert component._explain_stock(inputs, {"sharded_stats_output": True}) == "sharded output is asked for"


def test_a_schema_turns_whole_numbers_into_categories(
    examples: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "schema").mkdir()
    schema = text_format.Parse(
        'feature { name: "kids" type: INT int_domain { is_categorical: true } }', schema_pb2.Schema()
    )
    (tmp_path / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(schema))
    artifact = standard_artifacts.Schema()
    artifact.uri = str(tmp_path / "schema")
    ours = execute(StatisticsExecutor(), {"examples": [examples], "schema": [artifact]}, tmp_path / "ours")
    assert features(ours)["kids"].string_stats.unique == ROWS
    assert "since a schema is given" in caplog.text


def test_weights_and_sensitive_columns_hold_with_options_too(examples: Any, tmp_path: Path) -> None:
    ours = execute(
        StatisticsExecutor(),
        {"examples": [examples]},
        tmp_path,
        weight="kids",
        sensitive_columns=json.dumps(["job"]),
        stats_options_json=tfdv.StatsOptions(num_top_values=1).to_json(),
    )
    job = features(ours)["job"]
    assert is_sensitive(job) and len(job.string_stats.top_values) == 1
    assert job.string_stats.common_stats.weighted_common_stats.num_non_missing == sum(range(ROWS))
    assert not is_sensitive(features(ours)["kids"])


def test_a_split_without_files_is_named(tmp_path: Path) -> None:
    empty = standard_artifacts.Examples()
    empty.uri, empty.split_names = str(tmp_path), '["train"]'
    empty.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    with pytest.raises(DataError, match="StatisticsGen: split 'train' has no files in .*Split-train"):
        execute(StatisticsExecutor(), {"examples": [empty]}, tmp_path / "out")
