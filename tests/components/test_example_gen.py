"""How rows are shared out between splits."""

from components.config import Data
from components.example_gen import _settings, _split_of, csv_example_gen
from schemas.features import FeatureSet

SHARES = ("eval", "test", "calibration", "holdout", "later", "audit")
FEATURES = FeatureSet.model_validate(
    {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
)


def test_shares_reach_the_executor_in_the_order_of_the_config() -> None:
    splits = {"train": {"files": "*.csv"}, **{name: {"share_of": "train", "share": 0.1} for name in SHARES}}
    data = Data.model_validate({"format": "csv", "base": "/data", "splits": splits})
    component = csv_example_gen(data=data, features=FEATURES, code_fingerprint="")
    assert tuple(_settings(component.exec_properties)["shares"]) == SHARES


def test_every_share_gets_its_part_and_a_row_always_falls_on_the_same_side() -> None:
    shares = [("eval", 0.1), ("test", 0.3)]
    rows = [str(number).encode() for number in range(20_000)]
    names = [_split_of(row, "train", shares) for row in rows]
    assert names == [_split_of(row, "train", shares) for row in rows]
    for name, share in (*shares, ("train", 0.6)):
        assert abs(names.count(name) / len(rows) - share) < 0.01
