"""Converts raw values to the typed values that a model takes. Imports no TensorFlow.

Every route uses `convert`: files (training, evaluation, batch prediction), JSON, tensors and tf.Example. So the same
raw row has the same typed values, or the same error, wherever it comes from.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cli.counts import format_count
from schemas.data import ReadOptions
from schemas.features import MISSING, BaseFeature, ColumnType, FeatureSet, IdList, Text, Timestamp, Vector
from schemas.sensitive import MASK, find_sensitive
from schemas.tables.items import (
    LIST_START,
    ItemFormat,
    as_list_strings,
    is_list_of_values,
    join_items,
    read_items,
    split_items,
)
from schemas.tables.number_format import PLAIN, PLAIN_NUMBER, NumberFormat, to_plain_numbers
from schemas.tables.time_format import TimeFormat
from schemas.tables.times import read_times
from schemas.tables.token_limit import TokenLimit

MAX_VALUE_BYTES = 1 << 20
# Beyond it a double rounds to infinity in float32.
MAX_FLOAT32 = 3.4028235677973366e38
# The least int64 stands for a missing value in the graph.
INT64 = range(int(MISSING["int"]) + 1, 2**63)
# https://en.wikipedia.org/wiki/IEEE_754: integers up to here are exact in a double.
_MAX_EXACT_DOUBLE = 2.0**53
_MAX_SHOWN_CHARS = 120
_MAX_SHOWN_CLASSES = 10
# The spellings of numbers that Arrow reads, one after the other.
_SHORT_INTEGER = r"^-?[0-9]{1,18}$"
_LONG_INTEGER = r"^-?[0-9]{19,}$"
_NUMBER = rf"(?i)^(?:{PLAIN_NUMBER}|[+-]?(?:nan(?:\([0-9a-z_]*\))?|inf|infinity))$"
_CLASS_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?(e[+-]?[0-9]{1,2})?")
# In a number, only "nan", "inf" and "infinity" have these letters.
_NOT_FINITE = re.compile(r"[nf]", re.IGNORECASE)
_UTC_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>[0-9]{2}):?(?P<minutes>[0-9]{2})")
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NAN = re.compile(r"\s*[+-]?nan\s*", re.IGNORECASE)
EXPECTED: Mapping[ColumnType, str] = {"string": "a string", "float": "a finite number", "int": "an integer"}

# A number with a separator, a currency or a percent sign.
_WRITTEN_NUMBER = re.compile(r"(?=.*[^\d.+-])[^\w]*\d[\d.,'_\s\u2019]*\W*|[A-Z]{3}\s*\d[\d.,]*|\d[\d.,]*\s*[A-Z]{3}")

# Comes before the value in the reason of a fault, and after the kind of problem.
FOUND = ", found "
# What kind of remedy helps: a missing value, a number in another format, a value of another type, a time in another
# format, a date that does not exist, or any other fault.
FaultKind = Literal["missing", "format", "type", "time", "date", "other"]


@dataclass(frozen=True)
class Rule:
    """How the raw values of one column are converted.

    Attributes:
      column: Name of the column.
      kind: Type of the converted values.
      required: Whether a missing value is an error.
      missing_values: Strings that stand for a missing value. In a column of numbers, a number among them stands for its
        value, however that is written, and so does NaN.
      classes: The only values of a label; empty if any value is allowed.
      num_ids: Number of IDs of an identity feature; None for other columns.
      strip_spaces: Whether spaces around a value are removed first.
      reads_booleans: Whether `true` of JSON is the string "true", as it is in Parquet. A CSV file may have True or t.
      numbers: How the strings of a column of numbers are written.
      times: How the times of a column are written, whose converted values are wall seconds; None for other columns.
      items: How several values in one row are written; None for columns of one value.
      tokens: Limit on the tokens of a text; None for other columns.
      minimum: Least number of a float column; None if any number is allowed.
      sensitive: Whether faults must not show the values.
    """

    column: str
    kind: ColumnType
    required: bool = False
    missing_values: Sequence[str] = ("",)
    classes: Sequence[str] = ()
    num_ids: int | None = None
    strip_spaces: bool = False
    reads_booleans: bool = False
    numbers: NumberFormat = PLAIN
    times: TimeFormat | None = None
    items: ItemFormat | None = None
    tokens: TokenLimit | None = None
    minimum: float | None = None
    sensitive: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Rule":
        """Return the rule of which `dataclasses.asdict` returned these values."""
        times, items, tokens = values["times"], values["items"], values["tokens"]
        formats = {
            "numbers": NumberFormat(**values["numbers"]),
            "times": None if times is None else TimeFormat(**times),
            "items": None if items is None else ItemFormat(**items),
            "tokens": None if tokens is None else TokenLimit(**tokens),
        }
        return cls(**{**values, **formats})

    @property
    def expected(self) -> str:
        """Description of a value, for messages."""
        if self.times is not None:
            return self.times.expected
        return EXPECTED[self.kind] if self.items is None else self.items.expected

    @property
    def is_bounded(self) -> bool:
        """Whether a value can be out of range."""
        return self.num_ids is not None or self.tokens is not None

    @cached_property
    def markers(self) -> frozenset[str]:
        """The strings that stand for a missing value, to be looked up."""
        return frozenset(self.missing_values)

    @cached_property
    def reads_nan_as_missing(self) -> bool:
        """Whether a number that is NaN is a missing value."""
        return any(_NAN.fullmatch(marker) for marker in self.missing_values)

    @cached_property
    def missing_numbers(self) -> frozenset[float]:
        """The numbers that stand for a missing value, however they are written: -999 and -999.0."""
        markers = pc.utf8_trim_whitespace(pa.array(self.missing_values, pa.string()))
        # YAML writes the number -999.5 with a point whatever the format.
        doubles = _parse_doubles(pc.coalesce(to_plain_numbers(markers, self.numbers), markers)).to_pylist()
        return frozenset(double for double in doubles if double is not None and math.isfinite(double))


# Rule of one value of a list.
_ITEM_RULE = Rule("", "string")


@dataclass(frozen=True)
class Fault:
    """A value that cannot be converted: what was expected and found, and the kind of remedy."""

    reason: str
    kind: FaultKind

    @property
    def problem(self) -> str:
        """The reason without the value that was found."""
        return self.reason.partition(FOUND)[0]

    def mask(self) -> "Fault":
        """Return the fault with a mask in place of the value."""
        return self if FOUND not in self.reason else replace(self, reason=f"{self.problem}{FOUND}{MASK}")


@dataclass(frozen=True)
class Converted:
    """The values of a column.

    Attributes:
      values: Typed values, null where one is missing or has a fault; [n] of float32, int64 or binary.
      strings: The same values as strings, null where one is missing; numbers are plain, such as -1234.5; [n].
      faults: The first fault of each row that has one, by its index.
    """

    values: pa.Array
    strings: pa.Array
    faults: Mapping[int, Fault]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Whether each value is missing; [n]."""
        return np.asarray(self.strings.is_null())


