"""Metrics of logged predictions whose label came later, by version, week and slice, with Evaluator's intervals.

The values are of all rows. The intervals are of a sample of each group, by the least hashes, as Evaluator's are. The
rows are read twice in blocks: once to count the slices, once to measure those that are large enough.
"""

import datetime
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from components.config import Evaluation
from pipeline.config.pipeline_config import PipelineConfig
from schemas.bootstrap import Interval, find_interval, replicate_metrics, standard_error
from schemas.decision import DecisionThreshold
from schemas.features import ColumnType
from schemas.metric_counts import Counts, create_empty_counts
from schemas.metrics import MEAN_COST, METRICS
from schemas.moments import effective_rows
from schemas.row_sample import RowSample
from schemas.slices import OVERALL, name_slice
from schemas.tables.log_columns import PREDICTION_PREFIX
from serving.model.output_names import MEASURED_OUTPUT
from serving.outcomes.store import FOLDER, HASH, IS_EARLY, LABEL, WEIGHT, JoinSummary
from serving.registry import DECISION_FILE
from serving.request_log.shards import TIME, VERSION, RequestLogError

_ROWS_TOGETHER = 1 << 17
# Rows of a group that its intervals are computed from.
_SAMPLE_ROWS = 1 << 14
_MAX_SLICES = 200
_LIVE = "live"
_HOUR_MICROSECONDS = 3_600_000_000

Array = NDArray[Any]


class Group(NamedTuple):
    """Rows that are measured together; an empty week stands for all weeks."""

    version: int
    week: str = ""
    slice: str = OVERALL


@dataclass(frozen=True)
class LiveMetrics:
    """Metrics of one group.

    Attributes:
      group: The group.
      rows: Number of rows.
      values: Values by metric; None where one is undefined.
      intervals: 95 % intervals by metric; a metric without one is left out.
      reasons: Reasons why metrics are undefined, by metric.
    """

    group: Group
    rows: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class LiveSettings:
    """How the rows are measured.

    Attributes:
      evaluation: Section of the config: metrics, slices, least number of rows of a slice.
      types: Types of the columns of slices, by name.
      decisions: Thresholds of the versions of a binary label; `DEFAULT_THRESHOLD` for others.
      seed: Seed of the draws.
    """

    evaluation: Evaluation = field(default_factory=Evaluation)
    types: Mapping[str, ColumnType] = field(default_factory=dict)
    decisions: Mapping[int, DecisionThreshold] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def from_config(cls, config: PipelineConfig | None, version: int, folder: Path) -> "LiveSettings":
        """Return the settings of a version.

        Args:
          config: Config of the run that pushed it; None if that is not known.
          version: Its number.
          folder: Its folder, which need not be on this machine.
        """
        try:
            decisions = {version: DecisionThreshold.model_validate_json((folder / DECISION_FILE).read_bytes())}
        except (OSError, ValidationError):
            # A model without declared costs has no such file.
            decisions = {}
        if config is None:
            return cls(decisions=decisions)
        return cls(config.evaluation, config.feature_set.column_types, decisions, config.seed)


@dataclass(frozen=True)
class Window:
    """Rows that are read.

    Attributes:
      since: Start of the time of prediction, inclusive; None for the first.
      until: End, exclusive; None for the last.
      version: Version; None for all.
      hours: Hours since 1970; None for all.
    """

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    version: int | None = None
    hours: Collection[int] | None = None


@dataclass
class Activity:
    """Times of the labelled predictions of a version.

    Attributes:
      first, last: The earliest and the latest.
      hours: Hours since 1970 with a prediction.
    """

    first: datetime.datetime
    last: datetime.datetime
    hours: set[int]

    def find_window_with(self, other: "Activity") -> Window | None:
        """Return the time in which both versions answered; None if there is none.

        The hours leave out the time between single requests and the others, such as after a jump of the clock.
        """
        since, last, hours = max(self.first, other.first), min(self.last, other.last), self.hours & other.hours
        if since > last or not hours:
            return None
        return Window(since, last + datetime.timedelta(microseconds=1), hours=hours)


