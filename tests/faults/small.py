"""The smallest real pipeline: a thousand rows of census, two features, eight short epochs."""

from pathlib import Path

import yaml
from google.protobuf import text_format

from schemas.curated.schema_file import load_schema
from tests.conftest import CENSUS_CONFIG, ROOT, census_rows, write_rows

NAME = "census-income"
TRAIN_ROWS, TEST_ROWS = 600, 400
_FEATURES = {
    "age": {"kind": "numeric", "scale": "z_score"},
    "relationship": {"kind": "vocabulary", "max_size": 20, "embedding": 2},
}


def small_config(folder: Path) -> Path:
    """Write data, a schema and a config for them into a new folder; return the config's path."""
    folder.mkdir(parents=True)
    for name, count in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        rows = census_rows(name, count)
        write_rows(folder / f"{name}.csv", rows)
    config = yaml.safe_load(CENSUS_CONFIG.read_text())
    config["data"]["base"] = str(folder)
    config["data"]["splits"] = {
        "train": {"files": "train.csv"},
        "eval": {"source": "train", "fraction": 0.2},
        "test": {"files": "test.csv"},
    }
    config["data"]["schema_file"] = str(folder / "schema.pbtxt")
    config["data"]["ignored_columns"] = [name for name in rows[0] if name not in (*_FEATURES, "income")]
    (folder / "schema.pbtxt").write_text(_schema())
    config["features"] = _FEATURES
    config["model"]["hidden_units"] = [8]
    # Enough steps to know more than the class shares; otherwise nothing is pushed.
    config["training"] |= {"epochs": 8, "batch_size": 32, "early_stopping": {"metric": "log_loss", "patience": 8}}
    config["evaluation"] = {
        "split": "test",
        "min_rows_per_slice": 20,
        "thresholds": [{"metric": "auc", "lower_bound": 0.3}],
        "change_thresholds": [{"metric": "auc", "max_regression": 0.6}],
        # So few rows and features: chance would decide, and each run would take longer.
        "challengers": {"linear": False, "trees": False},
    }
    # How busy the machine is decides nothing.
    config["infra_validation"] = {"max_latency_ms": 10_000}
    config["push"] = {"model_name": NAME}
    del config["crosses"], config["vertex"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "config.yaml"


def _schema() -> str:
    """Return the schema of census for these columns; so few rows would often seem skewed."""
    schema = load_schema(str(ROOT / "schemas" / "census.pbtxt"))
    kept = [feature for feature in schema.feature if feature.name in (*_FEATURES, "income")]
    for feature in kept:
        feature.ClearField("drift_comparator")
        feature.ClearField("skew_comparator")
    del schema.feature[:]
    schema.feature.extend(kept)
    return text_format.MessageToString(schema)
