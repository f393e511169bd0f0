"""Which columns `init` makes features, of which kind, and which it leaves out."""

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml

from cli.errors import ConfigError, DataError
from pipeline.config import pipeline_config
from pipeline.init.column_kinds import recognize
from pipeline.init.kinds import ColumnKind
from pipeline.init.requests import Requests
from pipeline.init.source import find_source
from pipeline.init.starter import write_starter
from pipeline.profile.columns import Column
from pipeline.profile.targets import build_target
from pipeline.run import preflight
from pipeline.run.run_root import RunRoot
from schemas.curated.schema_file import load_schema
from schemas.tables.items import join_items

ROWS = 1000
RANDOM = np.random.default_rng(11)
SIZE = RANDOM.normal(size=ROWS).round(3)
BOUGHT = np.where(SIZE + RANDOM.normal(size=ROWS) > 0, "yes", "no")


class Written:
    """Config and schema that `init` writes for a table: of CSV, or of Parquet if a column is an array of Arrow."""

    def __init__(self, folder: Path, columns: dict[str, Any], **requests: Any) -> None:
        self.folder = folder
        columns = {"bought": BOUGHT, "size": SIZE, **columns}
        rows = max(map(len, columns.values()))
        arrays = {
            name: vs if isinstance(vs, pa.Array) else pa.array([None if v is None else str(v) for v in vs])
            for name, vs in columns.items()
        }
        assert {len(array) for array in arrays.values()} == {rows}
        if any(isinstance(values, pa.Array) for values in columns.values()):
            file = folder / "a.parquet"
            pa.parquet.write_table(pa.table(arrays), file)
        else:
            file = folder / "a.csv"
            pa.csv.write_csv(pa.table(arrays), file)
        source = find_source(str(file), test=None, delimiter=None, column_names=(), header=True)
        starter = write_starter(
            source,
            Requests(**{"label": "bought", **requests}),
            name="a",
            config_folder=folder,
            schema_path=folder / "a.pbtxt",
        )
        (folder / "a.yaml").write_text(starter.config)
        (folder / "a.pbtxt").write_text(starter.schema)
        self.notes = starter.decision.notes.texts
        document = yaml.load(starter.config, yaml.CSafeLoader)
        self.features: dict[str, Any] = document["features"]
        self.severities: list[dict[str, Any]] = document["validation"].get("severities", [])
        lines = starter.config.splitlines()
        entries = [line.strip()[2:].split(" # ", 1) for line in lines if line.startswith("    - ") and " # " in line]
        self.ignored = {yaml.safe_load(name): why for name, why in entries if name[0] != "{"}
        self.reasons = {
            yaml.safe_load(line.split(": {")[0].strip()): line.split(" # ", 1)[1]
            for line in lines
            if line.startswith("  ") and ": {kind: " in line and " # " in line and "explain" in line
        }

    def check(self) -> list[str]:
        """Return the warnings of preflight."""
        return preflight.check(pipeline_config.load(self.folder / "a.yaml"), RunRoot(self.folder / "run")).warnings


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("", range(ROWS), "number of the row"),
        ("Unnamed: 0", range(ROWS), "number of the row"),
        ("__index_level_0__", RANDOM.permutation(5 * ROWS)[:ROWS], "number of the row"),
        ("anything", range(1, ROWS + 1), "number of the row"),
        ("", RANDOM.integers(0, 9, ROWS), "has no name; give it one to use it"),
        ("order", [f"O-{n}" for n in range(ROWS)], "id: 1,000 different values in 1,000 rows"),
        ("member", RANDOM.permutation(ROWS), "id: 1,000 different values in 1,000 rows"),
        ("customer_id", RANDOM.choice(90 * ROWS, ROWS, replace=False), "id: 1,000 different values in 1,000 rows"),
        (
            "account",
            10_000_000 + RANDOM.choice(9 * 10**7, ROWS, replace=False),
            "id: 1,000 different values in 1,000 rows",
        ),
        ("ticket", [f"t{n // 1.5:.0f}" for n in range(ROWS)], "id: 667 different values, 1.5 rows a value"),
        ("quarter", [f"20{n % 20:02}-Q{n % 4 + 1}" for n in range(ROWS)], "quarter of a year, such as '20"),
        ("shop", ["main"] * ROWS, "constant: always 'main'"),
        ("huge", ["1", "1e300"] * (ROWS // 2), "numbers up to 1e+300, which float32 cannot hold"),
        ("rare", ["x", "y", *([None] * (ROWS - 2))], "missing in 99.8% of the rows"),
        ("size.", SIZE, ""),
    ],
)
def test_columns_that_are_left_out(name: str, values: Any, why: str, tmp_path: Path) -> None:
    written = Written(tmp_path, {name: values})
    if why:
        assert {*written.ignored} == {name}
        assert written.ignored[name].startswith(why)
    assert written.check() == []


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("user_id", RANDOM.integers(10**6, 10**6 + 200, ROWS), "vocabulary"),
        ("userid", RANDOM.integers(10**6, 10**6 + 200, ROWS), "vocabulary"),
        ("storeNo", RANDOM.integers(100, 300, ROWS), "vocabulary"),
        ("zip", RANDOM.integers(10_000, 10_200, ROWS), "vocabulary"),
        ("paid", RANDOM.integers(100, 300, ROWS), "numeric"),
        ("population", RANDOM.lognormal(11, 2, ROWS).round(), "numeric"),
        ("price", RANDOM.integers(100_000, 999_999, ROWS), "numeric"),
        ("year", 1000 + np.arange(ROWS), "numeric"),
        ("hour", np.arange(ROWS) % 24, "numeric"),
        ("rooms", RANDOM.integers(1, 9, ROWS), "numeric"),
        ("score", 2.0 * RANDOM.integers(0, 5, ROWS), "numeric"),
        ("term", RANDOM.choice([36, 60], ROWS), "numeric"),
        ("level", RANDOM.integers(-3, 3, ROWS), "numeric"),
        ("flag", RANDOM.choice(["TRUE", "FALSE"], ROWS), "vocabulary_list"),
        ("weight", [f"{n % 90} kg" for n in range(ROWS)], "vocabulary"),
    ],
)
def test_kinds_of_features(name: str, values: Any, kind: str, tmp_path: Path) -> None:
    written = Written(tmp_path, {name: values})
    assert written.ignored == {}
    assert written.features[name]["kind"] == kind
    assert written.check() == []


