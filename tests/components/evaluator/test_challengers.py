"""The fits of the challengers, and the judgement of a model beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from components.config import Evaluation
from components.evaluator import challengers
from components.evaluator.challengers import (
    LINEAR,
    TREES,
    ChallengerFit,
    EncodedColumns,
    fit_challengers,
    fit_to_sample,
)
from components.evaluator.constant_predictor import ConstantComparison, ConstantPredictor, PairedLosses
from components.evaluator.evaluation import JudgedRows, _describe_challenger, _judge_rows
from components.evaluator.resampling import CONSTANT, LABELS, WEIGHTS, Resampling, SliceErrors, from_json, to_json
from components.evaluator.row_sample import MergeSamples
from components.evaluator.sliced_predictions import CANDIDATE
from schemas.features import FeatureSet, OwnColumn
from schemas.metrics import metrics_of
from schemas.row_sample import RowSample
from serving.model.network_inputs import IDS, NUMBERS

ROWS = 4000
LABELS_BY_KIND: dict[str, dict[str, Any]] = {
    "binary": {"column": "y", "positive": "yes", "negative": "no"},
    "multiclass": {"kind": "multiclass", "column": "y", "classes": ["a", "b", "c"]},
    "regression": {"kind": "regression", "column": "y"},
}


def declare(kind: str) -> FeatureSet:
    return FeatureSet.model_validate(
        {
            "features": {
                "size": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 4}},
                "color": {"kind": "vocabulary_list", "values": ["red", "green", "blue"]},
            },
            "crosses": [{"features": ["size", "color"], "num_ids": 20}],
            "label": LABELS_BY_KIND[kind],
        }
    )


def draw(kind: str, seed: int) -> RowSample:
    """Return rows whose label depends on the size, on the color and on both together."""
    random = np.random.default_rng(seed)
    features = declare(kind)
    size = random.normal(size=ROWS).astype(np.float32)
    color = random.integers(0, 3, ROWS)
    widths = [column.num_ids for column in features.id_columns]
    columns = {"size_bucketized": np.digitize(size, [-0.7, 0, 0.7]), "color": color}
    ids = np.stack(
        [columns.get(column.name, (columns["size_bucketized"] * 3 + color) % 20) for column in features.id_columns],
        axis=1,
    )
    assert (ids < widths).all()
    signal = size * (color - 1) + 0.5 * color
    match kind:
        case "binary":
            label = (random.random(ROWS) < 1 / (1 + np.exp(-2 * signal))).astype(np.int64)
        case "multiclass":
            label = np.digitize(signal + 0.3 * random.normal(size=ROWS), [0, 1])
        case _:
            label = (100 + 10 * signal + random.normal(size=ROWS)).astype(np.float32)
    return RowSample.of(
        np.arange(ROWS, dtype=np.uint64),
        {IDS: ids.astype(np.int32), NUMBERS: size[:, None], "label": label, "weight": np.ones(ROWS, np.float32)},
    )


def fit(
    kind: str, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[Mapping[str, Any], dict[str, ChallengerFit]]:
    monkeypatch.setattr(challengers, "_read_sample", lambda *_: draw(kind, 1))
    declared = Evaluation.model_validate({"challengers": settings}).challengers
    fitted, outcomes = fit_challengers(declared, declare(kind), "", "", 3)
    return fitted.models, {outcome.name: outcome for outcome in outcomes}


@pytest.mark.integration
@pytest.mark.parametrize("kind", LABELS_BY_KIND)
def test_both_are_far_better_than_the_constant_predictor(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models, outcomes = fit(kind, monkeypatch)
    assert {*models} == {*outcomes} == {LINEAR, TREES}
    assert {(outcome.problem, outcome.rows, outcome.rows_of) for outcome in outcomes.values()} == {("", ROWS, ROWS)}
    test = draw(kind, 2)
    labels = test.columns["label"]
    train = draw(kind, 1).columns["label"]
    if kind == "regression":
        constant = ConstantPredictor(0, np.array([train.mean()]))
    else:
        constant = ConstantPredictor.from_class_rows(np.bincount(train).astype(np.float64))
    for name, predict in models.items():
        own, other = constant.compute_losses(labels, predict(test.columns[IDS], test.columns[NUMBERS]))
        assert own.mean() < 0.8 * other.mean(), name


def test_one_that_fails_or_takes_too_long_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    models, outcomes = fit("binary", monkeypatch, max_seconds=1e-9)
    assert models == {}
    assert {outcome.problem for outcome in outcomes.values()} == {
        "not fitted within 1e-09 s (evaluation.challengers.max_seconds)"
    }
    single = draw("binary", 1)
    single.columns["label"][:] = 1
    monkeypatch.setattr(challengers, "_read_sample", lambda *_: single)
    settings = Evaluation().challengers
    fitted, failed = fit_challengers(settings, declare("binary"), "", "", 3)
    assert fitted.models == {}
    assert {outcome.problem for outcome in failed} == {"all rows that it is fitted to have the same class"}


def test_the_time_of_trees_is_estimated_from_as_many_trees_whatever_the_classes() -> None:
    """With 50 classes, 25 iterations are 1,250 trees: the limit of 5 s was exceeded by 23 s."""
    assert [challengers._count_first_iterations(classes) for classes in (0, 2, 3, 50)] == [25, 25, 8, 1]


def test_one_that_is_switched_off_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    models, outcomes = fit("binary", monkeypatch, trees=False)
    assert {*models} == {*outcomes} == {LINEAR}


def test_undeclared_numbers_are_scaled_and_have_to_be_finite() -> None:
    """With a number in the thousands, the linear model ends at its last iteration far from the best weights."""
    features = declare("binary").model_copy(update={"own_columns": (OwnColumn(name="extra"),)})
    sample, settings = draw("binary", 1), Evaluation.model_validate({"challengers": {"trees": False}}).challengers
    label = sample.columns["label"]
    extra = 5000 + 1000 * (label + np.random.default_rng(4).normal(size=ROWS))
    sample.columns[NUMBERS] = np.concatenate([sample.columns[NUMBERS], extra[:, None].astype(np.float32)], axis=1)
    columns = EncodedColumns.from_features(features, "")
    fitted, _ = fit_to_sample(settings, columns, sample, 2, 3)
    predicted = fitted.models[LINEAR](sample.columns[IDS], sample.columns[NUMBERS])
    alone = fit_to_sample(settings, EncodedColumns.from_features(declare("binary"), ""), draw("binary", 1), 2, 3)[
        0
    ].models[LINEAR]
    constant = ConstantPredictor.from_class_rows(np.bincount(label).astype(np.float64))
    losses = [
        constant.compute_losses(label, values)[0].mean()
        for values in (predicted, alone(sample.columns[IDS], sample.columns[NUMBERS][:, :1]))
    ]
    assert losses[0] < losses[1] - 0.05
    sample.columns[NUMBERS][5, 1] = np.nan
    fitted, outcomes = fit_to_sample(settings, columns, sample, 2, 3)
    assert [outcome.problem for outcome in outcomes] == ["'extra' has NaN or infinite values"]


def test_a_sample_does_not_depend_on_the_batches() -> None:
    ids = np.random.default_rng(1).integers(0, 2**63, 1000).astype(np.uint64)
    values = {"a": np.arange(1000)}
    whole = RowSample.of(ids, values, 100).in_order()
    merge = MergeSamples()
    parts = [RowSample.of(ids[part], {"a": np.arange(1000)[part]}, 100) for part in (slice(700, 1000), slice(0, 700))]
    merged = merge.extract_output(merge.merge_accumulators([merge.add_input(RowSample(), part) for part in parts]))
    assert (merged.rows, len(merged.ids)) == (1000, 100)
    assert merged.columns["a"].tolist() == whole.columns["a"].tolist()
    assert sorted(ids)[:100] == merged.ids.tolist()


def test_a_challenger_that_rejects_rows_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """An infinite number ended the run with scikit-learn's error."""
    models, outcomes = fit("binary", monkeypatch, trees=False)
    test = draw("binary", 2)
    labels, numbers = test.columns["label"], test.columns[NUMBERS].copy()
    numbers[7] = np.inf
    predicted = challengers._predict_or_nan(models[LINEAR], test.columns[IDS], numbers, 2)
    assert (predicted.shape, np.isnan(predicted).all()) == ((ROWS,), True)
    assert challengers._predict_or_nan(models[LINEAR], test.columns[IDS], numbers, 3).shape == (ROWS, 3)
    constant = ConstantPredictor.from_class_rows(np.bincount(labels).astype(np.float64))
    columns = {LABELS: labels, WEIGHTS: np.ones(ROWS), CANDIDATE: np.full(ROWS, 0.4), LINEAR: predicted}
    resampling = Resampling("binary", metrics_of("binary"), 1, constant)
    errors = {"overall": resampling.resample((), RowSample.of(test.ids, columns), (LINEAR,))}
    losses = PairedLosses.from_batch(constant, labels, columns[CANDIDATE])
    rows = JudgedRows(("no", "yes"), losses, ConstantComparison.from_losses(constant, losses, None), errors=errors)
    text = _describe_challenger(outcomes[LINEAR], {"overall": {}}, rows, errors)["text"]
    assert text == "not compared: its predictions are not all numbers"


