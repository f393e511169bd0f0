"""A local BigQuery with tables of a test, which Google's clients find by the environment."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from emulators.bigquery.server import BigQueryServer

PROJECT, BASE = "my-project", "bigquery://my-project"


@dataclass(frozen=True)
class Warehouse:
    """A running emulator of BigQuery, with the datasets `shop` and `denied` of one project."""

    folder: Path

    def write(self, name: str, table: pa.Table) -> Path:
        """Write a table of `shop`; return its file."""
        path = self.folder / PROJECT / "shop" / f"{name}.parquet"
        pyarrow.parquet.write_table(table, path)
        return path

    def write_view(self, name: str, query: str) -> None:
        (self.folder / PROJECT / "shop" / f"{name}.sql").write_text(query)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    """Yield an emulator whose address is in the environment."""
    folder = tmp_path / "bigquery"
    (folder / PROJECT / "shop").mkdir(parents=True)
    with BigQueryServer(folder, denied=("denied",)) as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        yield Warehouse(folder)
