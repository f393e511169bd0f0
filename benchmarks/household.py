"""Data of any size made from the census's real rows: a person, and the person they share a household with.

18 columns: census's fifteen, and the partner's age, occupation and hours a week. Persons and partners are drawn with
replacement from the real rows of the same split; the survey's weight is moved by up to a tenth, so that rows differ.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import yaml

from benchmarks.measuring import CENSUS_CONFIG, ROOT

SPLITS = ("train", "test")
# The official test file is a third of all rows, too.
_TEST_SHARE = 1 / 3
_PARTNER = ("age", "occupation", "hours_per_week")
_JITTERED = "fnlwgt"
_PLAIN = pa.csv.WriteOptions(quoting_style="none", include_header=False)
_FEATURES: dict[str, dict[str, Any]] = {
    "fnlwgt": {"kind": "numeric", "scale": "log_z_score"},
    "partner_age": {
        "kind": "numeric",
        "scale": "z_score",
        "buckets": {"kind": "quantiles", "count": 32},
        "embedding": 8,
    },
    "partner_occupation": {"kind": "vocabulary", "max_size": 20, "missing": "unknown", "embedding": 8},
    "partner_hours_per_week": {"kind": "numeric", "scale": "z_score"},
}


def write_rows(folder: Path, rows: int, *, seed: int = 0) -> dict[str, int]:
    """Write FOLDER/{train,test}/{train,test}.csv; return the rows of each split.

    Args:
      folder: is made.
      rows: rows of both splits together.
      seed: seed of the draws; the same seed gives the same files.
    """
    counts = {"test": round(rows * _TEST_SHARE)}
    counts["train"] = rows - counts["test"]
    for number, split in enumerate(SPLITS):
        random = np.random.default_rng([seed, number])
        (folder / split).mkdir(parents=True)
        sample = _draw(_real(split), counts[split], random)
        with (folder / split / f"{split}.csv").open("wb") as file:
            # By hand: pyarrow quotes every name, and CsvExampleGen takes the quotes for a part of it.
            file.write(",".join(sample.column_names).encode() + b"\n")
            pa.csv.write_csv(sample, file, _PLAIN)
    return counts


def _real(split: str) -> pa.Table:
    # As text: what is written is what was read.
    file = ROOT / "data" / "census" / f"{split}.csv.gz"
    with gzip.open(file, "rt") as text:
        names = text.readline().strip().split(",")
    types = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return pa.csv.read_csv(file, convert_options=types)


def _draw(real: pa.Table, rows: int, random: np.random.Generator) -> pa.Table:
    persons = real.take(random.integers(0, real.num_rows, rows))
    partners = real.select(_PARTNER).take(random.integers(0, real.num_rows, rows))
    weights = pc.cast(persons[_JITTERED], pa.float64()).to_numpy() * random.uniform(0.9, 1.1, rows)
    place = persons.schema.get_field_index(_JITTERED)
    persons = persons.set_column(place, _JITTERED, pa.array(weights.astype(np.int64)))
    for name in _PARTNER:
        persons = persons.add_column(persons.num_columns - 1, f"partner_{name}", partners[name])
    return persons


def write_config(folder: Path) -> Path:
    """Write our pipeline's config for the data of `write_rows`, beside it: census's, with the new columns."""
    values = yaml.safe_load(CENSUS_CONFIG.read_text())
    # No schema: it is inferred, as the stock pipeline's is.
    del values["data"]["schema_file"]
    values["data"] |= {"base": str(folder), "ignored_columns": []}
    for split in SPLITS:
        values["data"]["splits"][split]["files"] = f"{split}/{split}.csv"
    values["features"] |= _FEATURES
    # Larger steps, and larger batches for them: docs/performance.md has the quality of both.
    values["training"]["batch_size"] = 1024
    values["training"]["wide_optimizer"]["learning_rate"] = 0.4
    values["training"]["deep_optimizer"]["learning_rate"] = 0.012
    # Few rows make no good model; of many, which repeat the same persons, six epochs learn too much by heart.
    values["evaluation"]["thresholds"] = [{"metric": "auc", "lower_bound": 0.85}]
    # Their size grows with the number of slices, up to a bound.
    values["evaluation"]["plots"] = False
    # One short training may lose to a linear model, and the rest is measured all the same.
    values["evaluation"]["challengers"] = {"worse_than_linear": "warn"}
    # A busy machine answers late, and what is measured here are bytes and seconds of other components.
    values["infra_validation"] = {"max_latency_ms": 10_000}
    file = folder / "household.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file
