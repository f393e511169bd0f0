"""Recognises columns of times, lists, texts and vectors, and declares them."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cli.counts import format_count
from pipeline.init.exclusions import compute_usual_mean, separate_times
from pipeline.init.faults import MAX_FAULTY_SHARE
from pipeline.init.kinds import ColumnKind, has_unit, round_up
from pipeline.profile.columns import Column
from pipeline.profile.targets import Target
from pipeline.profile.time_forms import TimeKind
from schemas.tables.items import LIST_NULL, LIST_START, split_items
from schemas.tables.time_format import EPOCHS, ISO8601, TIME_OF_DAY, TimeFormat, has_date
from schemas.tables.time_parts import DATE_PARTS, PARTS
from schemas.tables.times import are_times, read_times
from schemas.tables.token_limit import TokenLimit

# Formats that are tried, the usual ones first. Of day and month in either order, `_find_format` chooses.
_DATES = (
    *("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d", "%m/%d/%y", "%d/%m/%y"),
    *("%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    *("%a, %d %b %Y", "%a, %b %d, %Y", "%A, %d %B %Y", "%A, %B %d, %Y"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", " %I:%M %p", ", %I:%M %p", " %H:%M:%S %z")
_FORMATS = (ISO8601, TIME_OF_DAY, *(date + clock for clock in _CLOCKS for date in _DATES))
_NUMBER_FORMATS = ("%Y%m%d", *EPOCHS)
_SAMPLE_VALUES = 200
# So many of the times have one format if a column of times is a feature, and so many of a sample if it is tried.
_LEAST_FITTING, _LEAST_FITTING_IN_SAMPLE = 1 - MAX_FAULTY_SHARE, 0.8
_DATE_KINDS = (TimeKind.DATE, TimeKind.DATE_TIME)
_MAX_FORMATS_SHOWN = 3
_DECLARE = "write it as 2024-03-31, or declare it as kind: timestamp with its format (docs/how-to/times.md)"
_PARTS_KEPT = ("hour", "weekday", "month")
_PARTS_TRIED = (*_PARTS_KEPT, "day_of_month")
_EMBEDDING, _LIST_EMBEDDING, _TEXT_EMBEDDING = 8, 8, 16
# A part or a trend that explains less than this of the label is not used, but for the hour, weekday and month.
_MIN_EXPLAINED = 0.002
_BUCKETS = 32
_DELIMITERS = ("|", ";", ",", "/", " ")
_MIN_LIST_SHARE, _MIN_ROWS_OF_ITEM, _MAX_ITEMS = 0.2, 5, 5_000
# A list so many times as long as those of nearly all rows would make the inputs of the model as long.
_MIN_MAX_VALUES, _MANY_TIMES, _USUAL_SHARE = 8, 10, 0.99
# A text of few words is a list of them only if the words come again much more often than those of a language.
_VECTOR = r"^\s*[\[(][^\[\](){}]*[\])]\s*$"
_MAX_SHOWN_CHARS = 40
_MIN_VECTOR, _MIN_UNIQUE_ROWS = 2, 20
_TEXT_UNIQUE_SHARE, _MIN_TEXT_WORDS = 0.5, 3
# Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces between words. Names of people are shorter.
_SPACELESS, _MIN_SPACELESS_CHARS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]", 6
_MANY_ROWS, _MIN_TOKENS, _MAX_TOKENS, _MAX_VOCABULARY = 1_000, 16, 512, 20_000


def recognize(column: Column, target: Target, time_zone: str = "UTC") -> ColumnKind | str | None:
    """Return the declaration of a column of times, lists, texts or vectors, or the reason why it can have none.

    Return None for any other column.

    Args:
      column: The column.
      target: Label of the rows.
      time_zone: Zone of the clock that times are read in.
    """
    if column.distinct < 2:
        return None
    # A tf.Example with one value has no list.
    if column.compute_share(f"^{LIST_START}") > MAX_FAULTY_SHARE:
        return _recognize_real_list(column)
    times, words = separate_times(column)
    if times.time_form is not None:
        return _recognize_times(column, times, words, target, time_zone)
    if column.is_number:
        return None
    return _recognize_written_vector(column) or _recognize_delimited_list(column) or _recognize_text(column)


def _recognize_times(
    column: Column, times: Column, words: list[str], target: Target, time_zone: str
) -> ColumnKind | str | None:
    time_format = _find_format(times)
    if time_format is None:
        return _explain_no_format(times)
    seconds, _ = read_times(column.texts, TimeFormat(time_format, time_zone))
    wall = pc.fill_null(seconds, 0).to_numpy(zero_copy_only=False)
    missing = np.asarray(seconds.is_null())
    scores: dict[str, float] = {}
    for part in _PARTS_TRIED:
        if part in DATE_PARTS and not has_date(time_format):
            continue
        ids = np.where(missing, 0, PARTS[part](wall) + 1)
        if len(np.unique(ids[~missing])) > 1:
            scores[part] = target.score(ids)
    parts: dict[str, Any] = {
        part: {"embedding": _EMBEDDING}
        for part, score in scores.items()
        if part in _PARTS_KEPT or score > _MIN_EXPLAINED
    }
    trend = _measure_trend(wall, missing, target) if has_date(time_format) else 0.0
    if trend > _MIN_EXPLAINED or not parts:
        parts["days_since_1970"] = {}
    zone = {} if time_zone == "UTC" else {"time_zone": time_zone}
    declared: dict[str, Any] = {"kind": "timestamp", "format": time_format, **zone, "parts": parts}
    if words or column.missing_share:
        declared["missing"] = "own_id"
    if words:
        declared["missing_values"] = ["", *words]
    explained = ", ".join(f"{part} {score:.1%}" for part, score in {**scores, "days": trend}.items())
    order = "; day and month could also be in the other order" if _is_ambiguous(times, time_format) else ""
    reason = f"{_describe_kind(times)}, such as {times.values[0][0]!r}{order}; explain: {explained}"
    return ColumnKind(declared, reason, notes=_note_missing(column, words))


def _describe_kind(times: Column) -> str:
    assert times.time_form is not None
    return str(times.time_form.kind)


def _note_missing(column: Column, words: list[str]) -> tuple[str, ...]:
    if not words:
        return ()
    rows = pc.sum(pc.is_in(column.texts, pa.array(words))).as_py()
    return (
        f"'{column.name}' is {' or '.join(map(repr, words))} in {format_count(rows, 'row')}: declared as missing "
        f"(features.{column.name}.missing_values)",
    )


def _measure_trend(wall: np.ndarray, missing: np.ndarray, target: Target) -> float:
    """Return how much of the label is explained by the quantile of the day."""
    edges = np.unique(np.quantile(wall[~missing], np.linspace(0, 1, _BUCKETS + 1)[1:-1]))
    return float(target.score(np.where(missing, 0, np.searchsorted(edges, wall, side="right") + 1)))


@dataclass(frozen=True)
class _WrittenTimes:
    """The distinct values of a column of times, and the number of rows of each."""

    values: pa.Array
    rows: NDArray[np.int64]

    @classmethod
    def from_column(cls, times: Column) -> "_WrittenTimes":
        values, rows = zip(*times.values, strict=True)
        return cls(pa.array(values, pa.string()), np.array(rows, np.int64))

    @property
    def sample(self) -> "_WrittenTimes":
        return self.take(np.unique(np.linspace(0, len(self.values) - 1, _SAMPLE_VALUES).astype(np.int64)))

    def take(self, indices: NDArray[np.int64]) -> "_WrittenTimes":
        return _WrittenTimes(self.values.take(pa.array(indices)), self.rows[indices])

    def match(self, time_format: str) -> NDArray[np.bool_]:
        """Return whether each value has a format."""
        return are_times(self.values, TimeFormat(time_format))

    def compute_share(self, time_format: str) -> float:
        """Return the share of the rows that have a format."""
        return float(self.rows[self.match(time_format)].sum() / max(1, self.rows.sum()))

    def find_best(self, formats: Sequence[str]) -> tuple[str, float]:
        """Return the format that most rows have, the first one of several, and their share."""
        shares = {time_format: self.compute_share(time_format) for time_format in formats}
        best = max(shares, key=lambda time_format: shares[time_format])
        return best, shares[best]


def _list_formats(times: Column) -> list[str]:
    """Return the formats that a column may have, the usual ones first."""
    form = times.time_form
    formats = [*(_NUMBER_FORMATS if times.is_number else _FORMATS)]
    if form is not None and form.kind in _DATE_KINDS and form.date_format is not None:
        formats.append(form.date_format)
    return list(dict.fromkeys(formats))


def _find_format(times: Column) -> str | None:
    """Return the format that nearly all values have; None if there is no such one."""
    written = _WrittenTimes.from_column(times)
    sample = written.sample
    formats = [f for f in _list_formats(times) if sample.compute_share(f) >= _LEAST_FITTING_IN_SAMPLE]
    if not formats:
        return None
    best, share = written.find_best(formats)
    if share < _LEAST_FITTING:
        return None
    swapped = _swap_day_month(best)
    if swapped in formats and written.compute_share(swapped) == share:
        return min(best, swapped, key=lambda f: _measure_span(written.values, f))
    return best


def _explain_no_format(times: Column) -> str | None:
    """Return why dates have no format together; None if the values are other times."""
    assert times.time_form is not None
    if times.time_form.kind not in _DATE_KINDS:
        return None
    rest = _WrittenTimes.from_column(times)
    counts = []
    for _ in range(_MAX_FORMATS_SHOWN):
        # A sample names the formats, since a column may have millions of values.
        time_format, share = rest.sample.find_best(_list_formats(times)) if len(rest.values) else ("", 0.0)
        if not share:
            break
        fits = rest.match(time_format)
        counts.append(
            f"{format_count(rest.rows[fits].sum(), 'row')} such as {rest.values[int(fits.argmax())].as_py()!r}"
        )
        rest = rest.take(np.flatnonzero(~fits))
    if not counts:
        return f"{times.time_form.kind}, such as {times.values[0][0]!r}, in no format that `init` tries; {_DECLARE}"
    if len(rest.values):
        counts.append(f"{rest.rows.sum():,} others such as {rest.values[0].as_py()!r}")
    return f"times in several formats, {' and '.join(counts)}; write them in one"


def _swap_day_month(time_format: str) -> str:
    """Return a format with day and month in the other order; the same if its order is certain."""
    if time_format.startswith("%Y") or not {"%d", "%m"} <= {*re.findall("%.", time_format)}:
        return time_format
    return time_format.replace("%m", "\0").replace("%d", "%m").replace("\0", "%d")


def _measure_span(values: pa.Array, time_format: str) -> int:
    """Return the time from the first to the last value; days and months that are swapped are further apart."""
    bounds = pc.min_max(read_times(values, TimeFormat(time_format))[0]).as_py()
    return int(bounds["max"] - bounds["min"])


def _is_ambiguous(times: Column, time_format: str) -> bool:
    """Return whether as many values have the format with day and month in the other order."""
    swapped, written = _swap_day_month(time_format), _WrittenTimes.from_column(times)
    return swapped != time_format and written.compute_share(swapped) == written.compute_share(time_format)


def _recognize_real_list(column: Column) -> ColumnKind | str:
    """Return the declaration of a column of real lists, or why it has none: a vector of numbers, or a list."""
    lists = [(split_items(value) if value.startswith(LIST_START) else [value], rows) for value, rows in column.values]
    length = _find_vector_length(lists)
    values = Counter(item for items, rows in lists for item in items if item != LIST_NULL)
    are_integers = all(item.lstrip("-").isdigit() for item in values)
    if length is not None and not are_integers:
        return _declare_vector(column, length, ",")
    if not are_integers and len(values) > column.present // _MIN_ROWS_OF_ITEM and all(map(_is_number, values)):
        if rows := sum(count for items, count in lists if LIST_NULL in items):
            return f"lists of numbers of which one is missing in {format_count(rows, 'row')}; a vector has all of them"
        return f"lists of {_describe_lengths(lists)}; a vector has equally many in each row"
    delimiter = next((d for d in _DELIMITERS if not any(d in item for item in values)), None)
    if delimiter is None:
        return f"lists whose values hold each of {', '.join(map(repr, _DELIMITERS[:-1]))} and {_DELIMITERS[-1]!r}"
    return _declare_list(column, delimiter, lists)


def _find_vector_length(lists: Sequence[tuple[list[str], int]]) -> int | None:
    """Return how many numbers nearly all rows have; None if there is no such number.

    Args:
      lists: Values of a list, and the number of rows that have it, for each list.
    """
    lengths = Counter[int]()
    for items, rows in lists:
        if len(items) >= _MIN_VECTOR and all(map(_is_number, items)):
            lengths[len(items)] += rows
    length, rows = max(lengths.items(), key=lambda entry: entry[1], default=(0, 0))
    return length if rows and rows >= _LEAST_FITTING * sum(rows for _, rows in lists) else None


def _describe_lengths(lists: Sequence[tuple[list[str], int]]) -> str:
    lengths = Counter[int]()
    for items, rows in lists:
        lengths[len(items)] += rows
    (first, first_rows), *others = lengths.most_common(_MAX_FORMATS_SHOWN)
    more = "".join(f" and of {length:,} in {rows:,}" for length, rows in others)
    return f"{format_count(first, 'number')} in {format_count(first_rows, 'row')}{more}"


def _recognize_written_vector(column: Column) -> ColumnKind | None:
    """Return the declaration of strings such as `[0.1, 0.2]`."""
    if column.compute_share(_VECTOR) < _LEAST_FITTING:
        return None
    for delimiter in (",", ";", " "):
        rows = [(value.strip().strip("[]()").strip(), rows) for value, rows in column.values]
        length = _find_vector_length(
            [(row.split() if delimiter == " " else row.split(delimiter), count) for row, count in rows]
        )
        if length is not None:
            return _declare_vector(column, length, delimiter)
    return None


def _declare_vector(column: Column, length: int, delimiter: str) -> ColumnKind:
    declared: dict[str, Any] = {"kind": "vector", "length": length, "delimiter": delimiter}
    if column.missing_share:
        declared["missing"] = "zeros"
    return ColumnKind(declared, f"{format_count(length, 'number')} in each row")


def _recognize_delimited_list(column: Column) -> ColumnKind | None:
    """Return the declaration of strings of several categories; None without a delimiter between repeated values."""
    # The comma of 21,9 kg delimits nothing.
    if column.present < _MIN_UNIQUE_ROWS or has_unit(column):
        return None
    for delimiter in _DELIMITERS[:3]:
        if column.compute_share(re.escape(delimiter)) < _MIN_LIST_SHARE:
            continue
        rows = [([item.strip() for item in value.split(delimiter) if item.strip()], n) for value, n in column.values]
        items = Counter[str]()
        for parts, count in rows:
            for item in set(parts):
                items[item] += count
        # The items of a list come again, alone and beside others; the parts of an address or of a text do not.
        if 2 <= len(items) <= min(_MAX_ITEMS, column.present // _MIN_ROWS_OF_ITEM) and len(items) < column.distinct:
            repeats = sum(1 for count in items.values() if count >= _MIN_ROWS_OF_ITEM) / len(items)
            words = np.mean([len(item.split()) for item in items])
            if repeats >= 0.5 and words <= 3:
                return _declare_list(column, delimiter, rows)
    return None


def _declare_list(column: Column, delimiter: str, lists: Sequence[tuple[list[str], int]]) -> ColumnKind:
    distinct = len({item for items, _ in lists for item in items if item != LIST_NULL})
    longest = _measure_longest_usual(lists)
    declared = {
        "kind": "list",
        "delimiter": delimiter,
        # Twice as many as now, since a longer list is a bad row.
        "max_values": max(_MIN_MAX_VALUES, 2 * longest),
        "tokens": {"max_size": round_up(distinct + 1, _MAX_VOCABULARY)},
        "embedding": _LIST_EMBEDDING,
    }
    return ColumnKind(declared, f"up to {longest} of {distinct:,} categories in each row")


def _measure_longest_usual(lists: Sequence[tuple[list[str], int]]) -> int:
    """Return the length of the longest list without the few that are many times as long as the others."""
    lengths = np.array([len(items) for items, _ in lists])
    usual = np.quantile(np.repeat(lengths, [rows for _, rows in lists]), _USUAL_SHARE)
    return int(lengths[lengths <= _MANY_TIMES * max(_MIN_MAX_VALUES, usual)].max())


def _recognize_text(column: Column) -> ColumnKind | None:
    """Return the declaration of sentences; None for values that repeat, and for names and ids."""
    if column.distinct <= _TEXT_UNIQUE_SHARE * column.present or column.present < _MIN_UNIQUE_ROWS:
        return None
    words = compute_usual_mean(pc.count_substring_regex(column.texts, r"\S+"))
    spaceless = compute_usual_mean(pc.count_substring_regex(column.texts, _SPACELESS))
    chars = compute_usual_mean(pc.utf8_length(column.texts))
    ngrams: dict[str, Any]
    if spaceless > chars / 2 and spaceless >= _MIN_SPACELESS_CHARS:
        ngrams = {"word_ngrams": 1, "character_ngrams": [1, 2, 3]}
        description = f"{chars:.0f} characters without spaces between words"
    elif words >= _MIN_TEXT_WORDS:
        ngrams = {"word_ngrams": 2 if column.present >= _MANY_ROWS else 1}
        description = f"{words:.0f} words"
    else:
        return None
    limit = TokenLimit(0, ngrams["word_ngrams"], tuple(ngrams.get("character_ngrams", ())))
    tokens = np.quantile(limit.count(column.texts.drop_null()), _USUAL_SHARE)
    declared = {
        "kind": "text",
        **ngrams,
        "max_tokens": min(_MAX_TOKENS, max(_MIN_TOKENS, 8 * math.ceil(tokens / 8))),
        "tokens": {"max_size": min(_MAX_VOCABULARY, max(1_000, 2 * column.present)), "min_count": 2},
        "embedding": _TEXT_EMBEDDING,
    }
    return ColumnKind(declared, f"free text of {description}, such as {column.values[0][0][:_MAX_SHOWN_CHARS]!r}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
