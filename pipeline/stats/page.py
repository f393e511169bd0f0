"""`python -m pipeline stats`: one offline HTML file of a run's statistics, in the spirit of Facets Overview.

It makes no request: style, script and pictures are in the file, and a content security policy forbids the rest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup
from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.page_style import read_style
from components.column_names import name_column
from components.config import DRIFT, SKEW
from components.gate.comparison import ComparedShift
from components.histograms import QUANTILES, category_counts, has_counts, number_counts, quantile
from components.sensitive_statistics import is_sensitive
from components.value_counts import ValueCounts
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run import artifact_lookup
from pipeline.run.run_distances import compare_run, find_pushed_train
from pipeline.run.run_root import RunRoot
from pipeline.stats.bins import MAX_SHOWN_IN_FULL, Bins, Tick, Writer, bins, number
from pipeline.stats.times import duration, time_writer
from schemas.data import EVAL_SPLIT, TRAIN_SPLIT
from schemas.tables.time_format import ISO8601

TOP_VALUES = 10
# A feature whose most frequent value has more than this share is called imbalanced, as one with so many zeros.
IMBALANCED, MOSTLY_ZERO, OFTEN_MISSING = 0.9, 0.5, 0.05
# Of so many strings, at least so many are different if a picture of the most frequent ones shows nothing.
_MIN_VALUES, _HARDLY_REPEATED = 20, 0.5
PUSHED = "pushed train"
NO_VALUE = "none"
# What is shown of a sensitive column: numbers of values, and none of the values.
_COUNTS = ("zeros", "empty", "different")


class StatisticsPage(NamedTuple):
    """The HTML page of a run's statistics, and the run's id."""

    run_id: str
    html: str


@dataclass(frozen=True)
class FeatureNotes:
    """Words of a config about a feature, for people; each is empty if it is not declared.

    Attributes:
      time_format: How times are written; empty for other kinds.
    """

    description: str = ""
    owner: str = ""
    expires: str = ""
    time_format: str = ""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "dict[str, FeatureNotes]":
        """Return the notes on each feature of a config, as JSON or as a record has it."""
        names = [field.name for field in fields(cls) if field.name != "time_format"]
        return {
            feature: cls(
                **{name: str(declared.get(name) or "") for name in names},
                time_format=str(declared.get("format") or ISO8601) if declared.get("kind") == "timestamp" else "",
            )
            for feature, declared in config.get("features", {}).items()
        }


@dataclass(frozen=True)
class SplitSide:
    """One feature in one split.

    Attributes:
      split: its name.
      count: rows.
      missing: share of rows without a value.
      numbers: shown statistics of its values, by title.
      values: number of values in each bin, or of each category.
      shares: `values` as shares of all values.
      bars: (share, share on a logarithmic scale) of each bin or category, from 0 to 1 of the highest in the feature.
    """

    split: str
    count: int
    missing: float
    numbers: Mapping[str, str]
    values: list[float]
    shares: list[float]
    bars: list[tuple[float, float]]


@dataclass(frozen=True)
class FeatureView:
    """One feature in all splits.

    Attributes:
      name: name of the column.
      kind: `text`, or the type of its numbers.
      sides: the feature in each split.
      labels: names of the bins or categories.
      ticks: texts below the bars of numbers.
      are_counted: whether the numbers of values are true; else they are estimates.
      is_sensitive: whether the values are masked.
      hardly_repeats: whether most values are strings that occur once, so that none is frequent.
      notes: the config's notes on it.
      expression: expression of a derived feature; empty for the others.
      flags: (word, reason) for what needs attention.
      compared: distances.
    """

    name: str
    kind: str
    sides: list[SplitSide]
    labels: list[str]
    ticks: list[Tick]
    are_counted: bool
    is_sensitive: bool = False
    hardly_repeats: bool = False
    notes: FeatureNotes = FeatureNotes()
    expression: str = ""
    flags: list[tuple[str, str]] = field(default_factory=list)
    compared: list[ComparedShift] = field(default_factory=list)

    @property
    def missing(self) -> float:
        return max(side.missing for side in self.sides)

    @property
    def tallest(self) -> tuple[float, str]:
        """The highest share of a bar, and its number of values in words."""
        bars = [
            (
                share,
                f"tallest bar: {'' if self.are_counted else 'about '}{count:,.0f} of {side.split} ({percent(share)})",
            )
            for side in self.sides
            for share, count in zip(side.shares, side.values, strict=True)
        ]
        return max(bars, default=(0.0, ""), key=lambda bar: bar[0])

    @property
    def distance(self) -> float:
        """The largest distance in relation to its threshold; 0 where none was measured."""
        return max((comparison.shift.value / comparison.shift.threshold for comparison in self.compared), default=0.0)


def page(config: PipelineConfig, root: RunRoot, run: str) -> StatisticsPage:
    """Return the page of a run.

    Args:
      config: config with the thresholds of the distances.
      root: run root of the runs.
      run: a run id, the start of one, or `latest`.

    Raises:
      ConfigError: there is no such run.
      DataError: the run has no statistics.
    """
    artifacts = artifact_lookup.find_run(root, run)
    # `train` first, whatever the alphabet says; what was pushed last is drawn beside it.
    splits = dict(
        sorted(artifacts.read_statistics().items(), key=lambda s: (s[0] != TRAIN_SPLIT, s[0] != EVAL_SPLIT, s[0]))
    )
    push = artifact_lookup.find_latest_push(root, config.push.model_name, before=artifacts.run_id)
    pushed = find_pushed_train(push)
    compared = compare_run(config, artifacts, splits, pushed)
    all_splits = splits if pushed is None else {**splits, PUSHED: pushed}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    html = environment.get_template("stats.html.j2").render(
        style=Markup(read_style()),
        title=f"{config.name}, run {artifacts.run_id}",
        rows={split: int(statistics.num_examples) for split, statistics in all_splits.items()},
        features=features(all_splits, compared, FeatureNotes.read(config.model_dump(mode="json"))),
        pushed_run=push.run_id if push is not None else "",
        has_pushed=pushed is not None,
        compared={kind: sum(1 for c in compared if c.kind == kind) for kind in (DRIFT, SKEW)},
    )
    return StatisticsPage(artifacts.run_id, html)


def features(
    splits: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    compared: Sequence[ComparedShift],
    notes: Mapping[str, FeatureNotes] | None = None,
) -> list[FeatureView]:
    """Return the features in the order of the first split, each with all that the page shows of it."""
    notes = notes or {}
    by_split = {split: {name_column(f): f for f in statistics.features} for split, statistics in splits.items()}
    names = list(dict.fromkeys(name for by_name in by_split.values() for name in by_name))
    views = []
    for name in names:
        sides = {split: by_name[name] for split, by_name in by_split.items() if name in by_name}
        view = _view(
            name, sides, {split: int(splits[split].num_examples) for split in sides}, notes.get(name, FeatureNotes())
        )
        view.compared.extend(comparison for comparison in compared if comparison.shift.feature == name)
        view.flags.extend(_flags(view, next(iter(sides.values()))))
        views.append(view)
    return views


def _view(
    name: str,
    by_split: Mapping[str, statistics_pb2.FeatureNameStatistics],
    rows: Mapping[str, int],
    notes: FeatureNotes,
) -> FeatureView:
    first = next(
        (feature for feature in by_split.values() if _common(feature).num_non_missing), next(iter(by_split.values()))
    )
    # Of a split without any value TFDV does not know the type.
    is_text = first.HasField("string_stats")
    is_masked = any(is_sensitive(feature) for feature in by_split.values())
    write = time_writer(notes.time_format, _samples(first)) if notes.time_format and not is_text else number
    bins_by_split = _categories(by_split) if is_text else _bins(by_split, write)
    hardly_repeats = is_text and all(map(_hardly_repeats, by_split.values()))
    if is_masked or hardly_repeats or not all(map(_has_distribution, by_split.values())):
        bins_by_split = Bins([], [], [[] for _ in by_split], are_exact=True)
    totals = [_total(feature, counts) for feature, counts in zip(by_split.values(), bins_by_split.counts, strict=True)]
    shares = [[count / total for count in counts] for counts, total in zip(bins_by_split.counts, totals, strict=True)]

    def numbers_of(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, str]:
        if is_text:
            return _text_numbers(feature)
        return _number_numbers(feature) if write is number else _time_numbers(feature, write)

    highest = max((share for split in shares for share in split), default=0.0) or 1.0
    sides = [
        SplitSide(
            split=split,
            count=rows[split],
            missing=_compute_missing_share(feature, rows[split]),
            numbers={title: text for title, text in numbers_of(feature).items() if not is_masked or title in _COUNTS},
            values=bins_by_split.counts[index],
            shares=shares[index],
            bars=[(share / highest, _logarithmic(share / highest)) for share in shares[index]],
        )
        for index, (split, feature) in enumerate(by_split.items())
    ]
    type_ = statistics_pb2.FeatureNameStatistics.Type.Name(first.type).lower()
    return FeatureView(
        name=name,
        kind="text" if is_text else "time" if write is not number else type_,
        sides=sides,
        labels=bins_by_split.labels,
        ticks=bins_by_split.ticks,
        are_counted=bins_by_split.are_exact,
        is_sensitive=is_masked,
        hardly_repeats=hardly_repeats,
        notes=notes,
        expression=next(filter(None, (f.validation_derived_source.description for f in by_split.values())), ""),
    )


def _has_distribution(feature: statistics_pb2.FeatureNameStatistics) -> bool:
    """Return whether the values are known if there are any; of live traffic, some columns are only counted."""
    if not _common(feature).num_non_missing:
        return True
    if feature.HasField("string_stats"):
        return bool(feature.string_stats.rank_histogram.buckets)
    return not math.isnan(quantile(feature, 0.5))


def _hardly_repeats(feature: statistics_pb2.FeatureNameStatistics) -> bool:
    values = feature.string_stats.common_stats.tot_num_values
    return bool(values >= _MIN_VALUES and feature.string_stats.unique > _HARDLY_REPEATED * values)


def _total(feature: statistics_pb2.FeatureNameStatistics, counts: Sequence[float]) -> float:
    """Return the number of all values, of which only the most frequent categories are drawn."""
    return max(_common(feature).tot_num_values, sum(counts)) or 1.0


def _common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return feature.string_stats.common_stats if feature.HasField("string_stats") else feature.num_stats.common_stats


def _compute_missing_share(feature: statistics_pb2.FeatureNameStatistics, rows: int) -> float:
    return 1 - _common(feature).num_non_missing / rows if rows else 0.0


def _number_numbers(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, str]:
    stats = feature.num_stats
    present = stats.common_stats.tot_num_values or stats.common_stats.num_non_missing
    quantiles = {share: quantile(feature, share) for share in QUANTILES}
    numbers = {
        "zeros": percent(stats.num_zeros / present if present else 0.0),
        "mean": _short(stats.mean),
        "std dev": _short(stats.std_dev),
        "min": number(stats.min),
        **{_title(share): number(value) for share, value in quantiles.items()},
        "max": number(stats.max),
    }
    if stats.HasField("weighted_numeric_stats"):
        weighted = stats.weighted_numeric_stats
        numbers |= {"weighted mean": _short(weighted.mean), "weighted std dev": _short(weighted.std_dev)}
    # Without any number TFDV's statistics are all 0.
    has_numbers = number_counts(feature).total if has_counts(feature) else present
    return numbers if has_numbers and _has_distribution(feature) else dict.fromkeys(numbers, NO_VALUE)


def _samples(feature: statistics_pb2.FeatureNameStatistics) -> list[float]:
    return [feature.num_stats.min, feature.num_stats.max, *(quantile(feature, share) for share in QUANTILES)]


def _time_numbers(feature: statistics_pb2.FeatureNameStatistics, write: Writer) -> dict[str, str]:
    stats = feature.num_stats
    quantiles = {_title(share): quantile(feature, share) for share in QUANTILES}
    # Times are wide: the first ones are seen without scrolling.
    times = {"min": stats.min, "median": quantiles.pop("median"), "max": stats.max, "mean": stats.mean}
    if not _common(feature).num_non_missing or not _has_distribution(feature):
        return dict.fromkeys([*times, "std dev", *quantiles], NO_VALUE)
    return {
        **{title: write(value) for title, value in times.items()},
        "std dev": duration(stats.std_dev),
        **{title: write(value) for title, value in quantiles.items()},
    }


def _title(share: float) -> str:
    return "median" if share == 0.5 else f"{share:.0%}"


def _text_numbers(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, str]:
    stats = feature.string_stats
    top = stats.rank_histogram.buckets[:1]
    present = stats.common_stats.num_non_missing
    empty = sum(b.sample_count for b in stats.rank_histogram.buckets if not b.label)
    numbers = {
        "empty": percent(empty / present if present else 0.0),
        "different": f"{stats.unique:,}",
        "most frequent": top[0].label if top else "",
        "its share": percent(top[0].sample_count / present if top and present else 0.0),
        "mean length": _short(stats.avg_length),
    }
    if stats.HasField("weighted_string_stats"):
        weighted, total = stats.weighted_string_stats, stats.common_stats.weighted_common_stats.num_non_missing
        of_top = sum(b.sample_count for b in weighted.rank_histogram.buckets if top and b.label == top[0].label)
        numbers["its weighted share"] = percent(of_top / total if total else 0.0)
    return numbers if _has_distribution(feature) else dict.fromkeys(numbers, NO_VALUE)


def _categories(by_split: Mapping[str, statistics_pb2.FeatureNameStatistics]) -> Bins:
    """Return the values that are most frequent over all splits."""
    counts = [category_counts(feature) for feature in by_split.values()]
    importance: dict[str, float] = {}
    for split in counts:
        # Splits of few rows count as much as large ones.
        total = sum(split.values()) or 1.0
        for value, count in split.items():
            importance[value] = importance.get(value, 0.0) + count / total
    top = sorted(importance, key=lambda value: (-importance[value], value))[:TOP_VALUES]
    # Of many different values, only the most frequent of each split are known.
    are_all = [
        feature.string_stats.unique <= len(split) for feature, split in zip(by_split.values(), counts, strict=True)
    ]
    are_exact = all(is_all or split.keys() >= set(top) for split, is_all in zip(counts, are_all, strict=True))
    return Bins(top, [], [[split.get(value, 0.0) for value in top] for split in counts], are_exact)


def _bins(by_split: Mapping[str, statistics_pb2.FeatureNameStatistics], write: Writer) -> Bins:
    counts: list[ValueCounts] = [number_counts(feature) for feature in by_split.values()]
    # Where nothing was counted, there is nothing to estimate.
    are_true = all(has_counts(f) for f, c in zip(by_split.values(), counts, strict=True) if c.total)
    return bins(counts, are_true=are_true, write=write)


def _flags(view: FeatureView, first: statistics_pb2.FeatureNameStatistics) -> list[tuple[str, str]]:
    """Return what deserves a look: (word, why)."""
    flags = []
    for kind in (DRIFT, SKEW):
        if any(comparison.kind == kind and comparison.shift.exceeded for comparison in view.compared):
            flags.append((kind.lower(), "a distance is above its threshold"))
    if view.missing > OFTEN_MISSING:
        flags.append(("missing", f"{percent(view.missing)} of the rows of a split have no value"))
    missing = [side.missing for side in view.sides]
    if max(missing) - min(missing) > OFTEN_MISSING:
        flags.append(("missing differs", "the splits differ in what is missing"))
    if first.HasField("string_stats"):
        top = max((share for side in view.sides for share in side.shares), default=0.0)
        if top > IMBALANCED:
            flags.append(("imbalanced", f"one value has {percent(top)} of the rows"))
    else:
        stats = first.num_stats
        present = stats.common_stats.num_non_missing
        if present and stats.num_zeros / present > MOSTLY_ZERO:
            flags.append(("mostly zero", f"{percent(stats.num_zeros / present)} of the values are zero"))
        if not present:
            flags.append(("no values", "no row has a value"))
        elif stats.min == stats.max:
            flags.append(("constant", "all values are the same"))
    return flags


def _logarithmic(share: float) -> float:
    """Return a value from 0 to 1, with three powers of ten shown."""
    return max(0.0, 1 + math.log10(share) / 3) if share > 0 else 0.0


def percent(share: float) -> str:
    """Return a share, for people."""
    return "0%" if share == 0 else f"{share:.1%}" if share >= 0.0005 else "<0.1%"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 or abs(value) >= MAX_SHOWN_IN_FULL else f"{value:,.0f}"
