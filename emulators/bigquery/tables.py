"""The tables of the emulated BigQuery: PROJECT.DATASET.TABLE is FOLDER/PROJECT/DATASET/TABLE.csv, .parquet or .sql.

A file of SQL is a view. An Arrow stream, `.arrows`, is a table that another emulator appends to. Columns have the Arrow
types that the Storage Read API gives to BigQuery's types.
"""

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from emulators.bigquery.errors import BigQueryError
from emulators.bigquery.queries import Query, parse

_NAME = re.compile(r"(.+)[.:]([^.:]+)\.([^.:]+)")
_ENDINGS = (".parquet", ".csv", ".csv.gz", ".sql", ".arrows")
# A key of Arrow: https://arrow.apache.org/docs/format/Columnar.html#extension-types
_EXTENSION = b"ARROW:extension:name"


@dataclass(frozen=True)
class StoredTable:
    """A table, a view, or the result of a query.

    Attributes:
      name: `PROJECT.DATASET.TABLE`.
      rows: Its rows.
      modified_ms: Time of its last change.
      type: `TABLE` or `VIEW`.
    """

    name: str
    rows: pa.Table
    modified_ms: int
    type: str = "TABLE"

    @property
    def reference(self) -> dict[str, str]:
        """The name as the REST API has it."""
        return dict(zip(("projectId", "datasetId", "tableId"), self.name.rsplit(".", 2), strict=True))

    @property
    def schema(self) -> dict[str, Any]:
        """The schema as the REST API has it."""
        return {"fields": [_describe(field) for field in self.rows.schema]}


class Catalog:
    """All tables.

    Attributes:
      folder: Folder of the files.
      denied: Names of the datasets that nobody may read.
    """

    def __init__(self, folder: Path, denied: tuple[str, ...] = ()) -> None:
        self.folder, self.denied = folder, denied
        self._lock = threading.Lock()
        self._results: dict[str, StoredTable] = {}

    def find(self, name: str, project: str = "") -> StoredTable:
        """Return a table.

        Args:
          name: `PROJECT.DATASET.TABLE`, or without the project.
          project: Project of a name without one.

        Raises:
          BigQueryError: It does not exist, or its dataset is denied.
        """
        if name.count(".") == 1 and ":" not in name:
            name = f"{project}.{name}"
        match = _NAME.fullmatch(name)
        if match is None:
            raise BigQueryError(400, "invalid", f'Invalid table name: "{name}"')
        project, dataset, table = match.groups()
        table_id = f"{project}:{dataset}.{table}"
        if dataset in self.denied:
            text = f"Access Denied: Table {table_id}: Permission bigquery.tables.get denied on table {table_id}"
            raise BigQueryError(403, "accessDenied", f"{text} (or it may not exist).")
        full_name = f"{project}.{dataset}.{table}"
        with self._lock:
            if full_name in self._results:
                return self._results[full_name]
        folder = self.folder / project / dataset
        if not folder.is_dir():
            raise BigQueryError(404, "notFound", f"Not found: Dataset {project}:{dataset}")
        for path in (folder / f"{table}{ending}" for ending in _ENDINGS):
            if path.is_file():
                return self._load(path, full_name)
        raise BigQueryError(404, "notFound", f"Not found: Table {table_id}")

    def _load(self, path: Path, name: str) -> StoredTable:
        modified_ms = path.stat().st_mtime_ns // 1_000_000
        if path.suffix == ".sql":
            rows = self.select(parse(path.read_text()), name.rsplit(".", 2)[0])
            return StoredTable(name, rows, modified_ms, "VIEW")
        readers = {".parquet": pyarrow.parquet.read_table, ".arrows": _read_stream}
        read = readers.get(path.suffix, pyarrow.csv.read_csv)
        return StoredTable(name, _convert(read(path)), modified_ms)

    def select(self, query: Query, project: str) -> pa.Table:
        """Return the rows of a query.

        Raises:
          BigQueryError: A table or a column does not exist, or a condition is not emulated.
        """
        return query.select(self.find(query.table, project).rows)

    def keep_result(self, name: str, rows: pa.Table, modified_ms: int) -> StoredTable:
        """Keep the result of a query as a table."""
        result = StoredTable(name, rows, modified_ms)
        with self._lock:
            self._results[name] = result
        return result


def _read_stream(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as file:
        return pa.ipc.open_stream(file).read_all()


def _convert(table: pa.Table) -> pa.Table:
    """Return a table with the types that the Storage Read API has."""
    columns, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        type = _convert_type(field.type)
        metadata = {_EXTENSION: b"google:sqlType:datetime"} if type == pa.timestamp("us") else field.metadata
        columns.append(column if type == column.type else column.cast(type))
        fields.append(pa.field(field.name, type, field.nullable, metadata))
    return pa.table(columns, schema=pa.schema(fields))


def _convert_type(type: pa.DataType) -> pa.DataType:
    is_type = pa.types
    if is_type.is_dictionary(type):
        return _convert_type(type.value_type)
    if is_type.is_integer(type):
        return pa.int64()
    if is_type.is_floating(type):
        return pa.float64()
    if is_type.is_large_string(type) or is_type.is_null(type):
        return pa.string()
    if is_type.is_date(type):
        return pa.date32()
    if is_type.is_time(type):
        return pa.time64("us")
    if is_type.is_timestamp(type):
        return pa.timestamp("us", "UTC" if type.tz else None)
    if is_type.is_decimal(type):
        is_numeric = type.scale <= 9 and type.precision - type.scale <= 29
        return pa.decimal128(38, 9) if is_numeric else pa.decimal256(76, 38)
    return type


def _describe(field: pa.Field) -> dict[str, Any]:
    """Return a column as the REST API has it."""
    type, mode = field.type, "NULLABLE" if field.nullable else "REQUIRED"
    if pa.types.is_list(type):
        return {**_describe(type.value_field), "name": field.name, "mode": "REPEATED"}
    described = {"name": field.name, "type": _find_type_name(field), "mode": mode}
    if pa.types.is_struct(type):
        described["fields"] = [_describe(type.field(index)) for index in range(type.num_fields)]
    return described


def _find_type_name(field: pa.Field) -> str:
    """Return the name of a column's type; that of an extension is the name behind its last colon."""
    extension = (field.metadata or {}).get(_EXTENSION)
    if extension is not None:
        return str(extension.decode().rpartition(":")[2].upper())
    if pa.types.is_struct(field.type):
        return "RECORD"
    if pa.types.is_timestamp(field.type):
        return "TIMESTAMP"
    names = {
        pa.int64(): "INTEGER",
        pa.float64(): "FLOAT",
        pa.bool_(): "BOOLEAN",
        pa.string(): "STRING",
        pa.binary(): "BYTES",
        pa.date32(): "DATE",
        pa.time64("us"): "TIME",
        pa.decimal128(38, 9): "NUMERIC",
        pa.decimal256(76, 38): "BIGNUMERIC",
    }
    if field.type not in names:
        raise BigQueryError(501, "notImplemented", f"not emulated: column {field.name} of Arrow type {field.type}")
    return names[field.type]
