"""Chooses which columns are features, and which are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from components.config import DATE, LEAK
from pipeline.init.column_kinds import recognize
from pipeline.init.exclusions import (
    IN_FLOAT32,
    NAMELESS,
    WRITE_AS_DATE,
    explain_exclusion,
    explain_unlearnable,
    is_id_name,
    separate_times,
)
from pipeline.init.faults import find_faults
from pipeline.init.kinds import ColumnKind, choose_kind, explain_code, has_unit, is_duration, is_wide
from pipeline.init.notes import Notes, Rank
from pipeline.init.places import Places
from pipeline.init.requests import Requests
from pipeline.init.spellings import WRITE_AS_TWO, describe_booleans
from pipeline.init.table import RawTable, mark_missing
from pipeline.profile.columns import Column
from pipeline.profile.leaks import Leaks, find_leaks
from pipeline.profile.targets import Target
from pipeline.profile.time_forms import find_other_texts
from schemas.features import KINDS, escape_name

# A feature that explains more than this of the label is worth a note.
SUSPECT = 0.5
_MAX_SHOWN = 6
_MIN_IDS_NOTED = 100
# A column with at most so many other strings among its times is worth a note, of a sample of its different values.
_MOSTLY_TIMES, _MIN_TIMES, _MAX_SAMPLE = 0.5, 20, 500
# Categories in other letters or with other spaces are worth a note if they are in so many rows.
_MIN_ALIKE = 0.01
_OF_STRINGS = ("vocabulary", "hash", "text", "list")
_JSON_OBJECT, _MAX_SHOWN_CHARS = r"^\s*\{.*\}\s*$", 40


@dataclass(frozen=True)
class ChosenFeature:
    """A column that becomes a feature.

    Attributes:
      column: The column, in the rows that have a label.
      declared: Its declaration in the config.
      reason: Evidence for the choice.
      explained: Share of the label that it explains by itself.
      allowed: Anomalies that preflight may find in it and that the config lets pass.
      rejected: Whether a run rejects the value of each row; None if it rejects none.
    """

    column: Column
    declared: dict[str, Any]
    reason: str
    explained: float
    allowed: tuple[str, ...] = ()
    rejected: NDArray[np.bool_] | None = None

    @property
    def accepted(self) -> Column:
        """The column in the rows that a run does not reject."""
        if self.rejected is None:
            return self.column
        return Column(self.column.name, self.column.texts.filter(pa.array(~self.rejected)))

    @property
    def ids(self) -> NDArray[np.int64]:
        """A number for each row's category or bucket, in `[0, n)`."""
        return self.column.ids if self.declared["kind"] == "numeric" else self.column.codes


@dataclass
class ChosenColumns:
    """Features and ignored columns.

    Attributes:
      features: Columns that are features.
      ignored: Columns that are ignored, each with its reason.
      faulty_rows: Number of rows with a value that its feature rejects.
    """

    features: list[ChosenFeature] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    faulty_rows: int = 0


