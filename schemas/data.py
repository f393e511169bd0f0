"""Where the rows of a pipeline are, how their files are written, and how they are divided into splits."""

import codecs
import datetime
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag, field_validator, model_validator

from schemas.declaration import Declaration, MissingValues, suggest_name
from schemas.tables.number_format import Decimal, NumberFormat, Thousands
from schemas.tables.ordering import check_format, explain_unordered

SplitName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
TRAIN_SPLIT, EVAL_SPLIT = "train", "eval"
# Where fewer distinct rows are shared out, equal rows are spread over the shares.
MIN_DISTINCT_ROWS = 1_000

Format = Literal["csv", "tfrecord", "parquet"]
# A name with other characters is read by a query.
TABLE = re.compile(r"(?:([a-z][a-z0-9.:-]*[a-z0-9])\.)?(\w+)\.([\w-]+)")
# Digits, signs of numbers and separators would make a number ambiguous.
CurrencySign = Annotated[str, Field(pattern=r"^[^\s0-9+\-()%,][^0-9+\-()%,]*$")]


class CsvOptions(Declaration):
    """How CSV files are written."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """One character, such as `;` or `"\\t"`."""
    column_names: tuple[str, ...] = ()
    """The names of the columns, in order, for files without a header. If omitted, the first row names them."""
    encoding: str = "utf-8"
    """Such as `latin-1`, `cp1252` or `utf-16`, for files that are not UTF-8. A byte order mark is left out of names."""
    strip_spaces: bool = False
    """Removes spaces around every value and name, as in `39, Private, 13`."""
    quote: Literal['"', "'", "none"] = '"'
    """The character around values that hold the delimiter or a line break; doubled, it stands for itself. With `none`,
    quotes are characters like any other (`5" nail`), and each line is a row."""
    decimal: Decimal = "."
    """The character before the fraction of a number: `,` reads `1108,98`, and then `1.5` is not a number. This and the
    next three apply to features and labels that are numbers, wherever their strings come from: files and requests.
    A number of JSON, Parquet or tf.Example is a number whatever they are."""
    thousands: Thousands | None = None
    """The character between groups of three digits: `,` reads `1,108.98`, but not `1,23`. A space stands for all
    kinds of spaces."""
    currency: tuple[CurrencySign, ...] = ()
    """Signs or codes that may stand before or after a number, such as `["$", "EUR"]`. `-$1.50`, `$-1.50` and `($1.50)`
    are negative. Amounts are not converted."""
    percent: bool = False
    """Reads `51.1%` as 0.511."""

    @property
    def number_format(self) -> NumberFormat:
        """How strings of columns of numbers are written."""
        return NumberFormat(self.decimal, self.thousands, self.currency, self.percent)

    @model_validator(mode="after")
    def _check_marks(self) -> "CsvOptions":
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}; a number would be ambiguous")
        if self.delimiter == self.quote:
            raise ValueError(f"delimiter and quote are both {self.quote!r}")
        return self

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError as error:
            raise ValueError(f"'{value}' is not an encoding of Python, such as utf-8 or latin-1") from error
        return value


class ReadOptions(Declaration):
    """How the values of a table are read, whatever they are for; a model keeps those of its training data.

    `other_columns` are the columns of the table that the model does not use. The values of those that
    `sensitive_columns` names are masked.
    """

    format: Format = "csv"
    csv: CsvOptions = CsvOptions()
    missing_values: MissingValues = ("",)
    other_columns: tuple[str, ...] = ()
    sensitive_columns: tuple[str, ...] = ()


class FileSplit(Declaration):
    """A split that is read from files."""

    files: str
    """Path or glob pattern below `data.base`; `.gz` files are decompressed. A file or folder of that very name goes
    before the pattern: `part[1].csv` is that file if it exists. In a pattern, `[[]`, `[*]` and `[?]` stand for
    themselves, and `**` for any number of folders. `{SPAN}` (or `{YYYY}`, `{MM}`, `{DD}`) and `{VERSION}` stand for
    numbers in a name, as in TFX: see `data.span`."""

    @property
    def pattern(self) -> str:
        """The pattern of the split in TFX's input config."""
        return self.files


