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
from components.histograms import QUANTILES, has_counts, read_category_counts, read_number_counts, read_quantile
from components.sensitive_statistics import is_sensitive
from components.value_counts import ValueCounts
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run import artifact_lookup
from pipeline.run.run_distances import compare_run, find_pushed_train
from pipeline.run.run_root import RunRoot
from pipeline.stats.bins import MAX_SHOWN_IN_FULL, Bins, Tick, Writer, build_bins, format_number
from pipeline.stats.times import build_time_writer, format_duration
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
        about = "" if self.are_counted else "about "
        bars = [
            (share, f"tallest bar: {about}{count:,.0f} of {side.split} ({format_percent(share)})")
            for side in self.sides
            for share, count in zip(side.shares, side.values, strict=True)
        ]
        return max(bars, default=(0.0, ""), key=lambda bar: bar[0])

    @property
    def distance(self) -> float:
        """The largest distance in relation to its threshold; 0 where none was measured."""
        return max((comparison.shift.value / comparison.shift.threshold for comparison in self.compared), default=0.0)


def build_page(config: PipelineConfig, root: RunRoot, run: str) -> StatisticsPage:
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
    # `train` comes first in any alphabet. The last pushed data is drawn beside it.
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
    environment.filters["percent"] = format_percent
    html = environment.get_template("stats.html.j2").render(
        style=Markup(read_style()),
        title=f"{config.name}, run {artifacts.run_id}",
        rows={split: int(statistics.num_examples) for split, statistics in all_splits.items()},
        features=build_views(all_splits, compared, FeatureNotes.read(config.model_dump(mode="json"))),
        pushed_run=push.run_id if push is not None else "",
        has_pushed=pushed is not None,
        compared={kind: sum(1 for c in compared if c.kind == kind) for kind in (DRIFT, SKEW)},
    )
    return StatisticsPage(artifacts.run_id, html)


