"""The age of the champion among the metrics of the server."""

import re
import time
from pathlib import Path
from typing import Any, cast

from serving.registry.data_time import DataTime
from serving.server.metrics import Metrics
from serving.server.model_versions import ServedVersion, Snapshot


def read_age(metrics: Metrics) -> str:
    line = re.search(r"^model_server_champion_data_age_seconds (.*)$", metrics.render().decode(), re.MULTILINE)
    assert line is not None
    return line[1]


def serve(metrics: Metrics, **data_times: DataTime | None) -> None:
    predictor = cast(Any, None)
    served = {
        number: ServedVersion(number, Path(), predictor, "", None, data_time)
        for number, data_time in enumerate(data_times.values(), 1)
    }
    metrics.update_versions(Snapshot(served=served, default=max(served)))


def test_the_age_is_that_of_the_default_version_at_the_moment() -> None:
    metrics = Metrics()
    assert read_age(metrics) == "NaN"
    serve(metrics, first=DataTime(time.time() - 9000, "x"), second=DataTime(time.time() - 500, "x"))
    age = float(read_age(metrics))
    assert 500 <= age < 530
    assert float(read_age(metrics)) > age
    serve(metrics, first=None)
    assert read_age(metrics) == "NaN"
