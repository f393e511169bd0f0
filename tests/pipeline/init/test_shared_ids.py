"""Columns of the same categories share their ids, and the config that has them is valid."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.pipeline.init.test_starter import init, load_and_check

CITIES = [f"city {letter}" for letter in "abcdefghijklmnop"]


@pytest.mark.integration
def test_origin_and_target_share_their_ids(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    lines = ["origin,target,grade,label"]
    for _ in range(600):
        origin, other = random.choice(CITIES[:14]), random.choice(CITIES[2:])
        lines.append(f"{origin},{other},{random.choice(list('ABCDE'))},{int(origin < other)}")
    path = tmp_path / "trips.csv"
    path.write_text("\n".join(lines) + "\n")
    done = init(tmp_path, "trips.csv", "--label", "label", "--sensitive", "target")
    assert (done.returncode, done.stderr) == (0, "")
    config_file = tmp_path / "configs" / "trips.yaml"
    features = yaml.safe_load(config_file.read_text())["features"]
    assert (features["origin"]["shared"], features["target"]["shared"]) == ("origin", "origin")
    assert "shared" not in features["grade"]
    assert "has the categories of 'target'" in config_file.read_text()
    assert load_and_check(tmp_path, "trips").feature_set.shared_features == {"origin": ["origin", "target"]}