def choose_columns(
    columns: Mapping[str, Column], target: Target, table: RawTable, places: Places, requests: Requests, notes: Notes
) -> ChosenColumns:
    """Choose what becomes of each column but the label.

    Args:
      columns: Columns in the rows that have a label, by name.
      target: The label of these rows.
      table: What was found when the files were read.
      places: Where each of these rows is.
      requests: Choices of the user.
      notes: Gets what the user should check.

    Raises:
      DataError: No column can be a feature.
      ConfigError: A column that the user keeps has no values, or values that no feature takes.
    """
    others = {name: column for name, column in columns.items() if name != requests.label}
    recognized = {
        name: kind
        for name, column in others.items()
        if name not in requests.drop
        and column.present
        and (kind := recognize(column, target, table.time_zones.get(name, "UTC"))) is not None
    }
    kinds = {name: kind for name, kind in recognized.items() if isinstance(kind, ColumnKind)}
    unusable = {name: kind for name, kind in recognized.items() if not isinstance(kind, ColumnKind)}
    reasons = {name: _explain_omission(column, requests) for name, column in others.items() if name not in recognized}
    candidates = [columns[name] for name, reason in reasons.items() if not reason]
    # Preflight judges the features of all kinds.
    judged = [column for name, column in others.items() if name in kinds or reasons.get(name) == ""]
    target = target.with_rows(judged)
    leaks = find_leaks(judged, target)
    features: dict[str, ChosenFeature] = {}
    # TensorFlow takes no two inputs that differ in case only.
    names = {escape_name(requests.label).lower(): requests.label}
    renamed: dict[str, str] = {}
    for column in candidates:
        reason = _explain_leak(column, leaks, requests)
        code_reason = None if reason else explain_code(column, target)
        if not reason and column.name not in requests.keep:
            reason = explain_unlearnable(column, leaks.shares[column.name], is_code=code_reason is not None)
        served = escape_name(column.name).lower()
        if not reason and served in names:
            renamed[column.name] = names[served]
            reason = _explain_renaming(column.name, names[served])
        reasons[column.name] = reason
        if not reason:
            names[served] = column.name
            features[column.name] = _choose_feature(column, target, code_reason, leaks, table, requests)
    for name, kind in kinds.items():
        served = escape_name(name).lower()
        leak_reason = _explain_leak(columns[name], leaks, requests)
        if leak_reason:
            reasons[name] = leak_reason
        elif served in names:
            renamed[name] = names[served]
            reasons[name] = _explain_renaming(name, names[served])
        else:
            names[served] = name
            column = mark_missing(columns[name], kind.declared.get("missing_values", ()))
            declared = _with_all_missing(name, kind, table)
            allowed = _allow_anomalies(columns[name], declared, leaks, requests)
            features[name] = ChosenFeature(column, declared, kind.reason, leaks.shares[name], allowed)
            notes.add_all(Rank.MISSING, kind.notes)
    faulty_rows = _remove_faulty(features, unusable, table, places, notes)
    _note_unusable(unusable, requests, notes)
    reasons |= unusable
    _note_names(renamed, notes)
    features = {name: features[name] for name in others if name in features}
    reasons = {name: reasons[name] for name in others if name in reasons}
    ignored = [(name, reason) for name, reason in reasons.items() if reason]
    chosen = ChosenColumns(list(features.values()), ignored, faulty_rows)
    _note_leaks(chosen, leaks, notes)
    _note_columns(chosen, columns, requests, notes)
    if not chosen.features:
        if not reasons:
            raise DataError(f"no column can be a feature: beside the label '{requests.label}', expected one or more")
        whys = "; ".join(f"{name or _quote(name)}: {why}" for name, why in chosen.ignored)
        raise DataError(f"no column can be a feature: {whys}; --keep COLUMN makes it one")
    return chosen


def _explain_renaming(name: str, same: str) -> str:
    return f"would have the name of '{same}' in the served model ('{escape_name(name)}'); rename it"


def _with_all_missing(name: str, kind: ColumnKind, table: RawTable) -> dict[str, Any]:
    """Return a declaration whose own strings for a missing value are beside those of the whole table."""
    if "missing_values" not in kind.declared:
        return kind.declared
    strings = [*table.missing.list_strings(name), *kind.declared["missing_values"]]
    return {**kind.declared, "missing_values": list(dict.fromkeys(strings))}


def _remove_faulty(
    features: dict[str, ChosenFeature], unusable: dict[str, str], table: RawTable, places: Places, notes: Notes
) -> int:
    """Note the values that a run rejects, and return in how many rows they are; remove features with many of them."""
    rows = np.zeros(len(places.numbers), bool)
    for name, feature in list(features.items()):
        faults = find_faults(feature.column, feature.declared, table.csv)
        if faults is None:
            continue
        description = faults.describe(places)
        if faults.is_frequent:
            unusable[name] = f"{description}; {faults.remedy}"
            del features[name]
            continue
        rows |= faults.rows
        features[name] = replace(feature, rejected=faults.rows)
        done = "it is" if faults.count == 1 else "they are"
        remedy = faults.remedy.replace("them", "it") if faults.count == 1 else faults.remedy
        notes.add(Rank.ROWS, f"'{name}': {description}; {done} left out (data.max_bad_rows): {remedy}")
    return int(np.count_nonzero(rows))


