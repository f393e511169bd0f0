"""Rows are read once, by models that are loaded once, and each slice gets its own rows."""

import json
import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from cli.errors import PipelineError
from components.config import Evaluation
from components.evaluator import sliced_predictions
from components.evaluator.component import (
    CHANGES_PROPERTY,
    CONSTANT_PROPERTY,
    DECISION_PROPERTY,
    INTERVALS_PROPERTY,
    BatchedEvaluatorExecutor,
    _read_imbalance,
)
from components.evaluator.evaluation import EvaluationReport, build_eval_config
from components.evaluator.golden_requests import GOLDEN_NAME
from components.evaluator.sliced_predictions import LoadedModels, PredictAndSlice
from components.example_gen.component import LABELS_PROPERTY
from pipeline.config.beam_args import build_beam_args
from pipeline.config.pipeline_config import load
from pipeline.run.dag_runner import _translate_error
from serving.model.golden_requests import GoldenRequests
from serving.model.predictor import Predictor
from serving.registry import DECISION_FILE
from tests.conftest import CENSUS_CONFIG
from tests.serving.models import FEATURES, decided_at, example, export_model

pytestmark = pytest.mark.integration

ROWS = 500
FILES = 2
_BEAM_ARGS = build_beam_args(load(CENSUS_CONFIG))

made: dict[str, Any] = {}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Half of them lack what may be missing."""
    of = random.Random(7)
    return [
        {
            "color": of.choice(["red", "green", "grün"]),
            "size": of.choice([0.5, 2.5]),
            "bought": of.choice(["yes", "no"]),
        }
        | ({"shop name": of.choice(["north", "south"])} if of.random() < 0.5 else {})
        | ({"rank": of.randrange(4)} if of.random() < 0.5 else {})
        for _ in range(ROWS)
    ]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Path:
    """Return an Examples artifact's folder with one split, `test`, in two files."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "Split-test").mkdir()
    for number in range(FILES):
        path = str(folder / "Split-test" / f"data-{number}.gz")
        with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for row in rows[number::FILES]:
                writer.write(example(row))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model artifacts' folders."""
    folder = tmp_path_factory.mktemp("models")
    for name, offset in (("candidate", -3.0), ("baseline", -2.5)):
        export_model(folder / name / "Format-Serving", offset)
    return {name: folder / name for name in ("candidate", "baseline")}


def test_a_slice_has_the_rows_with_its_values_in_their_order_and_none_without(
    rows: list[dict[str, Any]], examples: Path, models: dict[str, Path]
) -> None:
    slicings = [(), ("color",), ("rank",), ("size", "shop name")]
    loaded = LoadedModels({"candidate": str(models["candidate"] / "Format-Serving")})
    slicer = PredictAndSlice(loaded, slicings, FEATURES.column_types)
    slicer.setup()
    mine = rows[0::FILES]
    slices = dict(slicer.process(str(examples / "Split-test" / "data-0.gz")))
    answers = Predictor(models["candidate"] / "Format-Serving").predict_examples(_requests(mine))
    expected: dict[Any, list[int]] = {}
    for number, row in enumerate(mine):
        for slicing in slicings:
            if all(column in row for column in slicing):
                expected.setdefault(tuple((column, row[column]) for column in slicing), []).append(number)
    assert slices.keys() == expected.keys() and len(slices) == 1 + 3 + 4 + 4
    for key, numbers in expected.items():
        assert slices[key]["labels"].tolist() == [mine[n]["bought"] == "yes" for n in numbers]
        np.testing.assert_allclose(slices[key]["predictions"], answers["probability"][numbers], rtol=1e-6)


