"""Content of the statistics page; tests/end_to_end makes the page of a real run."""

import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.sensitive_statistics import mark_sensitive
from pipeline.stats.bins import BINS
from pipeline.stats.page import TOP_VALUES, FeatureNotes, FeatureView, build_views, format_percent
from schemas.curated.derived_features import mark_derived
from schemas.expressions import Expression
from tests.statistics import statistics_of


def views(train: dict[str, Any], test: dict[str, Any], compared: Any = ()) -> dict[str, FeatureView]:
    splits = {name: statistics_of(values).datasets[0] for name, values in (("train", train), ("test", test))}
    return {view.name: view for view in build_views(splits, compared)}


def picture(view: FeatureView, macro: str = "picture") -> str:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("pipeline"), autoescape=True)
    environment.filters["percent"] = format_percent
    return str(getattr(environment.get_template("picture.html.j2").module, macro)(view))


def map_counts(view: FeatureView, side: int = 0) -> dict[str, float]:
    return dict(zip(view.labels, view.sides[side].values, strict=True))


@pytest.fixture(scope="module")
def page_views() -> dict[str, FeatureView]:
    rows = 200
    return views(
        {
            "age": [float(20 + i % 50) for i in range(rows)],
            "gain": [0.0] * 150 + [100.0] * 50,
            "same": [7] * rows,
            "city": [f"city {i % 30}" for i in range(rows)],
            "sex": ["f"] * 195 + ["m"] * 5,
            "nothing": [None] * rows,
            "late": [None] * rows,
        },
        {
            "age": [float(40 + i % 50) for i in range(rows)],
            "gain": [0.0] * rows,
            "same": [7] * rows,
            "city": [None if i % 2 else "city 1" for i in range(rows)],
            "sex": ["f", "m"] * 100,
            "nothing": [None] * rows,
            "late": [1, 2] * 100,
        },
    )


def test_numbers(page_views: dict[str, FeatureView]) -> None:
    train, test = page_views["age"].sides
    assert (train.split, train.count, train.missing) == ("train", 200, 0)
    assert (train.numbers["min"], train.numbers["max"], train.numbers["zeros"]) == ("20", "69", "0%")
    assert test.numbers["min"] == "40"
    # Bins are the same for both splits, whole numbers each, and hold all of each.
    assert page_views["age"].labels[:2] == ["20 to 22", "23 to 25"]
    assert page_views["age"].labels[-1] == "89"
    assert len(train.bars) == len(page_views["age"].labels) <= BINS
    for side in page_views["age"].sides:
        assert sum(side.shares) == pytest.approx(1)
        assert sum(side.values) == 200
    assert test.values[0] == 0 and train.values[0] == 12


def test_a_column_of_one_two_three_shows_nothing_else() -> None:
    values = [1] * 10 + [2] * 10 + [3] * 80
    view = views({"n": values}, {"n": [2, 3]})["n"]
    titles = ("min", "10%", "25%", "median", "75%", "90%", "max")
    assert [view.sides[0].numbers[title] for title in titles] == ["1", "1", "3", "3", "3", "3", "3"]
    assert [view.sides[1].numbers[title] for title in titles] == ["2", "2", "2", "2", "3", "3", "3"]
    assert map_counts(view) == {"1": 10, "2": 10, "3": 80}
    assert map_counts(view, 1) == {"1": 0, "2": 1, "3": 1}
    assert [tick.text for tick in view.ticks] == ["1", "2", "3"]
    assert "<title>train: 3: 80 (80.0%)</title>" in picture(view)


def test_a_falling_tail_falls() -> None:
    # Counts by age as census has them: 360 at 57, 10 at 90.
    ages = [age for age in range(17, 91) for _ in range(max(10, 360 - 11 * max(0, age - 57)))]
    view = views({"age": np.array(ages, dtype=float)}, {"age": [30.0]})["age"]
    true = dict.fromkeys(view.labels, 0.0)
    for label in view.labels:
        low, _, high = label.partition(" to ")
        true[label] = sum(int(low) <= age <= int(high or low) for age in ages)
    assert map_counts(view) == true
    tail = [true[label] for label in view.labels if int(label.partition(" ")[0]) >= 57]
    assert tail == sorted(tail, reverse=True) and tail[0] > 10 * tail[-1]
    assert view.are_counted
    # The heights are those of the counts.
    heights = [bar for bar, _ in view.sides[0].bars]
    assert heights[-1] / max(heights) == pytest.approx(true[view.labels[-1]] / max(true.values()))