def test_a_real_year_by_row_is_a_number(tmp_path: Path) -> None:
    columns = {"bought": BOUGHT[:120], "size": SIZE[:120], "year": range(1900, 2020)}
    assert Written(tmp_path, columns).features["year"]["kind"] == "numeric"


def test_numbers_whose_values_say_more_than_their_size_are_codes(tmp_path: Path) -> None:
    station = RANDOM.integers(0, 100, 8000)
    level = RANDOM.normal(size=100)[RANDOM.permutation(100)]
    label = np.where(level[station] + 0.3 * RANDOM.normal(size=8000) > 0, "yes", "no")
    age = RANDOM.integers(0, 100, 8000)
    written = Written(tmp_path, {"bought": label, "size": RANDOM.normal(size=8000), "s": station, "age": age})
    assert written.features["s"]["kind"] == "vocabulary"
    assert "its values explain" in written.reasons["s"]
    assert written.features["age"]["kind"] == "numeric"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (RANDOM.lognormal(5, 1, ROWS), "log_z_score"),
        (-RANDOM.lognormal(5, 1, ROWS), "log_z_score"),
        (RANDOM.lognormal(8, 1, ROWS) * RANDOM.integers(0, 2, ROWS), "log_z_score"),
        (RANDOM.normal(0, 1, ROWS), "z_score"),
        (RANDOM.normal(0.01, 10, ROWS), "z_score"),
        (RANDOM.normal(1000, 5, ROWS), "z_score"),
        (RANDOM.uniform(0, 1, ROWS), "z_score"),
    ],
)
def test_the_scale_follows_the_skewness(values: Any, scale: str, tmp_path: Path) -> None:
    written = Written(tmp_path, {"x": np.asarray(values).round(4)})
    assert written.features["x"]["scale"] == scale
    assert ("skewness" in written.reasons["x"]) == (scale == "log_z_score")


def test_buckets_of_a_small_table_are_for_what_a_line_misses(tmp_path: Path) -> None:
    few, wave = RANDOM.choice([0, 100, 200, 700], ROWS), RANDOM.uniform(-4, 4, ROWS).round(3)
    label = np.where(np.isin(few, [0, 200]) + 2 * np.cos(wave) + RANDOM.normal(size=ROWS) > 0.5, "yes", "no")
    written = Written(tmp_path, {"few": few, "wave": wave, "bought": label})
    assert written.features["few"]["buckets"] == {"kind": "boundaries", "boundaries": [50.0, 150.0, 450.0]}
    assert written.features["wave"]["buckets"] == {"kind": "quantiles", "count": 32}
    assert "buckets" not in written.features["size"] and "embedding" not in written.features["size"]
    straight = Written(tmp_path, {"few": few, "wave": wave})
    assert "buckets" not in straight.features["size"]
    rows = 10_000
    label = np.where(RANDOM.normal(size=rows) > 0, "yes", "no")
    assert "buckets" in Written(tmp_path, {"bought": label, "size": RANDOM.normal(size=rows)}).features["size"]


def test_combinations_of_a_lookup_table_are_crossed(tmp_path: Path) -> None:
    first, other = RANDOM.integers(0, 10, 6000), RANDOM.integers(0, 9, 6000)
    price = 10 + (7 * first * other) % 23
    columns = {
        "price": price,
        "size": [f"s{n}" for n in other],
        "bought": [f"p{n}" for n in first],
    }
    written = Written(tmp_path, columns, label="price")
    assert "crosses" in (tmp_path / "a.yaml").read_text() and "together 100.0%" in (tmp_path / "a.yaml").read_text()
    assert written.check() == []


def test_a_strong_honest_feature_is_kept_with_one_note(tmp_path: Path) -> None:
    price = (1000 + 300 * SIZE + 60 * RANDOM.normal(size=ROWS)).round(2)
    again = (SIZE + 0.1 * RANDOM.normal(size=ROWS)).round(3)
    written = Written(tmp_path, {"price": price, "again": again}, label="price")
    assert {"size", "again"} <= {*written.features} and written.severities == []
    (note,) = [note for note in written.notes if "each explain" in note]
    assert note.startswith("'size' (9") and "'again' (9" in note and "--drop" in note


def test_a_leak_is_left_out_and_the_flag_that_keeps_it_is_named(tmp_path: Path) -> None:
    written = Written(tmp_path, {"was bought": [f"was {value}" for value in BOUGHT]})
    assert written.ignored["was bought"].startswith("LEAK? explains 9") or "100" in written.ignored["was bought"]
    (note,) = [note for note in written.notes if "likely leak" in note]
    assert "'was bought' explains" in note and "--keep 'was bought'" in note


