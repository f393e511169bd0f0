"""Rows are read once, by models that are loaded once, and each slice gets its own rows."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components import sliced_predictions
from components.config import Evaluation
from components.evaluation import Summary, eval_config
from components.evaluator import BatchedExecutor
from components.golden import GOLDEN_NAME
from components.sliced_predictions import LoadedModels, PredictAndSlice
from serving.golden import Golden
from serving.predictor import Predictor
from tests.serving.models import FEATURES, example, export_model

ROWS = 500
FILES = 2


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
    """An Examples artifact's folder with one split, `test`, in two files."""
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
    slicer = PredictAndSlice(loaded, "probability", slicings, FEATURES.column_types)
    slicer.setup()
    mine = rows[0::FILES]
    found = dict(slicer.process(str(examples / "Split-test" / "data-0.gz")))
    answers = Predictor(models["candidate"] / "Format-Serving").predict_examples([example(row) for row in mine])
    expected: dict[Any, list[int]] = {}
    for number, row in enumerate(mine):
        for slicing in slicings:
            if all(column in row for column in slicing):
                expected.setdefault(tuple((column, row[column]) for column in slicing), []).append(number)
    assert found.keys() == expected.keys() and len(found) == 1 + 3 + 4 + 4
    for key, numbers in expected.items():
        assert found[key]["labels"].tolist() == [mine[n]["bought"] == "yes" for n in numbers]
        np.testing.assert_allclose(found[key]["predictions"], answers["probability"][numbers], rtol=1e-6)


def test_each_model_is_loaded_once_and_each_batch_predicted_once_by_each(
    examples: Path, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, which are the same on any machine: whoever reads or predicts rows twice is found here."""
    counted: Counter[str] = Counter()
    load, parse = tf.saved_model.load, tf.io.parse_example

    def counting_load(path: str) -> Any:
        counted["models loaded"] += 1
        model = load(path)
        signatures = dict(model.signatures)

        def called(name: str) -> Any:
            def call(examples: tf.Tensor) -> Any:
                counted[f"{name} of {Path(path).parent.name}"] += 1
                return signatures[name](examples=examples)

            return call

        return type("Model", (), {"signatures": {name: called(name) for name in signatures}})()

    def counting_parse(*args: Any, **options: Any) -> Any:
        counted["batches sliced"] += 1
        return parse(*args, **options)

    monkeypatch.setattr(sliced_predictions.tf.saved_model, "load", counting_load)
    monkeypatch.setattr(sliced_predictions.tf.io, "parse_example", counting_parse)
    summary = _evaluate(examples, models, tmp_path)
    monkeypatch.undo()
    assert counted == {
        "models loaded": 2,
        "batches sliced": FILES,
        # And once more for the golden requests.
        "serving_examples of candidate": FILES + 1,
        "serving_examples of baseline": FILES,
        "true_label of candidate": FILES,
    }
    assert summary.metrics["overall"]["example_count"] == ROWS
    golden = Golden.from_json((tmp_path / "evaluation" / GOLDEN_NAME).read_bytes())
    assert golden.difference(Predictor(models["candidate"] / "Format-Serving").predict(list(golden.instances))) is None
    assert tfma.load_validation_result(str(tmp_path / "evaluation")).validation_ok


def _evaluate(examples: Path, models: dict[str, Path], folder: Path) -> Summary:
    """Runs the executor on artifacts, as TFX does."""
    found = {"examples": standard_artifacts.Examples(), "evaluation": standard_artifacts.ModelEvaluation()}
    found |= {"blessing": standard_artifacts.ModelBlessing()}
    found["examples"].uri, found["examples"].split_names = str(examples), artifact_utils.encode_split_names(["test"])
    for number, (name, path) in enumerate(models.items()):
        model = found["model" if name == "candidate" else "baseline_model"] = standard_artifacts.Model()
        model.uri, model.id = str(path), number
    for name in ("evaluation", "blessing"):
        found[name].uri = str(folder / name)
        (folder / name).mkdir()
    evaluation = Evaluation.model_validate(
        {
            "split": "test",
            "min_examples": 1,
            "slice_by": [["color"]],
            "thresholds": [{"metric": "auc", "at_least": 0.1}],
            "compared_with_last_blessed": [{"metric": "auc", "may_worsen_by": 1.0}],
        }
    )
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=DirectRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1"],
        tmp_dir=str(folder),
        unique_id="1",
    )
    BatchedExecutor(context).Do(
        {name: [found[name]] for name in ("examples", "model", "baseline_model")},
        {name: [found[name]] for name in ("evaluation", "blessing")},
        {
            "eval_config": proto_utils.proto_to_json(eval_config(evaluation, "binary")),
            "example_splits": json_utils.dumps(["test"]),
            "golden_requests": 4,
            "golden_tolerance": 1e-4,
        },
    )
    return Summary.read(str(folder / "evaluation"))
