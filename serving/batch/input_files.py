"""The input of a batch prediction: which files, how they are read, and what is expected of their columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from cli.errors import ConfigError, DataError
from schemas.data import CsvOptions, Format, ReadOptions
from schemas.features import FeatureSet
from schemas.tables import locations
from schemas.tables.data_files import guessed_format, listed
from schemas.tables.file_kinds import table_format
from schemas.tables.locations import what_failed
from schemas.tables.readers import Terms, open_table
from schemas.tables.typed_columns import Columns, Table
from schemas.tables.values import feature_rules
from serving.batch.job import InputFile, Job

FLAGS = Terms(
    format="--format",
    encoding="--encoding",
    numbers="--decimal or --thousands",
    no_quotes="--quote none",
    unreadable="the model needs numbers or strings in it",
    missing_values="--missing-value",
    max_bad_rows="--max-bad-rows",
    declares="the model needs",
    copies="--key names",
    undeclared="name it in --ignore-column, or copy it with --key",
    for_missing="correct the row: the model was trained without missing values in this column",
)


def input_files(source: str) -> tuple[InputFile, ...]:
    """Return the files of a path, a pattern or a folder, as they are now.

    Raises:
      DataError: there are none.
    """
    return tuple(_described(path) for path in listed(source))


def input_format(source: str, files: Sequence[InputFile]) -> Format:
    """Return the format of files, by their names or, where these have no known ending, their content.

    Raises:
      ConfigError: there are several.
      DataError: a file cannot be read, or is not a table.
    """
    found = {guessed_format(file.path) or table_format(file.path): file.path for file in reversed(files)}
    if len(found) > 1:
        kinds = ", ".join(f"{format} ({path})" for format, path in sorted(found.items(), key=str))
        raise ConfigError(f"{source}: holds files of {len(found)} formats: {kinds}; name one, as in 'folder/*.csv'")
    (format,) = found
    return format


def reading(
    usual: ReadOptions,
    files: Sequence[InputFile],
    csv: Mapping[str, Any],
    missing_values: Sequence[str] | None,
    ignored_columns: Sequence[str] = (),
) -> ReadOptions:
    """How the files are read.

    Args:
      usual: what the model says.
      files: those ending in .tsv have tabs unless `csv` has another delimiter.
      csv: options that are given.
      missing_values: those that are given, or None.
      ignored_columns: columns that may be there, besides those of the training table.

    Raises:
      ConfigError: an option is not possible.
    """
    tabs = {"delimiter": "\t"} if all(".tsv" in file.path.lower() for file in files) else {}
    try:
        options = CsvOptions.model_validate({**usual.csv.model_dump(), **tabs, **csv})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if not problem["loc"]:
            raise ConfigError(f"how CSV is written: {problem['msg'].removeprefix('Value error, ')}") from error
        flag = str(problem["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{flag}: {problem['msg']}, found {problem['input']!r}") from error
    others = dict.fromkeys([*usual.other_columns, *ignored_columns])
    changes: dict[str, Any] = {"csv": options, "other_columns": tuple(others)}
    if missing_values is not None:
        changes["missing_values"] = tuple(missing_values)
    return usual.model_copy(update=changes)


def check_names(job: Job, features: FeatureSet) -> None:
    """Refuses files without the columns that are needed, before anything is loaded.

    Of TFRecord, where every record may have other features, and of remote files only the first is looked at.

    Raises:
      DataError: naming the file and the column.
    """
    for file in job.inputs:
        input_table(file.path, job, features, 0).check_names()
        if job.format == "tfrecord" or "://" in file.path:
            return


def input_table(path: str, job: Job, features: FeatureSet, max_bad_rows: int) -> Table:
    """Return an input file with the columns that the model needs and the keys; the training table's others may be
    there.
    """
    rules = feature_rules(features, job.reading)
    others = [*job.reading.other_columns, *job.keys]
    reader = open_table(path, job.format, job.reading.csv, only={*rules, *job.keys}, terms=FLAGS)
    columns = Columns(rules, job.reading.missing_values, ignored=others, copied=job.keys)
    return Table(reader, columns, max_bad_rows, may_be_empty=True)


def _described(path: str) -> InputFile:
    try:
        filesystem, location = locations.filesystem(path)
        info = filesystem.get_file_info(location)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {what_failed(error)}") from error
    return InputFile(path=path, bytes=info.size or 0, modified=str(info.mtime_ns or ""))