def test_a_leak_of_any_kind_is_left_out_or_kept(tmp_path: Path) -> None:
    columns = {
        "tags": [f"{'won' if value == 'yes' else 'lost'}|t{n % 3}" for n, value in enumerate(BOUGHT)],
        "at": [f"2024-0{1 if value == 'yes' else 2}-01" for value in BOUGHT],
    }
    written = Written(tmp_path, columns)
    assert {name: why.split(" explains")[0] for name, why in written.ignored.items()} == {
        "tags": "LEAK?",
        "at": "LEAK?",
    }
    assert written.check() == []
    kept = Written(tmp_path, columns, keep=("tags", "at"))
    assert [kept.features[name]["kind"] for name in columns] == ["list", "timestamp"]
    assert len(kept.check()) == 2


def test_a_kept_leak_runs(tmp_path: Path) -> None:
    written = Written(tmp_path, {"copy": BOUGHT}, keep=("copy",))
    assert written.features["copy"]["kind"] == "vocabulary_list"
    assert written.severities == [{"anomaly": "LABEL_LEAK", "features": ["copy"], "severity": "warn"}]
    (warning,) = written.check()
    assert "copy: explains" in warning and warning.endswith("[LABEL_LEAK]")
    assert any("severities" in note for note in written.notes)


def test_a_sum_is_left_out_or_kept(tmp_path: Path) -> None:
    casual, registered = RANDOM.poisson(90, ROWS), RANDOM.poisson(400, ROWS)
    columns = {"casual": casual, "registered": registered, "count": casual + registered}
    written = Written(tmp_path, columns, label="count")
    assert {*written.ignored} == {"casual", "registered"}
    assert "'registered' + 'casual' explains 100.0% of the label" in written.ignored["casual"]
    assert any("'registered' + 'casual'" in note and "--keep 'casual'" in note for note in written.notes)
    single = Written(tmp_path, columns, label="count", keep=("registered",))
    assert {*single.ignored} == {"casual"} and single.severities == [] and single.check() == []
    both = Written(tmp_path, columns, label="count", keep=("registered", "casual"))
    assert both.ignored == {}
    assert both.severities == [{"anomaly": "LABEL_LEAK", "features": ["casual", "registered"], "severity": "warn"}]
    assert all("[LABEL_LEAK]" in warning for warning in both.check()) and len(both.check()) == 2


@pytest.mark.parametrize(
    ("values", "expected", "parts"),
    [
        ([f"2013-{n % 12 + 1:02}-{n % 28 + 1:02}" for n in range(ROWS)], "iso8601", {"weekday", "month"}),
        (
            [f"{n % 28 + 1}.{n % 12 + 1:02}.2013 {n % 24}:30" for n in range(ROWS)],
            "%d.%m.%Y %H:%M",
            {"hour", "weekday", "month"},
        ),
        ([f"{n % 28 + 1:02}.{n % 12 + 1:02}.23" for n in range(ROWS)], "%d.%m.%y", {"weekday", "month"}),
        ([f"{n % 12 + 1:02}-{n % 28 + 1:02}-23" for n in range(ROWS)], "%m-%d-%y", {"weekday", "month"}),
        ([f"{n % 12 + 1:02}.{n % 28 + 1:02}.2023" for n in range(ROWS)], "%m.%d.%Y", {"weekday", "month"}),
        # Read as month and day, these would be further apart.
        ([f"{n % 28 + 1:02}/03/2013" for n in range(12)] * 90, "%d/%m/%Y", {"weekday"}),
        ([f"{n % 12 + 1}:{n % 60:02} PM" for n in range(ROWS)], "time_of_day", {"hour"}),
        (1_300_000_000 + 86_400 * np.arange(ROWS), "epoch_seconds", {"weekday", "month"}),
        (10**12 + 10**8 * np.arange(ROWS), "epoch_milliseconds", {"hour", "weekday", "month"}),
    ],
)
def test_times_become_their_parts(values: Any, expected: str, parts: set[str], tmp_path: Path) -> None:
    written = Written(tmp_path, {"at": values[:ROWS]})
    feature = written.features["at"]
    assert (feature["kind"], feature["format"]) == ("timestamp", expected)
    assert {*feature["parts"]} - {"day_of_month", "days_since_1970"} == parts
    assert not any(word in warning for warning in written.check() for word in ("DATE", "at:"))


