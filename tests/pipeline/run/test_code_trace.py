"""A dry run traces the user's preprocessing_fn and builds their network, without rows."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import check_code
from pipeline.run import local
from pipeline.run.code_trace import trace_code
from tests.conftest import CENSUS_CONFIG, ROOT

pytestmark = pytest.mark.integration

_FEATURES = """
import tensorflow as tf
import tensorflow_transform as tft
from components.transform import preprocessing

def preprocessing_fn(inputs, custom_config):
    outputs = preprocessing.preprocessing_fn(inputs, custom_config)
    print("traced")
    outputs["by_hours"] = tf.stack([outputs["age"], outputs["age"] * outputs["hours_per_week"]], axis=1)
    towns = tf.strings.substr(tf.sparse.to_dense(inputs["workclass"])[:, 0], 0, 2)
    outputs["start"] = tft.compute_and_apply_vocabulary(towns, num_oov_buckets=1)
    return outputs
"""
_MODEL = """
import keras

def build_model(features, config):
    by_hours = keras.Input((2,), name="by_hours")
    start = keras.Input((1,), name="start", dtype="int64")
    rows = next(column for column in features.id_columns if column.name == "start").num_ids
    vector = keras.layers.Flatten()(keras.layers.Embedding(rows, 2)(start))
    return keras.Model([by_hours, start], keras.layers.Dense(1)(keras.layers.Concatenate()([by_hours, vector])))
"""


def load(folder: Path, features: str = _FEATURES, model: str = _MODEL, **data: Any) -> pipeline_config.PipelineConfig:
    values = yaml.safe_load(CENSUS_CONFIG.read_text())
    values["data"] |= {"base": str(ROOT / "data/census"), "schema_file": str(ROOT / "schemas/census.pbtxt"), **data}
    values |= {"transform": {"module": "features.py"}, "model": {"module": "model.py"}}
    (folder / "features.py").write_text(features)
    (folder / "model.py").write_text(model)
    (folder / "own.yaml").write_text(yaml.safe_dump(values))
    return pipeline_config.load(folder / "own.yaml")


def test_code_that_fits_passes_and_does_not_print(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trace_code(load(tmp_path))
    assert "traced" not in capfd.readouterr().out


def test_without_a_schema_the_declared_types_are_traced(tmp_path: Path) -> None:
    dense = _FEATURES.replace('tf.sparse.to_dense(inputs["workclass"])', 'tf.sparse.to_dense(inputs["occupation"])')
    dense = dense.replace("to_dense(inputs", "to_dense(sparse(inputs").replace('"])[:', '"]))[:')
    dense += "\ndef sparse(values):\n    return values if isinstance(values, tf.SparseTensor) else tf.sparse.from_dense(values)\n"
    trace_code(load(tmp_path, dense, schema_file=None))


@pytest.mark.parametrize(
    ("name", "line", "wrong", "message"),
    [
        (
            "features",
            'outputs["age"] * outputs["hours_per_week"]',
            'outputs["age"] * outputs["hours"]',
            "transform.module: features.py:9: preprocessing_fn raised KeyError: 'hours'; correct it there",
        ),
        (
            "model",
            "keras.layers.Dense(1)",
            "keras.layers.Dense(3)",
            "model.module: model.py:4: build_model returns a model with outputs of shape (None, 3); expected one logit: "
            "(None, 1)",
        ),
        (
            "model",
            'name="by_hours"',
            'name="by_hour"',
            "returns a model with the input 'by_hour', which is not a transformed column; did you mean 'by_hours'?",
        ),
    ],
)
def test_code_that_does_not_fit_is_one_line_with_its_place(
    name: str, line: str, wrong: str, message: str, tmp_path: Path
) -> None:
    texts = {"features": _FEATURES, "model": _MODEL}
    assert line in texts[name]
    config = load(tmp_path, **{**texts, name: texts[name].replace(line, wrong)})
    with pytest.raises(ConfigError) as error:
        local.plan_run(config, run_root=tmp_path / "run", output="quiet")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'own.yaml'}: ")
    assert "\n" not in str(error.value)


def test_strings_as_labels_of_a_models_own_training_are_rejected(tmp_path: Path) -> None:
    config = load(tmp_path, model="def run_fn(fn_args): ...")
    evaluation = {"split": "test", "metrics": ["BinaryAccuracy"]}
    values = {**config.model_dump(), "evaluation": evaluation}
    message = "evaluation.model_spec.label_key: 'income' has strings in the examples, and binary_accuracy takes numbers"
    with pytest.raises(ConfigError, match=message):
        check_code(PipelineConfig.model_validate(values))
    evaluation["model_spec"] = {"label_key": "income_xf", "preprocessing_function_names": ["transform_features"]}
    check_code(PipelineConfig.model_validate({**values, "evaluation": evaluation}))


def test_live_traffic_of_a_models_own_training_is_rejected(tmp_path: Path) -> None:
    values = load(tmp_path, model="def run_fn(fn_args): ...").model_dump()
    message = "monitoring.request_log: model.module has a run_fn of your own, .*; remove it, and name the log in infra_"
    with pytest.raises(ConfigError, match=message):
        check_code(PipelineConfig.model_validate({**values, "monitoring": {"request_log": "requests"}}))
    replay = {"infra_validation": {"replay": {"log": "requests"}}}
    check_code(PipelineConfig.model_validate({**values, **replay}))
