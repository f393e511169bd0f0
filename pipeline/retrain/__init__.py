"""Retraining for a reason: conditions, the wait after failures, and the run."""
