"""A loaded model answers columns, rows and serialized tf.Example alike, and says which it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.predictor import ModelError, Predictor
from serving.registry import VERSION_FILE
from tests.serving.models import ROW, SCHEMA_HASH, example, export_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tmp_path_factory.mktemp("model") / "saved", offset=-4.0)


def test_an_answer_says_the_version_that_a_push_wrote_and_the_schema(model: Path, tmp_path: Path) -> None:
    import shutil

    predictor = Predictor(model)
    assert (predictor.version, predictor.schema_hash) == ("unpushed", SCHEMA_HASH)
    pushed = shutil.copytree(model, tmp_path / "7")
    (pushed / VERSION_FILE).write_text("7\n")
    (answer,) = Predictor(pushed).predict([ROW])
    assert list(answer) == ["predicted_label", "probability", "model_version", "schema_hash"]
    assert (answer["model_version"], answer["schema_hash"]) == ("7", SCHEMA_HASH)


def test_rows_and_examples_are_answered_alike(model: Path) -> None:
    def encoded(row: dict[str, Any]) -> bytes:
        return example({key.replace("shop_name", "shop name"): value for key, value in row.items()})

    predictor = Predictor(model)
    rows = [ROW, {"color": "red", "size": 0.0}, {**ROW, "color": "pink", "rank": 9}]
    by_row = predictor.predict(rows)
    by_example = predictor.predict_examples([encoded(row) for row in rows])
    np.testing.assert_allclose([row["probability"] for row in by_row], by_example["probability"], atol=1e-6)
    # size 2.5, rank 2, weight 1, less 4, and the ids of the color (0 to 2) and the shop (0 to 4).
    logit = np.log(by_row[0]["probability"] / (1 - by_row[0]["probability"]))
    assert logit == pytest.approx(1.5 + round(logit - 1.5), abs=1e-3) and 1.4 <= logit <= 7.6
    good = encoded(ROW)
    for wrong, message in (
        (b"\x00nonsense", "Could not parse example input"),
        (b"", r"Feature: (color|size) \(data type: \w+\) is required but could not be found"),
        (encoded({"color": "red"}), r"Feature: size \(data type: float\) is required but could not be found"),
        (
            encoded({**ROW, "size": 3}),
            r"Key: size, Index: \d+.  Data types don't match. Data type: int64 but expected type: float",
        ),
    ):
        with pytest.raises(
            ValueError, match=rf"instances\[1\]: cannot be parsed as a tf.Example of this model: {message}"
        ):
            predictor.predict_examples([good, wrong, good, wrong, good])


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, make_model: Callable[[float], Path]) -> None:
    with pytest.raises(ModelError, match="no model can be loaded from it"):
        Predictor(tmp_path)
    half = tmp_path / "half"
    half.mkdir()
    (half / "saved_model.pb").write_bytes((make_model(0.1) / "saved_model.pb").read_bytes()[:100])
    with pytest.raises(ModelError, match="no model can be loaded from it"):
        Predictor(half)


def test_a_model_of_another_origin_is_served_with_all_inputs_required(make_model: Callable[[float], Path]) -> None:
    predictor = Predictor(make_model(0.25))
    assert [(one.name, one.required) for one in predictor.inputs.values()] == [("x", True)]
    assert (predictor.version, predictor.schema_hash) == ("", "")
    assert predictor.predict([{"x": 10}])[0]["probability"] == pytest.approx(0.35)
