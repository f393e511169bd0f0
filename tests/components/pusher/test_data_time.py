"""The newest time of the training data, of a column of times or of the files."""

import datetime
import json
from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.types import standard_artifacts

from components.example_gen.component import DATA_TIME_PROPERTY
from components.pusher.data_time import read_data_fields
from schemas.features import FeatureSet
from serving.registry.content import DECLARATION_FILE
from serving.registry.data_time import DataTime, find_data_time

NOVEMBER = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC).timestamp()
FILES = json.dumps({"seconds": NOVEMBER, "source": "the time of the files", "span": None})


def make_statistics(folder: Path, **newest: datetime.datetime) -> standard_artifacts.ExampleStatistics:
    file = folder / "Split-train" / "FeatureStats.pb"
    file.parent.mkdir(parents=True)
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = statistics.datasets.add()
    for name, time in newest.items():
        feature = dataset.features.add()
        feature.path.step.append(name)
        feature.num_stats.max = (time - datetime.datetime(1970, 1, 1)).total_seconds()
    file.write_bytes(statistics.SerializeToString())
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri = str(folder)
    return artifact


def make_model(folder: Path, **options: object) -> Path:
    features = FeatureSet.model_validate(
        {
            "features": {
                "pickup": {"kind": "timestamp", "parts": {"hour": {}}, **options},
                "end": {"kind": "timestamp", "parts": {"hour": {}}},
                "clock": {"kind": "timestamp", "format": "time_of_day", "parts": {"hour": {}}},
            },
            "label": {"column": "y", "positive": "1", "negative": "0"},
        }
    )
    file = folder / DECLARATION_FILE
    file.parent.mkdir(parents=True)
    file.write_text(features.to_model_json())
    return folder


@pytest.fixture
def examples() -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.set_string_custom_property(DATA_TIME_PROPERTY, FILES)
    return artifact


def test_a_column_of_times_goes_before_the_files(examples: standard_artifacts.Examples, tmp_path: Path) -> None:
    """The end of a contract in the future, and a time of day, are no times of rows."""
    statistics = make_statistics(
        tmp_path / "statistics",
        pickup=datetime.datetime(2026, 10, 30, 12),
        end=datetime.datetime(2031, 1, 1),
        clock=datetime.datetime(1970, 1, 1, 23),
    )
    fields = read_data_fields(make_model(tmp_path / "model", time_zone="Europe/Berlin"), examples, statistics)
    assert fields["source"] == "column 'pickup'"
    assert datetime.datetime.fromtimestamp(fields["seconds"], datetime.UTC).isoformat() == "2026-10-30T11:00:00+00:00"


def test_a_sensitive_column_is_not_published(examples: standard_artifacts.Examples, tmp_path: Path) -> None:
    statistics = make_statistics(tmp_path / "statistics", pickup=datetime.datetime(2026, 10, 30))
    fields = read_data_fields(make_model(tmp_path / "model", sensitive=True), examples, statistics)
    assert fields == {"seconds": NOVEMBER, "source": "the time of the files", "span": None}


def test_examples_of_another_component_have_no_time(tmp_path: Path) -> None:
    assert read_data_fields(tmp_path, standard_artifacts.Examples(), None) == {}
    assert read_data_fields(tmp_path, None, None) == {}


def test_the_push_of_a_version_has_its_time() -> None:
    history = [
        {"action": "push", "version": 1, "data": {"seconds": 5.0, "source": "x", "span": 7}},
        {"action": "promote", "version": 2},
        {"action": "push", "version": 2, "data": {}},
    ]
    assert find_data_time(history, 1) == DataTime(5.0, "x", 7)
    assert find_data_time(history, 2) is None
    assert find_data_time(history, 3) is None


def test_an_age_is_in_words() -> None:
    data_time = DataTime(NOVEMBER, "column 'pickup'")
    assert data_time.describe(NOVEMBER + 3600) == "1.0 hours old: data until 2026-11-01 00:00 UTC, by column 'pickup'"
    assert data_time.describe(NOVEMBER + 12.2 * 86_400).startswith("12 days old")
    assert DataTime.parse({"seconds": "5", "source": "x"}) is None