def _note_unusable(unusable: Mapping[str, str], requests: Requests, notes: Notes) -> None:
    """Note the columns whose values no feature takes.

    Raises:
      ConfigError: The user keeps one of them.
    """
    for name, reason in unusable.items():
        if name in requests.keep:
            raise ConfigError(f"--keep {name}: {reason}")
        notes.add(Rank.COLUMN, f"left out: {_quote(name)}: {reason}")


def _explain_omission(column: Column, requests: Requests) -> str:
    """Return why a column is not a feature, by the user's choice or its values; empty if it may be one."""
    if column.name in requests.drop:
        return "dropped by --drop"
    if column.name not in requests.keep:
        return explain_exclusion(column)
    if not column.present:
        raise ConfigError(f"--keep {column.name}: the column has no values; expected some")
    return ""


def _explain_leak(column: Column, leaks: Leaks, requests: Requests) -> str:
    if column.name in requests.keep:
        return ""
    share = leaks.shares[column.name]
    if column.name in leaks.columns:
        return f"LEAK? explains {share:.1%} of the label by itself; is it known beforehand?"
    leak = leaks.find_sum(column.name)
    if leak is not None:
        return f"LEAK? {leak} explains {leak.share:.1%} of the label; is it known beforehand?"
    return ""


def _choose_feature(
    column: Column, target: Target, code_reason: str | None, leaks: Leaks, table: RawTable, requests: Requests
) -> ChosenFeature:
    explained = leaks.shares[column.name]
    kind = choose_kind(column, target, code_reason, explained, wide=is_wide(column.rows, len(table.columns)))
    reason = kind.reason
    if column.name in requests.keep:
        excluded = explain_exclusion(column)
        reason += f"; kept by --keep{f' ({excluded})' if excluded else ''}"
    if column.name in table.mixed:
        count, text = table.mixed[column.name]
        reason += f"; {format_count(count, 'row', 'have')} a text such as {text!r}, see max_bad_rows"
    reason += f"; explains {explained:.1%} of the label"
    if explained > SUSPECT:
        reason += ", is it known beforehand?"
    return ChosenFeature(
        column, kind.declared, reason, explained, _allow_anomalies(column, kind.declared, leaks, requests)
    )


def _allow_anomalies(column: Column, declared: Mapping[str, Any], leaks: Leaks, requests: Requests) -> tuple[str, ...]:
    """Return the anomalies of a kept feature that would stop the run, or might in other rows."""
    leak = leaks.find_sum(column.name)
    is_leak = column.name in leaks.columns or (leak is not None and {*leak.names} <= {*requests.keep})
    is_category = KINDS[declared["kind"]].column_type == "string"
    return (
        *((LEAK,) if is_leak or leaks.is_near(column.name) else ()),
        *((DATE,) if is_category and column.is_date else ()),
    )


def _note_names(renamed: Mapping[str, str], notes: Notes) -> None:
    if renamed:
        names = _join_first([f"{_quote(name)} (as {_quote(same)})" for name, same in renamed.items()])
        notes.add(
            Rank.COLUMN, f"left out: {names}: the names would be the same in the served model; rename the columns"
        )


def _note_leaks(chosen: ChosenColumns, leaks: Leaks, notes: Notes) -> None:
    ignored = dict(chosen.ignored)
    left_out = {name: leaks.shares[name] for name in leaks.columns if name in ignored}
    if left_out:
        done = "left out as a likely leak" if len(left_out) == 1 else "left out as likely leaks"
        _note_with_flag(notes, Rank.LEAK, _format_explained(left_out), done, "keep", left_out)
    for leak in leaks.sums:
        names = [name for name in leak.names if name in ignored]
        if names:
            text = f"{leak} explains {leak.share:.1%} of the label"
            _note_with_flag(notes, Rank.LEAK, text, "left out as a likely leak", "keep", names)
    strong = {f.column.name: f.explained for f in chosen.features if f.explained > SUSPECT and LEAK not in f.allowed}
    allowed = [
        f"{_quote(f.column.name)} ({f.explained:.0%} of the label)" for f in chosen.features if LEAK in f.allowed
    ]
    if strong:
        done = "kept; leave out what is not known when a prediction is made (--drop)"
        notes.add(Rank.LEAK, f"{_format_explained(strong)}: {done}")
    if allowed:
        done = "kept; preflight warns of a likely leak and does not stop (validation.severities in the config)"
        notes.add(Rank.LEAK, f"{_join_first(allowed)}: {done}")
    named = leaks.named_sum
    if named is not None and not {*named.names} & {*ignored}:
        text = f"{named} explains {named.share:.1%} of the label: kept; are all known when a prediction is made?"
        notes.add(Rank.LEAK, text)


