"""Divides the rows into train, eval and test: by files, by time, or by shares."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cli.counts import format_count
from cli.errors import ConfigError
from components.example_gen.shares import assign_shares, compute_nominal_bounds
from pipeline.init.notes import Notes, Rank
from pipeline.init.requests import Requests
from pipeline.profile.columns import Column
from schemas.tables.ordering import MisfitError, are_within
from schemas.tables.row_hash import compute_points, hash_values
from schemas.tables.time_format import TimeFormat
from schemas.tables.times import read_times

# Of fewer rows a tenth is too few to distinguish a good model from a constant (docs/quality.md).
_SMALL_TABLE_ROWS = 5_000
_SMALL_TEST_SHARE, _TEST_SHARE, EVAL_SHARE = 0.2, 0.1, 0.1
# A part by time is this share of the rows at most and at least; else the column cannot divide them.
_MIN_PART, _MAX_PART = 0.01, 0.6
_ISO_DATE = r"^\d{4}-\d\d-\d\d"
# Times of so many days are divided by days.
_ISO_TIME, _MIN_DAYS = _ISO_DATE + "[T ]", 50

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class SplitPart:
    """Rows of which a split is made.

    Attributes:
      rows: Whether each row of the table is one of them.
      share: Share that the split takes of them, by chance; 1 for all.
    """

    rows: Rows
    share: float = 1.0

    @property
    def expected_rows(self) -> int:
        return round(self.share * int(np.count_nonzero(self.rows)))


@dataclass(frozen=True)
class SplitPlan:
    """How rows are divided.

    Attributes:
      parts: By split, the rows that it is made of.
      declared: By split but train and test files, its declaration in the config and the reason.
      time: Column that divides the rows; None if none does.
    """

    parts: dict[str, SplitPart]
    declared: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    time: str | None = None

    @property
    def is_test(self) -> Rows | None:
        """Whether each row is one of test; None if chance decides."""
        test = self.parts["test"]
        return test.rows if test.share == 1 else None

    def filter(self, rows: Rows) -> "SplitPlan":
        """Return the plan for some of the rows."""
        parts = {name: SplitPart(part.rows[rows], part.share) for name, part in self.parts.items()}
        return SplitPlan(parts, self.declared, self.time)


def plan_splits(columns: Mapping[str, Column], is_test: Rows | None, requests: Requests, notes: Notes) -> SplitPlan:
    """Divide the rows of a table.

    Args:
      columns: Columns of the table by name.
      is_test: Whether each row is of the test files; None without such files.
      requests: Choices of the user.
      notes: Gets what the user should check.

    Raises:
      ConfigError: The rows cannot be divided as the user requests.
    """
    rows = columns[requests.label].rows
    every = np.ones(rows, dtype=bool)
    if requests.time is not None:
        if is_test is not None:
            raise ConfigError("--time: the test split is read from files (--test); give one of the two")
        plan = _split_by_time(columns[requests.time], notes)
    elif is_test is not None:
        shares = {
            "train": SplitPart(~is_test, 1 - EVAL_SHARE),
            "eval": SplitPart(~is_test, EVAL_SHARE),
            "test": SplitPart(is_test),
        }
        plan = SplitPlan(shares, {"eval": _declare_share(EVAL_SHARE, "watched by early stopping")})
    else:
        test = _SMALL_TEST_SHARE if rows < _SMALL_TABLE_ROWS else _TEST_SHARE
        shares = {
            "train": SplitPart(every, 1 - EVAL_SHARE - test),
            "eval": SplitPart(every, EVAL_SHARE),
            "test": SplitPart(every, test),
        }
        declared = {
            "eval": _declare_share(EVAL_SHARE, "watched by early stopping"),
            "test": _declare_share(test, "only the Evaluator reads it"),
        }
        plan = SplitPlan(shares, declared)
    if requests.group is not None:
        _check_groups(columns[requests.group], plan, requests)
    return plan


def _declare_share(share: float, text: str) -> tuple[dict[str, Any], str]:
    return {"source": "train", "fraction": share}, text


def _check_groups(column: Column, plan: SplitPlan, requests: Requests) -> None:
    """Reject groups that no split can hold, or that lie in two."""
    if column.distinct < 2:
        raise ConfigError(f"--group {column.name}: holds {column.distinct} values; rows cannot be divided by it")
    test = plan.is_test
    if test is None:
        fractions = {name: part.share for name, part in plan.parts.items() if name != "train"}
        hashes = compute_points(hash_values(column.texts))
        shares = assign_shares(hashes, np.ones(column.rows, dtype=bool), "train", compute_nominal_bounds(fractions))
        empty = [name for name, rows in shares.items() if not rows.any()]
        if empty:
            raise ConfigError(
                f"--group {column.name}: of its {format_count(column.distinct, 'value')} none falls into "
                f"{' and '.join(empty)}; expected a column with more values"
            )
        return
    values = [pc.unique(column.texts.filter(pa.array(rows)).drop_null()) for rows in (test, ~test)]
    both = int(pc.sum(pc.is_in(values[0], values[1])).as_py() or 0)
    if both:
        by = f"--time {requests.time}" if requests.time else "--test"
        raise ConfigError(
            f"--group {column.name}: {both:,} of {format_count(len(values[0]), 'value')} of test are in train too, by "
            f"{by}; leave out --group or {by.split()[0]}"
        )


@dataclass(frozen=True)
class _Times:
    """The values of a column in their order.

    Attributes:
      values: Distinct values as the column writes them, the earliest first.
      counts: Number of rows of each.
      date_format: Format of the dates; None where numbers or letters order them.
      is_number: Whether they are numbers.
    """

    values: list[str]
    counts: NDArray[np.int64]
    date_format: str | None
    is_number: bool

    def read_bound(self, index: int) -> float | int | str:
        value = self.values[index].strip()
        if not self.is_number:
            return value
        number = float(value)
        return int(number) if number.is_integer() else number


def _split_by_time(column: Column, notes: Notes) -> SplitPlan:
    where = f"--time {column.name}"
    if column.present < 0.5 * column.rows:
        raise ConfigError(f"{where}: {column.missing_share:.0%} of the rows have no value; expected a time in each row")
    without = column.rows - column.present
    if without:
        notes.add(
            Rank.ROWS,
            f"'{column.name}' has no value in {format_count(without, 'row')} ({without / column.rows:.1%}): all of "
            "them are in train",
        )
    times = _read_times(column, where, notes)
    if len(times.values) < 2:
        raise ConfigError(f"{where}: all values are {times.values[0]!r}; rows cannot be divided by it")
    rows = int(times.counts.sum())
    # from_here[i] is the share of the rows from the i-th value on.
    from_here = np.cumsum(times.counts[::-1])[::-1] / rows
    test_share = _SMALL_TEST_SHARE if rows < _SMALL_TABLE_ROWS else _TEST_SHARE
    first_test = 1 + int(np.argmin(np.abs(from_here[1:] - test_share)))
    if not _MIN_PART <= from_here[first_test] <= _MAX_PART:
        raise ConfigError(
            f"{where}: the rows from {times.values[first_test]!r} on are {from_here[first_test]:.1%} of all; "
            "expected a column that divides them more evenly"
        )
    test = _declare_bounds(column.name, times, first_test)
    is_test = _is_within(column, test, where)
    declared = {}
    is_eval = np.zeros(column.rows, dtype=bool)
    if first_test > 1:
        least_share = from_here[first_test] + EVAL_SHARE
        first_eval = 1 + int(np.argmin(np.abs(from_here[1:first_test] - least_share)))
        if (
            _MIN_PART < from_here[first_eval] - from_here[first_test] < 3 * EVAL_SHARE
            and from_here[first_eval] < _MAX_PART
        ):
            eval_bounds = _declare_bounds(column.name, times, first_eval, first_test)
            is_eval = _is_within(column, eval_bounds, where)
            declared["eval"] = (eval_bounds, "the rows before those of test; watched by early stopping")
    is_train = ~is_test & ~is_eval
    text = f"the latest {is_test.mean():.1%} of the rows; only the Evaluator reads it"
    if declared:
        parts = {"train": SplitPart(is_train), "eval": SplitPart(is_eval), "test": SplitPart(is_test)}
    else:
        declared["eval"] = _declare_share(EVAL_SHARE, "watched by early stopping")
        parts = {
            "train": SplitPart(is_train, 1 - EVAL_SHARE),
            "eval": SplitPart(is_train, EVAL_SHARE),
            "test": SplitPart(is_test),
        }
    return SplitPlan(parts, {**declared, "test": (test, text)}, column.name)


def _declare_bounds(name: str, times: _Times, first: int, end: int | None = None) -> dict[str, Any]:
    bounds: dict[str, Any] = {"source": "train", "column": name, "at_least": times.read_bound(first)}
    if end is not None:
        bounds["below"] = times.read_bound(end)
    if times.date_format is not None:
        bounds["date_format"] = times.date_format
    return bounds


def _is_within(column: Column, bounds: Mapping[str, Any], where: str) -> Rows:
    """Return whether each row is within bounds, as the run will read it."""
    low, high = bounds["at_least"], bounds.get("below")
    date_format = bounds.get("date_format")
    for bound in (low, high):
        if date_format is not None and bound is not None:
            _check_bound(bound, date_format, where)
    try:
        taken = are_within(column.texts, at_least=low, below=high, date_format=date_format)
    except MisfitError as error:
        raise ConfigError(f"{where}: {error.reason}") from error
    return np.asarray(taken, dtype=bool)


def _check_bound(bound: str, date_format: str, where: str) -> None:
    """Reject a bound that Arrow reads and Python does not, as the config will be read by both."""
    try:
        datetime.datetime.strptime(bound, date_format)
    except ValueError as error:
        raise ConfigError(
            f"{where}: {bound!r} is not a date as {date_format!r} describes it; expected dates in one format such as "
            "2013-02-01"
        ) from error


def _note_wrong_dates(name: str, values: pa.Array, counts: NDArray[np.int64], notes: Notes) -> None:
    """Note the dates that are in no calendar, which the letters of the others put into a split."""
    places = np.flatnonzero(np.asarray(pc.match_substring_regex(values, _ISO_DATE)))
    _, faults = read_times(values.take(pa.array(places)), TimeFormat())
    if faults:
        rows = int(counts[places[sorted(faults)]].sum())
        first = faults[min(faults)]
        notes.add(
            Rank.ROWS,
            f"'{name}' has {rows:,} dates that are in no calendar of 1900 to 2100 ({first}), and is divided by their "
            "letters; correct the rows",
        )


def _read_times(column: Column, where: str, notes: Notes) -> _Times:
    present = column.texts.drop_null()
    if pc.all(pc.match_substring_regex(present, _ISO_TIME)).as_py():
        days = pc.utf8_slice_codeunits(present, 0, len("2013-02-01"))
        # The beginning of a day is a bound that people read.
        present = days if len(pc.unique(days)) >= _MIN_DAYS else present
    value_counts = pc.value_counts(present)
    values, counts = value_counts.field("values"), value_counts.field("counts").to_numpy(zero_copy_only=False)
    trimmed = pc.utf8_trim_whitespace(values)
    form = column.time_form
    date_format = None
    if column.is_number and (form is None or form.is_ordered):
        keys = trimmed.cast(pa.float64())
    elif form is not None and form.is_ordered:
        keys = trimmed
        _note_wrong_dates(column.name, trimmed, counts, notes)
    elif form is not None and form.date_format is not None and not form.comes_again:
        date_format = form.date_format
        keys = pc.strptime(trimmed, format=date_format, unit="us", error_is_null=True)
        if form.is_ambiguous:
            text = f"'{column.name}' is read as {date_format}, but the day or the month may be first"
            notes.add(Rank.ROWS, f"{text}; if that is wrong, correct date_format under data.splits")
    else:
        raise ConfigError(
            f"{where}: holds {values[0].as_py()!r}{f', a {form}' if form else ''}; expected numbers, or dates in one "
            "format such as 2013-02-01"
        )
    order = np.asarray(pc.sort_indices(keys))
    return _Times(values.take(pa.array(order)).to_pylist(), counts[order], date_format, column.is_number)
