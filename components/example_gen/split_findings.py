"""Judges splits by their labels and by the rows that they share with train. Imports no TensorFlow."""

from collections.abc import Iterator, Mapping
from typing import Any

from cli.counts import format_count
from cli.errors import DataError
from components.config import CONTRADICTORY, COPIES, NO_CLASS, SHARED_ROWS, Validation
from components.policy import Anomaly
from schemas.data import MIN_DISTINCT_ROWS, TRAIN_SPLIT
from schemas.sensitive import MASK

# Of two classes, a model is wrong about half of the contradictory rows in the worst case: here about 5 % of all. Below
# it, which noise gives in every table of few categories, they are counted and no warning is given.
_CONTRADICTORY_SHARE = 0.1
# Of a split with more rows of train than others, a model that only remembers train is right about most.
_REMEMBERED_SHARE = 0.5
_SHOWN_CLASSES, _SHOWN_SHARES = 10, 5


def reject_empty_classes(labels: Mapping[str, Mapping[str, float]], *, sensitive: bool = False) -> None:
    """Reject a train split that has no row of a class, or only equal numbers as labels.

    Args:
      labels: counts of `LABELS_PROPERTY`.
      sensitive: whether a number must not be shown.

    Raises:
      DataError: names the classes and the counts.
    """
    train = labels[TRAIN_SPLIT]
    # The mean of equal numbers is rounded.
    if "std" in train and train["std"] <= 1e-9 * abs(train["mean"]):
        value = MASK if sensitive else f"{train['mean']:g}"
        raise DataError(
            f"split '{TRAIN_SPLIT}': all labels of its {format_count(int(train['rows']), 'row', 'are')} {value}; there "
            "is nothing to learn. Check the label, or give the split other rows"
        )
    empty = _list_empty_classes(train)
    if empty:
        raise DataError(
            f"split '{TRAIN_SPLIT}': no row has the label {_format_classes(empty)}; found {_format_counts(train)}. "
            "Every class is needed: check the label, or give the split more rows"
        )


def reject_weightless(weights: Mapping[str, Mapping[str, float]], column: str) -> None:
    """Reject a split of which all weights are 0, and a class of train of which all are.

    Args:
      weights: counts of `WEIGHTS_PROPERTY`.
      column: column of the weights.

    Raises:
      DataError: names the split, and the classes.
    """
    for split, counts in weights.items():
        if not (counts["rows"] if "std" in counts else sum(counts.values())):
            raise DataError(
                f"split '{split}': all weights are 0 (column '{column}'), so that no row counts; at least one must be "
                "above 0: correct the weights, or remove data.weight_column"
            )
    empty = _list_empty_classes(weights[TRAIN_SPLIT])
    if empty:
        raise DataError(
            f"split '{TRAIN_SPLIT}': all weights of rows with the label {_format_classes(empty)} are 0 (column "
            f"'{column}'); every class needs a weight above 0: correct the weights, or give the split more rows"
        )


def find_empty_classes(labels: Mapping[str, Mapping[str, float]], column: str) -> Iterator[Anomaly]:
    """Find the classes that have no row in a split.

    Args:
      labels: counts of `LABELS_PROPERTY`.
      column: column of the label.
    """
    for split, counts in labels.items():
        empty = _list_empty_classes(counts)
        if empty:
            text = (
                f"no row has the label {_format_classes(empty)}; found {_format_counts(counts)}: metrics that need "
                f"every class are undefined there. Give '{split}' more rows, or rows of other files"
            )
            yield Anomaly(split, column, NO_CLASS, text)


def find_contradictory_labels(equal_rows: Mapping[str, Any], column: str) -> Iterator[Anomaly]:
    """Find out whether many rows of train have an equal row with another label.

    Args:
      equal_rows: `EQUAL_ROWS_PROPERTY`.
      column: column of the label.
    """
    rows, contradictory = (equal_rows["contradictory"]["train"][name] for name in ("rows", "contradictory"))
    if contradictory > _CONTRADICTORY_SHARE * rows:
        text = (
            f"{contradictory:,} of {format_count(rows, 'row')} ({contradictory / rows:.1%}) have a row that is equal "
            "in all features and has another label: no model can be right about both. "
            "Add a feature that tells them apart, or check the labels"
        )
        yield Anomaly(TRAIN_SPLIT, column, CONTRADICTORY, text + _format_sampling(equal_rows))


