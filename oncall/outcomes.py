"""`outcomes`: metrics of logged predictions whose label came later, beside those of the evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.counts import format_count
from cli.errors import ConfigError, PipelineError
from cli.terminal import format_command, format_flags
from oncall.evaluations import read_metrics_by_slice
from oncall.model_versions import ModelVersion, ModelVersions
from oncall.request_log import find_request_log
from oncall.results import Check, CommandResult, ResultTable
from oncall.run_store import RunStore
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.outcomes.live_metrics import LiveMetrics, LiveSettings, compare_versions, measure_outcomes
from pipeline.outcomes.quality_drop import (
    WINDOW_DAYS,
    OfflineValue,
    OfflineValues,
    QualityDrop,
    compare,
    find_quality_drop,
    select_metrics,
)
from pipeline.run.advice import suggest_oncall
from schemas.bootstrap import Interval
from schemas.metrics import METRICS
from schemas.slices import OVERALL
from serving.outcomes.store import OWN_MODEL_REMEDY, JoinSummary, read_summary
from serving.request_log.shards import RequestLogError, Shard, list_shards

CHECK = "live quality"


@dataclass(frozen=True)
class _Version:
    """A version with what its rows are measured by and compared with."""

    number: int
    settings: LiveSettings
    offline: OfflineValues


@dataclass(frozen=True)
class LiveMetric:
    """A metric of a group beside that of the evaluation.

    Attributes:
      value: Live value; None if it is undefined.
      interval: Its 95 % interval; None without one.
      undefined: Why it is undefined; empty if it is not.
      offline: Value of the evaluation; None without one.
      offline_interval: Interval of that value; None without one.
      verdict: Comparison of both in a word; empty if they cannot be compared.
    """

    value: float | None = None
    interval: Interval | None = None
    undefined: str = ""
    offline: float | None = None
    offline_interval: tuple[float, float] | None = None
    verdict: str = ""


@dataclass(frozen=True)
class LiveGroup:
    """Rows that are measured together; an empty week stands for all weeks."""

    version: int
    week: str
    slice: str
    rows: int
    metrics: Mapping[str, LiveMetric]


@dataclass(frozen=True)
class LivePair:
    """Two versions on the rows of the time in which both served.

    Attributes:
      since, until: Start and end of that time, as ISO 8601.
      groups: Metrics of each version.
    """

    since: str
    until: str
    groups: Sequence[LiveGroup]


@dataclass(frozen=True)
class OutcomesReport:
    """The live quality of all versions.

    Attributes:
      log: Folder of the request log.
      summary: Join of the labels.
      champion: Number of the champion; None if there is none.
      notes: Weaknesses of the numbers, in words.
      metrics: Names of the metrics.
      groups: Metrics of each version, week and slice.
      drops: Metrics that are significantly too bad, by version.
      side_by_side: The champion beside each other version, in the time in which both served.
    """

    log: Path
    summary: JoinSummary
    champion: int | None
    notes: Sequence[str]
    metrics: Sequence[str]
    groups: Sequence[LiveGroup]
    drops: Mapping[int, Sequence[QualityDrop]]
    side_by_side: Sequence[LivePair]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "log": str(self.log),
            "joined_at": self.summary.at.isoformat(),
            "label": self.summary.label,
            "serving": self.champion,
            "counts": self.summary.counts.model_dump(),
            "examples": dict(self.summary.examples),
            "notes": self.notes,
            "metrics": self.metrics,
            "groups": [asdict(group) for group in self.groups],
            "drops": {
                str(number): [{**asdict(drop), "text": str(drop)} for drop in drops]
                for number, drops in self.drops.items()
            },
            "side_by_side": [asdict(pair) for pair in self.side_by_side],
        }


def read_outcomes(store: RunStore, log: Path | None, folder: Path | None, model: str | None) -> OutcomesReport:
    """Return the live metrics of each version, week and slice, beside those of its evaluation.

    Args:
      store: runs.
      log: folder of the request log; None for the newest config's.
      folder: folder of the registry; None for the newest run's.
      model: name of the model; None for the newest run's.

    Raises:
      ConfigError: no log is named.
      RequestLogError: there is no such log, or no label was joined to it.
    """
    log = find_request_log(store, log)
    if log is None:
        raise ConfigError("--log: is missing; name the folder of the request log, which the server writes")
    summary = _read_summary(store, log)
    model_versions = store.find_model_versions(folder, model)
    versions = {v.number: _describe_version(store, model_versions, v) for v in model_versions.list_versions()}
    champion = model_versions.champion
    # One way to slice all versions; that of the champion.
    settings = versions[champion].settings if champion in versions else LiveSettings()
    decisions = {number: version.settings.decisions.get(number) for number, version in versions.items()}
    settings = LiveSettings(
        settings.evaluation,
        settings.types,
        {number: decision for number, decision in decisions.items() if decision is not None},
        settings.seed,
    )
    live, notes = measure_outcomes(log, summary, settings)
    notes += _describe_join(log, summary, model_versions.name)
    if not any(metrics.rows for metrics in live):
        notes.append("no prediction has a label yet")
    names = select_metrics(settings.evaluation, summary)
    groups = [_compare_group(metrics, versions.get(metrics.group.version)) for metrics in live]
    drops = {}
    for number in dict.fromkeys(metrics.group.version for metrics in live):
        version = versions.get(number, _Version(number, settings, {}))
        drops[number] = find_quality_drop(log, number, version.settings, version.offline)
    pairs = [
        LivePair(
            shared.since.isoformat(),
            shared.until.isoformat(),
            [_compare_group(metrics, versions.get(metrics.group.version)) for metrics in shared.pair],
        )
        for shared in (compare_versions(log, summary, settings, champion) if champion is not None else ())
    ]
    return OutcomesReport(log, summary, champion, notes, names, groups, drops, pairs)


def report_outcomes(store: RunStore, log: Path | None, folder: Path | None, model: str | None) -> CommandResult:
    """Return the report of `read_outcomes`."""
    report = read_outcomes(store, log, folder, model)
    counts = report.summary.counts
    share = f"{counts.joined:,} of {format_count(counts.predictions, 'prediction', 'have')} a label"
    parts: list[str | ResultTable] = [f"{report.log}: {share}; joined {report.summary.at:%Y-%m-%d %H:%M} UTC"]
    parts += [f"note       {note}" for note in report.notes]
    for number, drops in report.drops.items():
        parts += [f"worse      version {number}, last {WINDOW_DAYS} days: {drop}" for drop in drops]
    parts += [f"together   {_format_pair(name, pair)}" for pair in report.side_by_side for name in report.metrics]
    if report.groups:
        headings = ("version", "of", "rows", "metric", "live", "95 %", "evaluation", "")
        cells = [row for group in report.groups for row in _format_rows(group, report.metrics)]
        parts.append(ResultTable(headings, cells, sentences=("live", "")))
    return CommandResult(report.to_dict(), parts)


def check_quality(store: RunStore, model_versions: ModelVersions, log: Path) -> Check:
    """Return the check of the champion's live quality against its evaluation and the thresholds of its config."""
    champion = model_versions.champion
    version = next((v for v in model_versions.list_versions() if v.number == champion), None)
    todo = suggest_oncall("outcomes", here=store.location_flags + format_flags(log=log))
    try:
        list_shards(log, model_versions.name)
        summary = read_summary(log)
        if version is None or summary is None or not summary.counts.joined:
            return Check(CHECK, True, f"{log}: no prediction of the champion has a label yet")
        described = _describe_version(store, model_versions, version)
        drops = find_quality_drop(log, version.number, described.settings, described.offline)
    except RequestLogError as error:
        return Check(CHECK, False, str(error), todo)
    about = f"version {version.number}"
    if drops:
        return Check(CHECK, False, f"{about}: {'; '.join(map(str, drops))}", todo, about, trained_by=version.run)
    basis = "its evaluation and thresholds" if described.offline else "the thresholds of its config"
    return Check(CHECK, True, f"{about}: not significantly below {basis} in the last {WINDOW_DAYS} days", about=about)


