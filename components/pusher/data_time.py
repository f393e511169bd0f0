"""The newest time of a model's training data: that of a column of times, or that of the files, by ExampleGen."""

import datetime
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.dsl.io import fileio

from components.example_gen.component import DATA_TIME_PROPERTY
from components.model_files import read_bytes
from schemas.data import TRAIN_SPLIT
from schemas.features import FeatureSet, Timestamp
from schemas.tables.time_format import has_date
from serving.registry.content import DECLARATION_FILE
from serving.registry.data_time import DAY_SECONDS, DataTime

# A column whose newest time is later than the files is of something planned, such as the end of a contract.
_MAX_FUTURE_SECONDS = DAY_SECONDS


def read_data_fields(
    model: Path, examples: types.Artifact | None, statistics: types.Artifact | None
) -> Mapping[str, Any]:
    """Return the fields of a model's DataTime; none if its examples are of another ExampleGen.

    Args:
      model: folder of the SavedModel, which declares its columns.
      examples: raw examples.
      statistics: their statistics, which have the newest value of each column of times.
    """
    text = "" if examples is None else examples.get_string_custom_property(DATA_TIME_PROPERTY)
    files = DataTime.parse(json.loads(text)) if text else None
    if files is None:
        return {}
    declaration = model / DECLARATION_FILE
    if statistics is None or not declaration.is_file():
        return asdict(files)
    features = FeatureSet.model_validate_json(declaration.read_bytes())
    # A span's date is that of its first second.
    limit = files.seconds + _MAX_FUTURE_SECONDS
    times = [newest for newest in _list_times(features, statistics, files.span) if newest.seconds <= limit]
    return asdict(max(times, key=lambda data_time: data_time.seconds, default=files))


def _list_times(features: FeatureSet, statistics: types.Artifact, span: int | None) -> Iterator[DataTime]:
    file = os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb")
    if not fileio.exists(file):
        return
    newest = statistics_pb2.DatasetFeatureStatisticsList.FromString(read_bytes(file))
    maxima = {
        column.path.step[0] if column.path.step else column.name: column.num_stats.max
        for column in newest.datasets[0].features
        if column.HasField("num_stats")
    }
    for name, feature in features.raw_features.items():
        if isinstance(feature, Timestamp) and has_date(feature.format) and name in maxima and not feature.sensitive:
            wall = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=maxima[name])
            seconds = wall.replace(tzinfo=ZoneInfo(feature.time_zone)).timestamp()
            yield DataTime(seconds, f"column '{name}'", span)