@pytest.mark.parametrize(
    "values",
    [
        ["".join(RANDOM.choice(list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往"), 3)) for _ in range(ROWS)],
        [f"号{n:012}" for n in range(ROWS)],
    ],
)
def test_names_of_people_and_ids_in_chinese_are_no_texts(values: list[str], tmp_path: Path) -> None:
    assert Written(tmp_path, {"column": values}).ignored["column"].startswith("id: ")


def test_one_long_value_makes_ids_no_text(tmp_path: Path) -> None:
    written = Written(tmp_path, {"column": [f"O-{n}" if n != 300 else "word " * 10_000 for n in range(ROWS)]})
    assert written.ignored["column"].startswith("id: ")


HOURS = [f"2023-{n % 12 + 1:02}-{n % 28 + 1:02}T{n % 24:02}:15:00" for n in range(ROWS)]


@pytest.mark.parametrize(
    "bad", ["2023-02-29T10:00:00", "2023-02-28T10:00:00+99:00", "0001-01-01T00:00:00", "28.02.2023 10:00"]
)
@pytest.mark.parametrize("count", [1, 7])
def test_few_bad_times_are_bad_rows_with_a_note(bad: str, count: int, tmp_path: Path) -> None:
    places = [300 + 7 * n for n in range(count)]
    # Each is another value, since a repeated one may stand for a missing value.
    values = [bad.replace(":00", f":{places.index(n):02}", 1) if n in places else HOURS[n] for n in range(ROWS)]
    written = Written(tmp_path, {"at": values})
    assert (written.features["at"]["kind"], written.features["at"]["format"]) == ("timestamp", "iso8601")
    (note,) = [note for note in written.notes if note.startswith("'at'")]
    rows, done, which = ("1 row does", "it is", "it") if count == 1 else ("7 rows do", "they are", "them")
    assert note.startswith(f"'at': {rows} not fit, as in {tmp_path}/a.csv:302: ") and f"{bad!r}" in note
    assert note.endswith(
        f"; {done} left out (data.max_bad_rows): correct {which}, or name what stands for a missing value with "
        "--missing-value"
    )
    assert pipeline_config.load(tmp_path / "a.yaml").data.max_bad_rows == count
    assert written.check() == []


def test_what_is_missing_is_a_number_of_its_own_if_it_explains_the_label(tmp_path: Path) -> None:
    numbers = RANDOM.normal(size=ROWS).round(3)
    shares = np.where(BOUGHT == "yes", 0.4, 0.1)
    columns = {
        name: [None if missing else number for missing, number in zip(rows, numbers, strict=True)]
        for name, rows in (("income", RANDOM.random(ROWS) < shares), ("chance", RANDOM.random(ROWS) < 0.25))
    }
    features = Written(tmp_path, columns).features
    assert (features["income"]["missing"], features["income"]["missing_indicator"]) == ("mean", True)
    assert (features["chance"]["missing"], features["chance"].get("missing_indicator")) == ("mean", None)


@pytest.mark.parametrize("share", [5, 3])
def test_a_column_with_many_strings_among_its_times_is_noted(share: int, tmp_path: Path) -> None:
    """Without a note, a tenth of other strings made categories of the times."""
    values = [f"order {n % 50}" if n % (2 * share) == 0 else HOURS[n][:10] for n in range(ROWS)]
    written = Written(tmp_path, {"at": values, "order": [f"order {n % 50}" for n in range(ROWS)]})
    (note,) = [note for note in written.notes if note.startswith("'at'")]
    assert re.match(r"'at' holds times, and other strings in about \d+% of its rows, such as 'order ", note)
    assert note.endswith(
        "not read as times; correct these rows, or name what stands for a missing value with --missing-value"
    )
    assert not [note for note in written.notes if note.startswith("'order'")]


@pytest.mark.parametrize(
    ("zone", "time_zone"), [("Europe/Berlin", "Europe/Berlin"), ("UTC", None), ("+05:30", None), (None, None)]
)
def test_times_of_parquet_are_read_in_their_time_zone(zone: str | None, time_zone: str | None, tmp_path: Path) -> None:
    # In Berlin in summer, 22:30 in UTC is half past midnight of the next day.
    hours = np.datetime64("2024-06-01T22:30:00") + 3600 * (np.arange(ROWS) % 2).astype("timedelta64[s]")
    label = np.where((np.arange(ROWS) % 2 == 0) ^ (RANDOM.random(ROWS) < 0.2), "yes", "no")
    days = 86_400 * np.arange(ROWS).astype("timedelta64[s]")
    written = Written(tmp_path, {"bought": label, "at": pa.array(hours + days).cast(pa.timestamp("us", zone))})
    feature = written.features["at"]
    assert (feature["format"], feature.get("time_zone")) == ("iso8601", time_zone)
    assert written.check() == []


def test_times_of_parquet_files_of_several_zones_are_read_in_utc(tmp_path: Path) -> None:
    times = pa.array(np.datetime64("2024-06-01T22:30:00") + 7200 * np.arange(ROWS).astype("timedelta64[s]"))
    for name, zone in (("a", "Europe/Berlin"), ("b", "America/Chicago")):
        columns = {"bought": BOUGHT, "at": times.cast(pa.timestamp("us", zone))}
        pa.parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    source = find_source(str(tmp_path / "*.parquet"), test=None, delimiter=None, column_names=(), header=True)
    config = write_starter(
        source, Requests("bought"), name="a", config_folder=tmp_path, schema_path=tmp_path / "a.pbtxt"
    ).config
    assert "time_zone" not in yaml.safe_load(config)["features"]["at"]


@pytest.mark.parametrize(
    ("values", "is_ambiguous"),
    [
        ([f"{n % 28 + 1:02} May 2024" for n in range(ROWS)], False),
        ([f"{n % 12 + 1:02} March 2024" for n in range(ROWS)], False),
        ([f"2024/{n % 12 + 1:02}/{n % 11 + 1:02}" for n in range(ROWS)], False),
        ([f"{n % 12 + 1:02}/{n % 11 + 1:02}/2024" for n in range(ROWS)], True),
        ([f"{n % 12 + 1:02}.{n % 11 + 1:02}.24" for n in range(ROWS)], True),
        ([f"{n % 12 + 1:02}.{n % 28 + 1:02}.24" for n in range(ROWS)], False),
    ],
)
def test_day_and_month_in_the_other_order_are_noted_if_they_can_be(
    values: list[str], is_ambiguous: bool, tmp_path: Path
) -> None:
    written = Written(tmp_path, {"at": values})
    assert written.features["at"]["kind"] == "timestamp"
    assert ("other order" in written.reasons["at"]) == is_ambiguous
    assert "ambiguous" not in written.reasons["at"]


@pytest.mark.parametrize("marker", ["0001-01-01T00:00:00", "9999-12-31T23:59:59.997"])
def test_the_first_and_the_last_day_of_all_stand_for_a_missing_time(marker: str, tmp_path: Path) -> None:
    written = Written(tmp_path, {"at": [marker if n % 12 == 0 else HOURS[n] for n in range(ROWS)]})
    feature = written.features["at"]
    assert (feature["format"], feature["missing"], feature["missing_values"]) == ("iso8601", "own_id", ["", marker])
    (note,) = [note for note in written.notes if note.startswith("'at'")]
    assert note == f"'at' is {marker!r} in 84 rows: declared as missing (features.at.missing_values)"
    assert written.check() == []


def test_times_in_two_formats_are_left_out(tmp_path: Path) -> None:
    values = [HOURS[n] if n % 2 else f"{n % 28 + 1:02}.{n % 12 + 1:02}.2023 {n % 24:02}:15" for n in range(ROWS)]
    reason = (
        "times in several formats, 500 rows such as '2023-02-02T01:15:00' and 500 rows such as '01.01.2023 00:15'; "
        "write them in one"
    )
    written = Written(tmp_path, {"at": values})
    assert written.ignored == {"at": reason}
    assert written.notes == [f"left out: 'at': {reason}"]
    with pytest.raises(ConfigError, match="--keep at: times in several formats, 500 rows"):
        Written(tmp_path, {"at": values}, keep=("at",))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"it was a good day number {n}" for n in range(ROWS)], {"kind": "text", "word_ngrams": 2}),
        (
            ["Action|Comedy", "Drama", "Comedy|Drama|Action", "Horror", "Drama|Horror"] * 200,
            {"kind": "list", "delimiter": "|"},
        ),
        ([f"[{n / 7:.3f}, {n / 3:.3f}]" for n in range(ROWS)], {"kind": "vector", "length": 2}),
        (
            ["".join(RANDOM.choice(list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往"), 14)) + "。" for _ in range(ROWS)],
            {"kind": "text", "word_ngrams": 1, "character_ngrams": [1, 2, 3], "max_tokens": 48},
        ),
        (
            ["".join(RANDOM.choice(list("กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวสหอฮ"), 20)) for _ in range(ROWS)],
            {"kind": "text", "word_ngrams": 1, "character_ngrams": [1, 2, 3]},
        ),
        # Names and addresses are neither lists nor texts.
        ([f"{n} Main Street; Oslo" for n in range(ROWS)], None),
        ([f"Smith, J{n}" for n in range(ROWS)], None),
    ],
)
def test_lists_texts_and_vectors_are_recognized(
    values: list[str], expected: dict[str, Any] | None, tmp_path: Path
) -> None:
    feature = Written(tmp_path, {"column": values}).features.get("column", {})
    if expected is None:
        assert feature.get("kind") not in ("list", "vector")
    else:
        assert feature.items() >= expected.items()


VECTORS = [[n / 7, n / 3, -n / 9] for n in range(ROWS)]
GENRES = [["Action", "Comedy"], ["Drama"], ["Comedy", "Drama", "Action"], ["Horror"], ["Drama", "Horror"]] * 200


def with_values(values: list[Any], *others: Any) -> list[Any]:
    """Return values of which the 300th and the next are others."""
    return [*values[:300], *others, *values[300 + len(others) :]]


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        (
            pa.array(with_values(VECTORS, [0.1, 0.2])),
            {"kind": "vector", "length": 3, "delimiter": ","},
            ["3", "numbers", "2"],
        ),
        (
            pa.array(with_values(VECTORS, [0.1, None, 0.2])),
            {"kind": "vector", "length": 3, "delimiter": ","},
            ["null"],
        ),
        (
            with_values([f"[{x:.3f}, {y:.3f}]" for x, y, _ in VECTORS], "[0.1, 0.2, 0.3]"),
            {"kind": "vector", "length": 2, "delimiter": ","},
            ["2", "numbers", "3"],
        ),
        (
            pa.array(with_values(GENRES, ["Action", None])),
            {"kind": "list", "delimiter": "|", "max_values": 8, "tokens": {"max_size": 5}, "embedding": 8},
            ["null"],
        ),
        (
            pa.array(with_values(GENRES, ["Action"] * 10_000)),
            {"kind": "list", "delimiter": "|", "max_values": 8, "tokens": {"max_size": 5}, "embedding": 8},
            ["8", "10,000", "(max_values)", "or raise max_values"],
        ),
        (
            with_values([f"it was a good day number {n}" for n in range(ROWS)], "word " * 250_000),
            {"kind": "text", "word_ngrams": 2},
            ["1,250,000 bytes", "1,048,576"],
        ),
        (
            with_values([f"shop {n % 40}" for n in range(ROWS)], "x" * 1_100_000),
            {"kind": "vocabulary"},
            ["1,100,000 bytes", "1,048,576"],
        ),
    ],
)
def test_values_that_a_run_rejects_are_bad_rows_with_a_note(
    values: Any, expected: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    written = Written(tmp_path, {"x": values})
    place = f"{tmp_path}/a.parquet: row 301" if isinstance(values, pa.Array) else f"{tmp_path}/a.csv:302"
    (note,) = [note for note in written.notes if note.startswith("'x'")]
    assert note.startswith(f"'x': 1 row does not fit, as in {place}: ")
    assert "; it is left out (data.max_bad_rows): correct it" in note
    assert [word for word in words if word not in note] == []
    assert written.features["x"].items() >= expected.items()
    assert pipeline_config.load(tmp_path / "a.yaml").data.max_bad_rows == 1
    # No domain has the value.
    assert (tmp_path / "a.pbtxt").stat().st_size < 10_000
    assert written.check() == []


@pytest.mark.parametrize("quote", ['"', "'"])
def test_lists_that_are_written_as_such_are_lists(quote: str, tmp_path: Path) -> None:
    lists = ['["Action", "Comedy"]', '["Drama"]', '["Comedy", "Drama", "Action"]', "[]"] * 250
    written = Written(tmp_path, {"x": pa.array([value.replace('"', quote) for value in lists])})
    assert written.features["x"]["kind"] == "list"
    assert written.features["x"]["delimiter"] == "|"
    assert 'value: "Action"' in (tmp_path / "a.pbtxt").read_text()
    assert written.check() == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            [vector[: 2 + n % 2] for n, vector in enumerate(VECTORS)],
            "lists of 2 numbers in 500 rows and of 3 in 500; a vector has equally many in each row",
        ),
        ([[f"{n % 9}|;,/ ", "x"] for n in range(ROWS)], "lists whose values hold each of '|', ';', ',', '/' and ' '"),
        (
            [genres if n % 9 else [*genres, None] for n, genres in enumerate(GENRES)],
            "112 rows do not fit, as in PLACE: expected values only, not a null",
        ),
    ],
)
def test_lists_that_are_no_feature_are_left_out(values: list[Any], reason: str, tmp_path: Path) -> None:
    written = Written(tmp_path, {"x": pa.array(values)})
    (why,) = written.ignored.values()
    reason = reason.replace("PLACE", f"{tmp_path}/a.parquet: row 1")
    assert why.startswith(reason)
    assert f"left out: 'x': {why}" in written.notes
    assert written.check() == []


