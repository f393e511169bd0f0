"""Findings in the values of the rows, for the gate and for preflight. Imports no TensorFlow."""

from collections.abc import Iterator

from cli.counts import format_count
from components.config import EXTREME, NO_VALUES, OUT_OF_RANGE, PRECISION, TEXT_CUT, UNDEFINED
from components.policy import Anomaly
from schemas.data import TRAIN_SPLIT
from schemas.sensitive import MASK
from schemas.tables.precision import FIRST_COLLAPSE, DistinctSample, NumberCounts, TableCounts

_SHOWN_VALUES = 3


def find_unfit_values(counts: TableCounts) -> list[Anomaly]:
    """Return what the graph cannot represent of the rows that were counted."""
    findings: list[Anomaly] = []
    for name in counts.columns.types:
        findings += _find_valueless(name, counts)
        findings += _find_out_of_range(name, counts)
        if name in counts.numbers:
            if name == counts.columns.weight:
                # Rounding to float32 changes a weight by 6e-8 of it.
                findings += _find_extreme(
                    name, counts.numbers[name], "correct the rows, or they decide what is learned"
                )
                continue
            is_label, sensitive = name == counts.columns.label, counts.columns.rules[name].sensitive
            section = "label" if is_label else f"features.{name}"
            remedy = f"if they stand for missing values, name their text in {section}.missing_values, otherwise correct"
            findings += _find_extreme(name, counts.numbers[name], f"{remedy} the rows", sensitive=sensitive)
            findings += _find_collapsed(name, counts.numbers[name], is_label=is_label, sensitive=sensitive)
    for name, expression in counts.columns.derived.items():
        findings += _find_undefined(name, expression, counts)
    return findings


def _find_undefined(name: str, expression: str, counts: TableCounts) -> Iterator[Anomaly]:
    """Find derived features that have a value in no row of train, or in fewer than half of them."""
    rows = counts.rows.get(TRAIN_SPLIT, 0)
    present = counts.present.get(name, counts.rows).get(TRAIN_SPLIT, 0)
    if 2 * present >= rows:
        return
    kind = UNDEFINED if present else NO_VALUES
    text = (
        f"{name} = {expression} is defined in {present:,} of {format_count(rows, 'row')} of train; in the others a "
        "column is missing, or a result is not finite; correct the expression, give other values by coalesce(), or "
        "remove it"
    )
    yield Anomaly(TRAIN_SPLIT, name, kind, text)


def _find_valueless(name: str, counts: TableCounts) -> Iterator[Anomaly]:
    if counts.rows.get(TRAIN_SPLIT) and counts.present.get(name, counts.rows).get(TRAIN_SPLIT) == 0:
        text = (
            f"{name} has no value in train, so that nothing can be learned from it; correct the data, or remove the "
            "feature and name the column in data.ignored_columns"
        )
        yield Anomaly(TRAIN_SPLIT, name, NO_VALUES, text)


def _find_out_of_range(name: str, counts: TableCounts) -> Iterator[Anomaly]:
    for split, (outside, example) in counts.outside.get(name, {}).items():
        present = counts.present.get(name, counts.rows)[split]
        rule = counts.columns.rules[name]
        if rule.tokens is not None:
            text = (
                f"{outside:,} of {format_count(present, 'text', 'have')} more than {rule.tokens.max_tokens:,} tokens; "
                "the model reads "
                f"the first; raise features.{name}.max_tokens, or lower its word_ngrams and character_ngrams"
            )
            yield Anomaly(split, name, TEXT_CUT, text)
            continue
        text = (
            f"{outside:,} of {present:,} ids are outside of [0, {rule.num_ids}), such as "
            f"{MASK if rule.sensitive else example}, and would be clipped into it; correct them, raise "
            f"features.{name}.num_ids, or name the text in features.{name}.missing_values if it stands for a missing "
            "value"
        )
        yield Anomaly(split, name, OUT_OF_RANGE, text)


def _find_extreme(name: str, counts: NumberCounts, remedy: str, *, sensitive: bool = False) -> Iterator[Anomaly]:
    first = counts.first_extreme
    if first is None:
        return
    examples = [
        example for exponent in sorted(counts.examples) if exponent >= first for example in counts.examples[exponent]
    ]
    samples = ", ".join(f"{MASK if sensitive else text} ({place})" for place, text in examples[:_SHOWN_VALUES])
    extreme, present = int(counts.exponents[first:].sum()), int(counts.exponents.sum())
    bound = MASK if sensitive else f"{counts.compute_bound(first):g}"
    more = f" and {extreme - _SHOWN_VALUES:,} more" if extreme > _SHOWN_VALUES else ""
    text = (
        f"{extreme:,} of {format_count(present, 'value', 'are')} many decades from the others, which are below "
        f"{bound} in magnitude: {samples}{more}; {remedy}"
    )
    yield Anomaly("data", name, EXTREME, text)


def _find_collapsed(name: str, counts: NumberCounts, *, is_label: bool, sensitive: bool) -> Iterator[Anomaly]:
    if not counts.pair:
        return
    value, other = (MASK, MASK) if sensitive else counts.pair
    remedy = "" if is_label else "if they are codes, declare a vocabulary or a hash, otherwise "
    text = (
        f"{_format_size(counts.whole)} different whole numbers above {FIRST_COLLAPSE:,} become "
        f"{_format_size(counts.collapsed)} in float32, such as {value} and {other}; {remedy}subtract a base from them"
    )
    yield Anomaly("data", name, PRECISION, text)


def _format_size(sample: DistinctSample) -> str:
    return f"about {sample.size:,}" if sample.level else f"{sample.size:,}"
