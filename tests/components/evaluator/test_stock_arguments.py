"""Models of other origins and any EvalConfig; and the stored EvalConfig, run again by TFMA itself."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn.metrics import roc_auc_score
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from cli.errors import PipelineError
from components.config import Evaluation
from components.evaluator.component import BatchedEvaluatorExecutor
from components.evaluator.evaluation import EvaluationReport, build_eval_config
from components.evaluator.golden_requests import GOLDEN_NAME
from components.evaluator.model_outputs import as_predictions
from components.example_gen.component import LABELS_PROPERTY
from serving.model.golden_requests import GoldenRequests
from serving.model.tensor_predictor import TensorPredictor
from tests.serving.models import FEATURES, example, export_model

pytestmark = pytest.mark.integration

ROWS = 60
NUMBERS = random.Random(5)
SIZES = [NUMBERS.uniform(-3, 3) for _ in range(ROWS)]
BOUGHT = [NUMBERS.random() < 1 / (1 + np.exp(-size)) for size in SIZES]


class Foreign(tf.Module):
    """Takes serialized tf.Example and has one output, [rows, 1], as the models of TFX's examples do."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def call(self, examples: Any) -> dict[str, Any]:
        size = tf.io.parse_example(examples, {"size": tf.io.FixedLenFeature([1], tf.float32)})["size"]
        return {"output_0": tf.sigmoid(size)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, foreign = tmp_path_factory.mktemp("models"), Foreign()
    signatures = {"serving_default": foreign.call}
    tf.saved_model.save(foreign, str(folder / "foreign" / "Format-Serving"), signatures=signatures)
    export_model(folder / "ours" / "Format-Serving", -4.0)
    artifacts = {}
    for name in ("foreign", "ours"):
        artifacts[name] = standard_artifacts.Model()
        artifacts[name].uri = str(folder / name)
    return artifacts


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "Split-eval").mkdir()
    with tf.io.TFRecordWriter(str(folder / "Split-eval" / "data.gz"), "GZIP") as writer:
        for number, (size, is_bought) in enumerate(zip(SIZES, BOUGHT, strict=True)):
            row = {"color": "red", "size": size, "bought": "yes" if is_bought else "no", "rank": number % 4}
            writer.write(example(row))
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(folder), '["eval"]'
    artifact.set_string_custom_property(LABELS_PROPERTY, '{"train": {"no": 30, "yes": 30}}')
    return artifact


def evaluate(model: Any, examples: Any, folder: Path, **properties: Any) -> Any:
    """Run the executor; return the artifact of the blessing."""
    outputs = {
        "evaluation": [standard_artifacts.ModelEvaluation()],
        "blessing": [standard_artifacts.ModelBlessing()],
    }
    for key, (artifact,) in outputs.items():
        artifact.uri = str(folder / key)
        (folder / key).mkdir()
    BatchedEvaluatorExecutor().Do({"examples": [examples], "model": [model]}, outputs, properties)
    return outputs["blessing"][0]


def own_properties(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of an evaluation that this project's config declares."""
    declared = Evaluation.model_validate({"split": "eval", "min_rows_per_slice": 1, **evaluation})
    return {
        "eval_config": proto_utils.proto_to_json(build_eval_config(declared, "binary")),
        "requirements": declared.model_dump_json(),
        "example_splits": json_utils.dumps(["eval"]),
        "imbalance": "none",
    }


def check_golden(folder: Path, model: Any) -> None:
    golden = GoldenRequests.from_json((folder / "evaluation" / GOLDEN_NAME).read_bytes())
    assert len(golden.instances) == 16
    assert golden.find_difference(TensorPredictor(f"{model.uri}/Format-Serving").predict(golden.instances)) is None


def test_a_model_of_another_origin_is_judged_by_declared_features(
    models: dict[str, Any], examples: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    properties = own_properties({"slice_by": [["rank"]], "thresholds": [{"metric": "auc", "lower_bound": 0.1}]})
    evaluate(models["foreign"], examples, tmp_path, **properties, features=FEATURES.model_dump_json())
    summary = EvaluationReport.read(str(tmp_path / "evaluation"))
    assert summary.metrics["overall"]["auc"] == pytest.approx(roc_auc_score(BOUGHT, SIZES), abs=1e-3)
    assert summary.metrics["rank=1"]["example_count"] == ROWS / 4
    assert "the executor of stock TFX" not in caplog.text
    check_golden(tmp_path, models["foreign"])


def test_any_eval_config_is_run_by_the_stock_executor(
    models: dict[str, Any], examples: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bound = tfma.MetricThreshold(value_threshold=tfma.GenericValueThreshold(lower_bound={"value": ROWS + 1}))
    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(label_key="size", signature_name="serving_default")],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="ExampleCount", threshold=bound),
                    tfma.MetricConfig(class_name="MeanSquaredError"),
                ]
            )
        ],
    )
    blessing = evaluate(models["foreign"], examples, tmp_path, eval_config=proto_utils.proto_to_json(config))
    assert "Evaluator: the executor of stock TFX does the work, since `evaluation` is not given" in caplog.text
    summary = EvaluationReport.read(str(tmp_path / "evaluation"))
    squares = [(1 / (1 + np.exp(-size)) - size) ** 2 for size in SIZES]
    assert summary.metrics["overall"]["mean_squared_error"] == pytest.approx(np.mean(squares), rel=1e-4)
    assert (blessing.get_int_custom_property("blessed"), len(summary.failures)) == (0, 1)
    assert summary.failures[0].startswith("example_count 60.0000; at least 61 expected")
    check_golden(tmp_path, models["foreign"])