def find_shared_rows(equal_rows: Mapping[str, Any], validation: Validation) -> Iterator[Anomaly]:
    """Find the splits that have many more rows in common with train than train has with itself.

    Args:
      equal_rows: `EQUAL_ROWS_PROPERTY`.
      validation: policy with the share that is allowed in addition.
    """
    shares = compute_train_shares(equal_rows)
    own, margin = shares.get(TRAIN_SPLIT, 0.0), validation.train_overlap_margin
    for split, share in shares.items():
        # What was drawn at random from train's rows differs from them by chance alone.
        if split != TRAIN_SPLIT and split not in equal_rows["drawn"] and share - own > margin:
            counts = equal_rows["in_train"][split]
            text = (
                f"{counts['in_train']:,} of {format_count(counts['rows'], 'row')} ({share:.1%}) have an equal row in "
                f"train (in all features); {own:.1%} of train's rows have another, and at most {margin:.1%} more may. "
                "Remove the copies from one of the two, or raise validation.train_overlap_margin"
            )
            yield Anomaly(split, "all", SHARED_ROWS, text + _format_sampling(equal_rows))


def find_copied_splits(equal_rows: Mapping[str, Any]) -> Iterator[Anomaly]:
    """Find the splits on which a model that only remembers the rows of train does well.

    Args:
      equal_rows: `EQUAL_ROWS_PROPERTY`.
    """
    for split, share in compute_train_shares(equal_rows).items():
        if split != TRAIN_SPLIT and share > _REMEMBERED_SHARE:
            counts = equal_rows["in_train"][split]
            text = (
                f"{counts['in_train']:,} of {format_count(counts['rows'], 'row')} ({share:.1%}) have an equal row in "
                "train (in all "
                "features): metrics on this split show how well rows of train are remembered, not what the model is "
                "worth on new rows. Give the split other rows, or add features that tell the copies apart"
            )
            yield Anomaly(split, "all", COPIES, text + _format_sampling(equal_rows))


def compute_train_shares(equal_rows: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of each split's rows that have an equal row in train; of train, another equal row."""
    return {
        split: counts["in_train"] / counts["rows"] for split, counts in equal_rows["in_train"].items() if counts["rows"]
    }


def describe_labels(labels: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Describe the labels of each split, one line for all; of two classes the second, of several the most frequent.

    Args:
      labels: counts of `LABELS_PROPERTY`.
    """
    train = labels[TRAIN_SPLIT]
    if "std" in train:
        means = [f"{split} {counts['mean']:.4g} (std {counts['std']:.4g})" for split, counts in labels.items()]
        return [f"mean of {', '.join(means)}"]
    classes = list(train)[1:] if len(train) == 2 else sorted(train, key=lambda value: -train[value])[:_SHOWN_SHARES]
    shares = [
        f"{split} {' '.join(f'{counts[value] / (sum(counts.values()) or 1):.1%}' for value in classes)}"
        for split, counts in labels.items()
    ]
    return [f"{', '.join(classes)}: {', '.join(shares)}"]


def describe_copies(equal_rows: Mapping[str, Any]) -> list[str]:
    """Describe rows that are equal in all features: how they were shared out, where they are, which contradict.

    Args:
      equal_rows: `EQUAL_ROWS_PROPERTY`.
    """
    sampled = _format_sampling(equal_rows)
    texts = []
    for split, rows in equal_rows["distinct_rows"].items():
        where = f" in the shares of '{split}'" if len(equal_rows["distinct_rows"]) > 1 else ""
        if split in equal_rows["spread"]:
            texts.append(f"are spread{where}: {rows:,} distinct rows, fewer than {MIN_DISTINCT_ROWS:,}")
        elif not equal_rows["grouped"]:
            texts.append(f"stay together{where} ({rows:,} distinct rows{sampled})")
    shares = compute_train_shares(equal_rows)
    others = [f"{split} {share:.1%}" for split, share in shares.items() if split != TRAIN_SPLIT]
    if others:
        own = shares.get(TRAIN_SPLIT, 0.0)
        texts.append(f"rows in train too: {', '.join(others)}; within train {own:.1%}{sampled}")
    train = equal_rows["contradictory"]["train"]
    if train["contradictory"]:
        share = train["contradictory"] / train["rows"]
        texts.append(
            f"{format_count(train['contradictory'], 'row')} of train ({share:.1%}) equal one with another "
            f"label{sampled}"
        )
    return texts


def _list_empty_classes(counts: Mapping[str, float]) -> list[str]:
    return [] if "std" in counts else [value for value, rows in counts.items() if rows == 0]


def _format_classes(classes: list[str]) -> str:
    more = f" and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
    return " or ".join(map(repr, classes[:_SHOWN_CLASSES])) + more


def _format_counts(counts: Mapping[str, float]) -> str:
    present = sorted(((rows, value) for value, rows in counts.items() if rows), key=lambda pair: -pair[0])
    more = f" and {len(present) - _SHOWN_CLASSES} more" if len(present) > _SHOWN_CLASSES else ""
    return ", ".join(f"{rows:,} of {value!r}" for rows, value in present[:_SHOWN_CLASSES]) + more


def _format_sampling(equal_rows: Mapping[str, Any]) -> str:
    one_in = equal_rows["one_in"]
    return f", of one in {one_in:,} rows" if one_in > 1 else ""
