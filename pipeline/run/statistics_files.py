"""Reader of StatisticsGen's files. Imports neither TFX, TensorFlow nor ML Metadata."""

from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.errors import DataError


def read_statistics(folder: Path) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """Read an artifact of StatisticsGen, by split.

    Raises:
      DataError: its files are gone or damaged.
    """
    by_split = {}
    for file in sorted(folder.glob("Split-*/FeatureStats.pb")):
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        try:
            statistics.ParseFromString(file.read_bytes())
        except (DecodeError, OSError) as error:
            raise DataError(f"{file}: cannot be read as statistics: {error}") from error
        if not statistics.datasets:
            raise DataError(f"{file}: holds no statistics")
        by_split[file.parent.name.removeprefix("Split-")] = statistics.datasets[0]
    if not by_split:
        raise DataError(f"{folder}: holds no statistics; were they deleted?")
    return by_split