@dataclass(frozen=True)
class SideBySide:
    """Metrics of two versions on the predictions of the time in which both answered.

    Attributes:
      since, until: Start and end of that time.
      pair: Metrics of each version.
    """

    since: datetime.datetime
    until: datetime.datetime
    pair: Sequence[LiveMetrics]


def measure_outcomes(
    log: Path, summary: JoinSummary, settings: LiveSettings, window: Window | None = None
) -> tuple[list[LiveMetrics], list[str]]:
    """Return the metrics of all groups, and notes on what is missing or sampled.

    Args:
      log: Folder of the request log.
      summary: Summary of its join.
      settings: How they are measured.
      window: Rows that are read; None for all.

    Raises:
      RequestLogError: The joined rows cannot be read, or have no predictions.
    """
    rows = _Rows(log / FOLDER / summary.joined, summary, settings, window or Window())
    counts: Counter[Group] = Counter()
    for block in rows.read_blocks(with_predictions=False):
        for group, indices in block.split_groups():
            counts[group] += len(indices)
    selected, notes = _select_groups(counts, settings.evaluation.min_rows_per_slice)
    measured: dict[Group, _Measured] = {}
    for block in rows.read_blocks(with_predictions=True):
        for group, indices in block.split_groups():
            if group not in selected:
                continue
            if group not in measured:
                decision = settings.decisions.get(group.version, DecisionThreshold())
                measured[group] = _Measured(create_empty_counts(summary.kind, decision.threshold, decision.costs))
            measured[group].add(block, indices)
    results = [
        _measure_group(group, measured[group], summary, settings)
        for group in sorted(measured, key=lambda g: _build_sort_key(g, counts))
    ]
    return results, [*rows.notes, *notes, *_describe_samples(summary)]


def compare_versions(log: Path, summary: JoinSummary, settings: LiveSettings, version: int) -> list[SideBySide]:
    """Return the metrics of a version beside those of each other one, on the predictions of the same time.

    A version that answered at another time had other traffic, and the difference may be that of the traffic.

    Args:
      log: Folder of the request log.
      summary: Summary of its join.
      settings: How rows are measured.
      version: The version.

    Raises:
      RequestLogError: The joined rows cannot be read.
    """
    activities = find_activities(log, summary)
    own = activities.pop(version, None)
    overall = replace(settings, evaluation=settings.evaluation.model_copy(update={"slice_by": ()}))
    results = []
    for other, activity in sorted(activities.items()):
        window = None if own is None else own.find_window_with(activity)
        if window is None or window.since is None or window.until is None:
            continue
        live, _ = measure_outcomes(log, summary, overall, window)
        pair = [metrics for metrics in live if metrics.group in (Group(version), Group(other))]
        if len(pair) == 2:
            results.append(SideBySide(window.since, window.until, pair))
    return results


def find_activities(log: Path, summary: JoinSummary) -> dict[int, Activity]:
    """Return the times of the labelled predictions of each version.

    Raises:
      RequestLogError: The joined rows cannot be read.
    """
    activities: dict[int, Activity] = {}
    path = log / FOLDER / summary.joined
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[TIME, VERSION, IS_EARLY]):
                batch = batch.filter(pc.and_(pc.invert(batch.column(IS_EARLY)), pc.is_valid(batch.column(VERSION))))
                versions = np.asarray(batch.column(VERSION))
                for version in np.unique(versions).tolist():
                    times = batch.column(TIME).filter(pa.array(versions == version))
                    ends, hours = pc.min_max(times).as_py(), set(pc.unique(_find_hours(times)).to_pylist())
                    activity = activities.setdefault(version, Activity(ends["min"], ends["max"], set()))
                    activity.first, activity.last = min(activity.first, ends["min"]), max(activity.last, ends["max"])
                    activity.hours |= hours
    except (OSError, pa.ArrowException) as error:
        raise RequestLogError(f"{path}: cannot be read: {error}; join again") from error
    return activities