def test_many_different_numbers_are_counted_to_a_pixel() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=100_000).astype(np.float32)
    view = views({"x": values}, {"x": values[:1000]})["x"]
    assert len(view.labels) == BINS
    true, _ = np.histogram(values, np.linspace(values.min(), values.max(), BINS + 1))
    # The picture is 126 pixels high.
    assert np.abs(np.array(view.sides[0].values) - true).max() < true.max() / 126
    assert sum(view.sides[0].values) == 100_000
    assert ": about " in picture(view) and not view.are_counted


def test_outliers_do_not_hide_the_bulk() -> None:
    random = np.random.default_rng(2)
    values = random.gamma(3, 15, 3000).astype(np.float32)
    values[:2] = 9.97e36
    view = views({"spend": values}, {"spend": values[2:]})["spend"]
    assert view.labels[-1].startswith("above ")
    assert [side.values[-1] for side in view.sides] == [2, 0]
    assert sum(count > 30 for count in view.sides[0].values) > 8
    assert view.sides[0].numbers["max"] == "9.97e+36"


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([np.inf, -np.inf, np.nan, 1.0, 2.0], {"-inf": 1, "1": 1, "2": 1, "inf": 1}),
        ([np.nan] * 3, {}),
        ([np.inf] * 3, {"inf": 3}),
        ([9223372036854775807, 5, 5], {"5": 2, "9.223e+18": 1}),
        ([0.1, 0.3, 0.3], {"0.1": 1, "0.3": 2}),
        ([1990, 1992, 1992], {"1,990": 1, "1,991": 0, "1,992": 2}),
        ([7, 7], {"7": 2}),
        ([None, None], {}),
    ],
)
def test_odd_columns_have_a_picture(values: list[Any], labels: dict[str, float]) -> None:
    view = views({"x": values}, {"x": values[:1]})["x"]
    assert map_counts(view) == labels
    assert ("<rect" in picture(view)) == bool(labels)


def test_infinite_values_have_bins_of_their_own() -> None:
    values = np.append(np.arange(1000, dtype=np.float32), [np.inf, np.inf, -np.inf])
    view = views({"x": values}, {"x": values})["x"]
    assert (view.labels[0], view.labels[-1]) == ("below 0", "above 999")
    assert (view.sides[0].values[0], view.sides[0].values[-1]) == (1, 2)
    assert sum(view.sides[0].values) == 1003


def test_statistics_of_stock_tfdv_are_shown_as_estimates() -> None:
    dataset = tfdv.generate_statistics_from_dataframe(pd.DataFrame({"x": np.arange(1000.0)})).datasets[0]
    (view,) = build_views({"train": dataset}, [])
    assert not view.are_counted
    assert sum(view.sides[0].values) == pytest.approx(1000)
    assert 480 < float(view.sides[0].numbers["median"]) < 520


def test_labels_do_not_overlap() -> None:
    years = list(range(1990, 2013))
    view = views({"x": years}, {"x": years})["x"]
    places = [
        (float(x), text, anchor)
        for x, anchor, text in re.findall(
            r'<text x="([\d.]+)" y="145" text-anchor="(\w+)">([^<]+)</text>', picture(view)
        )
    ]
    assert len(places) > 4
    ends = [
        (x, x + width) if anchor == "start" else (x - width, x) if anchor == "end" else (x - width / 2, x + width / 2)
        for x, text, anchor in places
        for width in (6.2 * len(text),)
    ]
    assert all(start >= 0 and end <= 430 for start, end in ends)
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_texts(page_views: dict[str, FeatureView]) -> None:
    train, test = page_views["city"].sides
    assert train.numbers["different"] == "30"
    assert (test.numbers["most frequent"], test.numbers["its share"]) == ("city 1", "100.0%")
    assert test.missing == 0.5
    assert len(page_views["city"].labels) == TOP_VALUES
    assert page_views["city"].labels[0] == "city 1"


