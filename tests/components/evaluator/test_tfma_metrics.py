"""Plots counted for arrays are TFMA's own; a metric that cannot be built is one line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from cli.errors import ConfigError
from components.config import Evaluation, TfmaMetric
from components.evaluator.tfma_metrics import RowMetric, build_metric_config, check_metrics, find_features


def compute(metric: Any, labels: Any, predictions: Any, weights: Any = None) -> list[Any]:
    """Return what the first computation of a metric has accumulated."""
    first = metric.computations(model_names=[""], example_weighted=weights is not None)[0]
    extracts = {"labels": labels, "predictions": predictions, "slice_key_types": [()]}
    if weights is not None:
        extracts["example_weights"] = weights
    inputs = metric_types.StandardMetricInputs(extracts)
    accumulator = first.combiner.add_input(first.combiner.create_accumulator(), inputs)
    (output,) = first.combiner.extract_output(accumulator).values()
    return output


def read(class_name: str) -> RowMetric:
    return RowMetric(**json.loads(build_metric_config(TfmaMetric(class_name=class_name)).config))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_histogram_of_arrays_is_that_of_single_rows(weighted: bool) -> None:
    random = np.random.default_rng(1)
    labels, predictions = random.integers(0, 2, 300).astype(float), random.uniform(-0.01, 1.01, 300)
    weights = random.uniform(0, 3, 300) if weighted else None
    expected: dict[int, list[float]] = {}
    stock = tfma.metrics.CalibrationPlot().computations(model_names=[""], example_weighted=weighted)[0].combiner
    accumulator = stock.create_accumulator()
    for row in range(300):
        extracts = {"labels": labels[row : row + 1], "predictions": predictions[row : row + 1]}
        if weights is not None:
            extracts["example_weights"] = weights[row : row + 1]
        accumulator = stock.add_input(accumulator, metric_types.StandardMetricInputs(extracts))
    (buckets,) = stock.extract_output(accumulator).values()
    expected = {b.bucket_id: [b.weighted_labels, b.weighted_predictions, b.weighted_examples] for b in buckets}
    ours = compute(read("CalibrationPlot"), labels, predictions, weights)
    assert {b.bucket_id for b in ours} == {*expected}
    for b in ours:
        sums = [b.weighted_labels, b.weighted_predictions, b.weighted_examples]
        np.testing.assert_allclose(sums, expected[b.bucket_id], rtol=1e-9)


def test_the_confusion_matrix_of_several_classes_counts_each_pair() -> None:
    predictions = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    matrix = compute(read("MultiClassConfusionMatrixPlot"), np.array([0, 1, 0]), predictions)[0.0]  # type: ignore[call-overload]
    assert {(k.actual_class_id, k.predicted_class_id): v for k, v in matrix.items()} == {
        (0, 0): 1.0,
        (1, 1): 1.0,
        (0, 1): 1.0,
    }


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("MatthewsCorelation", "TFMA and Keras have no metric 'MatthewsCorelation'; did you mean 'MatthewsCorrelation"),
        ({"class_name": "BinaryAccuracy", "config": {"thresh": 1}}, "BinaryAccuracy does not take {'thresh': 1}: "),
        ("nowhere.metrics:Gini", "nowhere.metrics: there is no module 'nowhere'; install its package"),
        ("schemas.metrics:Metric", "Metric of schemas.metrics"),
    ],
)
def test_a_metric_that_cannot_be_built_is_one_line(metric: Any, message: str) -> None:
    evaluation = Evaluation.model_validate({"metrics": [metric]})
    with pytest.raises(ConfigError) as error:
        check_metrics(evaluation.tfma_metrics, ["age"])
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("evaluation.metrics: ")
    assert message in str(error.value) or re.search("is not a metric; expected a subclass of", str(error.value))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "super().__init__(make, name=name)",
            "metrics.py:9: Own raised ZeroDivisionError: division by zero; correct it",
        ),
        ("raise ValueError('no')", "metrics.py:4: Own raised ValueError: no; correct it there"),
        ("super().__init__(make)", "metrics.py:3: Own raised "),
    ],
)
def test_a_metric_of_the_users_own_that_raises_is_one_line_with_its_place(
    tmp_path: Path, body: str, message: str
) -> None:
    text = "from tensorflow_model_analysis.metrics import metric_types\nclass Own(metric_types.Metric):\n"
    text += f"    def __init__(self, name):\n        {body}\n\n\n"
    (tmp_path / "metrics.py").write_text(f"{text}\ndef make(name, model_names=None):\n    1 / 0\n")
    evaluation = Evaluation.model_validate({"metrics": [f"{tmp_path}/metrics.py:Own"]})
    with pytest.raises(ConfigError) as error:
        check_metrics(evaluation.tfma_metrics, ["age"])
    assert f"evaluation.metrics: {message}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["own/metrics.py"]}, "'own/metrics.py' is a file, not a metric; name the class in it: 'own/met"),
        ({"metrics": ["acu"]}, "'acu' is not a metric; did you mean 'auc'?"),
        (
            {"metrics": ["AUC"]},
            "metrics: 'auc' is a metric of this project; give AUC another `name`: {class_name: AUC, name: other_auc}",
        ),
        (
            {"metrics": ["BinaryAccuracy", "BinaryAccuracy"]},
            "metrics: two metrics are named 'binary_accuracy'; give one another `name`: {class_name: BinaryAccuracy,",
        ),
        ({"thresholds": [{"metric": "gini", "lower_bound": 1}]}, "a threshold is on 'gini', which is not a metric"),
        (
            {"change_thresholds": [{"metric": "calibration", "max_regression": 1}]},
            "a change threshold is on 'calibration', which has no better direction",
        ),
    ],
)
def test_metrics_that_do_not_go_together_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Evaluation.model_validate(values)


def test_a_metric_of_a_file_has_its_text_and_not_its_folder_in_the_config(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Own: ...\n")
    metric = TfmaMetric(class_name=f"{tmp_path / 'own.py'}:Own")
    assert metric.name == "own"
    config: config_pb2.MetricConfig = build_metric_config(metric)
    assert "class Own: ..." in json.loads(json.loads(config.config)["code"])["text"]
    assert str(tmp_path) not in config.config
    assert str(tmp_path) not in Evaluation(metrics=(metric,)).without_paths().model_dump_json()


_ASKS = """
import apache_beam as beam
from tensorflow_model_analysis.metrics import metric_types