def build_feature_rules(features: FeatureSet, options: ReadOptions) -> dict[str, Rule]:
    """Return the rule of each feature by column name, in the order of declaration."""
    return {
        name: Rule(
            column=name,
            kind=feature.column_type,
            required=feature.missing is None,
            missing_values=options.missing_values if feature.missing_values is None else feature.missing_values,
            num_ids=feature.raw_num_ids,
            strip_spaces=options.csv.strip_spaces,
            reads_booleans=options.format == "parquet",
            numbers=options.csv.number_format,
            times=TimeFormat(feature.format, feature.time_zone) if isinstance(feature, Timestamp) else None,
            items=_build_item_format(feature),
            tokens=_build_token_limit(feature),
            sensitive=feature.sensitive,
        )
        for name, feature in features.raw_features.items()
    }


def _build_item_format(feature: BaseFeature) -> ItemFormat | None:
    match feature:
        case IdList():
            return ItemFormat(feature.delimiter, max_items=feature.max_values)
        case Vector():
            return ItemFormat(feature.delimiter, numbers=feature.length)
        case _:
            return None


def _build_token_limit(feature: BaseFeature) -> TokenLimit | None:
    if not isinstance(feature, Text):
        return None
    return TokenLimit(feature.max_tokens, feature.word_ngrams, feature.character_ngrams)