def test_weighted_statistics_are_beside_the_others() -> None:
    columns = {"age": [20.0, 40.0], "sex": ["f", "m"], "w": [1.0, 3.0]}
    weighted = {view.name: view for view in build_views({"train": statistics_of(columns, weight="w").datasets[0]}, ())}
    age, sex = weighted["age"].sides[0].numbers, weighted["sex"].sides[0].numbers
    assert (age["mean"], age["weighted mean"], age["weighted std dev"]) == ("30", "35", "8.66")
    shares = {"f": "25.0%", "m": "75.0%"}
    assert (sex["its share"], sex["its weighted share"]) == ("50.0%", shares[sex["most frequent"]])
    assert "weighted mean" not in views(columns, columns)["age"].sides[0].numbers


def test_a_share_is_of_all_values_and_not_of_the_most_frequent() -> None:
    ids = [f"id {i}" for i in range(4000)] * 2
    view = views({"id": ids}, {"id": ids})["id"]
    assert view.sides[0].shares[0] == 1 / 4000
    assert view.are_counted
    # TFDV keeps the most frequent thousand: the count of another value is not known to be 0.
    assert not views({"id": ids}, {"id": ["rare"]})["id"].are_counted


def test_a_column_that_is_empty_in_one_split_is_still_one_of_numbers(page_views: dict[str, FeatureView]) -> None:
    late = page_views["late"]
    assert late.kind == "int"
    assert set(late.sides[0].numbers.values()) == {"none"}
    assert map_counts(late, 1) == {"1": 100, "2": 100}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("age", set()),
        ("gain", {"mostly zero"}),
        ("same", {"constant"}),
        ("city", {"missing", "missing differs", "imbalanced"}),
        ("sex", {"imbalanced"}),
        ("nothing", {"missing"}),
        ("late", {"missing", "missing differs"}),
    ],
)
def test_flags(name: str, flags: set[str], page_views: dict[str, FeatureView]) -> None:
    assert {word for word, _ in page_views[name].flags} == flags


def test_a_distance_above_its_threshold_is_marked() -> None:
    def create_comparison(kind: str, value: float) -> Any:
        shift = SimpleNamespace(feature="age", value=value, threshold=0.1, exceeded=value > 0.1)
        return SimpleNamespace(where="here", kind=kind, shift=shift)

    values = {"age": [1.0, 2.0, 3.0]}
    view = views(values, values, [create_comparison("DRIFT", 0.3), create_comparison("SKEW", 0.05)])["age"]
    assert [word for word, _ in view.flags] == ["drift"]
    assert view.distance == pytest.approx(3)


def test_of_a_sensitive_column_only_counts_are_shown() -> None:
    marked = statistics_of({"city": ["CANARY", "b"], "size": [987654.0, 0.0], "x": [1.0, 2.0]})
    for feature in marked.datasets[0].features[:2]:
        mark_sensitive(feature)
    unmarked = statistics_of({"city": ["CANARY", "c"], "size": [987654.0, 1.0], "x": [1.0, 2.0]})
    splits = {"train": marked.datasets[0], "pushed train": unmarked.datasets[0]}
    notes = FeatureNotes.read({"features": {"city": {"owner": "a@b.org", "description": None}, "x": {}}})
    city, size, x = build_views(splits, [], notes)
    assert [side.numbers for side in city.sides] == [{"empty": "0%", "different": "2"}] * 2
    assert [side.numbers for side in size.sides] == [{"zeros": "50.0%"}, {"zeros": "0%"}]
    assert city.notes == FeatureNotes(owner="a@b.org")
    for view in (city, size):
        assert (view.labels, view.ticks) == ([], [])
        assert "values are masked" in picture(view) and "CANARY" not in picture(view) and "987" not in picture(view)
    assert x.labels and "masked" not in picture(x)


