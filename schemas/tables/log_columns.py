"""Columns that a request log adds to those of the training table (serving/request_log/shards.py).

Whoever reads a table passes over them, so that a log is a data file as it stands.
"""

REQUEST_PREFIX, PREDICTION_PREFIX = "_request_", "_prediction_"


def is_log_column(name: str) -> bool:
    """Return whether a column is one of a request log, and not of the table."""
    return name.startswith((REQUEST_PREFIX, PREDICTION_PREFIX))