def _find_hours(times: pa.Array) -> pa.Array:
    """Return the hours since 1970."""
    return pc.divide(times.cast(pa.int64()), _HOUR_MICROSECONDS)


def _select_groups(counts: Counter[Group], least: int) -> tuple[set[Group], list[str]]:
    """Return the groups that are measured: the slices of a version that are large enough, the largest first."""
    selected = {group for group in counts if group.slice == OVERALL}
    notes = []
    for version in sorted({group.version for group in counts}):
        slices = [g for g in counts if g.version == version and g.slice != OVERALL and counts[g] >= least]
        slices.sort(key=lambda group: (-counts[group], group.slice))
        selected |= {*slices[:_MAX_SLICES]}
        if len(slices) > _MAX_SLICES:
            notes.append(f"version {version}: {len(slices) - _MAX_SLICES:,} more slices are not measured")
    return selected, notes


def _build_sort_key(group: Group, counts: Counter[Group]) -> tuple[Any, ...]:
    return (group.version, group.slice != OVERALL, group.week, group.slice)


def _describe_samples(summary: JoinSummary) -> list[str]:
    shares = sorted({shard.description.sample for shard in summary.shards.values()})
    if len(shares) > 1:
        texts = ", ".join(f"{share:g}" for share in shares)
        return [f"the log has samples of different shares of the requests ({texts}): the weeks count unequally"]
    if shares and shares[0] < 1:
        return [f"the log has a sample of {shares[0]:g} of the requests; rows are those of the sample"]
    return []


@dataclass
class _Block:
    """Rows of one read.

    Attributes:
      versions: Versions of the rows.
      weeks: Weeks of the rows, as years * 100 + weeks.
      slices: For each slicing its columns, each as distinct values and the place of each row's; -1 for none.
      labels, predictions, weights, ids: Arrays by row; empty if they were not read.
    """

    versions: Array
    weeks: Array
    slices: Sequence[Sequence[tuple[str, list[Any], Array]]]
    labels: Array
    predictions: Array
    weights: Array
    ids: Array

    def split_groups(self) -> Iterator[tuple[Group, Array]]:
        """Yield the groups with the indices of their rows."""
        for version in np.unique(self.versions).tolist():
            rows = np.flatnonzero(self.versions == version)
            yield Group(version), rows
            for week in np.unique(self.weeks[rows]).tolist():
                yield Group(version, _format_week(week)), rows[self.weeks[rows] == week]
            for columns in self.slices:
                for name, indices in _split_slices(columns, rows):
                    yield Group(version, slice=name), indices


def _split_slices(columns: Sequence[tuple[str, list[Any], Array]], rows: Array) -> Iterator[tuple[str, Array]]:
    """Yield the names of slices and the indices of their rows, without rows that miss a value."""
    places = np.stack([places[rows] for _, _, places in columns])
    present = np.flatnonzero((places >= 0).all(axis=0))
    present = present[np.lexsort(places[:, present])]
    starts = np.flatnonzero(np.diff(places[:, present]).any(axis=0)) + 1
    for part in np.split(present, starts) if len(present) else ():
        key = [
            (name, values[place]) for (name, values, _), place in zip(columns, places[:, part[0]].tolist(), strict=True)
        ]
        yield name_slice(key), rows[part]


def _format_week(week: int) -> str:
    return f"{week // 100}-W{week % 100:02}"


