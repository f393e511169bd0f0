"""The input files of a batch prediction, their format, their read options and the check of their columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from cli.errors import ConfigError, DataError
from schemas.data import CsvOptions, Format, ReadOptions
from schemas.features import FeatureSet
from schemas.sensitive import find_sensitive
from schemas.tables import locations
from schemas.tables.data_files import guess_format, list_files
from schemas.tables.file_kinds import detect_table_format
from schemas.tables.locations import describe_cause
from schemas.tables.readers import Terms, open_table
from schemas.tables.typed_columns import Columns, Table
from schemas.tables.values import build_feature_rules
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
    for_times="correct the row: the model was trained with times in this format",
)


def list_input_files(source: str) -> tuple[InputFile, ...]:
    """Return the files of a path, a pattern or a folder, as they are now.

    Raises:
      DataError: no file matches.
    """
    return tuple(_describe(path) for path in list_files(source))


def detect_format(source: str, files: Sequence[InputFile]) -> Format:
    """Return the format of files, by their names or, for names without a known ending, by their content.

    Raises:
      ConfigError: the files have several formats.
      DataError: a file cannot be read, or is not a table.
    """
    formats = {guess_format(file.path) or detect_table_format(file.path): file.path for file in reversed(files)}
    if len(formats) > 1:
        kinds = ", ".join(f"{format} ({path})" for format, path in sorted(formats.items(), key=str))
        raise ConfigError(f"{source}: holds files of {len(formats)} formats: {kinds}; name one, as in 'folder/*.csv'")
    (format,) = formats
    return format


def build_read_options(
    defaults: ReadOptions,
    files: Sequence[InputFile],
    csv: Mapping[str, Any],
    missing_values: Sequence[str] | None,
    ignored_columns: Sequence[str] = (),
) -> ReadOptions:
    """Return the options of reading the files.

    Args:
      defaults: options of the model.
      files: input files; the delimiter of .tsv files is a tab unless `csv` has another one.
      csv: options of the user.
      missing_values: missing values of the user, or None.
      ignored_columns: columns that may exist besides those of the training table.

    Raises:
      ConfigError: an option is invalid.
    """
    tabs = {"delimiter": "\t"} if all(".tsv" in file.path.lower() for file in files) else {}
    try:
        options = CsvOptions.model_validate({**defaults.csv.model_dump(), **tabs, **csv})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if not problem["loc"]:
            raise ConfigError(f"options of CSV: {problem['msg'].removeprefix('Value error, ')}") from error
        flag = str(problem["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{flag}: {problem['msg']}, found {problem['input']!r}") from error
    others = dict.fromkeys([*defaults.other_columns, *ignored_columns])
    changes: dict[str, Any] = {"csv": options, "other_columns": tuple(others)}
    if missing_values is not None:
        changes["missing_values"] = tuple(missing_values)
    return defaults.model_copy(update=changes)


def check_names(job: Job, features: FeatureSet) -> None:
    """Reject files without the needed columns, before anything is loaded.

    Only the first of TFRecord files and of remote files is checked; every record of TFRecord may have other features.

    Raises:
      DataError: a column is missing; names the file and the column.
    """
    for file in job.inputs:
        open_input(file.path, job, features, 0).check_names()
        if job.format == "tfrecord" or "://" in file.path:
            return


def open_input(path: str, job: Job, features: FeatureSet, max_bad_rows: int) -> Table:
    """Return the table of an input file with the model's columns and the keys; it may have other training columns."""
    rules = build_feature_rules(features, job.reading)
    others = [*job.reading.other_columns, *job.keys]
    sensitive = find_sensitive(features, job.reading)
    only = {*rules, *job.keys}
    reader = open_table(path, job.format, job.reading.csv, only=only, terms=FLAGS, is_masked=bool(sensitive))
    columns = Columns(rules, job.reading.missing_values, ignored=others, copied=job.keys, sensitive=sensitive)
    return Table(reader, columns, max_bad_rows, may_be_empty=True)


def _describe(path: str) -> InputFile:
    try:
        filesystem, location = locations.open_filesystem(path)
        info = filesystem.get_file_info(location)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {describe_cause(error)}") from error
    return InputFile(path=path, bytes=info.size or 0, modified=str(info.mtime_ns or ""))