def test_the_single_values_of_a_list_have_a_domain(tmp_path: Path) -> None:
    values = ["|".join(genres) for genres in GENRES]
    for columns in ({"genres": values}, {"genres": pa.array(with_values(GENRES, ["Action", None]))}):
        written = Written(tmp_path, columns)
        schema = load_schema(str(tmp_path / "a.pbtxt"))
        (genres,) = [feature for feature in schema.feature if feature.name == "genres"]
        assert (genres.domain, genres.distribution_constraints.min_domain_mass) == ("genres", 0.99)
        (domain,) = [domain for domain in schema.string_domain if domain.name == "genres"]
        assert list(domain.value) == ["Action", "Comedy", "Drama", "Horror"]
        assert written.check() == []


def test_new_values_of_a_list_are_expected_as_often_as_rare_ones(tmp_path: Path) -> None:
    # One in 1,000 of all values occurs once.
    written = Written(
        tmp_path,
        {"genres": ["|".join([*genres, f"rare{n}"] if n in (5, 9) else genres) for n, genres in enumerate(GENRES)]},
    )
    assert written.features["genres"]["kind"] == "list"
    (genres,) = [feature for feature in load_schema(str(tmp_path / "a.pbtxt")).feature if feature.name == "genres"]
    assert 0.8 < genres.distribution_constraints.min_domain_mass < 0.99