class _Rows:
    """The joined rows of a log that a label counts for."""

    def __init__(self, path: Path, summary: JoinSummary, settings: LiveSettings, window: Window) -> None:
        self._path, self._summary, self._settings, self._window = path, summary, settings, window
        try:
            names = {*pq.read_schema(path).names}
        except (OSError, pa.ArrowException) as error:
            raise RequestLogError(f"{path}: cannot be read: {error}; join again: python -m serving.outcomes") from error
        self._output = f"{PREDICTION_PREFIX}{MEASURED_OUTPUT[summary.kind]}"
        if self._output not in names:
            raise RequestLogError(f"{path}: has no column '{self._output}'; expected the outputs of the model")
        self.notes: list[str] = []
        self._slicings = []
        masked = {name for shard in summary.shards.values() for name in shard.description.masked}
        for columns in settings.evaluation.slice_by:
            absent = [name for name in columns if name not in names or name in masked]
            if absent:
                why = "is sensitive and was not logged" if absent[0] in masked else "is not in the log"
                self.notes.append(f"no slices by {', '.join(columns)}: column '{absent[0]}' {why}")
            else:
                self._slicings.append(columns)

    def read_blocks(self, *, with_predictions: bool) -> Iterator[_Block]:
        """Yield the rows of the window.

        Raises:
          RequestLogError: The file is damaged.
        """
        columns = [TIME, VERSION, IS_EARLY, *dict.fromkeys(name for names in self._slicings for name in names)]
        if with_predictions:
            columns += [self._output, LABEL, WEIGHT, HASH]
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_ROWS_TOGETHER, columns=columns):
                    batch = batch.filter(self._is_selected(batch))
                    if batch.num_rows:
                        yield self._build_block(batch, with_predictions)
        except (OSError, pa.ArrowException) as error:
            raise RequestLogError(f"{self._path}: cannot be read: {error}; join again") from error

    def _is_selected(self, batch: pa.RecordBatch) -> pa.Array:
        times, version = batch.column(TIME), self._window.version
        conditions = [pc.invert(batch.column(IS_EARLY)), pc.is_valid(batch.column(VERSION))]
        if self._window.since is not None:
            conditions.append(pc.greater_equal(times, pa.scalar(self._window.since)))
        if self._window.until is not None:
            conditions.append(pc.less(times, pa.scalar(self._window.until)))
        if version is not None:
            conditions.append(pc.fill_null(pc.equal(batch.column(VERSION), version), False))
        if self._window.hours is not None:
            conditions.append(pc.is_in(_find_hours(times), pa.array(self._window.hours, pa.int64())))
        selected = conditions[0]
        for condition in conditions[1:]:
            selected = pc.and_(selected, condition)
        return selected

    def _build_block(self, batch: pa.RecordBatch, with_predictions: bool) -> _Block:
        # Without a time zone, whose rules are not needed for UTC.
        calendar = pc.iso_calendar(batch.column(TIME).cast(pa.timestamp("us")))
        years, weeks = (np.asarray(calendar.field(name)) for name in ("iso_year", "iso_week"))
        columns = {
            name: self._find_places(batch.column(name), name)
            for names in self._slicings
            for name in dict.fromkeys(names)
        }
        empty = np.zeros(0)
        return _Block(
            versions=np.asarray(batch.column(VERSION)),
            weeks=years * 100 + weeks,
            slices=[[columns[name] for name in names] for names in self._slicings],
            labels=self._read_labels(batch.column(LABEL)) if with_predictions else empty,
            predictions=self._read_predictions(batch.column(self._output)) if with_predictions else empty,
            weights=np.asarray(pc.fill_null(batch.column(WEIGHT), 1.0)) if with_predictions else empty,
            ids=np.asarray(batch.column(HASH)) if with_predictions else empty,
        )

    def _find_places(self, column: pa.Array, name: str) -> tuple[str, list[Any], Array]:
        """Return the distinct values of a column in their type of the model, and the place of each row's."""
        kind = self._settings.types.get(name)
        if kind is not None:
            column = column.cast({"float": pa.float32(), "int": pa.int64(), "string": pa.string()}[kind])
        encoded = column.dictionary_encode()
        return name, encoded.dictionary.to_pylist(), np.asarray(encoded.indices.fill_null(-1))

    def _read_labels(self, column: pa.Array) -> Array:
        if not self._summary.classes:
            return np.asarray(column, np.float64)
        return np.asarray(pc.index_in(column, pa.array(self._summary.classes)))

    def _read_predictions(self, column: pa.Array) -> Array:
        if not pa.types.is_list(column.type):
            return np.asarray(pc.fill_null(column.cast(pa.float64()), math.nan))
        values = np.asarray(column.flatten().cast(pa.float64()))
        return values.reshape(len(column), len(self._summary.classes))


