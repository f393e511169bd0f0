"""Metrics of logged predictions with labels, their comparison with the evaluation, and the next training span."""
