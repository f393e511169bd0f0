"""Plots hold what TFMA has counted; live predictions are compared with them."""

from components.evaluator.plots import _count_predictions


def test_bins_hold_every_prediction_of_their_buckets() -> None:
    """The mean of a bucket is not its end: live predictions below it were out of the earlier range."""
    buckets = [
        {"lowerThresholdInclusive": "-Infinity", "numWeightedExamples": 0.0},
        {"upperThresholdExclusive": 0.001, "numWeightedExamples": 9.0, "totalWeightedRefinedPrediction": 0.003},
        {
            "lowerThresholdInclusive": 0.999,
            "upperThresholdExclusive": "Infinity",
            "numWeightedExamples": 2.0,
            "totalWeightedRefinedPrediction": 1.999,
        },
    ]
    assert _count_predictions(buckets) == [[0.0, 0.01, 9.0], [0.99, 1.0, 2.0]]