def test_the_stored_config_is_run_again_by_tfma(models: dict[str, Any], examples: Any, tmp_path: Path) -> None:
    evaluate(models["ours"], examples, tmp_path, **own_properties({"slice_by": [["rank"]]}))
    stored = tfma.load_eval_result(str(tmp_path / "evaluation")).config
    # As the metrics' module, it is a plain file: nothing of this project is told to TFMA.
    again = tfma.run_model_analysis(
        eval_shared_model=tfma.default_eval_shared_model(
            f"{models['ours'].uri}/Format-Serving", eval_config=stored, tags=["serve"]
        ),
        eval_config=stored,
        data_location=str(Path(examples.uri, "Split-eval", "data.gz")),
        output_path=str(tmp_path / "again"),
    )
    summary = EvaluationReport.read(str(tmp_path / "evaluation"))
    ((_, outputs),) = [metrics for metrics in again.slicing_metrics if not metrics[0]]
    for name, value in outputs[""][""].items():
        expected = summary.metrics["overall"][name]
        assert value["doubleValue"] == pytest.approx(expected, rel=1e-6), name
    assert len(again.slicing_metrics) == 1 + 4


def test_both_implementations_judge_alike(models: dict[str, Any], examples: Any, tmp_path: Path) -> None:
    # Each slice by size has fewer rows than a slice by rank, and is too small.
    slices = {"slice_by": [["rank"], ["rank", "size"]], "min_rows_per_slice": len(SIZES) // 4}
    properties = own_properties({**slices, "thresholds": [{"metric": "auc", "lower_bound": 0.999}]})
    summaries = {}
    for implementation in ("fast", "stock"):
        (tmp_path / implementation).mkdir()
        blessing = evaluate(
            models["ours"], examples, tmp_path / implementation, **properties, implementation=implementation
        )
        assert [path.name for path in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
        summaries[implementation] = EvaluationReport.read(str(tmp_path / implementation / "evaluation"))
        assert (tmp_path / implementation / "evaluation" / GOLDEN_NAME).exists()
    fast, stock = summaries["fast"], summaries["stock"]
    assert fast.metrics.keys() == stock.metrics.keys() and len(fast.metrics) == 1 + 4
    for where, metrics in fast.metrics.items():
        assert stock.metrics[where] == pytest.approx(metrics, rel=1e-6), where
    assert (fast.failures, fast.warnings) == (stock.failures, stock.warnings) and fast.failures
    assert stock.constant_predictor == fast.constant_predictor


@pytest.mark.parametrize(
    ("outputs", "label", "message"),
    [
        ({"a": np.zeros([2, 1]), "b": np.zeros([2])}, "binary", "outputs are a, b; expected 'probability', or one"),
        ({"a": np.array([[2.0], [0.5]])}, "binary", "the model's a is not a probability; export the model with a sig"),
        ({"a": np.zeros([2, 3])}, "binary", r"the model's a has shape \[2, 3\], which a binary label does not have"),
        ({"a": np.zeros([2, 2])}, "regression", r"the model's a has shape \[2, 2\], which a regression label"),
        ({"a": np.array([b"x"])}, "regression", "outputs are a; expected 'prediction', or one output of numbers"),
    ],
)
def test_outputs_that_cannot_be_measured_are_named(outputs: Any, label: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        as_predictions(outputs, label)


def test_outputs_of_several_shapes_are_probabilities() -> None:
    assert as_predictions({"a": np.array([[0.25], [0.5]])}, "binary").tolist() == [0.25, 0.5]
    assert as_predictions({"a": np.array([[0.75, 0.25]])}, "binary").tolist() == [0.25]
    assert as_predictions({"a": np.array([[0.0, 0.0], [0.25, 0.75]])}, "multiclass").tolist() == [
        [0.5, 0.5],
        [0.25, 0.75],
    ]


def test_a_model_that_takes_columns_is_named_by_its_inputs(
    models: dict[str, Any], examples: Any, tmp_path: Path
) -> None:
    class Columns(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="size")])
        def call(self, size: Any) -> dict[str, Any]:
            return {"probability": tf.sigmoid(size)}

    columns, artifact = Columns(), standard_artifacts.Model()
    artifact.uri = str(tmp_path / "model")
    tf.saved_model.save(columns, f"{artifact.uri}/Format-Serving", signatures={"serving_default": columns.call})
    with pytest.raises(Exception, match="the model's serving_default takes size; Evaluator needs a signature with one"):
        evaluate(artifact, examples, tmp_path, **own_properties({}), features=FEATURES.model_dump_json())
