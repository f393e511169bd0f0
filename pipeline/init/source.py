"""Files of a table, and how they are written."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import ConfigError, DataError
from schemas.data import CsvOptions, Data, FileSplit, Format, HashSplit
from schemas.tables.csv_dialect import Quote, find_dialect
from schemas.tables.data_files import MissingFilesError, inputs, literal_start
from schemas.tables.file_kinds import table_format

_COMPRESSED, _MAX_SHOWN = (".gz", ".bz2", ".zst", ".zstd", ".xz", ".lz4"), 5


@dataclass(frozen=True)
class TableSource:
    """Files of a table, and how they are written.

    Attributes:
      base: Folder of the files.
      train: Path or glob pattern of the files below it.
      test: Path or glob pattern of test files of their own, or None.
      format: Format of the files.
      csv: Options of CSV files.
      notes: Notes on these options for the user.
    """

    base: Path
    train: str
    test: str | None
    format: Format
    csv: CsvOptions
    notes: Sequence[str] = ()


def find_source(
    data: str,
    *,
    test: str | None,
    delimiter: str | None,
    column_names: Sequence[str],
    header: bool,
    encoding: str | None = None,
    quote: Quote | None = None,
    is_masked: bool = False,
) -> TableSource:
    """Find the files of a table, their format and how they are written.

    Args:
      data: Path, glob pattern, or folder with files of one format.
      test: The same for a test split, in any folder.
      delimiter: Character between values of CSV; None to find it out.
      column_names: Names of the columns of CSV without a header.
      header: Whether the first row of CSV names the columns. Without it and without names, they are column_1, ...
      encoding: Encoding of CSV; None to find it out.
      quote: Character around values of CSV; None to find it out.
      is_masked: Whether notes and errors must not show the content of the files.

    Raises:
      DataError: There is no such file, or it cannot be read.
      ConfigError: A file is in both splits.
    """
    folder, pattern = _locate(data)
    base = Path(folder)
    test_pattern = None
    if test is not None:
        base, pattern, test_pattern = _merge_folders(folder, pattern, *_locate(test))
        _check_files(base, test_pattern, f"--test {test}")
        _check_files(base, pattern, data)
        both = sorted({*list_data_files(base, pattern)} & {*list_data_files(base, test_pattern)})
        if both:
            raise ConfigError(f"--test {test}: {both[0]} is among the files of {data} too; name the files of each")
    _check_files(base, pattern, data)
    first = list_data_files(base, pattern)[0]
    format = table_format(first)
    if format != "csv":
        return TableSource(base, pattern, test_pattern, format, CsvOptions())
    dialect = find_dialect(
        first,
        encoding=encoding,
        delimiter=delimiter,
        quote=quote,
        column_names=column_names,
        header=header,
        is_masked=is_masked,
    )
    return TableSource(base, pattern, test_pattern, format, dialect.options, dialect.notes)


def _find_ending(name: str) -> str:
    """Return the ending that marks the kind of a file.

    >>> _find_ending("sales.2024-01.csv"), _find_ending("sales.2024-01.csv.gz"), _find_ending("README")
    ('.csv', '.csv.gz', '')
    """
    suffixes = Path(name).suffixes
    return "".join(suffixes[-2:] if suffixes[-1:] and suffixes[-1] in _COMPRESSED else suffixes[-1:])


def _locate(data: str) -> tuple[str, str]:
    """Return the folder of files, which exists and is not a pattern, and their name or pattern below it."""
    path = Path(data).expanduser()
    if path.is_dir():
        files = [file.name for file in path.iterdir() if file.is_file() and file.name[0] not in "_."]
        endings = sorted({_find_ending(name) for name in files} - {""})
        if not endings:
            raise DataError(f"{data}: holds no data files; name those of its folders, as in '{path / '*' / '*.csv'}'")
        if len(endings) > 1:
            kinds = ", ".join(f"*{ending}" for ending in endings[:_MAX_SHOWN])
            raise DataError(
                f"{data}: holds files of {len(endings)} kinds ({kinds}); name one, as in '{path / f'*{endings[0]}'}'"
            )
        path = path / f"*{endings[0]}"
    return (str(path.parent), path.name) if path.is_file() else literal_start(str(path))


def _merge_folders(folder: str, pattern: str, test_folder: str, test_pattern: str) -> tuple[Path, str, str]:
    """Return the closest folder above both, and the two patterns below it."""
    # `link/..` is not the folder of the link.
    real = [
        os.path.realpath(path) if ".." in Path(path).parts else os.path.abspath(path) for path in (folder, test_folder)
    ]
    base = os.path.commonpath(real)
    below = [os.path.relpath(path, base) for path in real]
    if Path(base).is_relative_to(Path.cwd()):
        base = os.path.relpath(base)
    return (
        Path(base),
        os.path.normpath(os.path.join(below[0], pattern)),
        os.path.normpath(os.path.join(below[1], test_pattern)),
    )


def derive_name(data: str) -> str:
    """Return a name for a pipeline, from the path of its data.

    >>> derive_name("data/My Orders 2024.csv.gz")
    'my-orders-2024'
    """
    path = Path(data)
    stem = path.name.split(".")[0]
    if (re.search(r"[*?\[{]", stem) and not path.expanduser().exists()) or not stem:
        stem = path.parent.name
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:60] or "pipeline"


def list_data_files(base: Path, pattern: str) -> list[str]:
    """Return the files of a pattern below a folder."""
    data = Data(
        base=str(base), splits={"train": FileSplit(files=pattern), "eval": HashSplit(source="train", fraction=0.1)}
    )
    return [path for split_input in inputs(data) for path in split_input.files]


def _check_files(base: Path, pattern: str, argument: str) -> None:
    """Reject a pattern without files, by the words of the user."""
    try:
        list_data_files(base, pattern)
    except MissingFilesError as error:
        # The config whose key its message names is not written yet.
        raise DataError(f"{argument}: no such file") from error


def suggest_no_header(source: TableSource) -> str:
    """Return what to do if the first row of CSV is not a header; empty if that cannot be."""
    if source.format != "csv" or source.csv.column_names:
        return ""
    return "; if the first row is not a header, add --no-header or --column-names"