def test_what_is_near_a_leak_is_allowed(tmp_path: Path) -> None:
    # Other halves of the rows may show a little more than the bound.
    near = (SIZE + 0.08 * RANDOM.normal(size=ROWS)).round(4)
    written = Written(tmp_path, {"near": near, "bought": SIZE, "size": RANDOM.normal(size=ROWS)})
    assert [rule["features"] for rule in written.severities] == [["near"]]
    written.check()


def test_keep_and_drop(tmp_path: Path) -> None:
    columns = {
        "id": [f"O-{n}" for n in range(ROWS)],
        "day": [f"2013-{n % 12 + 1:02}-{n % 28 + 1:02}" for n in range(ROWS)],
        "shop": ["main"] * ROWS,
        "other": RANDOM.normal(size=ROWS).round(3),
    }
    written = Written(tmp_path, columns, keep=("id", "day", "shop"), drop=("other",))
    assert {*written.features} == {"size", "id", "day", "shop"}
    assert written.ignored == {"other": "dropped by --drop"}
    assert "kept by --keep (id: 1,000 different values in 1,000 rows)" in written.reasons["id"]
    assert written.features["day"]["kind"] == "timestamp"
    assert written.check() == []
    with pytest.raises(ConfigError, match="--keep nothing: the column has no values"):
        Written(tmp_path, {"nothing": [None] * ROWS}, keep=("nothing",))


def test_ids_that_repeat_are_noted_with_the_flag(tmp_path: Path) -> None:
    columns = {"user_id": RANDOM.integers(0, 150, ROWS) + 900, "item": [f"i{n % 200}" for n in range(ROWS)]}
    (note,) = [note for note in Written(tmp_path, columns).notes if "--group" in note]
    assert "'user_id' (150 values)" in note or "'user_id' (149 values)" in note
    assert note.endswith("--group 'user_id'")