@dataclass
class _Measured:
    """Counts and sample of a group while its rows are read."""

    counts: Counts
    rows: int = 0
    sample: RowSample = field(default_factory=RowSample)

    def add(self, block: _Block, rows: Array) -> None:
        """Add some rows of a block."""
        labels, predictions, weights = block.labels[rows], block.predictions[rows], block.weights[rows]
        self.counts.add(labels, predictions, weights)
        self.rows += len(rows)
        columns = {"labels": labels, "predictions": predictions, "weights": weights}
        self.sample = RowSample.of(block.ids[rows], columns, _SAMPLE_ROWS).merge(self.sample)


def _measure_group(group: Group, measured: _Measured, summary: JoinSummary, settings: LiveSettings) -> LiveMetrics:
    decision = settings.decisions.get(group.version, DecisionThreshold())
    has_costs = decision.costs is not None
    names = [
        name
        for name in settings.evaluation.select_metrics(summary.kind, has_costs=has_costs)
        if name != MEAN_COST or has_costs
    ]
    values: dict[str, float | None] = {}
    for name in names:
        value = METRICS[name].compute(measured.counts)
        values[name] = value if math.isfinite(value) else None
    sample = measured.sample.in_order()
    labels = sample.columns["labels"]
    return LiveMetrics(
        group=group,
        rows=measured.rows,
        values=values,
        intervals=_find_intervals(
            values, sample, create_empty_counts(summary.kind, decision.threshold, decision.costs), settings
        ),
        reasons={
            name: _explain_undefined(name, group, labels, summary) for name, value in values.items() if value is None
        },
    )


def _find_intervals(
    values: Mapping[str, float | None], sample: RowSample, counts: Counts, settings: LiveSettings
) -> dict[str, Interval]:
    """Return the intervals of a group's metrics, as Evaluator computes them."""
    names = [name for name, value in values.items() if value is not None and METRICS[name].has_interval]
    predictions = sample.columns["predictions"]
    if not names or not np.isfinite(predictions).all():
        return {}
    weights = sample.columns["weights"]
    replicates = replicate_metrics(
        names,
        {_LIVE: counts},
        sample.columns["labels"],
        {_LIVE: predictions},
        weights,
        ids=sample.ids,
        seed=settings.seed,
    ).metrics[_LIVE]
    rows = effective_rows(weights)
    # A sample varies more than all rows.
    shrink = math.sqrt(len(sample.ids) / sample.rows)
    intervals = {}
    for name in names:
        error = standard_error(replicates[name], rows)
        error = None if error is None else error * shrink
        interval = find_interval(METRICS[name], values[name], error, rows / shrink**2)
        if interval is not None:
            intervals[name] = interval
    return intervals


def _explain_undefined(name: str, group: Group, labels: Array, summary: JoinSummary) -> str:
    """Return why a metric is undefined."""
    place = f"of {group.week or group.slice if group.week or group.slice != OVERALL else f'version {group.version}'}"
    if METRICS[name].needs_both_classes:
        absent = [summary.classes[index] for index in (0, 1) if not (labels == index).any()]
        if absent:
            return f"no row {place} has the class '{absent[0]}'"
    positive = summary.classes[-1] if summary.classes else ""
    return METRICS[name].undefined.format(rows=place, positive=positive)