def build_views(
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
        view = _build_feature_view(
            name, sides, {split: int(splits[split].num_examples) for split in sides}, notes.get(name, FeatureNotes())
        )
        view.compared.extend(comparison for comparison in compared if comparison.shift.feature == name)
        view.flags.extend(_find_flags(view, next(iter(sides.values()))))
        views.append(view)
    return views


def _build_feature_view(
    name: str,
    by_split: Mapping[str, statistics_pb2.FeatureNameStatistics],
    rows: Mapping[str, int],
    notes: FeatureNotes,
) -> FeatureView:
    first = next(
        (feature for feature in by_split.values() if _get_common(feature).num_non_missing),
        next(iter(by_split.values())),
    )
    # TFDV has no type for a split without any value.
    is_text = first.HasField("string_stats")
    is_masked = any(is_sensitive(feature) for feature in by_split.values())
    write = (
        build_time_writer(notes.time_format, _list_samples(first))
        if notes.time_format and not is_text
        else format_number
    )
    bins_by_split = _count_categories(by_split) if is_text else _count_bins(by_split, write)
    hardly_repeats = is_text and all(map(_is_nearly_unique, by_split.values()))
    if is_masked or hardly_repeats or not all(map(_has_distribution, by_split.values())):
        bins_by_split = Bins([], [], [[] for _ in by_split], are_exact=True)
    totals = [
        _count_values(feature, counts) for feature, counts in zip(by_split.values(), bins_by_split.counts, strict=True)
    ]
    shares = [[count / total for count in counts] for counts, total in zip(bins_by_split.counts, totals, strict=True)]

    def list_numbers(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, str]:
        if is_text:
            return _describe_texts(feature)
        return _describe_numbers(feature) if write is format_number else _describe_times(feature, write)

    highest = max((share for split in shares for share in split), default=0.0) or 1.0
    sides = [
        SplitSide(
            split=split,
            count=rows[split],
            missing=_compute_missing_share(feature, rows[split]),
            numbers={title: text for title, text in list_numbers(feature).items() if not is_masked or title in _COUNTS},
            values=bins_by_split.counts[index],
            shares=shares[index],
            bars=[(share / highest, _compute_log_share(share / highest)) for share in shares[index]],
        )
        for index, (split, feature) in enumerate(by_split.items())
    ]
    type_ = statistics_pb2.FeatureNameStatistics.Type.Name(first.type).lower()
    return FeatureView(
        name=name,
        kind="text" if is_text else "time" if write is not format_number else type_,
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
    if not _get_common(feature).num_non_missing:
        return True
    if feature.HasField("string_stats"):
        return bool(feature.string_stats.rank_histogram.buckets)
    return not math.isnan(read_quantile(feature, 0.5))


def _is_nearly_unique(feature: statistics_pb2.FeatureNameStatistics) -> bool:
    values = feature.string_stats.common_stats.tot_num_values
    return bool(values >= _MIN_VALUES and feature.string_stats.unique > _HARDLY_REPEATED * values)


def _count_values(feature: statistics_pb2.FeatureNameStatistics, counts: Sequence[float]) -> float:
    """Return the number of all values, of which only the most frequent categories are drawn."""
    return max(_get_common(feature).tot_num_values, sum(counts)) or 1.0


def _get_common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return feature.string_stats.common_stats if feature.HasField("string_stats") else feature.num_stats.common_stats


def _compute_missing_share(feature: statistics_pb2.FeatureNameStatistics, rows: int) -> float:
    return 1 - _get_common(feature).num_non_missing / rows if rows else 0.0


def _describe_numbers(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, str]:
    stats = feature.num_stats
    present = stats.common_stats.tot_num_values or stats.common_stats.num_non_missing
    quantiles = {share: read_quantile(feature, share) for share in QUANTILES}
    numbers = {
        "zeros": format_percent(stats.num_zeros / present if present else 0.0),
        "mean": _format_short(stats.mean),
        "std dev": _format_short(stats.std_dev),
        "min": format_number(stats.min),
        **{_format_title(share): format_number(value) for share, value in quantiles.items()},
        "max": format_number(stats.max),
    }
    if stats.HasField("weighted_numeric_stats"):
        weighted = stats.weighted_numeric_stats
        numbers |= {"weighted mean": _format_short(weighted.mean), "weighted std dev": _format_short(weighted.std_dev)}
    # Without any number TFDV's statistics are all 0.
    has_numbers = read_number_counts(feature).total if has_counts(feature) else present
    return numbers if has_numbers and _has_distribution(feature) else dict.fromkeys(numbers, NO_VALUE)


def _list_samples(feature: statistics_pb2.FeatureNameStatistics) -> list[float]:
    return [feature.num_stats.min, feature.num_stats.max, *(read_quantile(feature, share) for share in QUANTILES)]


def _describe_times(feature: statistics_pb2.FeatureNameStatistics, write: Writer) -> dict[str, str]:
    stats = feature.num_stats
    quantiles = {_format_title(share): read_quantile(feature, share) for share in QUANTILES}
    # Times are wide: the first ones are seen without scrolling.
    times = {"min": stats.min, "median": quantiles.pop("median"), "max": stats.max, "mean": stats.mean}
    if not _get_common(feature).num_non_missing or not _has_distribution(feature):
        return dict.fromkeys([*times, "std dev", *quantiles], NO_VALUE)
    return {
        **{title: write(value) for title, value in times.items()},
        "std dev": format_duration(stats.std_dev),
        **{title: write(value) for title, value in quantiles.items()},
    }


def _format_title(share: float) -> str:
    return "median" if share == 0.5 else f"{share:.0%}"


def _describe_texts(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, str]:
    stats = feature.string_stats
    top = stats.rank_histogram.buckets[:1]
    present = stats.common_stats.num_non_missing
    empty = sum(b.sample_count for b in stats.rank_histogram.buckets if not b.label)
    numbers = {
        "empty": format_percent(empty / present if present else 0.0),
        "different": f"{stats.unique:,}",
        "most frequent": top[0].label if top else "",
        "its share": format_percent(top[0].sample_count / present if top and present else 0.0),
        "mean length": _format_short(stats.avg_length),
    }
    if stats.HasField("weighted_string_stats"):
        weighted, total = stats.weighted_string_stats, stats.common_stats.weighted_common_stats.num_non_missing
        of_top = sum(b.sample_count for b in weighted.rank_histogram.buckets if top and b.label == top[0].label)
        numbers["its weighted share"] = format_percent(of_top / total if total else 0.0)
    return numbers if _has_distribution(feature) else dict.fromkeys(numbers, NO_VALUE)


def _count_categories(by_split: Mapping[str, statistics_pb2.FeatureNameStatistics]) -> Bins:
    """Return the values that are most frequent over all splits."""
    counts = [read_category_counts(feature) for feature in by_split.values()]
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


def _count_bins(by_split: Mapping[str, statistics_pb2.FeatureNameStatistics], write: Writer) -> Bins:
    counts: list[ValueCounts] = [read_number_counts(feature) for feature in by_split.values()]
    # Where nothing was counted, there is nothing to estimate.
    are_true = all(has_counts(f) for f, c in zip(by_split.values(), counts, strict=True) if c.total)
    return build_bins(counts, are_true=are_true, write=write)


def _find_flags(view: FeatureView, first: statistics_pb2.FeatureNameStatistics) -> list[tuple[str, str]]:
    """Return what needs attention: (word, reason)."""
    flags = []
    for kind in (DRIFT, SKEW):
        if any(comparison.kind == kind and comparison.shift.exceeded for comparison in view.compared):
            flags.append((kind.lower(), "a distance is above its threshold"))
    if view.missing > OFTEN_MISSING:
        flags.append(("missing", f"{format_percent(view.missing)} of the rows of a split have no value"))
    missing = [side.missing for side in view.sides]
    if max(missing) - min(missing) > OFTEN_MISSING:
        flags.append(("missing differs", "the splits differ in what is missing"))
    if first.HasField("string_stats"):
        top = max((share for side in view.sides for share in side.shares), default=0.0)
        if top > IMBALANCED:
            flags.append(("imbalanced", f"one value has {format_percent(top)} of the rows"))
    else:
        stats = first.num_stats
        present = stats.common_stats.num_non_missing
        if present and stats.num_zeros / present > MOSTLY_ZERO:
            flags.append(("mostly zero", f"{format_percent(stats.num_zeros / present)} of the values are zero"))
        if not present:
            flags.append(("no values", "no row has a value"))
        elif stats.min == stats.max:
            flags.append(("constant", "all values are the same"))
    return flags


def _compute_log_share(share: float) -> float:
    """Return a value from 0 to 1, with three powers of ten shown."""
    return max(0.0, 1 + math.log10(share) / 3) if share > 0 else 0.0


def format_percent(share: float) -> str:
    """Return a share, for people."""
    return "0%" if share == 0 else f"{share:.1%}" if share >= 0.0005 else "<0.1%"


def _format_short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 or abs(value) >= MAX_SHOWN_IN_FULL else f"{value:,.0f}"
