"""The text of a config."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from pipeline.init.requests import Requests
from pipeline.init.source import find_source
from pipeline.init.starter import write_starter


@pytest.mark.integration
def test_a_wide_table_of_few_rows_is_learned_with_care(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {f"x{number}": random.normal(size=4_000).round(3) for number in range(210)}
    columns["u"] = random.uniform(-3, 3, 4_000).round(3)
    columns["y"] = np.where((np.abs(columns["u"]) > 1.5) ^ (random.random(4_000) < 0.1), "yes", "no")
    pa.parquet.write_table(pa.table(columns), tmp_path / "wide.parquet")
    source = find_source(str(tmp_path / "wide.parquet"), test=None, delimiter=None, column_names=(), header=True)
    start = write_starter(source, Requests("y"), name="w", config_folder=tmp_path, schema_path=tmp_path / "w.pbtxt")
    config = yaml.safe_load(start.config)
    # A bucket only where a line does not do.
    assert [name for name, feature in config["features"].items() if "buckets" in feature] == ["u"]
    # The deep part gets what tells something.
    assert [name for name, feature in config["features"].items() if feature.get("encoding") != "none"] == ["u"]
    assert config["training"]["wide_optimizer"]["l1"] == 0.01