def test_each_model_is_loaded_once_and_each_batch_predicted_once_by_each(
    examples: Path, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, which are the same on any machine: whoever reads or predicts rows twice is found here."""
    calls: Counter[str] = Counter()
    load, parse = tf.saved_model.load, tf.io.parse_example

    def counting_load(path: str) -> Any:
        calls["models loaded"] += 1
        model = load(path)
        signatures = dict(model.signatures)

        def count_calls(name: str) -> Any:
            def call(examples: tf.Tensor) -> Any:
                calls[f"{name} of {Path(path).parent.name}"] += 1
                return signatures[name](examples=examples)

            return call

        return type("Model", (), {"signatures": {name: count_calls(name) for name in signatures}})()

    def counting_parse(*args: Any, **options: Any) -> Any:
        calls["batches sliced"] += 1
        return parse(*args, **options)

    monkeypatch.setattr(sliced_predictions.tf.saved_model, "load", counting_load)
    monkeypatch.setattr(sliced_predictions.tf.io, "parse_example", counting_parse)
    summary = _evaluate(examples, models, tmp_path)
    monkeypatch.undo()
    assert calls == {
        "models loaded": 2,
        "batches sliced": FILES,
        # And once more for the golden requests.
        "serving_examples of candidate": FILES + 1,
        "serving_examples of baseline": FILES,
        "true_label of candidate": FILES,
    }
    assert summary.metrics["overall"]["example_count"] == ROWS
    golden = GoldenRequests.from_json((tmp_path / "evaluation" / GOLDEN_NAME).read_bytes())
    assert (
        golden.find_difference(Predictor(models["candidate"] / "Format-Serving").predict(list(golden.instances)))
        is None
    )
    assert tfma.load_validation_result(str(tmp_path / "evaluation")).validation_ok


def _evaluate(
    examples: Path,
    models: dict[str, Path],
    folder: Path,
    evaluation: dict[str, Any] | None = None,
    *,
    train: dict[str, float] | None = None,
    hyperparameters: Any = None,
    has_costs: bool = False,
) -> EvaluationReport:
    """Run the executor on artifacts, as TFX does; the artifacts of the last call are in `made`."""
    made.clear()
    made.update({"examples": standard_artifacts.Examples(), "evaluation": standard_artifacts.ModelEvaluation()})
    made["blessing"] = standard_artifacts.ModelBlessing()
    made["examples"].uri, made["examples"].split_names = str(examples), artifact_utils.encode_split_names(["test"])
    labels = {"train": {"no": 300, "yes": 200} if train is None else train}
    made["examples"].set_string_custom_property(LABELS_PROPERTY, json.dumps(labels))
    for number, (name, path) in enumerate(models.items()):
        model = made["model" if name == "candidate" else "baseline_model"] = standard_artifacts.Model()
        model.uri, model.id = str(path), number
    if hyperparameters is not None:
        made["hyperparameters"] = hyperparameters
    for name in ("evaluation", "blessing"):
        made[name].uri = str(folder / name)
        (folder / name).mkdir()
    asked = Evaluation.model_validate(
        {
            "split": "test",
            "min_rows_per_slice": 1,
            "slice_by": [["color"]],
            "thresholds": [{"metric": "auc", "lower_bound": 0.1}],
            **({"change_thresholds": [{"metric": "auc", "max_regression": 1.0}]} if len(models) > 1 else {}),
            **(evaluation or {}),
        }
    )
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=_BEAM_ARGS,
        tmp_dir=str(folder),
        unique_id="1",
    )
    BatchedEvaluatorExecutor(context).Do(
        {name: [made[name]] for name in ("examples", "model", "baseline_model", "hyperparameters") if name in made},
        {name: [made[name]] for name in ("evaluation", "blessing")},
        {
            "eval_config": proto_utils.proto_to_json(build_eval_config(asked, "binary", has_costs=has_costs)),
            "requirements": asked.model_dump_json(),
            "imbalance": "none",
            "example_splits": json_utils.dumps(["test"]),
            "golden_requests": 4,
            "golden_tolerance": 1e-4,
            "pipeline": "census",
        },
    )
    text = (folder / "evaluation" / "summary.json").read_text()
    # JSON knows no NaN.
    json.loads(text, parse_constant=pytest.fail)
    return EvaluationReport.read(str(folder / "evaluation"))


def _requests(rows: list[dict[str, Any]]) -> list[bytes]:
    """Return the rows without their label, which no request has."""
    return [example({name: value for name, value in row.items() if name != "bought"}) for row in rows]


def _is_blessed(artifacts: dict[str, Any] = made) -> bool:
    return bool(artifacts["blessing"].get_int_custom_property("blessed"))


def _write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "Split-test").mkdir(parents=True)
    path = str(folder / "Split-test" / "data-0.gz")
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for row in rows:
            writer.write(example(row))
    return folder


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose probabilities are neither all near 0 nor all near 1."""
    folder = tmp_path_factory.mktemp("able")
    for name, offset in (("candidate", -12.0), ("baseline", -11.0)):
        export_model(folder / name / "Format-Serving", offset)
    return {name: folder / name for name in ("candidate", "baseline")}


@pytest.fixture(scope="module")
def learnable(rows: list[dict[str, Any]], able: dict[str, Path]) -> list[dict[str, Any]]:
    """Return the rows with labels that are as likely as the candidate says."""
    of = random.Random(11)
    answers = Predictor(able["candidate"] / "Format-Serving").predict_examples(_requests(rows))
    assert np.ptp(answers["probability"]) > 0.5
    labels = ["yes" if of.random() < probability else "no" for probability in answers["probability"]]
    return [{**row, "bought": label} for row, label in zip(rows, labels, strict=True)]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation whose rows and outputs are in a folder, with its artifacts."""

    folder: Path
    summary: EvaluationReport
    artifacts: dict[str, Any]


def _evaluate_able(
    folder: Path, learnable: list[dict[str, Any]], models: dict[str, Path], evaluation: dict[str, Any]
) -> Evaluated:
    shares = dict(Counter(row["bought"] for row in learnable))
    summary = _evaluate(_write(folder, learnable), models, folder, evaluation, train=shares)
    return Evaluated(folder, summary, dict(made))


@pytest.fixture(scope="module")
def compared(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Evaluated:
    """Return the evaluation of two able models."""
    return _evaluate_able(tmp_path_factory.mktemp("compared"), learnable, able, {})


@pytest.fixture(scope="module")
def alone(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Evaluated:
    """Return the evaluation of an able model without a baseline or thresholds."""
    folder, candidate = tmp_path_factory.mktemp("alone"), {"candidate": able["candidate"]}
    return _evaluate_able(folder, learnable, candidate, {"thresholds": []})


def test_a_model_that_beats_the_class_shares_is_blessed_and_its_numbers_are_in_ml_metadata(
    learnable: list[dict[str, Any]], compared: Evaluated
) -> None:
    shares = dict(Counter(row["bought"] for row in learnable))
    summary, made = compared.summary, compared.artifacts
    assert (summary.failures, summary.warnings, _is_blessed(made)) == ([], [], True)
    comparison = summary.constant_predictor
    assert json.loads(made["evaluation"].get_string_custom_property(CONSTANT_PROPERTY)) == comparison
    # It predicts each row as it is, so its loss is the one that is measured.
    assert comparison["candidate"] == pytest.approx(summary.metrics["overall"]["log_loss"], rel=1e-9)
    share = shares["yes"] / ROWS
    assert comparison["constant"] == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))
    assert comparison["high"] > comparison["gain"] > comparison["low"] > 0
    assert (comparison["rows"], comparison["is_prior_corrected"]) == (ROWS, False)
    # Every metric but the number of rows has an interval, in every slice.
    for where, metrics in summary.metrics.items():
        assert {*summary.intervals[where]} == {*metrics} - {"example_count"}
        for name, (low, high) in summary.intervals[where].items():
            assert low < metrics[name] < high
    assert summary.without_interval == {}
    # The models differ in one weight, and rank alike: the resampled rows do not change that.
    assert summary.changes["overall"]["auc"] == pytest.approx([0, None, None])
    change, low, high = summary.changes["overall"]["log_loss"]
    difference = summary.metrics["overall"]["log_loss"] - summary.baseline["overall"]["log_loss"]
    assert change == pytest.approx(difference) and low < change < high < 0
    for artifact in (made["evaluation"], made["blessing"]):
        assert json.loads(artifact.get_string_custom_property(INTERVALS_PROPERTY)) == summary.intervals
        assert json.loads(artifact.get_string_custom_property(CHANGES_PROPERTY)) == summary.changes


def test_intervals_do_not_depend_on_the_batches_that_rows_come_in(
    compared: Evaluated, able: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = compared.summary
    monkeypatch.setattr(sliced_predictions, "_ROWS_PREDICTED_TOGETHER", 7)
    small = _evaluate(compared.folder, able, tmp_path)
    assert {*small.intervals} == {*large.intervals}
    for where, intervals in large.intervals.items():
        for name, interval in intervals.items():
            assert small.intervals[where][name] == pytest.approx(interval, rel=1e-5)


@pytest.mark.parametrize(("count", "is_chance"), [(ROWS, False), (20, True)])
def test_a_change_may_be_asked_to_be_significant(
    count: int, is_chance: bool, learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    # The baseline is the better one.
    models = {"candidate": able["baseline"], "baseline": able["candidate"]}
    bound = {"metric": "log_loss", "max_regression": 0.0, "significant": True}
    asked = {"change_thresholds": [bound], "slice_by": [], "insignificant_gain": "warn"}
    chosen = [row for row in learnable if row["bought"] == "yes"][: count // 2] + [
        row for row in learnable if row["bought"] == "no"
    ][: count // 2]
    summary = _evaluate(_write(tmp_path, chosen), models, tmp_path, asked)
    lines = [line for line in [*summary.failures, *summary.warnings] if line.startswith("log_loss on overall")]
    change, low, high = summary.changes["overall"]["log_loss"]
    (line,) = lines
    assert f"a change of {change:+.4f} [{low:+.4f}, {high:+.4f}]" in line
    assert "at most 0 above the last blessed model's" in line
    assert (line in summary.warnings, line.endswith("it may be chance")) == (low <= 0, low <= 0)
    assert is_chance == (low <= 0)


def test_one_row_has_no_interval(learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path) -> None:
    summary = _evaluate(_write(tmp_path, learnable[:1]), able, tmp_path)
    assert (summary.intervals, summary.constant_predictor["low"]) == ({}, None)
    assert {*summary.without_interval.values()} == {"1 row is too few, or resampled rows do not change it"}


_OWN_METRIC = """
import apache_beam as beam
from tensorflow_model_analysis.metrics import metric_types


class Highest(metric_types.Metric):
    def __init__(self, name="highest", factor=1.0):
        super().__init__(_computations, name=name, factor=factor)


def _computations(name, factor, model_names=None, example_weighted=False):
    keys = [metric_types.MetricKey(name=name, model_name=m, example_weighted=example_weighted) for m in model_names]
    return [metric_types.MetricComputation(keys=[key], preprocessors=None, combiner=_Max(key, factor)) for key in keys]


class _Max(beam.CombineFn):
    def __init__(self, key, factor):
        self._key, self._factor = key, factor

    def create_accumulator(self):
        return 0.0

    def add_input(self, accumulator, element):
        (prediction,) = element.get_predictions(self._key.model_name)
        return max(accumulator, float(prediction))

    def merge_accumulators(self, accumulators):
        return max(accumulators)

    def extract_output(self, accumulator):
        return {self._key: accumulator * self._factor}
"""


def test_metrics_of_tfma_of_keras_and_of_the_user_are_measured_and_judged(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(_OWN_METRIC)
    evaluation = {
        "metrics": [
            "auc",
            {"class_name": "BinaryAccuracy", "config": {"threshold": 0.25}},
            {"class_name": "MeanPrediction", "better": "lower"},
            {"class_name": "CosineSimilarity", "name": "cosine"},
            {"class_name": f"{tmp_path / 'own.py'}:Highest", "config": {"factor": 2.0}},
        ],
        "thresholds": [
            {"metric": "highest", "lower_bound": 3.0},
            {"metric": "binary_accuracy", "upper_bound": 0.1, "slice_by": ["color"]},
            {"metric": "auc", "lower_bound": 0.1},
        ],
        "change_thresholds": [{"metric": "mean_prediction", "max_regression": 0}],
    }
    summary = _evaluate(_write(tmp_path, learnable), able, tmp_path, evaluation)
    answers = Predictor(able["candidate"] / "Format-Serving").predict_examples(_requests(learnable))["probability"]
    labels = np.array([row["bought"] == "yes" for row in learnable])
    overall = summary.metrics["overall"]
    assert {*overall} == {"auc", "binary_accuracy", "cosine", "highest", "mean_prediction"}
    assert overall["binary_accuracy"] == pytest.approx(np.mean((answers > 0.25) == labels))
    assert overall["mean_prediction"] == pytest.approx(answers.mean(), rel=1e-5)
    assert overall["highest"] == pytest.approx(2 * answers.max(), rel=1e-5)
    # The value follows the metric and its slice.
    failed = {re.split(r" [-\d]", failure, maxsplit=1)[0] for failure in summary.failures}
    assert {"highest", "binary_accuracy on color=red"} <= failed
    # The baseline's probabilities are higher by its offset.
    assert not any(name.startswith(("auc", "mean_prediction")) for name in failed)


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        (
            "(prediction,) = element.get_predictions(self._key.model_name)",
            "prediction = element.get_predictions(self._key.model_name)[7]",
            "evaluation.metrics: own.py:24: add_input raised IndexError: index 7 is out of bounds for axis 0 with size 1; "
            "correct it there",
        ),
        (
            "return {self._key: accumulator * self._factor}",
            "return accumulator * self._factor",
            "evaluation.metrics: own.py:30: extract_output returns float; return a dict of values by MetricKey",
        ),
    ],
)
def test_a_metric_that_fails_on_the_rows_is_one_line_without_them(
    line: str, wrong: str, message: str, learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    assert line in _OWN_METRIC
    (tmp_path / "own.py").write_text(_OWN_METRIC.replace(line, wrong))
    evaluation = {"metrics": [{"class_name": f"{tmp_path / 'own.py'}:Highest"}], "thresholds": [], "plots": False}
    with pytest.raises(Exception) as raised:
        _evaluate(_write(tmp_path, learnable), {"candidate": able["candidate"]}, tmp_path, evaluation)
    reported = _translate_error("Evaluator", raised.value, cast("Any", None))
    assert isinstance(reported, PipelineError)
    assert str(reported).startswith(message)
    assert "\n" not in str(reported)


_OWN_FEATURE_METRIC = """
import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types


class Largest(metric_types.Metric):
    takes_batches = BATCHES

    def __init__(self, name="largest"):
        super().__init__(_computations, name=name)


def _computations(name, model_names=None):
    keys = [metric_types.MetricKey(name, model) for model in model_names]
    asked = metric_types.FeaturePreprocessor(["size", "color"])
    return [metric_types.MetricComputation([key], [asked], _Largest(key)) for key in keys]


class _Largest(beam.CombineFn):
    def __init__(self, key):
        self._key = key

    def create_accumulator(self):
        return -1e9, 0

    def add_input(self, accumulator, element):
        features = element.get_features()
        sizes = features["size"] if BATCHES else [features["size"]]
        assert len(element.get_predictions(self._key.model_name)) == len(sizes)
        red = [b"red" in colors for colors in (features["color"] if BATCHES else [features["color"]])]
        values = [size.max(initial=-1e9) for size in sizes]
        return max(accumulator[0], *values), accumulator[1] + sum(red)

    def merge_accumulators(self, accumulators):
        sizes, red = zip(*accumulators)
        return max(sizes), sum(red)

    def extract_output(self, accumulator):
        return {self._key: accumulator[0] + 1000 * accumulator[1]}
"""


def test_a_metric_of_the_user_gets_the_features_that_it_asks_for_and_plots_are_optional(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    metrics: list[Any] = ["auc", {"class_name": "MeanPrediction"}]
    for name, takes_batches in (("of_rows", False), ("of_batches", True)):
        file = tmp_path / f"{name}.py"
        file.write_text(_OWN_FEATURE_METRIC.replace("BATCHES", str(takes_batches)))
        metrics.append({"class_name": f"{file}:Largest", "name": name})
    asked = {"metrics": metrics, "thresholds": [], "plots": False}
    summary = _evaluate(_write(tmp_path, learnable), {"candidate": able["candidate"]}, tmp_path, asked)
    answers = Predictor(able["candidate"] / "Format-Serving").predict_examples(_requests(learnable))["probability"]
    sizes = [row["size"] for row in learnable if row.get("size") is not None]
    expected = pytest.approx(max(sizes) + 1000 * sum(row.get("color") == "red" for row in learnable))
    overall = summary.metrics["overall"]
    assert (overall["of_rows"], overall["of_batches"]) == (expected, expected)
    assert overall["mean_prediction"] == pytest.approx(answers.mean(), rel=1e-5)
    assert overall["auc"] > 0.8
    assert summary.plots == {}


@pytest.mark.parametrize(("evaluated", "model"), [("alone", None), ("compared", "candidate")])
def test_tfma_stores_the_plots_as_its_own_metrics_compute_them(
    evaluated: str,
    model: str | None,
    learnable: list[dict[str, Any]],
    able: dict[str, Path],
    request: pytest.FixtureRequest,
) -> None:
    evaluation: Evaluated = request.getfixturevalue(evaluated)
    summary = evaluation.summary
    stored = tfma.load_eval_result(str(evaluation.folder / "evaluation"), model_name=model)
    plots = dict(stored.plots)[()][""][""]
    answers = Predictor(able["candidate"] / "Format-Serving").predict_examples(_requests(learnable))["probability"]
    labels = np.array([row["bought"] == "yes" for row in learnable])
    matrices = plots["confusionMatrixAtThresholds"]["matrices"]
    middle = next(matrix for matrix in matrices if matrix.get("threshold") == 0.5)
    assert middle["truePositives"] == np.sum((answers > 0.5) & labels)
    assert middle["falsePositives"] == np.sum((answers > 0.5) & ~labels)
    confusion = summary.plots["confusion"]["rows"]
    assert confusion[1][1] == middle["truePositives"]
    assert (confusion[0][1], sum(map(sum, confusion))) == (middle["falsePositives"], ROWS)
    assert {*summary.plots} == {"roc", "precision_recall", "calibration", "predictions", "confusion"}
    assert [summary.plots["roc"][0], summary.plots["roc"][-1]] == [[1.0, 1.0], [0.0, 0.0]]
    buckets = plots["calibrationHistogramBuckets"]["buckets"]
    assert sum(bucket.get("numWeightedExamples", 0.0) for bucket in buckets) == ROWS
    assert sum(bucket.get("totalWeightedLabel", 0.0) for bucket in buckets) == labels.sum()
    places, counts = np.unique(np.minimum((answers * 100).astype(int), 99), return_counts=True)
    bins = [[place / 100, (place + 1) / 100, count] for place, count in zip(places, counts, strict=True)]
    assert summary.plots["predictions"] == bins


def test_without_thresholds_the_constant_predictor_decides(
    alone: Evaluated, able: dict[str, Path], examples: Path, tmp_path: Path
) -> None:
    assert (alone.summary.failures, _is_blessed(alone.artifacts)) == ([], True)
    # On rows whose labels the model has not learned.
    summary = _evaluate(examples, able, tmp_path, {"thresholds": [], "change_thresholds": []})
    assert [failure.split(":")[0] for failure in summary.failures] == ["constant predictor"]
    assert not _is_blessed()


def test_a_model_that_knows_nothing_is_not_blessed_though_it_keeps_its_thresholds(
    examples: Path, able: dict[str, Path], tmp_path: Path
) -> None:
    summary = _evaluate(examples, able, tmp_path, {"insignificant_gain": "warn"})
    (failure,) = summary.failures
    assert failure.startswith("constant predictor: log loss ")
    assert "must be better" in failure
    assert not _is_blessed()


@pytest.mark.parametrize("severity", ["stop", "warn"])
def test_a_gain_that_may_be_chance_stops_or_warns(
    severity: str, learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    # Enough for both classes, too few for the interval.
    few = [row for row in learnable if row["bought"] == "yes"][:12] + [r for r in learnable if r["bought"] == "no"][:8]
    asked = {"insignificant_gain": severity, "slice_by": []}
    summary = _evaluate(_write(tmp_path, few), able, tmp_path, asked, train={"no": 205, "yes": 295})
    (line,) = summary.failures if severity == "stop" else summary.warnings
    assert "(95% interval [-" in line and "must be above 0 by its interval" in line
    needed = summary.constant_predictor["rows_needed"]
    assert f"about {needed:,} rows would be enough" in line and needed > 20
    assert _is_blessed() is (severity == "warn")


def test_twelve_rows_are_not_enough_though_every_threshold_is_met(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    twelve = [row for row in learnable if row["bought"] == "yes"][:5] + [r for r in learnable if r["bought"] == "no"][
        :7
    ]
    asked = {"thresholds": [{"metric": "log_loss", "upper_bound": 100}], "insignificant_gain": "warn", "slice_by": []}
    candidate = {"candidate": able["candidate"]}
    summary = _evaluate(_write(tmp_path, twelve), candidate, tmp_path, asked)
    assert summary.failures == ["rows of test: 12, must be at least 20 (evaluation.min_rows); give 'test' more rows"]
    assert not _is_blessed()


def test_an_undefined_metric_fails_a_threshold_on_all_rows_and_says_why(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    one_class = [row for row in learnable if row["bought"] == "no"]
    summary = _evaluate(_write(tmp_path, one_class), able, tmp_path)
    reason = "auc undefined, since no row of the split has the class 'yes'; "
    assert summary.metrics["overall"]["auc"] is None
    assert [line for line in summary.failures if line.startswith("auc")] == [
        f"{reason}at least 0.1 expected",
        f"{reason}at least the last blessed model's minus 1 expected",
    ]
    assert summary.failures[0].startswith("rows of test by class: 'yes' 0, each class must have at least 5 ")
    assert not _is_blessed()
    undefined = {name for name, value in summary.metrics["overall"].items() if value is None}
    assert not undefined & {*summary.intervals["overall"]}
    assert "log_loss" in summary.intervals["overall"]


def test_an_undefined_metric_warns_in_a_slice(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    rows = [row for row in learnable if (row["color"], row["bought"]) != ("red", "yes")]
    bounds = {
        "thresholds": [{"metric": "auc", "lower_bound": 0.1, "slice_by": ["color"]}],
        "change_thresholds": [{"metric": "recall", "max_regression": 1.0, "slice_by": ["color"]}],
    }
    summary = _evaluate(_write(tmp_path, rows), able, tmp_path, bounds)
    assert (summary.failures, _is_blessed()) == ([], True)
    assert summary.warnings == [
        "auc on color=red undefined, since all rows of the slice have the same class; at least 0.1 expected",
        "recall on color=red undefined, since no row of the slice has the class 'yes'; at least the last blessed "
        "model's minus 1 expected",
    ]


def test_a_baseline_whose_metric_is_undefined_fails_the_comparison(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    # It predicts `no` for every row.
    export_model(tmp_path / "timid" / "Format-Serving", -90.0)
    compared = {"change_thresholds": [{"metric": "precision", "max_regression": 1.0}], "slice_by": []}
    models = {"candidate": able["candidate"], "baseline": tmp_path / "timid"}
    summary = _evaluate(_write(tmp_path, learnable), models, tmp_path, compared)
    assert summary.baseline["overall"]["precision"] is None
    assert summary.failures == [
        "precision undefined, since it is for the last blessed model; at least the last blessed model's minus 1 "
        "expected"
    ]


def test_predictions_that_are_not_finite_are_counted_and_never_blessed(
    learnable: list[dict[str, Any]], tmp_path: Path
) -> None:
    export_model(tmp_path / "broken" / "Format-Serving", float("nan"))
    summary = _evaluate(_write(tmp_path, learnable), {"candidate": tmp_path / "broken"}, tmp_path, {"slice_by": []})
    assert summary.failures[0] == "predictions: NaN or infinite for 500 of 500 rows of test, must be finite"
    assert "auc undefined, since a prediction is NaN or infinite; at least 0.1 expected" in summary.failures
    assert {name for name, value in summary.metrics["overall"].items() if value is not None} == {"example_count"}
    assert not _is_blessed()


def test_the_shares_of_train_are_put_back_where_a_search_chose_balanced_classes(
    learnable: list[dict[str, Any]], able: dict[str, Path], tmp_path: Path
) -> None:
    best = _hyperparameters(tmp_path / "best", {"training.imbalance": "oversample", "training.epochs": 3})
    candidate, asked = {"candidate": able["candidate"]}, {"slice_by": []}
    train = {"no": 450.0, "yes": 50.0}
    summary = _evaluate(_write(tmp_path, learnable), candidate, tmp_path, asked, train=train, hyperparameters=best)
    comparison = summary.constant_predictor
    assert comparison["is_prior_corrected"] is True
    # The shares of train are not those that the candidate's probabilities are of.
    assert comparison["candidate"] > summary.metrics["overall"]["log_loss"] + 0.01


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        (None, "class_weights"),
        ({"training.epochs": 3}, "class_weights"),
        ({"training.imbalance": "none"}, "none"),
        ({"training.imbalance": "oversample"}, "oversample"),
    ],
)
def test_a_search_goes_before_the_config(searched: dict[str, Any] | None, expected: str, tmp_path: Path) -> None:
    artifacts = None if searched is None else [_hyperparameters(tmp_path, searched)]
    assert _read_imbalance("class_weights", artifacts) == expected


def _hyperparameters(folder: Path, values: dict[str, Any]) -> Any:
    """Return what Tuner writes."""
    folder.mkdir(exist_ok=True)
    choices = {path: json.dumps(value) if isinstance(value, str) else value for path, value in values.items()}
    (folder / "best_hyperparameters.txt").write_text(json.dumps({"space": [], "values": choices}))
    best = standard_artifacts.HyperParameters()
    best.uri = str(folder)
    return best


def _confusion(folder: Path, rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the rows by label and by the label that a model serves, [2, 2]."""
    served = Predictor(folder / "Format-Serving").predict_examples(_requests(rows))["predicted_label"]
    counts = Counter((row["bought"], label.decode()) for row, label in zip(rows, served, strict=True))
    return np.array([[counts[label, predicted] for predicted in ("no", "yes")] for label in ("no", "yes")])


@pytest.fixture(scope="module")
def deciding(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the able models, each with a threshold of its own."""
    folder = tmp_path_factory.mktemp("deciding")
    for name, offset, threshold in (("candidate", -12.0, 0.2), ("baseline", -11.0, 0.9)):
        export_model(folder / name / "Format-Serving", offset, decided_at(threshold))
    return {name: folder / name for name in ("candidate", "baseline")}


@pytest.mark.parametrize("thresholds", [(0.2, None), (None, 0.9)])
def test_each_model_is_measured_by_the_labels_that_it_serves(
    thresholds: tuple[float | None, float | None],
    learnable: list[dict[str, Any]],
    able: dict[str, Path],
    deciding: dict[str, Path],
    tmp_path: Path,
) -> None:
    models = {
        name: (able if threshold is None else deciding)[name]
        for name, threshold in zip(("candidate", "baseline"), thresholds, strict=True)
    }
    has_costs = thresholds[0] is not None
    bounds = {"change_thresholds": [{"metric": "mean_cost", "max_regression": 9}]} if has_costs else {}
    summary = _evaluate(_write(tmp_path, learnable), models, tmp_path, bounds, has_costs=has_costs)
    for name, measured in (("candidate", summary.metrics), ("baseline", summary.baseline)):
        confusion = _confusion(models[name], learnable)
        overall = measured["overall"]
        assert overall["precision"] == confusion[1, 1] / confusion[:, 1].sum()
        assert overall["recall"] == confusion[1, 1] / confusion[1].sum()
        assert overall["accuracy"] == np.trace(confusion) / ROWS
        # Both by the candidate's costs, 1 and 5.
        cost = (confusion[0, 1] + 5 * confusion[1, 0]) / ROWS
        assert overall.get("mean_cost") == (pytest.approx(cost) if has_costs else None)
    noted = made["evaluation"].get_string_custom_property(DECISION_PROPERTY)
    if not has_costs:
        assert (noted, summary.decision) == ("", {})
        return
    assert json.loads(noted) == summary.decision
    cost = summary.metrics["overall"]["mean_cost"]
    assert summary.decision["text"] == (
        "threshold 0.2 (false positive 1, false negative 5; chosen on 3,269 rows of eval): mean cost 0.25 on eval, "
        f"0.375 at 0.5; {cost:.4g} on test"
    )
    assert summary.decision["threshold"] == float(np.float32(0.2))
    assert summary.decision["baseline_threshold"] == pytest.approx(thresholds[1] or 0.5)
    assert summary.failures == []


def test_a_threshold_may_be_on_the_mean_cost_of_a_single_model(
    learnable: list[dict[str, Any]], deciding: dict[str, Path], tmp_path: Path
) -> None:
    bounds = [{"metric": "mean_cost", "upper_bound": 4.0}, {"metric": "mean_cost", "upper_bound": 0.1}]
    asked = {"thresholds": bounds, "slice_by": []}
    folder = _write(tmp_path, learnable)
    summary = _evaluate(folder, {"candidate": deciding["candidate"]}, tmp_path, asked, has_costs=True)
    confusion = _confusion(deciding["candidate"], learnable)
    cost = (confusion[0, 1] + 5 * confusion[1, 0]) / ROWS
    assert 0.1 < cost < 4
    assert summary.failures == [f"mean_cost {cost:.4f}; at most 0.1 expected"]
    assert summary.decision["baseline_threshold"] is None


def test_a_damaged_threshold_is_named(examples: Path, deciding: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(deciding["candidate"], tmp_path / "candidate")
    (folder / "Format-Serving" / DECISION_FILE).write_text("{")
    with pytest.raises(PipelineError, match=r"assets.extra/decision.json: is damaged; train the model again"):
        _evaluate(examples, {"candidate": folder}, tmp_path)


def test_examples_without_counted_labels_are_rejected(examples: Path, able: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no labels of 'train' are recorded, .*--no-cache"):
        _evaluate(examples, able, tmp_path, train={})