class TableSplit(Declaration):
    """A split that is read from a table of BigQuery."""

    table: Annotated[str, Field(pattern=rf"^{TABLE.pattern}$")]
    """`DATASET.TABLE` of `data.bigquery.project`, or `PROJECT.DATASET.TABLE`. A view is read by a `query`."""

    @property
    def pattern(self) -> str:
        """The pattern of the split in TFX's input config."""
        return self.table


class QuerySplit(Declaration):
    """A split that is read from the result of a query of BigQuery."""

    query: Annotated[str, Field(pattern=r"\S\s+\S")]
    """One SELECT statement in GoogleSQL."""

    @property
    def pattern(self) -> str:
        """The pattern of the split in TFX's input config."""
        return self.query


class ExamplesSplit(Declaration):
    """A split that is read from a split of another ExampleGen."""

    examples: SplitName
    """Name of the split in the output of `data.example_gen`."""

    @property
    def pattern(self) -> str:
        """The pattern of the split in TFX's input config."""
        return self.examples


class HashSplit(Declaration):
    """A split that takes a fraction of the rows of another split, by a hash of the values of all features."""

    source: SplitName
    """The split that the rows are taken from; they are no longer in it."""
    fraction: Annotated[float, Field(gt=0, lt=1)]
    """The fraction of the rows. Rows that are equal in all features are in one split, whatever their labels and files.
    With `data.group_column`, all rows of a group are. Where fewer than 1,000 distinct rows are shared out, equal rows
    are spread instead, and each split gets at least one row. The run reports which of the two it did."""


class ColumnSplit(Declaration):
    """A split that takes the rows of another split whose column has certain values: a time, a region, a fold."""

    source: SplitName
    """The split that the rows are taken from; they are no longer in it. Splits with `fraction` come
    after those with `column`."""
    column: str
    """It need not be a feature."""
    values: tuple[str, ...] = ()
    """Values of the rows that are taken. Alternatively, set bounds."""
    at_least: float | str | None = None
    """Lower bound, included. Numbers are compared as numbers, strings letter by letter, which is right for times as
    ISO 8601 writes them: `"2013-11-01"`. Where letters do not order a value against the bound (`"9"` against `"10"`,
    or dates in another format), the run stops."""
    below: float | str | None = None
    """Upper bound, excluded."""
    date_format: str | None = None
    """Format of dates in the column and in the bounds, in the letters of `strptime`: `"%d/%m/%Y"`."""

    @field_validator("at_least", "below", mode="before")
    @classmethod
    def _convert_date(cls, value: object) -> object:
        # YAML reads a date without quotes as one; its text is ISO 8601.
        return str(value) if isinstance(value, datetime.date) else value

    @model_validator(mode="after")
    def _check_bounds(self) -> "ColumnSplit":
        bounds = [bound for bound in (self.at_least, self.below) if bound is not None]
        if bool(self.values) == bool(bounds):
            raise ValueError("give either values, or at_least or below or both")
        if len({isinstance(bound, str) for bound in bounds}) > 1:
            raise ValueError("at_least and below must both be numbers or both be texts")
        texts = [bound for bound in bounds if isinstance(bound, str)]
        if self.date_format is not None:
            if not texts:
                raise ValueError("date_format needs at_least or below, in quotes, as the column writes dates")
            check_format(self.date_format, texts)
        else:
            for reason in filter(None, map(explain_unordered, texts)):
                raise ValueError(reason)
        if len(bounds) == 2 and not self._to_ordered(bounds[0]) < self._to_ordered(bounds[1]):
            raise ValueError(f"at_least: {self.at_least} is not below 'below': {self.below}; no row would be taken")
        return self

    def _to_ordered(self, bound: Any) -> Any:
        """Return a bound as it is compared."""
        return bound if self.date_format is None else datetime.datetime.strptime(bound, self.date_format)


ReadSplit = FileSplit | TableSplit | QuerySplit | ExamplesSplit


