"""TFMA's plots as points of curves, for readers without TFMA."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.view import util as view_util

# A curve has at most so many points, calibration so many bars, and the histogram of predictions so many bins.
_MAX_POINTS, _BUCKETS, _PREDICTION_BINS = 101, 10, 100
Points = list[list[float]]


def read_plots(
    evaluation_uri: str, classes: Sequence[str], threshold: float, model: str | None = None
) -> dict[str, Any]:
    """Return the plots of the candidate over all rows; empty if TFMA stored none.

    Args:
      evaluation_uri: Folder of TFMA's files.
      classes: Values of the label, in the order of their IDs.
      threshold: Threshold from which a row is predicted as the positive value.
      model: TFMA's name of the candidate; None if it is the only model.

    Returns:
      Curves `roc`, `precision_recall` and `calibration`, each a list of points (x, y). `confusion` is the weight of the
      rows by true and predicted class. `predictions` has the bins of the predicted probability (bounds, weight of
      the rows), which live traffic is compared with.
    """
    for record in tfma.load_plots(evaluation_uri):
        # Thousands of buckets and thresholds of each slice would be converted in vain.
        if record.slice_key.single_slice_keys:
            continue
        _, by_output = view_util.convert_plots_proto_to_dict(record, model_name=model) or ((), None)
        # TFMA has an entry without content for a slice without plots.
        if by_output:
            plots: Mapping[str, Any] = next(iter(next(iter(by_output.values())).values()))
            return _convert(plots, classes, threshold)
    return {}


def _convert(plots: Mapping[str, Any], classes: Sequence[str], threshold: float) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    matrices = plots.get("confusionMatrixAtThresholds", {}).get("matrices", [])
    if matrices:
        converted["roc"] = _thin_out(
            [_compute_point(m, ("falsePositives", "trueNegatives"), "truePositives") for m in matrices]
        )
        converted["precision_recall"] = _thin_out(
            [
                [m.get("recall", 0.0), m.get("precision", 0.0)]
                for m in matrices
                if m.get("truePositives", 0.0) + m.get("falsePositives", 0.0) > 0
            ]
        )
        nearest = min(matrices, key=lambda m: abs(m.get("threshold", 0.0) - threshold))
        keys = (("trueNegatives", "falsePositives"), ("falseNegatives", "truePositives"))
        rows = [[float(nearest.get(key, 0.0)) for key in row] for row in keys]
        converted["confusion"] = {"classes": list(classes), "rows": rows}
    buckets = plots.get("calibrationHistogramBuckets", {}).get("buckets", [])
    if buckets:
        converted["calibration"] = _calibrate(buckets)
        converted["predictions"] = _count_predictions(buckets)
    multiclass = plots.get("multiClassConfusionMatrixAtThresholds", {}).get("matrices", [])
    if multiclass:
        rows = [[0.0] * len(classes) for _ in classes]
        for entry in multiclass[0].get("entries", []):
            predicted = entry.get("predictedClassId", 0)
            if predicted >= 0:
                rows[entry.get("actualClassId", 0)][predicted] += entry.get("numWeightedExamples", 0.0)
        converted["confusion"] = {"classes": list(classes), "rows": rows}
    return converted


def _compute_point(matrix: Mapping[str, float], negatives: tuple[str, str], positives: str) -> list[float]:
    """Return the false and the true positive rate."""
    false, all_negatives = matrix.get(negatives[0], 0.0), sum(matrix.get(key, 0.0) for key in negatives)
    true, all_positives = matrix.get(positives, 0.0), matrix.get(positives, 0.0) + matrix.get("falseNegatives", 0.0)
    return [false / all_negatives if all_negatives else 0.0, true / all_positives if all_positives else 0.0]


def _thin_out(points: Points) -> Points:
    """Return distinct neighbours of a curve, at most `_MAX_POINTS`, with both ends."""
    distinct = [point for place, point in enumerate(points) if place == 0 or point != points[place - 1]]
    step = max(1, -(-len(distinct) // (_MAX_POINTS - 1)))
    kept = distinct[::step]
    return kept if kept[-1:] == distinct[-1:] else [*kept, distinct[-1]]


def _calibrate(buckets: Sequence[Mapping[str, Any]]) -> Points:
    """Return the mean prediction and the share of positive rows of tenths of the range from 0 to 1."""
    sums = [[0.0, 0.0, 0.0] for _ in range(_BUCKETS)]
    for bucket in buckets:
        rows = bucket.get("numWeightedExamples", 0.0)
        if rows:
            prediction = bucket.get("totalWeightedRefinedPrediction", 0.0)
            place = min(max(int(prediction / rows * _BUCKETS), 0), _BUCKETS - 1)
            for index, value in enumerate((prediction, bucket.get("totalWeightedLabel", 0.0), rows)):
                sums[place][index] += value
    return [[prediction / rows, label / rows] for prediction, label, rows in sums if rows]


def _count_predictions(buckets: Sequence[Mapping[str, Any]]) -> Points:
    """Return the bins of equal width that have predictions.

    Their bounds are TFMA's thresholds. The means of TFMA's buckets would hide the least and the largest predictions.
    """
    bins: dict[int, float] = {}
    for bucket in buckets:
        rows = bucket.get("numWeightedExamples", 0.0)
        if rows:
            # JSON leaves 0 out, and the first bucket has an infinite bound. Thresholds are sums, and so inexact.
            start = min(max(float(bucket.get("lowerThresholdInclusive", 0.0)), 0.0), 1.0)
            place = min(int(start * _PREDICTION_BINS + 1e-6), _PREDICTION_BINS - 1)
            bins[place] = bins.get(place, 0.0) + rows
    return [[place / _PREDICTION_BINS, (place + 1) / _PREDICTION_BINS, bins[place]] for place in sorted(bins)]