def _read_summary(store: RunStore, log: Path) -> JoinSummary:
    summary = read_summary(log)
    if summary is None:
        newest = next(iter(store.read_records()), None)
        features = newest.config.get("features", {}) if newest is not None else {}
        columns = [name for name, feature in features.items() if not feature.get("expression")]
        # A folder without a log has its own error.
        for shard in list_shards(log):
            shard.check_declared(columns, OWN_MODEL_REMEDY)
        todo = format_command(
            "python", "-m", "serving.outcomes", "FILE", "--key", "COLUMN", "--log", log, "--model", "FOLDER"
        )
        raise RequestLogError(f"{log}: no labels were joined yet; join a file of them: {todo}")
    return summary


def _describe_join(log: Path, summary: JoinSummary, model: str) -> list[str]:
    """Return notes on shards that are newer than the join, and on counts that should be 0.

    Raises:
      RequestLogError: a shard is of another model.
    """
    notes: list[str] = []
    shards: list[Shard] = []
    try:
        shards = list_shards(log)
    except RequestLogError as error:
        notes.append(str(error))
    for shard in shards:
        shard.check_model(model)
    new = [shard for shard in shards if shard.path.stem not in summary.shards]
    if new:
        newer = format_count(len(new), "shard", "are")
        notes.append(f"{newer} newer than the join; join again: python -m serving.outcomes --log {log}")
    unweighted = [file for file in summary.files.values() if file.model_weight and not file.weight]
    if unweighted:
        others = f" and {len(unweighted) - 1} more files" if len(unweighted) > 1 else ""
        notes.append(
            f"the evaluation is weighted by {unweighted[0].model_weight}; without weights, and so of weight 1, are the "
            f"rows of {unweighted[0].source}{others}"
        )
    counts = summary.counts
    for count, name, text in (
        (counts.contradicted, "contradicted", "keys have contradictory labels; the latest counts"),
        (counts.future, "future", "labels are from the future and do not count yet"),
        (counts.early, "early", "predictions have a label from before them and do not count"),
    ):
        if count:
            notes.append(f"{count:,} {text}, such as {summary.examples.get(name, '')}")
    return notes


