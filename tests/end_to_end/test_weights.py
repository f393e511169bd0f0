"""The page of weights, run as it stands: a survey whose best possible model is known."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests import forked
from tests.conftest import ROOT
from tests.end_to_end.test_tutorial import normalise, read_steps, run_steps

pytestmark = pytest.mark.proof
_PAGE = ROOT / "docs" / "how-to" / "weights.md"
_MAX_CONFIG_LINES = 40


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the folder in which the commands of the page were run, and what they printed."""
    folder = tmp_path_factory.mktemp("survey")
    for name, text in re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", _PAGE.read_text(), flags=re.DOTALL):
        (folder / name).write_text(text)
    return folder, run_steps(read_steps(_PAGE.read_text()), folder)


def read_test_rows(folder: Path) -> tuple[np.ndarray, ...]:
    """Return age, label and weight of the rows of test."""
    (file,) = (folder / "runs" / "survey" / "artifacts" / "ExampleGen" / "examples").glob("*/Split-test/*")
    spec = {
        "age": tf.io.FixedLenFeature([], tf.float32),
        "approves": tf.io.FixedLenFeature([], tf.string),
        "weight": tf.io.FixedLenFeature([], tf.float32),
    }
    rows = tf.io.parse_example(next(iter(tf.data.TFRecordDataset(str(file), "GZIP").batch(10_000))), spec)
    return rows["age"].numpy(), rows["approves"].numpy() == b"yes", rows["weight"].numpy()


def read_metrics(folder: Path) -> dict[str, float]:
    (file,) = (folder / "runs" / "survey" / "artifacts" / "Evaluator" / "evaluation").glob("*/summary.json")
    summary = json.loads(file.read_text())
    assert summary["weight_column"] == "weight"
    overall: dict[str, float] = summary["metrics"]["overall"]
    return overall


def test_every_command_of_the_page_prints_its_output(survey: tuple[Path, list[str]]) -> None:
    _, outputs = survey
    for (command, lines), output in zip(read_steps(_PAGE.read_text()), outputs, strict=True):
        printed = {normalise(line) for line in output.splitlines()}
        assert [line for line in lines if normalise(line) not in printed] == [], f"{command}\n{output}"


def test_the_config_of_the_page_is_short(survey: tuple[Path, list[str]]) -> None:
    folder, _ = survey
    assert len((folder / "survey.yaml").read_text().splitlines()) <= _MAX_CONFIG_LINES


def test_the_weighted_model_is_close_to_the_best_possible_one(survey: tuple[Path, list[str]]) -> None:
    folder, _ = survey
    age, approves, weights = read_test_rows(folder)
    town = 1 / (1 + np.exp(-(age - 54) / 9))

    def log_loss(countryside_share: float) -> float:
        """Return the weighted log loss of a model that takes this share of the people for people of the countryside."""
        probability = (1 - countryside_share) * town + countryside_share * (1 - town)
        return float(np.average(-np.log(np.where(approves, probability, 1 - probability)), weights=weights))

    metrics = read_metrics(folder)
    assert metrics["example_count"] == weights.sum() > len(weights)
    # One row in ten, but three of four people.
    assert abs(metrics["log_loss"] - log_loss(0.75)) < 0.02
    assert log_loss(0.1) > log_loss(0.75) + 0.3


def test_batch_prediction_takes_rows_with_and_without_the_weights(survey: tuple[Path, list[str]]) -> None:
    folder, _ = survey
    rows = list(csv.DictReader((folder / "survey.csv").open()))[:20]
    answers = []
    for name, columns in (("with", ["age", "income", "weight"]), ("without", ["age", "income"])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, "weight": "not read"} for row in rows)
        registry = folder / "runs" / "survey" / "registry" / "survey"
        files = (str(folder / f"{name}.csv"), str(folder / name))
        done = forked.run("serving.batch", *files, "--model", str(registry), "--output-format", "jsonl")
        assert done.returncode == 0, done.stderr
        (part,) = (folder / name).glob("*.jsonl")
        answers.append(part.read_text().replace(f"{name}.csv", "file"))
    assert answers[0] == answers[1]