def _note_columns(chosen: ChosenColumns, columns: Mapping[str, Column], requests: Requests, notes: Notes) -> None:
    """Note the columns that more can be made of."""
    ignored = dict(chosen.ignored)
    times = [
        f"{_quote(n)} ({form})"
        for n, why in ignored.items()
        if (form := separate_times(columns[n])[0].time_form) is not None and why.endswith(WRITE_AS_DATE)
    ]
    if times:
        notes.add(Rank.COLUMN, f"left out: {_join_first(times)}; {WRITE_AS_DATE}")
    _note_mostly_times([columns[n] for n in columns if n not in (requests.label, *requests.drop)], notes)
    texts = [name for name, why in ignored.items() if why.startswith("free text")]
    if texts:
        notes.add(Rank.COLUMN, f"left out: {_join_names(texts)}: free text")
    nameless = [name for name, why in ignored.items() if why == NAMELESS]
    if nameless:
        notes.add(Rank.COLUMN, f"left out: a column without a name ({_join_names(nameless)}); give it one to use it")
    _note_spellings(chosen, notes)
    _note_precision(chosen, columns, notes)
    others = {requests.label, *requests.drop}
    units = [column for name, column in columns.items() if name not in others and has_unit(column)]
    if units:
        names = _join_first([f"{_quote(column.name)} ({column.values[0][0]!r})" for column in units])
        notes.add(Rank.COLUMN, f"numbers with a unit are read as strings: {names}; write them without the unit")
    durations = [f.column for f in chosen.features if f.declared["kind"] in _OF_STRINGS and is_duration(f.column)]
    if durations:
        examples = [f"{_quote(c.name)} ({c.values[0][0]!r}, {format_count(c.present, 'row')})" for c in durations]
        notes.add(
            Rank.COLUMN, f"durations are read as strings: {_join_first(examples)}; write them as a number of minutes"
        )
    ids = [f for f in chosen.features if is_id_name(f.column.name) and f.column.distinct > _MIN_IDS_NOTED]
    ids = [f for f in ids if f.declared["kind"] in ("vocabulary", "hash")]
    if ids and requests.group is None:
        names = _join_first([f"{_quote(f.column.name)} ({format_count(f.column.distinct, 'value')})" for f in ids])
        group = max(ids, key=lambda f: f.column.present / f.column.distinct).column.name
        notes.add(
            Rank.CHOICE,
            f"IDs that repeat are features: {names}; to judge the model on new ones, keep the rows of one in one "
            f"split: --group {_quote(group)}",
        )


