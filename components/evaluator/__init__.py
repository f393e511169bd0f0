"""Evaluator: metrics, thresholds, the baseline, and the blessing of a model."""