def test_times_in_no_format_and_units_are_noted_once_each(tmp_path: Path) -> None:
    columns = {
        "quarter": [f"20{n % 20:02}-Q{n % 4 + 1}" for n in range(ROWS)],
        "week": [f"20{n % 20:02}-W{n % 50 + 1:02}" for n in range(ROWS)],
        "weight": [f"{n % 90} kg" for n in range(ROWS)],
    }
    notes = Written(tmp_path, columns).notes
    assert len(notes) == 2
    assert any("'quarter' (quarter of a year), 'week' (week of a year)" in note for note in notes)
    assert any(note.endswith("write it as a date such as 2024-03-31, or as a number") for note in notes)
    assert any("'weight' ('0 kg')" in note for note in notes)


def test_a_number_with_a_comma_and_a_unit_is_no_list(tmp_path: Path) -> None:
    written = Written(tmp_path, {"weight": [f"{n % 9},{n % 7} kg" for n in range(ROWS)]})
    assert written.features["weight"]["kind"] == "vocabulary"
    assert [note for note in written.notes if "with a unit" in note]


def test_categories_that_are_written_in_several_ways_are_noted(tmp_path: Path) -> None:
    written = Written(
        tmp_path,
        {
            "color": [("red", "Red ", "blue")[n % 3] for n in range(ROWS)],
            "rarely": ["RED" if n < 5 else ("red", "blue")[n % 2] for n in range(ROWS)],
            "fields": [f'{{"a": {n % 4}, "b": "{n % 3}"}}' for n in range(ROWS)],
            "": [n % 7 for n in range(ROWS)],
        },
    )
    assert written.notes == [
        "left out: a column without a name (''); give it one to use it",
        "categories differ only in case or spaces, and stay separate: 'color' ('red' and 'Red '); write them in one "
        "way, or derive a feature with lower and strip (docs/how-to/derived-columns.md)",
        'JSON objects are read as strings: \'fields\' (\'{"a": 0, "b": "0"}\'); write their fields as columns',
    ]


def test_durations_and_spellings_of_yes_and_no_are_noted_with_the_remedy(tmp_path: Path) -> None:
    spellings = ("yes", "Y", "true", "no", "No")
    written = Written(
        tmp_path,
        {
            "long": [f"{n % 5}h {n % 60}m" if n % 9 else "45m" for n in range(ROWS)],
            "iso": [f"PT{n % 5}H{n % 60}M" for n in range(ROWS)],
            "size": [f"{n % 60}m" for n in range(ROWS)],
            "paid": [spellings[n % 5] for n in range(ROWS)],
            "old": ["yes" if n % 3 else "no" for n in range(ROWS)],
        },
    )
    assert written.notes == [
        "'paid': yes and no are written in several ways, each of which is a category: "
        f"{', '.join(f'{spelling!r} in {ROWS // 5} rows' for spelling in spellings)}; write them as two values, or derive "
        "a feature (docs/how-to/derived-columns.md)",
        "numbers with a unit are read as strings: 'size' ('0m'); write them without the unit",
        f"durations are read as strings: 'long' ('45m', {ROWS:,} rows), 'iso' ('PT0H0M', {ROWS:,} rows); write them as a "
        "number of minutes",
    ]


def test_dates_in_words_are_times(tmp_path: Path) -> None:
    days = [datetime.date(2021, 1, 1) + datetime.timedelta(days=n % 400) for n in range(ROWS)]
    written = Written(
        tmp_path,
        {
            "long": [f"{day:%B} {day.day}, {day.year}" for day in days],
            "short": [f"{day.day} {day:%b} {day.year}" for day in days],
            "named": [f"{day:%A, %B %d, %Y}" for day in days],
            "ordinal": [f"{day:%B} {day.day}th, {day.year}" for day in days],
        },
    )
    formats = {name: f["format"] for name, f in written.features.items() if f["kind"] == "timestamp"}
    assert formats == {"long": "%B %d, %Y", "short": "%d %b %Y", "named": "%A, %B %d, %Y"}
    assert written.ignored["ordinal"].startswith(
        "date, such as 'January 1th, 2021', in no format that `init` tries; write"
    )


def test_numbers_that_float32_does_not_tell_apart_are_noted(tmp_path: Path) -> None:
    columns = {
        "julian": [2_459_580 + n / 1000 for n in range(ROWS)],
        "offset": [10_000_000_000 + n % 500 / 1000 for n in range(ROWS)],
        "tiny": [1e-40 * (n % 7) for n in range(ROWS)],
        "ratio": [n % 97 / 7 for n in range(ROWS)],
    }
    written = Written(tmp_path, columns)
    assert {*written.ignored} == {"offset", "tiny"}
    assert written.ignored["tiny"] == "7 different numbers such as 0.0, in float32 one"
    assert written.notes == [
        "different numbers are the same in float32: 'offset' (500 are 1), 'tiny' (7 are 1), 'julian' (1,000 are 5); left "
        "out: 'offset', 'tiny'; subtract a base from them, or write them in another unit"
    ]


def test_single_values_beside_lists_are_lists_of_one(tmp_path: Path) -> None:
    values = pa.array([["a", "b c", join_items(["a", "b c"]), None][n % 4] for n in range(ROWS)])
    labels = build_target(Column("bought", pa.array(BOUGHT.tolist())), ["yes", "no"])
    kind = recognize(Column("tags", values), labels)
    assert isinstance(kind, ColumnKind)
    assert (kind.declared["kind"], kind.declared["delimiter"], kind.reason) == (
        "list",
        "|",
        "up to 2 of 2 categories in each row",
    )


