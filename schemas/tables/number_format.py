"""Reads numbers as people write them: decimal commas, thousands separators, currency signs, percent signs.

Imports no TensorFlow.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Decimal = Literal[".", ","]
Thousands = Literal[",", ".", " ", "'", "_"]

# A finite number as YAML, JSON and Python write it, without spaces around it.
PLAIN_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
# Spaces that separate groups of digits, or a number from its unit: also the thin and the non-breaking ones.
_SPACES = "[ \u00a0\u2009\u202f]"
_GROUP_SEPARATORS: Mapping[str, str] = {",": ",", ".": r"\.", " ": _SPACES, "'": "['\u2019]", "_": "_"}
# What is left out to see the currency beside a number.
_NUMBER_PARTS = r"[0-9][.,'_\x{2019}]|[.,][0-9]|[-+()0-9]|[\s\x{a0}\x{2009}\x{202f}]"
_NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"
# Signs beside those of Unicode's category Sc, and codes of ISO 4217 that columns of money have.
_CURRENCY_NAMES = (
    *("US$", "A$", "C$", "R$", "S$", "HK$", "NZ$", "NT$", "MX$", "kr.", "kr", "Kč", "zł", "Ft", "lei", "Fr.", "SFr."),
    *("Rs.", "Rs", "RM", "Rp", "TL", "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "CNY", "RMB", "INR"),
    *("SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "RON", "RUB", "UAH", "TRY", "BRL", "MXN", "ZAR", "KRW", "SGD", "HKD"),
    *("ILS", "AED", "SAR", "THB", "IDR", "MYR", "PHP", "VND", "EGP", "NGN", "KES", "ARS", "CLP", "COP", "PEN"),
)
# Values that a format is found from: of all columns, of each at least, and distinct ones of each.
_MAX_VALUES, _LEAST_ROWS = 20_000_000, 10_000
_SPREAD, _LONGEST = 800, 20
# Of a column's values with a digit so many must be numbers, and of all its values at least half.
_MOSTLY = 0.95


@dataclass(frozen=True)
class NumberFormat:
    """How the strings of a column of numbers are written.

    Attributes:
      decimal: Character before the fraction.
      thousands: Character between groups of three digits, or None. A space stands for all kinds of spaces.
      currency: Signs or codes of currencies that may stand before or after a number.
      percent: Whether 51.1% is read, as 0.511.
    """

    decimal: Decimal = "."
    thousands: Thousands | None = None
    currency: Sequence[str] = ()
    percent: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether only plain numbers such as -1234.5 are numbers."""
        return self.decimal == "." and self.thousands is None and not self.currency and not self.percent

    @cached_property
    def _currencies(self) -> str:
        longest_first = sorted(self.currency, key=len, reverse=True)
        return "(?:" + "|".join(re.escape(name) for name in longest_first) + ")"

    @cached_property
    def _pattern(self) -> str:
        """A regular expression of a number with groups for its sign, digits, and exponent or percent sign."""
        mark = re.escape(self.decimal)
        whole = "[0-9]+"
        if self.thousands:
            separator = _GROUP_SEPARATORS[self.thousands]
            whole = f"[1-9][0-9]{{0,2}}(?:{separator}[0-9]{{3}})+|{whole}"
            if self.thousands == ",":
                # India: 12,34,567.
                whole = f"[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}|{whole}"
        digits = f"((?:{whole})(?:{mark}[0-9]*)?|{mark}[0-9]+)"
        before, after = "([+-]?)", ""
        if self.currency:
            before = f"(?:([+-]?){_SPACES}?{self._currencies}{_SPACES}?|{self._currencies}{_SPACES}?([+-])|([+-]))?"
            after = f"(?:{_SPACES}?{self._currencies})?"
        end = "((?:[eE][+-]?[0-9]+)?)"
        if self.percent:
            end = f"(?:([eE][+-]?[0-9]+)|{_SPACES}?(%))?"
        return f"^{before}{digits}{end}{after}$"


PLAIN = NumberFormat()


