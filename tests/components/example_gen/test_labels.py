"""Labels are counted by split, exactly, in however many pieces."""

import numpy as np
import pyarrow as pa
import pytest

from components.example_gen.labels import count_labels, merge_label_counts, summarize_label_counts


def test_numbers_have_the_moments_of_the_whole_in_whatever_pieces() -> None:
    # The sum of squares of such numbers has no digits left for their variance.
    numbers = (1e7 + np.arange(1000) % 7).astype(np.float32)
    for size in (1, 13, 400, 1000):
        pieces = [count_labels(pa.array(numbers[start:][:size])) for start in range(0, 1000, size)]
        merged = summarize_label_counts(merge_label_counts([{}, *pieces], ()), ())
        exact = numbers.astype(np.float64)
        assert merged["rows"] == 1000
        assert merged["mean"] == pytest.approx(exact.mean(), rel=1e-15)
        assert merged["std"] == pytest.approx(exact.std(), rel=1e-9)


def test_classes_are_in_the_declared_order_and_those_without_rows_have_none() -> None:
    pieces = [count_labels(pa.array(values, pa.binary())) for values in ([b"b", b"a", b"b"], [b"b"])]
    assert list(merge_label_counts(pieces, ["c", "b", "a"]).items()) == [("c", 0), ("b", 3), ("a", 1)]
