"""How many rows go through TensorFlow together."""

# Values in all columns of a batch. With their places in a batch of sparse columns, some hundred bytes each.
_MAX_VALUES = 1 << 22


def compute_batch_rows(columns: int, most: int) -> int:
    """Return how many rows a batch has: a wide table's are fewer, so that memory does not grow with the columns.

    >>> compute_batch_rows(20, 8192), compute_batch_rows(2000, 8192)
    (8192, 2097)
    """
    return max(1, min(most, _MAX_VALUES // max(columns, 1)))
