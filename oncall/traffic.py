"""`traffic`: a window of the request log beside the training data of the version that served it."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from cli.counts import format_count
from cli.errors import ConfigError, DataError, PipelineError
from cli.terminal import format_flags
from components.column_names import name_column
from components.config import Comparison
from components.histograms import WRITTEN_BINS, build_custom_stats
from components.sensitive_statistics import is_sensitive
from components.table_statistics import list_columns, select_columns
from components.value_counts import ValueCounts
from oncall.evaluations import read_judgement, read_plots
from oncall.gate_inputs import read_gate_inputs
from oncall.metadata import Artifact, Metadata, Outputs
from oncall.model_versions import ModelVersions
from oncall.request_log import find_request_log, read_monitoring
from oncall.results import Check, CommandResult, ResultTable
from oncall.run_store import RunStore
from oncall.text_format import format_labels, shorten
from pipeline.alerts.incidents import TRAFFIC
from pipeline.config.monitoring import DEFAULT_SINCE
from pipeline.run.advice import suggest_doctor, suggest_oncall
from pipeline.run.statistics_files import read_statistics
from pipeline.traffic.judgement import (
    FeatureTraffic,
    TrafficFinding,
    judge_outputs,
    judge_rejections,
    judge_window,
    list_findings,
    to_document,
)
from pipeline.traffic.window import (
    LogWindow,
    TrafficColumns,
    parse_since,
    read_first_outputs,
    read_window,
)
from schemas.data import TRAIN_SPLIT
from schemas.features import ColumnType
from serving.request_log.shards import Shard, list_shards

_PROBABILITY, _PREDICTED_LABEL = "probability", "predicted_label"
_FIRST_DAYS = 1
_MAX_CHECKED = 3
_MAX_REASONS, _MAX_REASON_CHARS, _MAX_NAMES = 5, 100, 8
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S UTC"


@dataclass(frozen=True)
class TrainingData:
    """The training data of a version.

    Attributes:
      version: Number of the version.
      model: Name of the model.
      run_id: ID of the run that pushed it.
      config: Config of the run.
      statistics: Statistics of `train`.
      schema: Schema of the run.
      drift: Thresholds of the run's gate.
      columns: Input columns.
      derived: Features that are computed from columns, which no request has.
    """

    version: int
    model: str
    run_id: str
    config: Mapping[str, Any]
    statistics: statistics_pb2.DatasetFeatureStatistics
    schema: schema_pb2.Schema
    drift: Comparison
    columns: TrafficColumns
    derived: Sequence[str]


@dataclass(frozen=True)
class TrafficReport:
    """A window of the request log beside the training data.

    Attributes:
      log: Folder of the log.
      training: Training data of the version.
      window: Rows of the window.
      min_rows: Least number of rows that are judged.
      features: Input features, those with findings first; empty if there are too few rows.
      outputs: Outputs of the model, likewise.
      earlier_outputs: Statistics that the outputs were compared with.
      references: Place of these statistics in words, by output.
      rejections: Finding about rejected requests.
    """

    log: Path
    training: TrainingData
    window: LogWindow
    min_rows: int
    features: Sequence[FeatureTraffic] = ()
    outputs: Sequence[FeatureTraffic] = ()
    earlier_outputs: statistics_pb2.DatasetFeatureStatistics = field(
        default_factory=statistics_pb2.DatasetFeatureStatistics
    )
    references: Mapping[str, str] = field(default_factory=dict)
    rejections: Sequence[TrafficFinding] = ()

    @property
    def rows(self) -> int:
        """Number of rows of the version in the window."""
        return self.window.rows.get(self.training.version, 0)

    @property
    def findings(self) -> list[TrafficFinding]:
        """Findings of features and outputs, and about rejected requests."""
        return [*self.moved, *self.rejections]

    @property
    def moved(self) -> list[TrafficFinding]:
        """Findings of features and outputs."""
        return [*list_findings(self.features), *list_findings(self.outputs)]

    @property
    def verdict(self) -> str:
        """Result in one line."""
        version, since = self.training.version, f"{self.window.since:{_TIME_FORMAT}}"
        rows = f"{format_count(self.rows, 'row')} of version {version} since {since}"
        if not self.rows:
            others = "".join(f"; version {number} has {count:,}" for number, count in self.window.rows.items())
            return f"no {rows.removeprefix('0 ')}: nothing is judged{others}"
        if self.rows < self.min_rows:
            return f"{rows}: nothing is judged below {self.min_rows:,} (monitoring.min_rows)"
        if not self.moved:
            return f"{rows}: no feature differs from the training data by more than chance"
        sides = ((self.features, "from the training data"), (self.outputs, "from earlier predictions"))
        parts = [
            f"{_join(names)} differ{'s' if len(names) == 1 else ''} {place}"
            for judged, place in sides
            if (names := [feature.feature for feature in judged if feature.findings])
        ]
        return f"{rows}: {'; '.join(parts)}"

    @property
    def unjudged(self) -> dict[str, str]:
        """Features that are not judged, or only by what is missing, by the reason."""
        names = {feature.feature for feature in self.features} or {*self.training.columns.types}
        excluded = [name for name in self.training.columns.uncounted if name in names]
        reasons = {
            "sensitive, and not logged (--log-sensitive of the server logs them)": self.window.masked,
            "derived from other columns": self.training.derived,
            "excluded from drift; only missing values are compared": excluded,
        }
        return {reason: _join(columns) for reason, columns in reasons.items() if columns}


def report_traffic(
    store: RunStore, folder: Path | None, model: str | None, *, log: Path | None, since: str, version: int | None
) -> CommandResult:
    """Return the traffic of a window; the exit code is 1 if there is a finding.

    Args:
      store: Runs.
      folder: Folder of the registry; None for the newest run's.
      model: Name of the model; None for the newest run's.
      log: Folder of the log; None for the newest config's.
      since: Start of the window.
      version: Number of the version; None for the champion.
    """
    report = read_traffic(store, folder, model, log=log, since=since, version=version)
    window, findings = report.window, report.findings
    pairs: list[tuple[str, object]] = [
        ("traffic", report.verdict),
        ("log", f"{report.log}; {describe_samples(window.samples)}" if window.samples else report.log),
        (
            "run",
            f"{report.training.run_id}, whose train split has "
            f"{format_count(report.training.statistics.num_examples, 'row')}",
        ),
        ("rows", ", ".join(f"version {number}: {count:,}" for number, count in window.rows.items())),
    ]
    rejections = list_rejections(window)
    pairs.append(
        ("rejected", ", ".join(f"{describe_version(number)}: {count:,}" for number, count in window.rejected.items()))
    )
    pairs += [("", shorten(line, _MAX_REASON_CHARS)) for line in rejections[:_MAX_REASONS]]
    pairs += [("", f"and {len(rejections) - _MAX_REASONS} other reasons")] if len(rejections) > _MAX_REASONS else []
    pairs += [("clock", describe_future(window)), ("key", describe_keyless(window))]
    pairs += [("not judged", f"{names}: {reason}") for reason, names in report.unjudged.items()]
    pairs += [("finding", str(finding)) for finding in findings]
    pairs += [("compared", f"{name} with {place}") for name, place in report.references.items()]
    rows = [*report.features, *report.outputs]
    table = ResultTable(
        ("feature", "distance", "at most", "missing", "new values", "finding"),
        [_format_feature(feature) for feature in rows],
        sentences=("finding", "new values"),
        least=("new values",),
    )
    parts: list[str | ResultTable] = [*format_labels(pairs)]
    if rows:
        parts.append(table)
    return CommandResult(_to_document(report), parts, 1 if findings else 0)


def read_traffic(
    store: RunStore, folder: Path | None, model: str | None, *, log: Path | None, since: str, version: int | None = None
) -> TrafficReport:
    """Return a window of the request log, judged; the arguments are those of `report_traffic`.

    Raises:
      ConfigError: `since` is not a time, or there is no log.
      DataError: The statistics of the training data, or the log, cannot be read.
    """
    now = datetime.datetime.now(datetime.UTC)
    start = parse_since(since, now)
    monitoring = read_monitoring(store)
    place = find_request_log(store, log)
    if place is None:
        raise ConfigError(
            "no request log is known; name its folder with --log, or set monitoring.request_log in the config"
        )
    model_versions = store.find_model_versions(folder, model)
    training = _read_training_data(store, model_versions, version)
    shards = list_shards(place, training.model)
    window = read_window(shards, training.columns, training.version, since=start, until=now)
    training_rows = int(training.statistics.num_examples)
    rejections = judge_rejections(window.reasons, window.answered, training_rows, monitoring)
    if window.rows.get(training.version, 0) < monitoring.min_rows:
        return TrafficReport(place, training, window, monitoring.min_rows, rejections=rejections)
    features = judge_window(
        training.statistics, window.inputs, schema=training.schema, drift=training.drift, monitoring=monitoring
    )
    earlier, references = _find_earlier_outputs(store, training, window, shards, monitoring.min_rows)
    outputs = judge_outputs(earlier, select_columns(window.outputs, references), monitoring)
    return TrafficReport(
        place, training, window, monitoring.min_rows, features, outputs, earlier, references, rejections
    )


def _read_training_data(store: RunStore, model_versions: ModelVersions, number: int | None) -> TrainingData:
    """Return the training data of a version; None for the champion.

    Raises:
      ConfigError: There is no such version.
      DataError: Its run is not on record, or its statistics are gone.
    """
    versions = {version.number: version for version in model_versions.list_versions()}
    number = model_versions.champion if number is None else number
    if number is None:
        raise DataError(f"{model_versions.location}: no version serves, so there is no training data to compare with")
    if number not in versions:
        numbers = ", ".join(map(str, versions)) or "none"
        raise ConfigError(f"{model_versions.location}: has no version {number}; its versions: {numbers}")
    run_id = versions[number].run
    record = store.read_record(run_id) if run_id else None
    if record is None:
        raise DataError(
            f"version {number}: was pushed by {f'run {run_id}, which is not on record' if run_id else 'another tool'}; "
            "its training data is not known here"
        )
    outputs = store.metadata.get_run_outputs(run_id)
    artifact = _find_statistics(store.metadata, outputs)
    if artifact is None:
        raise DataError(f"version {number}: run {run_id} has no statistics in ML Metadata; push a new version")
    try:
        statistics = read_statistics(artifact.folder)[TRAIN_SPLIT]
        gate = read_gate_inputs(store.metadata, run_id)
        schema = gate.load_schema()
    except (PipelineError, KeyError) as error:
        reason = f"no statistics of {TRAIN_SPLIT}" if isinstance(error, KeyError) else error
        raise DataError(
            f"version {number}: the statistics of its training data cannot be read ({reason}); the next run on "
            "the same data makes them again, or push a new version"
        ) from error
    features: Mapping[str, Any] = record.config.get("features", {})
    derived = [name for name, feature in features.items() if feature.get("expression")]
    types: dict[str, ColumnType] = {
        name: type_ for name, type_ in list_columns(statistics).items() if name in features and name not in derived
    }
    drift = gate.policy.drift
    columns = TrafficColumns(
        types,
        {name: str(features[name]["delimiter"]) for name in types if features[name].get("kind") == "list"},
        [name for name in types if name in drift.excluded and name not in drift.features],
        [name_column(feature) for feature in statistics.features if is_sensitive(feature)],
    )
    model = model_versions.name
    return TrainingData(number, model, run_id, record.config, statistics, schema, drift, columns, derived)


def _find_earlier_outputs(
    store: RunStore, training: TrainingData, window: LogWindow, shards: Sequence[Shard], min_rows: int
) -> tuple[statistics_pb2.DatasetFeatureStatistics, dict[str, str]]:
    """Return statistics that the outputs are compared with, and where each is from; of the rows of the evaluation, or
    of the version's first day in the log.
    """
    evaluated = _read_evaluated_outputs(store, training)
    names = [name_column(feature) for feature in window.outputs.features]
    references = {name_column(f): f"the evaluation of run {training.run_id}" for f in evaluated.features}
    references = {name: place for name, place in references.items() if name in names}
    missing = [name for name in names if name not in references]
    first = read_first_outputs(shards, training.version, days=_FIRST_DAYS, before=window.since) if missing else None
    if first is not None and first[0].num_examples >= min_rows:
        statistics, end = first
        place = f"the first day of version {training.version} in the log, until {end:{_TIME_FORMAT}}"
        evaluated.features.extend(select_columns(statistics, missing).features)
        references |= dict.fromkeys(missing, place)
    return evaluated, references


def _read_evaluated_outputs(store: RunStore, training: TrainingData) -> statistics_pb2.DatasetFeatureStatistics:
    """Return the outputs on the evaluated rows, from the plots of the evaluation; empty if it has none."""
    statistics = statistics_pb2.DatasetFeatureStatistics()
    if read_judgement(store, training.run_id).weight_column:
        # The plots have weights in place of rows.
        return statistics
    plots = read_plots(store.metadata.get_run_outputs(training.run_id))
    try:
        low, high, count = np.array(plots["predictions"], np.float64).T
        counts = ValueCounts(low, high, count)
    except (KeyError, ValueError, TypeError):
        # Evaluations of other labels and of earlier releases have none.
        counts = None
    if counts is not None:
        feature = statistics.features.add(name=_PROBABILITY, type=statistics_pb2.FeatureNameStatistics.FLOAT)
        feature.num_stats.common_stats.num_non_missing = int(counts.total)
        feature.num_stats.common_stats.tot_num_values = int(counts.total)
        feature.num_stats.mean = float(((counts.low + counts.high) / 2 * counts.count).sum() / counts.total)
        feature.custom_stats.extend(build_custom_stats(counts, WRITTEN_BINS))
        edges = np.linspace(0, 1, 11)
        histogram = feature.num_stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            histogram.buckets.add(low_value=start, high_value=end)
    try:
        confusion = plots["confusion"]
        totals = dict(zip(confusion["classes"], np.array(confusion["rows"], np.float64).sum(axis=0), strict=True))
    except (KeyError, ValueError, TypeError):
        return statistics
    feature = statistics.features.add(name=_PREDICTED_LABEL, type=statistics_pb2.FeatureNameStatistics.STRING)
    rows = int(sum(totals.values()))
    feature.string_stats.common_stats.num_non_missing = feature.string_stats.common_stats.tot_num_values = rows
    feature.string_stats.unique = len(totals)
    for name, total in totals.items():
        feature.string_stats.rank_histogram.buckets.add(label=str(name), sample_count=float(total))
    return statistics


def describe_version(number: int | None) -> str:
    """Return the version that would have answered rejected requests, in words."""
    return "no version" if number is None else f"version {number}"


def list_rejections(window: LogWindow) -> list[str]:
    """Return a line for each version and reason of rejected requests, the most frequent first."""
    return [
        f"{count:,} of {describe_version(number)}: {reason}" for (number, reason), count in window.rejections.items()
    ]


def describe_samples(samples: Sequence[float]) -> str:
    """Return the shares of the requests that a log has."""
    shares = " and ".join("all" if share == 1 else f"{100 * share:.4g} %" for share in samples)
    return f"it has {shares} of the requests"


def describe_future(window: LogWindow) -> str:
    """Return a line about rows with times after now; empty if there are none."""
    if window.latest is None:
        return ""
    return (
        f"{format_count(window.future, 'row', 'have')} times after now, up to {window.latest:{_TIME_FORMAT}}, and are "
        "not judged; compare the clocks of the servers with `date -u`"
    )


def describe_keyless(window: LogWindow) -> str:
    """Return a line about rows without the key of the log; empty if there are none."""
    parts = [f"{format_count(count, 'row', 'have')} no value of '{key}'" for key, count in window.keyless.items()]
    return f"{', '.join(parts)} (--log-key), by which labels are joined" if parts else ""


def _format_feature(feature: FeatureTraffic) -> list[object]:
    shift = feature.shift
    before, now = feature.missing
    return [
        feature.feature,
        f"{shift.value:.4f}" if shift is not None else "",
        f"{shift.threshold:g}" if shift is not None else "",
        f"{before:.1%} -> {now:.1%}" if before or now else "",
        ", ".join(f"{value} {count:,}" for value, count in feature.new_values),
        "; ".join(finding.kind for finding in feature.findings),
    ]


def _join(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def check_traffic(store: RunStore, folder: Path | None, model: str | None, log: Path | None) -> Check:
    """Return a check of the last day's traffic.

    Args:
      store: Runs.
      folder: Folder of the registry; None for the newest run's.
      model: Name of the model; None for the newest run's.
      log: Folder of the log; None for the newest config's.
    """
    command_flags = store.location_flags + format_flags(registry=folder, model=model, log=log)
    todo = suggest_oncall("traffic", here=command_flags)
    try:
        report = read_traffic(store, folder, model, log=log, since=DEFAULT_SINCE)
    except PipelineError as error:
        if store.database_error:
            todo = suggest_doctor(store.location_flags)
        return Check(TRAFFIC, False, str(error), todo)
    findings = report.findings
    message = report.verdict + "".join(f"; {finding}" for finding in findings[:_MAX_CHECKED])
    message += f" and {len(findings) - _MAX_CHECKED} more findings" if len(findings) > _MAX_CHECKED else ""
    names = dict.fromkeys(finding.feature for finding in findings)
    about = f"version {report.training.version}"
    return Check(TRAFFIC, not findings, message, todo, about, trained_by=report.training.run_id, parts=(*names,))


def _find_statistics(metadata: Metadata, outputs: Outputs) -> Artifact | None:
    """Return a run's statistics; if their files were deleted, those that another run made of the same examples."""
    own = outputs.get("StatisticsGen", {}).get("statistics", [])
    examples = [artifact.id for artifact in outputs.get("ExampleGen", {}).get("examples", [])]
    users = [event.execution_id for event in metadata.get_artifact_events(examples) if not event.is_output]
    made = [e.artifact_id for e in metadata.get_execution_events(users) if e.is_output and e.key == "statistics"]
    artifacts = [*own, *metadata.get_artifacts(made).values()]
    return next((artifact for artifact in artifacts if artifact.folder.is_dir()), own[0] if own else None)


def _to_document(report: TrafficReport) -> dict[str, Any]:
    window = report.window
    return {
        "version": report.training.version,
        "run": report.training.run_id,
        "log": str(report.log),
        "since": window.since.isoformat(timespec="seconds"),
        "until": window.until.isoformat(timespec="seconds"),
        "verdict": report.verdict,
        "is_judged": bool(report.features),
        "min_rows": report.min_rows,
        "rows": window.rows,
        "samples": list(window.samples),
        "keyless": window.keyless,
        "rejections": [
            {"version": number, "reason": reason, "requests": count}
            for (number, reason), count in window.rejections.items()
        ],
        "future_rows": window.future,
        "latest": window.latest.isoformat(timespec="seconds") if window.latest is not None else None,
        "not_judged": report.unjudged,
        "findings": [str(finding) for finding in report.findings],
        "has_moved": bool(report.moved),
        "features": [to_document(feature) for feature in report.features],
        "outputs": [
            {**to_document(feature), "compared_with": report.references[feature.feature]} for feature in report.outputs
        ],
    }