def build_input_rules(features: FeatureSet, options: ReadOptions) -> dict[str, Rule]:
    """Return the rule of each column that only the label's expression uses; any of them may be missing."""
    kinds: Mapping[str, ColumnType] = {"number": "float", "string": "string"}
    return {
        name: Rule(
            column=name,
            kind=kinds.get(type_, "int"),
            missing_values=options.missing_values,
            strip_spaces=options.csv.strip_spaces,
            reads_booleans=options.format == "parquet",
            numbers=options.csv.number_format,
            times=None if type_ in kinds else TimeFormat(type_),
            sensitive=name in options.sensitive_columns,
        )
        for name, type_ in features.label.inputs.items()
    }


def build_label_rule(features: FeatureSet, options: ReadOptions) -> Rule:
    """Return the rule of the label."""
    label = features.label
    return Rule(
        column=label.column,
        kind=label.column_type,
        required=not label.drop_missing,
        missing_values=label.missing_values,
        classes=label.classes,
        strip_spaces=options.csv.strip_spaces,
        reads_booleans=options.format == "parquet",
        numbers=options.csv.number_format,
        sensitive=label.column in find_sensitive(features, options),
    )


def build_weight_rule(column: str, options: ReadOptions) -> Rule:
    """Return the rule of the rows' weights: each row has one, and none is negative."""
    return Rule(
        column=column,
        kind="float",
        required=True,
        strip_spaces=options.csv.strip_spaces,
        numbers=options.csv.number_format,
        minimum=0.0,
        sensitive=column in options.sensitive_columns,
    )


def as_missing(strings: pa.Array, missing_values: Sequence[str]) -> pa.Array:
    """Return strings with null in place of those that stand for a missing value."""
    return pc.if_else(_is_in(strings, missing_values), pa.scalar(None, pa.string()), strings)


def convert(strings: pa.Array, rule: Rule) -> Converted:
    """Convert the values of one column.

    Args:
      strings: Raw values as `as_strings` returns them, null where a format has no value; [n].
      rule: Rule of the column.
    """
    if rule.strip_spaces:
        # Unicode counts the mark of a real list among spaces.
        is_list = pc.starts_with(strings, LIST_START)
        strings = pc.if_else(is_list, strings, pc.utf8_trim_whitespace(strings))
    strings = as_missing(strings, rule.missing_values)
    if rule.classes:
        strings = _as_classes(strings, rule.classes)
    faults = _find_oversized(strings)
    match rule.kind:
        case "int" if rule.times is not None:
            values, reasons = read_times(strings, rule.times)
            # A date in the declared format that does not exist is not written in another.
            others = {
                row for row, reason in reasons.items() if not reason.startswith(f"expected {rule.times.expected}")
            }
            by_kind: dict[FaultKind, set[int]] = {"date": others, "time": reasons.keys() - others}
            for kind, rows in by_kind.items():
                faults = {**_as_faults({row: reasons[row] for row in rows}, kind), **faults}
        case "string":
            strings, reasons = read_items(strings, rule.items)
            faults = {**_as_faults(reasons, "other"), **faults}
            values = strings.cast(pa.binary())
        case "float":
            strings, values, wrong = _convert_floats(strings, rule)
            faults = {**wrong, **faults}
        case "int":
            strings, values, wrong = _convert_integers(strings, rule)
            faults = {**wrong, **faults}
        case _:
            assert_never(rule.kind)
    if rule.classes:
        faults = {**_find_unknown_classes(strings, rule.classes), **faults}
    if rule.required and strings.null_count:
        nulls = np.flatnonzero(np.asarray(strings.is_null())).tolist()
        faults = {**faults, **dict.fromkeys(nulls, Fault("the value is missing", "missing"))}
    if rule.sensitive:
        faults = {row: fault.mask() for row, fault in faults.items()}
    if faults:
        mask = np.zeros(len(values), dtype=bool)
        mask[list(faults)] = True
        values = pc.if_else(pa.array(mask), pa.scalar(None, values.type), values)
    return Converted(values, strings, faults)