def _note_spellings(chosen: ChosenColumns, notes: Notes) -> None:
    """Note columns with categories that differ only in case or spaces, and columns of JSON."""
    alike = {}
    for feature in chosen.features:
        column = feature.column
        if feature.declared["kind"] not in ("vocabulary", "vocabulary_list") or is_id_name(column.name):
            continue
        folded: dict[str, list[tuple[str, int]]] = {}
        for value, rows in column.values:
            folded.setdefault(" ".join(value.casefold().split()), []).append((value, rows))
        if booleans := describe_booleans(column.values):
            text = f"{_quote(column.name)}: yes and no are written in several ways, each of which is a category"
            notes.add(Rank.COLUMN, f"{text}: {booleans}; {WRITE_AS_TWO} a feature (docs/how-to/derived-columns.md)")
            continue
        several = [spellings for spellings in folded.values() if len(spellings) > 1]
        # Of each category, all but the most frequent spelling.
        if sum(rows for spellings in several for _, rows in spellings[1:]) >= _MIN_ALIKE * column.present:
            alike[column.name] = " and ".join(repr(value) for value, _ in several[0])
    if alike:
        examples = _join_first([f"{_quote(name)} ({example})" for name, example in alike.items()])
        notes.add(
            Rank.COLUMN,
            f"categories differ only in case or spaces, and stay separate: {examples}; write them in one way, or "
            "derive a feature with lower and strip (docs/how-to/derived-columns.md)",
        )
    json = [
        f.column
        for f in chosen.features
        if not f.column.is_number and f.column.compute_share(_JSON_OBJECT) > _MOSTLY_TIMES
    ]
    if json:
        names = _join_first([f"{_quote(column.name)} ({column.values[0][0][:_MAX_SHOWN_CHARS]!r})" for column in json])
        notes.add(Rank.COLUMN, f"JSON objects are read as strings: {names}; write their fields as columns")


def _note_precision(chosen: ChosenColumns, columns: Mapping[str, Column], notes: Notes) -> None:
    """Note columns most of whose numbers collapse in float32."""
    left_out = [columns[name] for name, why in chosen.ignored if IN_FLOAT32 in why]
    numeric = [f.column for f in chosen.features if f.declared["kind"] == "numeric"]
    collapsed = [column for column in numeric if 2 * column.distinct_in_float32 <= column.distinct]
    if left_out or collapsed:
        examples = [f"{_quote(c.name)} ({c.distinct:,} are {c.distinct_in_float32:,})" for c in (*left_out, *collapsed)]
        done = f"; left out: {_join_names([column.name for column in left_out])}" if left_out else ""
        notes.add(
            Rank.COLUMN,
            f"different numbers are the same {IN_FLOAT32}: {_join_first(examples)}{done}; subtract a base from them, "
            "or write them in another unit",
        )


def _note_mostly_times(columns: Sequence[Column], notes: Notes) -> None:
    """Note the columns of times with so many other strings that they are not read as times."""
    for column in columns:
        if column.is_number or column.distinct < _MIN_TIMES or separate_times(column)[0].time_form is not None:
            continue
        sample = column.values[:: -(-column.distinct // _MAX_SAMPLE)]
        rows = dict(sample)
        others = find_other_texts(list(rows))
        share = sum(rows[value] for value in others) / sum(rows.values())
        if share < _MOSTLY_TIMES:
            examples = ", ".join(map(repr, others[:_MAX_SHOWN]))
            notes.add(
                Rank.MISSING,
                f"{_quote(column.name)} holds times, and other strings in about {share:.0%} of its rows, such as "
                f"{examples}: not read as times; correct these rows, or name what stands for a missing value with "
                "--missing-value",
            )


def _note_with_flag(
    notes: Notes, rank: Rank, text: str, done: str, flag: str, names: Mapping[str, Any] | Sequence[str]
) -> None:
    flags = " ".join(f"--{flag} {_quote(name)}" for name in list(names)[:_MAX_SHOWN])
    notes.add(rank, f"{text}: {done}; if known when a prediction is made: {flags}")


def _format_explained(shares: Mapping[str, float]) -> str:
    """Return which columns explain how much of the label, the strongest first."""
    ranked = sorted(shares, key=lambda name: -shares[name])
    if len(ranked) == 1:
        return f"{_quote(ranked[0])} explains {shares[ranked[0]]:.0%} of the label"
    names = _join_first([f"{_quote(name)} ({shares[name]:.0%})" for name in ranked])
    return f"{names} each explain much of the label"


def _join_names(names: Sequence[str]) -> str:
    return _join_first([_quote(name) for name in names])


def _join_first(texts: Sequence[str]) -> str:
    """Return the first few texts, and how many more there are."""
    more = f" and {len(texts) - _MAX_SHOWN:,} more" if len(texts) > _MAX_SHOWN else ""
    return ", ".join(texts[:_MAX_SHOWN]) + more


def _quote(name: str) -> str:
    return f"'{name}'"