def _find_split_kind(split: object) -> str:
    keys = ((ColumnSplit, "column"), (HashSplit, "fraction"), (HashSplit, "source"))
    for kind, key in (*keys, (TableSplit, "table"), (QuerySplit, "query"), (ExamplesSplit, "examples")):
        if isinstance(split, kind) or (isinstance(split, dict) and key in split):
            return kind.__name__
    return FileSplit.__name__


Split = Annotated[
    Annotated[FileSplit, Tag("FileSplit")]
    | Annotated[TableSplit, Tag("TableSplit")]
    | Annotated[QuerySplit, Tag("QuerySplit")]
    | Annotated[ExamplesSplit, Tag("ExamplesSplit")]
    | Annotated[HashSplit, Tag("HashSplit")]
    | Annotated[ColumnSplit, Tag("ColumnSplit")],
    Discriminator(_find_split_kind),
]


class BigQuery(Declaration):
    """Access to BigQuery, with the application default credentials."""

    project: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.:-]*[a-z0-9]$")]
    """The project that runs the queries and pays for what is read."""


class SourceExampleGen(Declaration):
    """Another TFX ExampleGen, which runs first and whose records are read."""

    component: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
    """Dotted path of its class, such as `tfx.components.ImportExampleGen`; its output `examples` has tf.Example."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class. `input_config`, `output_config` and `range_config` are mappings with the fields of TFX's
    messages. A relative `input_base` starts at the config's own folder."""