def test_a_derived_feature_has_its_expression() -> None:
    statistics = statistics_of({"rate": [1.0, 2.0], "x": [1.0, 2.0]})
    expression = Expression.parse('"<b>" + column("a b") if x > 1 else "c"', {"a b": "string", "x": "number"})
    mark_derived(statistics.datasets[0].features[0], expression)
    rate, x = build_views({"train": statistics.datasets[0]}, [])
    assert (rate.expression, x.expression) == (expression.text, "")
    assert [view.labels for view in (rate, x)] == [["1", "2"]] * 2
    assert "derived: <code>&#34;&lt;b&gt;&#34; + column(" in picture(rate, "notes")
    assert "derived" not in picture(x, "notes")


def test_strings_that_hardly_repeat_have_no_picture() -> None:
    texts = [f"text {n}" for n in range(100)]
    splits = {
        name: statistics_of({"often": ["a", "b"] * 50, "text": values, "mixed": mixed}).datasets[0]
        for name, values, mixed in (("train", texts, texts), ("eval", texts[:40] + texts[:60], ["a", "b"] * 50))
    }
    for view in build_views(splits, []):
        assert view.hardly_repeats == (view.name == "text")
        assert ("Most values occur once." in picture(view)) == (view.name == "text") == (not view.labels)
    # Of a few rows, each value is worth a look.
    (few,) = build_views({"train": statistics_of({"text": texts[:5]}).datasets[0]}, [])
    assert len(few.labels) == 5 and not few.hardly_repeats


def test_times_of_a_long_range_are_dates() -> None:
    values = {"seen": [1_672_531_200.0 + 90_061 * n for n in range(120)]}
    notes = FeatureNotes.read({"features": {"seen": {"kind": "timestamp"}}})
    (view,) = build_views({"train": statistics_of(values).datasets[0]}, [], notes)
    titles = ["min", "median", "max", "mean", "std dev", "10%", "25%", "75%", "90%"]
    assert list(view.sides[0].numbers) == titles
    assert (view.sides[0].numbers["min"], view.sides[0].numbers["max"]) == ("2023-01-01", "2023-05-05")


def test_times_are_shown_as_times() -> None:
    # float32 has steps of 128 seconds there.
    days = {"day": [1_672_531_200.0 + 86_400 * n for n in range(30)], "open": [36_000.0 + 900 * n for n in range(30)]}
    days["seen"] = [1_672_531_200.0 + 90_061 * n for n in range(30)]
    statistics = {"train": statistics_of(days).datasets[0]}
    config = {
        "day": {"kind": "timestamp", "format": "%d.%m.%Y"},
        "open": {"kind": "timestamp", "format": "time_of_day"},
    }
    views = {
        v.name: v
        for v in build_views(statistics, [], FeatureNotes.read({"features": {**config, "seen": {"kind": "timestamp"}}}))
    }
    numbers = {name: view.sides[0].numbers for name, view in views.items()}
    assert (numbers["day"]["min"], numbers["day"]["max"], numbers["day"]["std dev"]) == (
        "2023-01-01",
        "2023-01-30",
        "8.655 days",
    )
    assert (numbers["open"]["min"], numbers["open"]["max"]) == ("10:00", "17:15")
    assert (numbers["seen"]["min"], numbers["seen"]["max"]) == ("2023-01-01 00:00", "2023-01-31 05:28")
    assert {view.kind for view in views.values()} == {"time"}
    assert views["day"].labels[0].startswith("2023-01-01") and views["open"].labels[-1].endswith("17:15")


def test_a_column_that_is_only_counted_has_no_picture_and_no_numbers() -> None:
    columns = {
        "seen": [1_672_531_200.0 + 90_061 * n for n in range(30)],
        "size": [1.0, 2.0] * 15,
        "text": ["a", "b"] * 15,
    }
    train = statistics_of(columns).datasets[0]
    live = statistics_pb2.DatasetFeatureStatistics(num_examples=40)
    for feature in train.features:
        is_text = feature.HasField("string_stats")
        counted = live.features.add(path=feature.path, type=feature.type)
        (counted.string_stats if is_text else counted.num_stats).common_stats.num_non_missing = 30
    notes = FeatureNotes.read({"features": {"seen": {"kind": "timestamp"}}})
    for view in build_views({"train": train, "live": live}, [], notes):
        before, now = view.sides
        assert {*now.numbers.values()} == {"none"}, view.name
        assert "none" not in before.numbers.values()
        assert (view.labels, now.missing) == ([], 0.25)