def compare(better: float, rows: int = 3000) -> tuple[JudgedRows, SliceErrors]:
    """Return the findings on rows where the candidate knows more than the challengers, or less if below 0."""
    random = np.random.default_rng(6)
    logits = random.normal(size=(2, rows))
    labels = (random.random(rows) < 1 / (1 + np.exp(-logits.sum(axis=0)))).astype(np.int64)
    more, less = 1 / (1 + np.exp(-logits.sum(axis=0))), 1 / (1 + np.exp(-logits[0]))
    own, other = (more, less) if better > 0 else (less, more)
    if not better:
        # As good, and differently wrong.
        own, other = (1 / (1 + np.exp(-logits[place])) for place in (0, 1))
    constant = ConstantPredictor.from_class_rows(np.array([0.5, 0.5]))
    sample = RowSample.of(
        np.arange(rows, dtype=np.uint64),
        {LABELS: labels, WEIGHTS: np.ones(rows), CANDIDATE: own, LINEAR: other, TREES: other},
    )
    resampling = Resampling("binary", metrics_of("binary"), 1, constant)
    errors = {name: resampling.resample((), sample, (LINEAR, TREES)) for name in ("overall", "sex=Male")}
    errors = from_json(to_json(errors))
    losses = PairedLosses.from_batch(constant, labels, own)
    comparison = ConstantComparison.from_losses(constant, losses, errors["overall"].gains[CONSTANT].interval)
    outcomes = [ChallengerFit(LINEAR, rows=900, rows_of=9000, seconds=1.0), ChallengerFit(TREES, "ValueError: no")]
    return JudgedRows(("no", "yes"), losses, comparison, errors=errors, outcomes=outcomes), errors["overall"]