def _describe_version(store: RunStore, model_versions: ModelVersions, version: ModelVersion) -> _Version:
    """Return a version with the config of the run that pushed it, and the values of its evaluation."""
    record = store.read_record(version.run) if version.run else None
    try:
        config = PipelineConfig.model_validate(record.config) if record is not None else None
    except ValidationError:
        # Of another release, or of a model whose features are the user's own.
        config = None
    settings = LiveSettings.from_config(config, version.number, Path(model_versions.location) / str(version.number))
    return _Version(version.number, settings, _read_offline(store, model_versions, version))


def _read_offline(store: RunStore, model_versions: ModelVersions, version: ModelVersion) -> OfflineValues:
    """Return the values of a version's evaluation; without that, those of its release, which have no interval."""
    try:
        slices = read_metrics_by_slice(store.metadata.get_run_outputs(version.run)) if version.run else {}
    except PipelineError:
        slices = {}
    if slices:
        return {
            name: {
                metric: OfflineValue(entry.value, entry.interval)
                for metric, entry in metrics.items()
                if entry.value is not None
            }
            for name, metrics in slices.items()
        }
    try:
        return {OVERALL: {name: OfflineValue(value) for name, value in model_versions.read_metrics(version).items()}}
    except ConfigError:
        raise
    except PipelineError:
        return {}


def _compare_group(live: LiveMetrics, version: _Version | None) -> LiveGroup:
    """Return the metrics of a group beside those of the version's evaluation."""
    # A week has no evaluation of its own; it is compared with that of all rows.
    offline = version.offline.get(live.group.slice, {}) if version is not None else {}
    metrics = {}
    for name, value in live.values.items():
        interval, expected = live.intervals.get(name), offline.get(name)
        verdict = ""
        if value is not None and interval is not None and expected is not None:
            verdict = _judge(name, compare(name, value, interval, expected))
        metrics[name] = LiveMetric(
            value=value,
            interval=interval,
            undefined=live.reasons.get(name, ""),
            offline=expected.value if expected is not None else None,
            offline_interval=expected.interval if expected is not None else None,
            verdict=verdict,
        )
    return LiveGroup(*live.group, rows=live.rows, metrics=metrics)


def _judge(name: str, change: Interval | None) -> str:
    from oncall.evaluations import judge_change

    return judge_change(name, change)


def _format_rows(group: LiveGroup, names: Sequence[str]) -> list[list[object]]:
    """Return a row of the table for each metric."""
    rows = []
    where = group.week or ("all" if group.slice == OVERALL else group.slice)
    for name in names:
        entry = group.metrics.get(name)
        if entry is None:
            continue
        metric = METRICS[name]
        live = entry.undefined and f"undefined: {entry.undefined}"
        rows.append(
            [
                group.version,
                where,
                f"{group.rows:,}",
                metric.title,
                live or metric.format(entry.value),
                _format_interval(name, entry.interval),
                "" if entry.offline is None else metric.format(entry.offline),
                entry.verdict,
            ]
        )
    return rows


def _format_pair(name: str, pair: LivePair) -> str:
    """Return a metric of two versions in the time in which both served."""
    parts = []
    for group in pair.groups:
        entry = group.metrics.get(name, LiveMetric())
        value = f"{METRICS[name].format(entry.value)} {_format_interval(name, entry.interval)}".rstrip()
        parts.append(f"version {group.version} {value}, {format_count(group.rows, 'row')}")
    return f"{METRICS[name].title} in the hours in which both answered: {'; '.join(parts)}"


def _format_interval(name: str, interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"[{', '.join(METRICS[name].format(end) for end in interval)}]"