def to_plain_numbers(strings: pa.Array, format: NumberFormat) -> pa.Array:
    """Return numbers as plain strings such as -1234.5, null where a string is not a number in this format; [n].

    Percent are written with an exponent, 51.1% as 51.1e-2, which is exact.

    Args:
      strings: Strings without spaces around them, null where one is missing.
      format: How they are written.
    """
    if format.is_plain or _are_plain(strings, format):
        return strings
    is_usual = pc.match_substring_regex(strings, _NOT_FINITE)
    written = strings
    if format.currency:
        # Accounting writes a negative amount in parentheses.
        money = f"({format._currencies}{_SPACES}?)?"
        written = pc.replace_substring_regex(written, rf"^{money}\({money}([0-9][^()]*)\)$", r"-\1\2\3")
    is_number = pc.match_substring_regex(written, format._pattern)
    groups = "".join(rf"\{number}" for number in range(1, re.compile(format._pattern).groups + 1))
    plain = pc.replace_substring_regex(written, format._pattern, groups)
    if format.thousands:
        plain = pc.replace_substring_regex(plain, _GROUP_SEPARATORS[format.thousands], "")
    if format.decimal != ".":
        plain = pc.replace_substring(plain, format.decimal, ".")
    if format.percent:
        plain = pc.replace_substring(plain, "%", "e-2")
    nothing = pa.scalar(None, pa.string())
    return pc.if_else(is_number, plain, pc.if_else(is_usual, strings, nothing))


def _are_plain(strings: pa.Array, format: NumberFormat) -> bool:
    """Return whether all strings are numbers in this format as they are."""
    try:
        # A point may separate thousands where a comma precedes the fraction.
        strings.cast(pa.float64() if format.decimal == "." else pa.int64())
    except pa.ArrowInvalid:
        return False
    # Arrow reads 0x126 as an integer.
    return format.decimal == "." or not _has_match(strings, "[xX]")


