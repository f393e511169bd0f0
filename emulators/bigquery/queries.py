"""The queries of the emulated BigQuery: SELECT columns FROM table WHERE condition LIMIT rows, and nothing else.

SQLite evaluates the condition; the columns keep their types.
"""

import datetime
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from emulators.bigquery.errors import BigQueryError

_QUERY = re.compile(
    r"\s*SELECT\s+(?P<columns>.+?)\s+FROM\s+(?P<table>`[^`]+`|[\w.:-]+)"
    r"(?:\s+WHERE\s+(?P<condition>.+?))?(?:\s+LIMIT\s+(?P<limit>\d+))?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_ITEM = re.compile(r"\s*(`[^`]+`|\w+)(?:\s+AS\s+(`[^`]+`|\w+))?\s*", re.IGNORECASE)
_ALL = re.compile(r"\s*\*(?:\s+EXCEPT\s*\((?P<names>[^)]*)\))?\s*", re.IGNORECASE)
_TIMESTAMP = re.compile(r"(?i)CAST\('([^']*)' AS TIMESTAMP\)")
_OTHER_STATEMENTS = ("INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "DROP", "ALTER", "TRUNCATE")


@dataclass(frozen=True)
class Query:
    """A query of one table.

    Attributes:
      columns: Text between SELECT and FROM.
      table: Name of the table.
      condition: Text behind WHERE; empty for all rows.
      limit: Greatest number of rows; None for all.
    """

    columns: str
    table: str
    condition: str
    limit: int | None

    def select(self, rows: pa.Table) -> pa.Table:
        """Return the rows and columns that the query selects.

        Raises:
          BigQueryError: A column does not exist, or the condition is not emulated.
        """
        if self.condition:
            rows = filter_rows(rows, self.condition)
        names = _select_columns(self.columns, rows.column_names)
        fields = [rows.schema.field(name).with_name(alias) for name, alias in names]
        selected = pa.table([rows.column(name) for name, _ in names], schema=pa.schema(fields))
        return selected if self.limit is None else selected.slice(0, self.limit)


def find_statement_type(text: str) -> str:
    """Return the type of a statement, as a dry run has it.

    Raises:
      BigQueryError: It is not a statement.
    """
    words = re.findall(r"\w+", text.upper())[:2]
    if words and words[0] in ("SELECT", "WITH"):
        return "SELECT"
    if words and words[0] in _OTHER_STATEMENTS:
        return "_".join(words) if words[0] in ("CREATE", "DROP", "ALTER", "TRUNCATE") else words[0]
    word = text.split()[0] if text.split() else ""
    raise BigQueryError(400, "invalidQuery", f'Syntax error: Unexpected identifier "{word}" at [1:1]')


def parse(text: str) -> Query:
    """Return the query that a text is.

    Raises:
      BigQueryError: It is not a query, or of a form that is not emulated.
    """
    find_statement_type(text)
    match = _QUERY.fullmatch(text)
    if match is None or re.search(r"(?i)\b(join|union|group\s+by|order\s+by|having)\b", text):
        raise BigQueryError(
            400, "invalidQuery", "not emulated: expected SELECT columns FROM table [WHERE ...] [LIMIT n]"
        )
    limit = None if match["limit"] is None else int(match["limit"])
    return Query(match["columns"], match["table"].strip("`"), match["condition"] or "", limit)


def _select_columns(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names of the selected columns, each with its name in the result."""
    star = _ALL.fullmatch(text)
    if star is not None:
        excepted = {name.strip(" \n`") for name in (star["names"] or "").split(",")}
        return [(name, name) for name in names if name not in excepted]
    selected = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise BigQueryError(400, "invalidQuery", f"not emulated: the expression {item.strip()}")
        name = match[1].strip("`")
        if name not in names:
            raise BigQueryError(400, "invalidQuery", f"Unrecognized name: {name} at [1:{8 + text.index(item)}]")
        selected.append((name, (match[2] or name).strip("`")))
    return selected


def filter_rows(rows: pa.Table, condition: str) -> pa.Table:
    """Return the rows that meet a condition.

    Raises:
      BigQueryError: A column does not exist, or the condition is not emulated.
    """
    return rows.take(pa.array(_find_rows(rows, _TIMESTAMP.sub(_quote_time, condition)), pa.int64()))


def _quote_time(match: re.Match[str]) -> str:
    """Return a literal of a timestamp as SQLite compares it with a column."""
    try:
        time = datetime.datetime.fromisoformat(match[1])
    except ValueError as error:
        raise BigQueryError(400, "invalidQuery", f"Invalid timestamp: '{match[1]}'") from error
    return f"'{_write_time(time if time.tzinfo else time.replace(tzinfo=datetime.UTC))}'"


def _write_time(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).isoformat(sep=" ", timespec="microseconds")


def _find_rows(rows: pa.Table, condition: str) -> list[int]:
    quoted = [f'"{name}"' for name in rows.column_names]
    with sqlite3.connect(":memory:") as database:
        database.execute(f"CREATE TABLE t ({', '.join(quoted)})")
        values = zip(*(map(_to_sqlite, column.to_pylist()) for column in rows.columns), strict=True)
        database.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(quoted))})", values)
        try:
            # SQLite counts rows from 1.
            return [number - 1 for (number,) in database.execute(f"SELECT rowid FROM t WHERE {condition} ORDER BY 1")]
        except sqlite3.Error as error:
            text = str(error).replace("no such column", "Unrecognized name")
            raise BigQueryError(400, "invalidQuery", text) from error


def _to_sqlite(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return _write_time(value)
    return value if value is None or isinstance(value, int | float | str | bytes) else str(value)