def judge(rows: JudgedRows, **settings: Any) -> tuple[list[str], list[str]]:
    return _judge_rows(rows, Evaluation.model_validate(settings))


def test_a_model_that_is_significantly_worse_than_the_linear_one_is_not_blessed() -> None:
    rows, errors = compare(-1)
    (failure,), (warning,) = judge(rows)
    gain = errors.gains[LINEAR]
    assert gain.gain is not None and gain.interval is not None and gain.interval[1] < 0
    assert failure.startswith(
        f"linear model: by log loss on test the model is worse by {-gain.gain:.4f} "
        f"[{-gain.interval[1]:.4f}, {-gain.interval[0]:.4f}]; significantly worse on sex=Male; "
        "must not be significantly worse"
    )
    assert warning.startswith("boosted trees: by log loss on test the model is worse by")
    assert "significantly worse on sex=Male" in warning
    no_failures, warnings = judge(rows, challengers={"worse_than_linear": "warn"})
    assert (no_failures, len(warnings)) == ([], 2)


def test_a_model_that_is_significantly_better_has_no_warning_and_one_that_is_not_has_a_note() -> None:
    rows, _ = compare(1)
    assert judge(rows) == ([], [])
    rows, errors = compare(0)
    failures, (note,) = judge(rows)
    assert failures == []
    assert note.endswith("it is not significantly better")
    assert not errors.gains[LINEAR].is_significant


def test_the_summary_has_metrics_differences_and_the_reason_of_one_that_was_left_out() -> None:
    rows, errors = compare(1)
    metrics = {"overall": {"auc": 0.8, "example_count": 3000.0}}
    linear = _describe_challenger(rows.outcomes[0], metrics, rows, {"overall": errors})
    assert linear["text"].startswith(f"log loss {errors.gains[LINEAR].loss:.4f}; the model is better by ")
    assert linear["text"].endswith("fitted to 900 of 9,000 rows in 1.0 s")
    difference, low, high = linear["differences"]["overall"]["auc"]
    assert difference == pytest.approx(0.8 - linear["metrics"]["overall"]["auc"])
    assert low < difference < high
    trees = _describe_challenger(rows.outcomes[1], metrics, rows, {"overall": errors})
    assert (trees["text"], trees["problem"]) == ("not compared: ValueError: no", "ValueError: no")


def test_predictions_that_are_all_the_same_have_no_interval_of_a_rank() -> None:
    labels = np.arange(300) % 2
    columns = {LABELS: labels, WEIGHTS: np.ones(300), CANDIDATE: np.full(300, 0.5)}
    sample = RowSample.of(np.arange(300, dtype=np.uint64), columns)
    constant = ConstantPredictor.from_class_rows(np.array([0.5, 0.5]))
    errors = Resampling("binary", metrics_of("binary"), 1, constant).resample((), sample)
    assert errors.errors[CANDIDATE]["auc"] is None
    assert errors.errors[CANDIDATE]["log_loss"] is None
    assert errors.errors[CANDIDATE]["accuracy"] is not None