class Data(Declaration):
    """Location of the rows, and their division into splits."""

    format: Format | Literal["bigquery"] = "csv"
    """`tfrecord` is of tf.Example, plain or gzipped. For `bigquery`, see docs/how-to/bigquery.md."""
    csv: CsvOptions = CsvOptions()
    base: str = ""
    """The folder of the data, never a pattern; relative to the config's own folder. Required, unless the rows are in
    BigQuery or come from `example_gen`."""
    bigquery: BigQuery | None = None
    """Required with `format: bigquery`."""
    example_gen: SourceExampleGen | None = None
    """Needs `format: tfrecord`, and splits with `examples`. See docs/how-to/example_gen.md."""
    splits: dict[SplitName, Split]
    """`train` and `eval` are required: fitting reads `train`, early stopping watches `eval`."""
    missing_values: MissingValues = ("",)
    """The strings that stand for a missing value of a feature. A feature may have its own, and the label has."""
    ignored_columns: tuple[str, ...] = ()
    """Columns of the files that are not read; any other undeclared column is an error."""
    sensitive_columns: tuple[str, ...] = ()
    """Sensitive columns that are no features: ignored ones, the group's, and those that decide on splits. Their values
    are masked as those of a feature with `sensitive: true`: docs/how-to/sensitive-columns.md"""
    group_column: str | None = None
    """Rows with the same value here (a customer, a session) are kept in one split: shares are taken of groups, and a
    group found in two splits stops the run. It need not be a feature; it need not be named in `ignored_columns`."""
    weight_column: str | None = None
    """A column of numbers from 0 on: how much a row counts in the loss, the metrics, the statistics, the threshold and
    the calibration, as TFMA's `example_weight_key`. It is neither a feature nor an input of the served model. A row
    whose weight is missing or negative does not fit; weights of a split that are all 0 stop the run.
    docs/how-to/weights.md"""
    span: NonNegativeInt | None = None
    """The `{SPAN}` that is read, in its highest `{VERSION}`; dates count days since 1970. If omitted, the latest."""
    window: PositiveInt = 1
    """Number of spans that are read, the latest included. A missing span stops the run."""
    max_bad_rows: NonNegativeInt = 0
    """Number of rows that may be dropped because they do not fit: a wrong number of fields, a string in a numeric
    column, no label. They are counted, and written to `rejects.jsonl` beside the examples. One more stops the run."""
    schema_file: str | None = None
    """A curated schema (text format); relative to the config's own folder. If omitted, one is inferred from
    `train`. A value that is missing undeclared stops the run, and so do categories that `train` does not have, once
    they are more than 1% of a split. Numbers may be any."""

    @property
    def independent_splits(self) -> list[str]:
        """All but `train` and its hash shares: those whose distribution may be another."""
        return [n for n, split in self.splits.items() if not isinstance(split, HashSplit) and n != TRAIN_SPLIT]

    @property
    def read_splits(self) -> dict[str, ReadSplit]:
        """The splits that are not taken from others."""
        return {name: split for name, split in self.splits.items() if isinstance(split, ReadSplit)}

    @property
    def reads_files(self) -> bool:
        """Whether the rows are in files below `base`."""
        return self.bigquery is None and self.example_gen is None

    @property
    def input_base(self) -> str:
        """The folder of the files, or the project that reads BigQuery, as a URI."""
        return self.base if self.bigquery is None else f"bigquery://{self.bigquery.project}"

    @property
    def split_columns(self) -> list[str]:
        """The columns whose values decide on splits."""
        return sorted({split.column for split in self.splits.values() if isinstance(split, ColumnSplit)})

    def build_read_options(self, *label_columns: str) -> ReadOptions:
        """Return how a table like this is read, for whoever serves the model; `label_columns` are
        the label's column and its inputs.
        """
        others = [column for column in (self.group_column, self.weight_column) if column is not None]
        return ReadOptions(
            # Values of BigQuery are typed as those of Parquet, which batch prediction reads.
            format="parquet" if self.format == "bigquery" else self.format,
            csv=self.csv,
            missing_values=self.missing_values,
            other_columns=tuple(dict.fromkeys([*label_columns, *self.ignored_columns, *self.split_columns, *others])),
            sensitive_columns=self.sensitive_columns,
        )

    @model_validator(mode="after")
    def _check_source(self) -> "Data":
        if (self.format == "bigquery") != (self.bigquery is not None):
            if self.bigquery is None:
                raise ValueError("bigquery: is missing; give the project that reads: {project: PROJECT}")
            raise ValueError(f"bigquery: needs format: bigquery, found format: {self.format}")
        if self.example_gen is not None and self.format != "tfrecord":
            raise ValueError(f"example_gen: needs format: tfrecord, found format: {self.format}")
        if self.base and not self.reads_files:
            raise ValueError("base: is for files, and the rows are elsewhere; remove it")
        if self.reads_files and not self.base:
            raise ValueError("base: is missing; give the folder of the files")
        return self

    @model_validator(mode="after")
    def _check_splits(self) -> "Data":
        for needed in (TRAIN_SPLIT, EVAL_SPLIT):
            if needed not in self.splits:
                raise ValueError(f"splits needs '{needed}'; found: {', '.join(self.splits) or 'none'}")
        for name, split in self.splits.items():
            if isinstance(split, HashSplit | ColumnSplit):
                self._check_taken(name, split.source)
            elif not isinstance(split, self._kinds_read):
                expected = " or ".join(next(iter(kind.model_fields)) for kind in self._kinds_read)
                key = next(iter(type(split).model_fields))
                raise ValueError(f"splits.{name}: expected {expected}, found {key}; the rows are in {self._place}")
            elif isinstance(split, FileSplit):
                path = PurePosixPath(split.files)
                if ".." in path.parts or path.is_absolute():
                    raise ValueError(f"splits.{name}.files: '{split.files}' must lie below data.base")
        return self

    @property
    def _place(self) -> str:
        """The place of the rows, for errors."""
        return "files" if self.reads_files else "BigQuery" if self.bigquery is not None else "data.example_gen"

    @property
    def _kinds_read(self) -> tuple[type[Declaration], ...]:
        """The kinds of splits that are read from the place of the rows."""
        if self.bigquery is not None:
            return (TableSplit, QuerySplit)
        return (FileSplit,) if self.example_gen is None else (ExamplesSplit,)

    def _check_taken(self, name: str, source: str) -> None:
        """Reject a split that is not taken from one that is read, or takes all of its rows."""
        if source not in self.read_splits:
            hint = suggest_name(source, list(self.read_splits))
            raise ValueError(f"splits.{name}.source: '{source}' is not a split read from {self._place}; {hint}")
        total = sum(s.fraction for s in self.splits.values() if isinstance(s, HashSplit) and s.source == source)
        if total >= 1:
            raise ValueError(f"the fractions of '{source}' add up to {total:g}; they must leave it some rows")
