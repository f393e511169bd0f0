"""The description of inputs in OpenAPI and on the page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.model.inputs import build_inputs
from serving.server.pages import _build_row_schema

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "seen": {"kind": "timestamp", "parts": {"hour": {}}, "description": "When it was seen."},
            "epoch": {"kind": "timestamp", "format": "epoch_milliseconds", "parts": {"hour": {}}},
            "genres": {"kind": "list", "max_values": 6},
            "poster": {"kind": "vector", "length": 3},
            "origin": {"kind": "vocabulary", "max_size": 9, "shared": "city"},
            "target": {"kind": "vocabulary", "max_size": 9, "shared": "city"},
        },
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)


def test_inputs_are_described_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "genres").write_text("Action\nComedy\n")
    (tmp_path / "assets" / "origin").write_text("Oslo\nParis\n")
    predictor = SimpleNamespace(features=FEATURES, inputs=build_inputs(FEATURES, ReadOptions()))
    served: Any = SimpleNamespace(predictor=predictor, folder=tmp_path)
    fields = _build_row_schema(served)["properties"]
    assert fields["seen"]["type"] == ["string"]
    assert fields["seen"]["description"].startswith("Expects a date ")
    assert fields["seen"]["description"].endswith(" When it was seen.")
    assert fields["epoch"]["type"] == ["string", "number"]
    assert (fields["genres"]["maxItems"], fields["genres"]["items"]["examples"]) == (6, ["Action", "Comedy"])
    assert (fields["poster"]["minItems"], fields["poster"]["maxItems"]) == (3, 3)
    assert fields["origin"]["examples"] == fields["target"]["examples"] == ["Oslo", "Paris"]
