"""The choices that a user makes beforehand, as flags of `init`."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from cli.errors import ConfigError, PipelineError
from schemas.declaration import did_you_mean
from schemas.features import LabelKind
from schemas.sensitive import MASK


@dataclass(frozen=True)
class Requests:
    """Choices of the user.

    Attributes:
      label: Column to predict.
      kind: Kind of the label; None to decide by evidence.
      keep: Columns that are features whatever speaks against it.
      drop: Columns that are left out.
      group: Column whose rows stay in one split.
      time: Column by which the splits are made.
      weight: Column of the rows' weights.
      missing_values: Strings that stand for a missing value, beside those that are found.
      sensitive: Columns whose values are masked.
    """

    label: str
    kind: LabelKind | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    missing_values: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()

    def mask(self, text: str) -> str:
        """Return a note, a reason or an error; only what it is about if it may show the values of a sensitive column.

        A profile shows values in many ways: as they are written, rounded, as bounds. So the whole text is masked.
        """
        names = [name for name in self.sensitive if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
        # What is wrong with the flag itself shows names alone.
        names = [] if text.startswith("--sensitive ") else names
        return f"{', '.join(map(repr, names))}: {MASK}, since it may show values" if names else text

    @contextmanager
    def mask_errors(self) -> Iterator[None]:
        """Mask the errors of the pipeline that may show the values of a sensitive column."""
        try:
            yield
        except PipelineError as error:
            if self.mask(str(error)) == str(error):
                raise
            raise type(error)(f"{self.mask(str(error))}; without --sensitive it is shown") from None

    def resolve(self, columns: Sequence[str], hint: str = "") -> "Requests":
        """Return the requests with all names held against the columns of the table.

        Args:
          columns: Names of the columns.
          hint: What else may be wrong with the names.

        Raises:
          ConfigError: There is no such column, or two flags contradict each other.
        """
        _check_column("--label", self.label, columns, hint)
        for column in self.sensitive:
            _check_column("--sensitive", column, columns, hint)
        keep = tuple(name for value in self.keep for name in _parse_names("--keep", value, columns, hint))
        drop = tuple(name for value in self.drop for name in _parse_names("--drop", value, columns, hint))
        for flag, name in (("--group", self.group), ("--time", self.time), ("--weight", self.weight)):
            if name is not None:
                _check_column(flag, name, columns, hint)
        uses = [("--label", (self.label,)), ("--keep", keep), ("--drop", drop)]
        uses += [("--weight", (self.weight,))] if self.weight is not None else []
        for number, (flag, names) in enumerate(uses):
            for other, others in uses[number + 1 :]:
                for name in names:
                    if name in others:
                        raise ConfigError(f"{other} {name}: is named by {flag} too; name it once")
        for flag, split_by in (("--group", self.group), ("--time", self.time)):
            if split_by == self.label:
                raise ConfigError(f"{flag} {split_by}: is the label; rows cannot be divided by what is predicted")
        return replace(self, keep=keep, drop=drop)


def _parse_names(flag: str, value: str, columns: Sequence[str], hint: str) -> list[str]:
    """Return the columns that a flag names: one, though its name has a comma, or several."""
    names = [value] if value in columns else [name.strip() for name in value.split(",")]
    for name in names:
        _check_column(flag, name, columns, hint)
    return names


def _check_column(flag: str, name: str, columns: Sequence[str], hint: str) -> None:
    if name not in columns:
        raise ConfigError(f"{flag} {name}: the data has no such column; {did_you_mean(name, list(columns))}{hint}")
