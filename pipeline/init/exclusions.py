"""Reasons why a column is not a feature: constants, row numbers, IDs, times, free text."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count
from pipeline.profile.columns import Column
from schemas.tables.values import MAX_FLOAT32

# A column is a row number by these names if its values do not repeat, and by any name if it counts.
_INDEX_NAME = re.compile(
    r"^(unnamed: ?\d+|index|level_\d+|__index_level_\d+__|row[\W_]?(names?|id|index|number|num|no|nr)?|obs|x\.?1?"
    r"|\.\.\.1)$",
    re.IGNORECASE,
)
# IDs of people and things, as separate words, in camel case, or after a common noun in lower case.
_ID_NAME = re.compile(
    r"(?i:(^|[\W_])(ids?|uuid|guid|nr|no|key|code|sku|isbn|ean|asin|zip|zipcode|postcode|postal|fips)$)"
    r"|[a-z](I[dD]|Nr|No|Key|Code)$"
    r"|(?i:^(user|item|movie|film|product|customer|client|account|order|session|store|shop|device|city|patient|student"
    r"|teacher|school|event|group|visitor|member|hotel|job|ad|campaign|video|song|track|artist|book|article|post|page"
    r"|airport|route|vehicle|employee|department|region|location|zone|station|tract|merchant|seller|vendor|driver"
    r"|rider|team|player|game|sensor|machine|plant|property|listing|host|subject|person|household)s?(id|no|nr|key|code)$)"
)
# Numbers that are given out one after the other, or of parts: of a column that orders the rows, it is the former.
_NUMBER_NAME = re.compile(r"(?i:(^|[\W_])(number|num|ref|reference)$)|[a-z](Number|Num|Ref)$")
_YEAR_NAME = re.compile(r"year|(^|[\W_])yr", re.IGNORECASE)
_YEARS = (1000, 2200)
_MIN_COUNTED_ROWS, _MIN_UNIQUE_ROWS = 20, 20
_UNIQUE_SHARE = 0.95
# A count of rows goes up by one in so many of them, and starts again so often at most. Of a sample of rows, the index
# has gaps.
_COUNTED_SHARE, _MAX_RESTARTS = 0.9, 3
_MAX_GAPS_OF_COUNT, _MAX_GAPS_OF_INDEX = 1.2, 100
# IDs that are given out at random have as many digits each.
_MIN_ID_DIGITS = 7
# Above it a double does not hold each whole number.
_MAX_EXACT = 2.0**53
# So many strings without a digit may stand for a missing date. Databases have the first or the last day of all.
_MAX_WORDS = 2
_DATE_OF_NOTHING = re.compile(
    r"^\s*(0001-01-01|9999-12-31|(0?1[./-]0?1[./-]0001)|(31[./-]12|12[./-]31)[./-]9999)(?!\d)"
)
IN_FLOAT32 = "in float32"
NAMELESS = "has no name; give it one to use it"
WRITE_AS_DATE = "write it as a date such as 2024-03-31, or as a number"
_MIN_MISSING_SHARE = 0.99
_TEXT_WORDS, _TEXT_CHARS, _TEXT_UNIQUE_SHARE = 5, 40, 0.5
_USUAL_TEXTS = 0.99
# An ID with fewer rows than these is a feature only if it explains something: always, and of many values.
_MIN_ROWS_OF_ID, _MIN_ROWS_OF_MANY, _MANY = 2.0, 3.0, 1_000
_LITTLE, _NOTHING = 0.01, 0.001


def is_id_name(name: str) -> bool:
    """Return whether a column is one of IDs or codes by its name."""
    return bool(_ID_NAME.search(name))


def explain_exclusion(column: Column) -> str:
    """Return why a column is not a feature, by its values and its name alone; empty if it may be one."""
    if not column.present:
        return "empty"
    if column.distinct == 1:
        missing = f" or missing ({column.missing_share:.1%})" if column.missing_share else ""
        return f"constant: always {column.values[0][0]!r}{missing}"
    if column.missing_share > _MIN_MISSING_SHARE:
        return f"missing in {column.missing_share:.1%} of the rows"
    if is_row_number(column):
        return "number of the row"
    if not column.name.strip():
        return NAMELESS
    times, words = separate_times(column)
    if times.time_form is not None:
        beside = f" beside {' and '.join(map(repr, words))}" if words else ""
        description = f"{times.time_form}, such as {times.values[0][0]!r}{beside}"
        return f"{description}; {WRITE_AS_DATE}"
    if column.is_number:
        largest = max(abs(column.compute_quantile(0)), abs(column.compute_quantile(1)))
        if largest >= MAX_FLOAT32:
            return f"numbers up to {largest:g}, which float32 cannot hold"
        if column.distinct_in_float32 == 1 and column.distinct > 1:
            return f"{column.distinct:,} different numbers such as {column.values[0][0]}, {IN_FLOAT32} one"
        is_unique = column.distinct == column.present >= _MIN_UNIQUE_ROWS
        is_id = column.is_integer and (is_id_name(column.name) or _is_dense(column) or _is_numbering(column))
        is_id = (is_id and not _is_year(column)) or is_long(column)
        return _explain_unique_id(column) if is_unique and is_id else ""
    if is_free_text(column):
        return f"free text, such as {_shorten(column.values[0][0])!r}"
    if column.distinct > _UNIQUE_SHARE * column.present and column.present >= _MIN_UNIQUE_ROWS:
        return _explain_unique_id(column)
    return ""


def explain_unlearnable(column: Column, explained: float, *, is_code: bool) -> str:
    """Return why the values of a column teach nothing of other rows; empty if they may.

    Args:
      column: The column.
      explained: Share of the label that it explains by itself.
      is_code: Whether its values would be categories.
    """
    rows = column.present / column.distinct
    if not is_code:
        is_unique = column.is_integer and column.distinct == column.present >= 5 * _MIN_UNIQUE_ROWS
        is_id = is_unique and explained < _LITTLE and (_has_equal_digits(column) or _is_sorted(column))
        return _explain_unique_id(column) if is_id and not _is_year(column) else ""
    is_rare = rows < _MIN_ROWS_OF_ID and explained < _LITTLE and column.present >= _MIN_UNIQUE_ROWS
    is_empty = rows < _MIN_ROWS_OF_MANY and explained < _NOTHING and column.distinct > _MANY
    if is_rare or is_empty:
        return f"id: {column.distinct:,} different values, {rows:.1f} rows a value; explains {explained:.1%}"
    return ""


def separate_times(column: Column) -> tuple[Column, list[str]]:
    """Return a column without the values beside its times that stand for a missing one, and these values.

    Args:
      column: The column; returned as it is if it holds no times.
    """
    if column.is_number:
        return column, []
    repeated = [value for value, rows in column.values if rows > 1]
    markers = [value for value in repeated if _DATE_OF_NOTHING.match(value)]
    if column.time_form is None:
        words = [value for value in repeated if not re.search(r"\d", value)]
        markers += words if len(words) <= _MAX_WORDS else []
    if not markers:
        return column, []
    others = column.texts.filter(pc.invert(pc.fill_null(pc.is_in(column.texts, pa.array(markers)), True)))
    times = Column(column.name, others)
    return (times, markers) if times.is_date else (column, [])


def is_row_number(column: Column) -> bool:
    """Return whether a column counts the rows, as the index that pandas writes."""
    if not column.is_integer:
        return False
    numbers = column.numbers[~np.isnan(column.numbers)]
    spread = numbers.max() - numbers.min()
    # The count starts again in each file, and has gaps where rows were left out.
    counts = len(numbers) >= _MIN_COUNTED_ROWS and float(np.mean(np.diff(numbers) == 1)) > _COUNTED_SHARE
    if not column.name.strip() or _INDEX_NAME.match(column.name.strip()):
        is_unique = column.distinct == column.present > 1
        return counts or bool(is_unique and spread < _MAX_GAPS_OF_INDEX * column.present)
    # The hours of a day count too, again and again.
    return counts and not _is_year(column) and column.distinct * _MAX_RESTARTS > column.present


def _is_year(column: Column) -> bool:
    low, high = _YEARS
    return (
        bool(_YEAR_NAME.search(column.name))
        and low <= column.compute_quantile(0)
        and column.compute_quantile(1) <= high
    )


def _is_dense(column: Column) -> bool:
    """Return whether different whole numbers are as close together as those that were counted."""
    return column.compute_quantile(1) - column.compute_quantile(0) < _MAX_GAPS_OF_COUNT * column.present


def _is_numbering(column: Column) -> bool:
    return bool(_NUMBER_NAME.search(column.name)) and _is_sorted(column)


def _is_sorted(column: Column) -> bool:
    """Return whether the rows are in the order of the numbers; in each file, it may start again."""
    steps = np.diff(column.numbers[~np.isnan(column.numbers)])
    return min(int(np.count_nonzero(steps <= 0)), int(np.count_nonzero(steps >= 0))) < _MAX_RESTARTS


def is_long(column: Column) -> bool:
    """Return whether a column holds whole numbers of so many digits that they are no quantity."""
    return column.compute_quantile(1) > _MAX_EXACT and column.compute_share(r"^\s*\d+\s*$") == 1


def _has_equal_digits(column: Column) -> bool:
    low, high = (len(f"{abs(column.compute_quantile(share)):.0f}") for share in (0, 1))
    return low == high >= _MIN_ID_DIGITS


def is_free_text(column: Column) -> bool:
    """Return whether the values are sentences that hardly repeat."""
    if column.distinct <= _TEXT_UNIQUE_SHARE * column.present or column.present < _MIN_UNIQUE_ROWS:
        return False
    words = compute_usual_mean(pc.count_substring_regex(column.texts, r"\S+"))
    chars = compute_usual_mean(pc.utf8_length(column.texts))
    return bool(words >= _TEXT_WORDS or (chars >= _TEXT_CHARS and words >= 2))


def compute_usual_mean(counts: pa.Array) -> float:
    """Return the mean of numbers of words or characters; the few largest ones, such as of 1 MB, count as the next."""
    numbers = counts.drop_null().to_numpy(zero_copy_only=False)
    return float(np.minimum(numbers, np.quantile(numbers, _USUAL_TEXTS, method="lower")).mean())


def _explain_unique_id(column: Column) -> str:
    return f"id: {column.distinct:,} different values in {format_count(column.present, 'row')}"


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