class Oldest(metric_types.Metric):
    def __init__(self, name="oldest", kind="FeaturePreprocessor", keys=("age",)):
        super().__init__(_computations, name=name, kind=kind, keys=keys)

def _computations(name, kind, keys, model_names=None):
    key = metric_types.MetricKey(name)
    return [metric_types.MetricComputation([key], [getattr(metric_types, kind)(keys)], beam.combiners.CountCombineFn())]
"""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ("age",)),
        ({"keys": []}, ("age", "hours")),
        ({"keys": ["agee"]}, "asks for the feature 'agee', which is not declared; did you mean 'age'?"),
        ({"kind": "TransformedFeaturePreprocessor"}, "asks for transformed features; use metric_types.FeaturePrepro"),
    ],
)
def test_the_features_that_a_class_of_the_user_asks_for_are_columns(
    config: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(_ASKS)
    metric = TfmaMetric.model_validate({"class_name": f"{tmp_path / 'own.py'}:Oldest", "config": config})
    if isinstance(expected, tuple):
        assert find_features([build_metric_config(metric)], ["age", "hours"]) == expected
        return
    with pytest.raises(ConfigError, match=re.escape(expected)):
        check_metrics([metric], ["age", "hours"])


@pytest.mark.parametrize(
    ("computations", "message"),
    [
        ("{1: 2}", "returns dict; expected a list of MetricComputation"),
        ("[1]", "has int in its list; expected MetricComputation alone"),
        (
            "[mt.MetricComputation([], mt.FeaturePreprocessor(['x']), beam.combiners.CountCombineFn())]",
            "second argument",
        ),
        (
            "[mt.MetricComputation([], None, object())]",
            "third argument of MetricComputation is object; expected a beam",
        ),
    ],
)
def test_what_a_metric_of_ones_own_makes_is_checked_without_data(
    computations: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.py"
    path.write_text(
        "import apache_beam as beam\n"
        "from tensorflow_model_analysis.metrics import metric_types as mt\n"
        "class Own(mt.Metric):\n"
        "    def __init__(self, name='own'):\n"
        f"        super().__init__(lambda **_: {computations}, name=name)\n"
    )
    with pytest.raises(ConfigError, match=r"metrics.py:4: Own: .*" + re.escape(message)):
        check_metrics([TfmaMetric(class_name=f"{path}:Own")], ["x"])
