"""Finds quotes of CSV that swallow rows: one that is never closed, or that only a quote further down closes.

RFC 4180 lets a quoted value hold line breaks. So a quote that is a character like any other, as in `"5 nail`, turns the
rows up to the next quote into one value, without any error. Imports no TensorFlow.
"""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cli.counts import format_count
from schemas.sensitive import MASK

# An honest value may happen to have a row's number of fields in each line, if these are one delimiter or two.
_LEAST_DELIMITERS = 6
# A value that has no end so far is never closed.
_MAX_VALUE_BYTES = 16 << 20
# Values of several lines that are compared with rows.
_MAX_VALUES = 10_000
_MAX_SHOWN_CHARS = 40


@dataclass
class QuoteCheck:
    """Checks the bytes of a file, block by block, as they are read.

    Attributes:
      delimiter: Character between values.
      quote: Character around values.
      fields: Number of fields of a row.
      line: Number of the first line that is not yet checked.
      is_masked: Whether a reason must not show the content of the file.
      problem: Number of the line of the first quote that swallows rows, and the reason; None if there is none.
    """

    delimiter: str
    quote: str
    fields: int
    line: int = 1
    is_masked: bool = False
    problem: tuple[int, str] | None = None
    _rest: bytes = b""
    _line_end: bytes = b""
    _is_ended: bool = False
    # Values of several lines, and those whose lines are like rows: line and number of lines.
    _multi_line: int = 0
    _row_like: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        quote, delimiter = re.escape(self.quote.encode()), re.escape(self.delimiter.encode())
        self._quoted = re.compile(
            rb"(?:\A|(?<=[%b\r\n]))%b(?:[^%b]++|%b%b)*+(%b?)" % (delimiter, quote, quote, quote, quote, quote)
        )
        self._good_end = re.compile(rb"[ \t]*(?:[%b\r\n]|\Z)" % delimiter)
        self._borders = np.zeros(256, dtype=bool)
        self._borders[list(f"{self.quote}{self.delimiter}\r\n".encode())] = True

    def add(self, block: bytes) -> None:
        """Check the next bytes of the file; an empty block ends it."""
        if self.problem is not None or self._is_ended:
            return
        self._is_ended = not block
        self._line_end = self._line_end or (b"\r" if b"\r" in block and b"\n" not in block else b"\n")
        content = self._rest + block
        end = self._check(content, is_last=not block)
        self.line += content.count(self._line_end, 0, end)
        self._rest = content[end:]
        if not block and self.problem is None:
            self._judge()

    def _check(self, content: bytes, *, is_last: bool) -> int:
        """Check rows, and return where the first row begins that is not checked to its end."""
        end = len(content) if is_last else content.rfind(self._line_end) + 1
        plain_end = self._check_plain(content, end, is_last=is_last)
        if plain_end is not None:
            return plain_end
        row_start = before = 0
        values: list[tuple[int, int]] = []
        for quoted in self._quoted.finditer(content):
            row_start = max(row_start, content.rfind(self._line_end, before, quoted.start()) + 1)
            if not quoted[1] and (is_last or len(quoted[0]) > _MAX_VALUE_BYTES):
                self._report(content, quoted.start(), "opens a value and is never closed")
                return row_start
            if not is_last and (not quoted[1] or quoted.end() == len(content)):
                # The next block may have its end.
                break
            if self._line_end in quoted[0]:
                values.append(quoted.span())
            before = quoted.end()
        else:
            row_start = max(row_start, content.rfind(self._line_end, before) + 1)
        if is_last:
            row_start = len(content)
        for start, end in values:
            if start < row_start:
                self._check_value(content, start, end)
        return row_start

    def _check_plain(self, content: bytes, end: int, *, is_last: bool) -> int | None:
        """Check rows in which quotes open and close values where these begin and end; None if some do not."""
        codes = np.frombuffer(content, np.uint8, end)
        places = np.flatnonzero(codes == ord(self.quote))
        if len(places) % 2 and not is_last:
            # The last one opens a value that the next block closes.
            end = content.rfind(self._line_end, 0, int(places[-1])) + 1
            codes, places = codes[:end], places[places < end]
        if not len(places):
            return end
        padded: NDArray[np.uint8] = np.concatenate([[10], codes, [10]]).astype(np.uint8)
        opening, closing = places[::2], places[1::2]
        if len(places) % 2 or not (self._borders[padded[opening]].all() and self._borders[padded[closing + 2]].all()):
            return None
        ends = np.flatnonzero(codes == ord(self._line_end))
        several_lines = np.searchsorted(ends, opening) != np.searchsorted(ends, closing)
        for start, last in zip(opening[several_lines], closing[several_lines], strict=True):
            if self._multi_line == _MAX_VALUES:
                break
            self._compare_with_rows(content, int(start), int(last) + 1)
        return end

    def _check_value(self, content: bytes, start: int, end: int) -> None:
        """Check a value of several lines, from one quote to the other."""
        if not self._good_end.match(content, end):
            after = content[end : end + _MAX_SHOWN_CHARS].splitlines()[0].decode(errors="replace")
            lines = content.count(self._line_end, start, end)
            end_text = MASK if self.is_masked else repr(after)
            self._report(
                content, start, f"opens a value that ends {format_count(lines, 'line')} further down, before {end_text}"
            )
        elif self._multi_line < _MAX_VALUES:
            self._compare_with_rows(content, start, end)

    def _compare_with_rows(self, content: bytes, start: int, end: int) -> None:
        """Count a value of several lines, and whether each of the lines that it is in has a row's number of fields."""
        self._multi_line += 1
        lines = content.count(self._line_end, start, end) + 1
        row_start = content.rfind(self._line_end, 0, start) + 1
        row_end = content.find(self._line_end, end)
        rows = content[row_start : row_end if row_end >= 0 else len(content)].split(self._line_end)
        delimiter = self.delimiter.encode()
        if self.fields > 1 and all(row.count(delimiter) == self.fields - 1 for row in rows if row.strip()):
            self._row_like.append((self._find_line(content, start), lines))

    def _judge(self) -> None:
        """Report values whose lines are like rows, if nearly all values of several lines are."""
        delimiters = (self.fields - 1) * sum(lines - 1 for _, lines in self._row_like)
        if delimiters >= _LEAST_DELIMITERS and 10 * len(self._row_like) >= 9 * self._multi_line:
            line, lines = self._row_like[0]
            self.problem = (
                line,
                f"opens a value of {format_count(lines, 'line')}, each of which has the {self.fields} fields of a row",
            )

    def _report(self, content: bytes, start: int, reason: str) -> None:
        self.problem = self.problem or (self._find_line(content, start), reason)

    def _find_line(self, content: bytes, start: int) -> int:
        return self.line + content.count(self._line_end, 0, start)