def find_number_format(
    columns: Mapping[str, pa.Array], prefers_comma: bool = False
) -> tuple[NumberFormat, dict[str, str]]:
    """Return the format in which most columns that look like numbers are numbers, and notes on the other columns.

    1,108 in all rows is 1108, since every group has three digits; beside 1,5 or 0,125 it is 1.108.

    Args:
      columns: Strings by the name of the column, null where one is missing.
      prefers_comma: Whether 1,108 in all rows is 1.108.

    Returns:
      The format, and by column why its values stay strings.
    """
    rows = max(_LEAST_ROWS, _MAX_VALUES // max(1, len(columns)))
    samples = {name: sample for name, strings in columns.items() if len(sample := _with_digits(strings[:rows]))}
    odd = {name: sample for name, sample in samples.items() if not _are_plain(sample, PLAIN)}
    if not odd:
        return PLAIN, {}
    currency = tuple(dict.fromkeys(sign for sample in odd.values() for sign in _find_currencies(sample)))
    candidates = _list_formats(currency, pa.concat_arrays(list(odd.values())))
    written = {
        name: (sample, formats)
        for name, sample in odd.items()
        if (formats := [format for format in candidates if _is_mostly_numbers(sample, format)])
    }
    if not written:
        return PLAIN, {}
    fractions = {name: sample for name, sample in samples.items() if name not in odd and _has_fractions(sample)}

    def count_votes(format: NumberFormat) -> tuple[int, int, bool]:
        fits = [sample for sample, formats in written.values() if format in formats]
        fitting = len(fits)
        fitting += sum(_is_mostly_numbers(sample, format) for sample in fractions.values())
        # Thousands may be rare: a column fits without them.
        return fitting, sum(_count_numbers(sample, format) for sample in fits), prefers_comma and format.decimal == ","

    # The first of equals: a format with fewer options goes before another.
    chosen = max(candidates, key=count_votes)
    read = [sample for sample, formats in written.values() if chosen in formats]
    others = {name: (sample, formats[0]) for name, (sample, formats) in written.items() if chosen not in formats}
    others |= {name: (sample, PLAIN) for name, sample in fractions.items() if not _is_mostly_numbers(sample, chosen)}
    notes = {
        name: f"{_quote_example(sample)} is a number in another format than most columns; "
        f"{_format_options(format)} reads it"
        for name, (sample, format) in others.items()
    }
    return _reduce(chosen, read), notes


def _with_digits(strings: pa.Array) -> pa.Array:
    """Return some distinct values that have a digit; none unless most of a column's values have one."""
    trimmed = pc.utf8_trim_whitespace(pc.drop_null(strings))
    trimmed = trimmed.filter(pc.not_equal(trimmed, ""))
    has_digit = pc.match_substring_regex(trimmed, "[0-9]")
    if 2 * (pc.sum(has_digit).as_py() or 0) < len(trimmed):
        return pa.array([], pa.string())
    distinct = pc.unique(trimmed.filter(has_digit))
    if not len(distinct):
        return distinct
    # The longest have the separators of thousands.
    longest = pc.select_k_unstable(pc.utf8_length(distinct), _LONGEST, [("", "descending")]).cast(pa.int64())
    chosen: NDArray[np.int64] = np.union1d(np.arange(0, len(distinct), max(1, len(distinct) // _SPREAD)), longest)
    # 0,760 has a fraction: a group of thousands does not begin with a zero.
    begins_with_zero = np.flatnonzero(np.asarray(pc.match_substring_regex(distinct, "^[+-]?0[.,]")))[:_LONGEST]
    return distinct.take(pa.array(np.union1d(chosen, begins_with_zero)))


def _find_currencies(sample: pa.Array) -> Iterator[str]:
    """Yield the currencies beside the numbers of a column, if most of its values have one."""
    words = pc.replace_substring_regex(sample, _NUMBER_PARTS, "")
    money = {pair["values"]: pair["counts"] for pair in pc.value_counts(words).to_pylist()}
    money = {word: count for word, count in money.items() if _is_currency(word)}
    if 2 * sum(money.values()) >= len(sample):
        yield from sorted(money)


def _is_currency(word: str) -> bool:
    return word in _CURRENCY_NAMES or (len(word) == 1 and unicodedata.category(word) == "Sc")


def _has_fractions(sample: pa.Array) -> bool:
    return _has_match(sample, r"\.")


def _list_formats(currency: Sequence[str], strings: pa.Array) -> list[NumberFormat]:
    """Return the formats that strings may have, those with fewer options first."""
    has = {mark: _has_match(strings, pattern) for mark, pattern in _GROUP_SEPARATORS.items()}
    has_commas = has[","] or _has_match(strings, r"\.[0-9]{3}\.[0-9]{3}")
    decimals: list[Decimal] = [".", ","] if has_commas else ["."]
    separators: list[Thousands | None] = [None, ",", ".", " ", "'", "_"]
    pairs = [(d, t) for t in separators for d in decimals if t is None or (t != d and has[t])]
    # 1,108 is a number with thousands sooner than one with a fraction.
    pairs.sort(key=lambda pair: (pair[1] is not None, pair[0] == ",") if pair != (".", ",") else (False, False))
    return [NumberFormat(decimal, thousands, currency, percent=True) for decimal, thousands in pairs]


def _has_match(strings: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(strings, pattern)).as_py())


def _count_numbers(strings: pa.Array, format: NumberFormat) -> int:
    return int(len(strings) - to_plain_numbers(strings, format).null_count)


def _is_mostly_numbers(sample: pa.Array, format: NumberFormat) -> bool:
    # If one group begins with a zero, the others are fractions too.
    if format.thousands and _has_match(sample, f"^[+-]?0{_GROUP_SEPARATORS[format.thousands]}[0-9]"):
        return False
    return _count_numbers(sample, format) >= _MOSTLY * len(sample)


def _reduce(format: NumberFormat, samples: Sequence[pa.Array]) -> NumberFormat:
    """Return a format with only the options that some column needs."""
    strings = pa.concat_arrays(samples) if samples else pa.array([], pa.string())
    currency = tuple(sign for sign in format.currency if _has_match(strings, re.escape(sign)))
    return NumberFormat(format.decimal, format.thousands, currency, percent=_has_match(strings, "%"))


def _quote_example(sample: pa.Array) -> str:
    return repr(sample.filter(pc.match_substring_regex(sample, "[^0-9]"))[0].as_py())


def _format_options(format: NumberFormat) -> str:
    """Return the separators of a format as a config declares them."""
    decimal = f"data.csv.decimal: {format.decimal!r}"
    return decimal if format.thousands is None else f"{decimal} with data.csv.thousands: {format.thousands!r}"