def _as_faults(reasons: Mapping[int, str], kind: FaultKind) -> dict[int, Fault]:
    return {row: Fault(reason, kind) for row, reason in reasons.items()}


def find_out_of_range(values: pa.Array, rule: Rule) -> NDArray[np.bool_]:
    """Return for which values the model takes another, [n].

    An ID outside `[0, num_ids)` becomes the nearest ID. A text of too many tokens keeps the first ones.
    """
    if rule.tokens is not None:
        return rule.tokens.is_exceeded(values)
    if rule.num_ids is None:
        return np.zeros(len(values), dtype=bool)
    outside = pc.or_(pc.less(values, 0), pc.greater_equal(values, rule.num_ids))
    return np.asarray(pc.fill_null(outside, False))


def as_strings(column: pa.Array, decimal: str = ".") -> pa.Array:
    """Return a column of numbers, booleans, dates or strings as strings, exactly.

    Args:
      column: Values of a file or a request; [n].
      decimal: Character before the fraction of a number.

    Raises:
      ArrowInvalid: bytes are not UTF-8.
      ArrowNotImplementedError: the column holds structs, or lists of other than strings and numbers.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if is_list_of_values(column.type):
        return as_list_strings(column, decimal)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    offset = _UTC_OFFSET.fullmatch(column.type.tz or "") if pa.types.is_timestamp(column.type) else None
    if offset:
        return _format_at_offset(column, offset)
    strings = column.cast(pa.string())
    has_fractions = pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    return pc.replace_substring(strings, ".", decimal) if has_fractions and decimal != "." else strings


def _format_at_offset(column: pa.Array, offset: re.Match[str]) -> pa.Array:
    """Return times of a fixed offset as strings, as those of a named time zone; Arrow reads names only."""
    seconds = (-1 if offset["sign"] == "-" else 1) * (int(offset["hours"]) * 60 + int(offset["minutes"])) * 60
    local = pc.add(
        column.cast(pa.timestamp(column.type.unit, "UTC")).cast(pa.int64()), seconds * _UNITS[column.type.unit]
    )
    strings = local.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    return pc.binary_join_element_wise(strings, f"{offset['sign']}{offset['hours']}{offset['minutes']}", "")


def format_value(value: Any, rule: Rule) -> str | None:
    """Return one value of JSON or of a tensor as a string; None where it is missing.

    Raises:
      ValueError: it is of a type that no column has. The message states what was expected and found.
    """
    expected = rule.expected
    match value:
        case list() if rule.items is not None:
            return join_items([None if item is None else format_value(item, _ITEM_RULE) for item in value])
        case None | str():
            return value
        case bool():
            if rule.reads_booleans:
                return str(value).lower()
            remedy = "; send the string that the data has" if rule.kind == "string" else ""
            raise ValueError(f"expected {expected}, found the boolean {_show(str(value).lower(), rule)}{remedy}")
        case int():
            return str(value)
        case float():
            return str(as_strings(pa.array([value], pa.float64()), rule.numbers.decimal)[0].as_py())
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"expected {expected}, found bytes that are not UTF-8") from error
        case _:
            name = {"list": "a list", "dict": "an object"}.get(type(value).__name__, type(value).__name__)
            raise ValueError(f"expected {expected}, found {name}: {_show(quote(str(value)), rule)}")


def _show(text: str, rule: Rule) -> str:
    return MASK if rule.sensitive else text


def quote(text: str) -> str:
    """Return a string in quotes, its end cut off if it is long; a list as its number of values."""
    if text.startswith(LIST_START):
        return f"a list of {format_count(len(split_items(text)), 'value')}"
    return repr(text) if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]!r}..."


def _is_in(strings: pa.Array, values: Sequence[str]) -> pa.Array:
    return pc.is_in(strings, pa.array(values, pa.string()))


def _find_oversized(strings: pa.Array) -> dict[int, Fault]:
    sizes = pc.binary_length(strings)
    if (pc.max(sizes).as_py() or 0) <= MAX_VALUE_BYTES:
        return {}
    rows = np.flatnonzero(np.asarray(pc.fill_null(pc.greater(sizes, MAX_VALUE_BYTES), False))).tolist()
    return {
        row: Fault(f"the value has {sizes[row].as_py():,} bytes; at most {MAX_VALUE_BYTES:,} are allowed", "other")
        for row in rows
    }


def _as_classes(strings: pa.Array, classes: Sequence[str]) -> pa.Array:
    """Return labels with the spelling of their class: 1.0 as 1, and TRUE as true.

    Tools write the same labels as integers, as floats and as booleans. A class has other spellings only if it is a
    number or a boolean, and no other class means the same.
    """
    is_other = pc.and_(pc.is_valid(strings), pc.invert(_is_in(strings, classes)))
    if not pc.any(is_other).as_py():
        return strings
    meanings = [find_class_meaning(value) for value in classes]
    of_meaning = {m: value for m, value in zip(meanings, classes, strict=True) if m and meanings.count(m) == 1}
    others = pc.unique(strings.filter(is_other)).to_pylist()
    spelled = [of_meaning.get(find_class_meaning(value), value) for value in others]
    index = pc.index_in(strings, pa.array(others, pa.string()))
    return pc.coalesce(pa.array(spelled, pa.string()).take(index), strings)


def find_class_meaning(value: str) -> str:
    """Return what all spellings of a class share; empty if it has one spelling only, as the code 01 has.

    >>> find_class_meaning("1") == find_class_meaning(" 1.00"), find_class_meaning("TRUE"), find_class_meaning("01")
    (True, 'true', '')
    """
    text = value.strip().lower()
    if text in ("true", "false"):
        return text
    return repr(float(text) + 0.0) if _CLASS_NUMBER.fullmatch(text) else ""


def _find_unknown_classes(strings: pa.Array, classes: Sequence[str]) -> dict[int, Fault]:
    is_class = pc.or_(_is_in(strings, classes), strings.is_null())
    expected = " or ".join(repr(value) for value in classes[:_MAX_SHOWN_CLASSES])
    rows = np.flatnonzero(~np.asarray(is_class)).tolist()
    return {row: Fault(f"expected {expected}, found {quote(strings[row].as_py())}", "other") for row in rows}


def _convert_floats(strings: pa.Array, rule: Rule) -> tuple[pa.Array, pa.Array, dict[int, Fault]]:
    """Return the strings with null also where NaN is missing, the values as float32, and the faults."""
    strings, trimmed = _clean_numbers(strings, rule)
    doubles = _parse_doubles(trimmed)
    if rule.missing_numbers:
        strings, doubles = _set_null(pc.is_in(doubles, pa.array(sorted(rule.missing_numbers))), strings, doubles)
    usual = pc.fill_null(pc.less(pc.abs(doubles), MAX_FLOAT32), False)
    faults: dict[int, Fault] = {}
    if not pc.all(pc.or_(usual, strings.is_null())).as_py():
        if rule.reads_nan_as_missing:
            strings, doubles = _set_null(pc.fill_null(pc.is_nan(doubles), False), strings, doubles)
        for row in np.flatnonzero(~np.asarray(pc.or_(usual, strings.is_null()))).tolist():
            large = doubles[row].as_py() is not None and not _NOT_FINITE.search(strings[row].as_py())
            expected = "a number that float32 can hold" if large else EXPECTED["float"]
            faults[row] = _build_number_fault(strings[row].as_py(), expected)
        doubles = pc.if_else(usual, doubles, pa.scalar(None, pa.float64()))
    # Through NumPy: Arrow rejects a double that float32 cannot hold exactly.
    if rule.minimum is not None:
        below = pc.fill_null(pc.less(doubles, rule.minimum), False)
        for row in np.flatnonzero(np.asarray(below)).tolist():
            text = quote(strings[row].as_py())
            faults[row] = Fault(f"expected a number of at least {rule.minimum:g}, found {text}", "other")
    numbers = doubles.to_numpy(zero_copy_only=False).astype(np.float32)
    mask = np.asarray(doubles.is_null()) if doubles.null_count else None
    return strings, pa.array(numbers, pa.float32(), mask=mask, from_pandas=False), faults


def _clean_numbers(strings: pa.Array, rule: Rule) -> tuple[pa.Array, pa.Array]:
    """Return strings with plain numbers where they are numbers, and those without spaces around them.

    In the second, null also stands for what is not a number in the rule's format.
    """
    trimmed = pc.utf8_trim_whitespace(strings)
    if rule.numbers.is_plain:
        return strings, trimmed
    numbers = to_plain_numbers(trimmed, rule.numbers)
    return pc.coalesce(numbers, strings), numbers


def _build_number_fault(text: str, expected: str) -> Fault:
    kind: FaultKind = "format" if _WRITTEN_NUMBER.fullmatch(text.strip()) else "type"
    return Fault(f"expected {expected}, found {quote(text)}", kind)


def _parse_doubles(trimmed: pa.Array) -> pa.Array:
    """Return the numbers that strings are, null where one is none; [n] of float64."""
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        is_number = pc.match_substring_regex(trimmed, _NUMBER)
        return pc.if_else(is_number, trimmed, pa.scalar(None, pa.string())).cast(pa.float64())


def _set_null(mask: pa.Array, *columns: pa.Array) -> tuple[pa.Array, ...]:
    """Return columns with null where a mask is true."""
    return tuple(pc.if_else(mask, pa.scalar(None, column.type), column) for column in columns)


def _convert_integers(strings: pa.Array, rule: Rule) -> tuple[pa.Array, pa.Array, dict[int, Fault]]:
    """Return the strings as `_convert_floats` does, the values as int64, and the faults.

    5.0 is an integer, since columns in which integers are missing have it.
    """
    strings, trimmed = _clean_numbers(strings, rule)
    is_short = pc.or_(pc.match_substring_regex(trimmed, _SHORT_INTEGER), strings.is_null())
    if not rule.missing_numbers and pc.all(pc.fill_null(is_short, False)).as_py() is not False:
        return strings, trimmed.cast(pa.int64()), {}
    doubles = _parse_doubles(trimmed)
    missing = pc.is_in(doubles, pa.array(sorted(rule.missing_numbers), pa.float64()))
    if rule.reads_nan_as_missing:
        missing = pc.or_(missing, pc.fill_null(pc.is_nan(doubles), False))
    strings, trimmed, doubles = _set_null(missing, strings, trimmed, doubles)
    nothing = pa.scalar(None, pa.string())
    # Arrow reads no plus sign in an integer, but reads hexadecimal digits.
    trimmed = pc.replace_substring_regex(trimmed, r"^\+", "")
    short = pc.if_else(pc.match_substring_regex(trimmed, _SHORT_INTEGER), trimmed, nothing).cast(pa.int64())
    is_long = pc.fill_null(pc.match_substring_regex(trimmed, _LONG_INTEGER), False)
    long = pa.array(
        [
            value if value is not None and value in INT64 else None
            for text in pc.if_else(is_long, trimmed, nothing).to_pylist()
            for value in [None if text is None else int(text[:21])]
        ],
        pa.int64(),
    )
    is_whole = pc.and_(pc.equal(pc.floor(doubles), doubles), pc.less_equal(pc.abs(doubles), _MAX_EXACT_DOUBLE))
    is_whole = pc.and_(pc.fill_null(is_whole, False), pc.invert(is_long))
    whole = pc.if_else(is_whole, doubles, pa.scalar(None, pa.float64())).cast(pa.int64())
    values = pc.coalesce(short, long, whole)
    faults: dict[int, Fault] = {}
    for row in np.flatnonzero(np.asarray(pc.and_(values.is_null(), strings.is_valid()))).tolist():
        double = doubles[row].as_py()
        large = double is not None and double.is_integer()
        expected = "an integer of 64 bits" if large else EXPECTED["int"]
        faults[row] = _build_number_fault(strings[row].as_py(), expected)
    return strings, values, faults