def test_dates_in_a_format_that_is_not_tried_are_noted_once(tmp_path: Path) -> None:
    written = Written(tmp_path, {"at": [f"Mon Jan {n % 28 + 1:02} 10:00:{n % 60:02} 2023" for n in range(ROWS)]})
    reason = (
        "date and time, such as 'Mon Jan 01 10:00:00 2023', in no format that `init` tries; write it as 2024-03-31, or declare "
        "it as kind: timestamp with its format (docs/how-to/times.md)"
    )
    assert (written.ignored, written.notes) == ({"at": reason}, [f"left out: 'at': {reason}"])


def test_no_feature_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column can be a feature: size: dropped by --drop; '': number of the row"):
        Written(tmp_path, {"": range(ROWS)}, drop=("size",))


def test_pairs_that_give_the_label_away_are_one_note(tmp_path: Path) -> None:
    first, other = RANDOM.integers(0, 2, ROWS), RANDOM.integers(0, 2, ROWS)
    label = np.where(first ^ other, "yes", "no")
    written = Written(tmp_path, {"bought": label, "one": first, "other": other})
    (note,) = [note for note in written.notes if "pairs" in note]
    assert "'one' and 'other'" in note or "'other' and 'one'" in note


def test_numbers_with_leading_zeros_are_codes(tmp_path: Path) -> None:
    written = Written(
        tmp_path,
        {
            "icd": RANDOM.choice(["001", "010", "0010", "10", "1"], ROWS),
            "dept": [f"{number:02}" for number in RANDOM.integers(1, 15, ROWS)],
            "count": RANDOM.integers(0, 15, ROWS),
        },
    )
    kinds = {name: feature["kind"] for name, feature in written.features.items()}
    assert (kinds["icd"], kinds["dept"], kinds["count"]) == ("vocabulary", "vocabulary", "numeric")
    assert "5 codes, leading zeros" in written.reasons["icd"]


def test_ids_by_their_digits_or_their_order_are_left_out(tmp_path: Path) -> None:
    tweets = RANDOM.permutation(10**18 * np.arange(1, 9).repeat(ROWS // 8) + np.arange(ROWS) * 7_919)
    orders = 50_000 + np.cumsum(RANDOM.integers(1, 9, ROWS))
    written = Written(
        tmp_path,
        {
            "tweet": tweets,
            "order_number": orders,
            "ticket": orders * 3 + 1,
            "author": RANDOM.choice(tweets[:20], ROWS),
            "area": RANDOM.permutation(orders),
        },
    )
    assert {*written.ignored} == {"tweet", "order_number", "ticket"}
    assert written.ignored["tweet"].startswith("id: 1,000 different values")
    assert written.features["author"]["kind"] == "vocabulary"
    assert written.features["area"]["kind"] == "numeric"


def test_a_word_beside_dates_stands_for_a_missing_one(tmp_path: Path) -> None:
    days = np.datetime64("2021-01-01") + np.arange(ROWS)
    seen = np.where(RANDOM.random(ROWS) < 0.3, "never", days.astype(str))
    written = Written(tmp_path, {"last_seen": seen})
    feature = written.features["last_seen"]
    assert (feature["format"], feature["missing"], feature["missing_values"]) == ("iso8601", "own_id", ["", "never"])
    (column,) = [feature for feature in load_schema(str(tmp_path / "a.pbtxt")).feature if feature.name == "last_seen"]
    # The gate counts them as missing.
    assert 0.3 < column.presence.min_fraction < 0.65
    assert written.check() == []


def test_columns_of_one_name_in_the_served_model_are_noted(tmp_path: Path) -> None:
    columns = {name: RANDOM.normal(size=ROWS).round(3) for name in ("a/b", "a.b", "A b", "Bought")}
    columns["a-b"] = [f"2024-01-{n % 28 + 1:02}" for n in range(ROWS)]
    written = Written(tmp_path, columns)
    assert {*written.ignored} == {"a.b", "A b", "Bought", "a-b"}
    (note,) = [note for note in written.notes if "served model" in note]
    assert note == (
        "left out: 'a.b' (as 'a/b'), 'A b' (as 'a/b'), 'Bought' (as 'bought'), 'a-b' (as 'a/b'): the names would be the "
        "same in the served model; rename the columns"
    )


def test_a_table_of_the_label_alone_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("y\n" + "0\n1\n" * 50)
    source = find_source(str(tmp_path / "a.csv"), test=None, delimiter=None, column_names=(), header=True)
    with pytest.raises(DataError, match="no column can be a feature: beside the label 'y', expected one or more"):
        write_starter(source, Requests("y"), name="a", config_folder=tmp_path, schema_path=tmp_path / "a.pbtxt")


@pytest.mark.parametrize("marker", ["n/a", "error", "#DIV/0!"])
@pytest.mark.parametrize("form", ["{}%", "${},000.50", "{}.5"])
def test_numbers_in_any_format_beside_a_marker_are_numbers(tmp_path: Path, marker: str, form: str) -> None:
    numbers = [form.format(number) for number in RANDOM.integers(1, 60, ROWS)]
    written = Written(tmp_path, {"rate": [marker if at % 12 == 0 else number for at, number in enumerate(numbers)]})
    assert written.features["rate"]["kind"] == "numeric"
    assert written.features["rate"]["missing"] == "mean"
    assert not any("rate" in warning for warning in written.check())
