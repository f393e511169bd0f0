"""A loaded model answers columns, rows and serialized tf.Example alike, and says which it is."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas.tables.values import Rule
from serving.model.inputs import Inputs, ModelInput, RequestError
from serving.model.predictor import Predictor, check_finite
from serving.model.session_model import ModelError
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
    def encode(row: dict[str, Any]) -> bytes:
        return example({key.replace("shop_name", "shop name"): value for key, value in row.items()})

    predictor = Predictor(model)
    rows = [ROW, {"color": "red", "size": 0.0}, {**ROW, "color": "pink", "rank": 9}]
    by_row = predictor.predict(rows)
    by_example = predictor.predict_examples([encode(row) for row in rows])
    np.testing.assert_allclose([row["probability"] for row in by_row], by_example["probability"], atol=1e-6)
    # size 2.5, rank 2, weight 1, less 4, and the ids of the color (0 to 2) and the shop (0 to 4).
    logit = np.log(by_row[0]["probability"] / (1 - by_row[0]["probability"]))
    assert logit == pytest.approx(1.5 + round(logit - 1.5), abs=1e-3) and 1.4 <= logit <= 7.6
    good = encode(ROW)
    for wrong, message in (
        (b"\x00nonsense", "is not a tf.Example"),
        (b"", "(color|size): the value is missing"),
        (encode({"color": "red"}), "size: the value is missing"),
        (encode({**ROW, "size": "old"}), "size: expected a finite number, found 'old'"),
        (encode({**ROW, "size": math.nan}), "size: expected a finite number, found 'nan'"),
    ):
        with pytest.raises(RequestError, match=rf"^instances\[1\]: {message}"):
            predictor.predict_examples([good, wrong, good, wrong, good])


def test_an_example_with_integers_and_strings_is_converted_as_in_a_file(model: Path) -> None:
    predictor = Predictor(model)
    row = {"color": "green", "size": 3.0, "shop name": "12", "rank": 2, "weight": 1.0}
    same = [{**row, "size": 3}, {**row, "size": "3"}, {**row, "shop name": 12}, {**row, "rank": 2.0}]
    answers = predictor.predict_examples([example(variant) for variant in (row, *same)])
    assert len(set(answers["probability"].tolist())) == 1


def test_a_sequence_example_is_named(model: Path) -> None:
    record = tf.train.SequenceExample(
        context=tf.train.Features(feature=tf.train.Example.FromString(example(ROW)).features.feature),
        feature_lists=tf.train.FeatureLists(feature_list={"size": tf.train.FeatureList(feature=[tf.train.Feature()])}),
    ).SerializeToString()
    with pytest.raises(RequestError, match=r"^instances\[1\]: is a tf.SequenceExample; expected a tf.Example"):
        Predictor(model).predict_examples([example({**ROW, "shop_name": "a"}), record])


def test_a_prediction_that_is_not_finite_is_an_error(make_model: Callable[[float], Path]) -> None:
    with pytest.raises(
        RequestError, match=r"^instances\[1\]: the model's probability is not a finite number; the larg"
    ):
        Predictor(make_model(3.4e38)).predict([{"x": 1}, {"x": 3.3e38}])


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
    assert [(declared.name, declared.required) for declared in predictor.inputs.values()] == [("x", True)]
    assert (predictor.version, predictor.schema_hash) == ("", "")
    assert predictor.predict([{"x": 10}])[0]["probability"] == pytest.approx(0.35)


def test_a_sensitive_number_is_not_named_where_a_prediction_is_not_finite() -> None:
    for sensitive, number in ((True, "<masked>"), (False, "987654")):
        rules = [Rule("amount", "float", sensitive=sensitive), Rule("x", "float")]
        inputs = Inputs([ModelInput(rule.column, rule) for rule in rules])
        with pytest.raises(RequestError, match=f"; the largest number is {number} in amount$"):
            check_finite({"probability": np.array([np.nan])}, inputs, {"amount": [987654.0], "x": [1.0]})
