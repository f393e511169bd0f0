"""Two answers are compared by their decisions and by their scores."""

import numpy as np
import pytest

from serving.model.output_comparison import OutputsDifferError, compare_outputs


def _strings(*values: str) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    return np.array([value.encode() for value in values], object)


def test_a_binary_decision_is_the_label_and_not_the_probability() -> None:
    before = {"predicted_label": _strings("no", "no", "yes"), "probability": np.array([0.1, 0.49, 0.9], np.float32)}
    after = {"predicted_label": _strings("no", "yes", "yes"), "probability": np.array([0.4, 0.51, 0.9], np.float32)}
    comparison = compare_outputs(before, after)
    assert not comparison.is_numeric
    assert comparison.changed.tolist() == [False, True, False]
    assert comparison.differences.tolist() == pytest.approx([0.3, 0.02, 0.0])


def test_classes_are_compared_by_name_and_a_new_one_counts() -> None:
    before = {
        "predicted_label": _strings("a", "b"),
        "classes": np.array([[b"a", b"b"]] * 2, object),
        "probabilities": np.array([[0.7, 0.3], [0.2, 0.8]]),
    }
    after = {
        "predicted_label": _strings("a", "c"),
        "classes": np.array([[b"b", b"a", b"c"]] * 2, object),
        "probabilities": np.array([[0.3, 0.7, 0.0], [0.3, 0.2, 0.5]]),
    }
    comparison = compare_outputs(before, after)
    assert comparison.changed.tolist() == [False, True]
    assert comparison.differences.tolist() == pytest.approx([0.0, 0.5])


def test_a_number_changes_beyond_a_relative_tolerance() -> None:
    before, after = {"prediction": np.array([100.0, 100.0, 0.0])}, {"prediction": np.array([100.9, 98.9, 0.0])}
    comparison = compare_outputs(before, after, tolerance=0.01)
    assert comparison.is_numeric
    assert comparison.changed.tolist() == [False, True, False]
    assert comparison.differences.tolist() == pytest.approx([0.9, 1.1, 0.0])
    assert compare_outputs(before, after, tolerance=0.02).changed.tolist() == [False, False, False]


def test_a_model_of_tensors_is_compared_by_all_common_outputs() -> None:
    before = {"y": np.array([[1.0, 2.0], [3.0, 4.0]]), "kind": _strings("a", "b"), "model_version": _strings("1", "1")}
    after = {"y": np.array([[1.0, 2.0], [3.0, 5.0]]), "kind": _strings("c", "b"), "model_version": _strings("2", "2")}
    comparison = compare_outputs(before, after)
    assert comparison.changed.tolist() == [True, True]
    assert comparison.differences.tolist() == [0.0, 1.0]


def test_models_that_decide_by_other_outputs_are_not_compared() -> None:
    label, number = {"predicted_label": _strings("a")}, {"prediction": np.array([1.0])}
    with pytest.raises(OutputsDifferError, match=r"^the outputs differ: predicted_label; and prediction$"):
        compare_outputs(label, number)
    with pytest.raises(OutputsDifferError, match=r"^the outputs differ: x; and y$"):
        compare_outputs({"x": np.array([1.0])}, {"y": np.array([1.0])})
    with pytest.raises(OutputsDifferError, match=r"^y: has shape \[1\] before, and \[1, 2\] after$"):
        compare_outputs({"y": np.array([1.0])}, {"y": np.array([[1.0, 2.0]])})
