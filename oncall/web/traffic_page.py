"""Live traffic beside the training data: findings, numbers, and the histograms of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.errors import ConfigError
from components.table_statistics import select_columns
from oncall.local.run_store import LocalRunStore
from oncall.traffic import (
    TrafficReport,
    describe_future,
    describe_keyless,
    describe_samples,
    list_rejections,
    read_traffic,
)
from oncall.web.options import PageOptions
from pipeline.stats.page import FeatureNotes, FeatureView, build_views
from pipeline.traffic.judgement import FeatureTraffic
from schemas.data import TRAIN_SPLIT

MAX_FEATURES = 150
_LIVE = "live"
_MAX_REASONS = 20


@dataclass(frozen=True)
class TrafficView:
    """One feature or output, with the histograms of both sides.

    Attributes:
      traffic: Distance, missing shares and findings.
      picture: Histograms.
      compared_with: Place of the earlier values in words; empty for a feature.
    """

    traffic: FeatureTraffic
    picture: FeatureView
    compared_with: str = ""


@dataclass(frozen=True)
class TrafficPage:
    """The content of the page.

    Attributes:
      report: Window and its findings.
      features: Input features, those with findings first.
      outputs: Outputs of the model.
      hidden: Number of features that are not shown.
      rejections: Lines of the most frequent reasons of rejections, with version and count.
      clock: Line about rows with times after now; empty if there are none.
      keyless: Line about rows without the key of the log; empty if there are none.
      rows: Number of rows by side.
      samples: Line about the shares of the requests that the log has; empty without rows.
    """

    report: TrafficReport
    features: Sequence[TrafficView]
    outputs: Sequence[TrafficView]
    hidden: int
    rejections: Sequence[str]
    clock: str
    keyless: str
    rows: Mapping[str, int]
    samples: str


def parse_version(text: str) -> int | None:
    """Return the number of a version; None for an empty text.

    Raises:
      ConfigError: It is not a number.
    """
    if text and not text.isdecimal():
        raise ConfigError(f"version '{text}': is not a number; expected one such as 2")
    return int(text) if text else None


def read_traffic_page(store: LocalRunStore, options: PageOptions, *, since: str, version: int | None) -> TrafficPage:
    """Return the page of a window.

    Args:
      store: Runs.
      options: Options of the command.
      since: Start of the window, as `oncall traffic` takes it.
      version: Number of the version; None for the champion.
    """
    report = read_traffic(store, options.registry, options.model, log=options.log, since=since, version=version)
    training, window = report.training, report.window
    names = [feature.feature for feature in report.features[:MAX_FEATURES]]
    sides = {TRAIN_SPLIT: select_columns(training.statistics, names), _LIVE: select_columns(window.inputs, names)}
    pictures = {view.name: view for view in build_views(sides, [], FeatureNotes.read(training.config))}
    output_names = [feature.feature for feature in report.outputs]
    sides = {
        "earlier": select_columns(report.earlier_outputs, output_names),
        _LIVE: select_columns(window.outputs, output_names),
    }
    output_pictures = {view.name: view for view in build_views(sides, [])}
    return TrafficPage(
        report,
        [TrafficView(feature, pictures[feature.feature]) for feature in report.features[:MAX_FEATURES]],
        [
            TrafficView(feature, output_pictures[feature.feature], report.references[feature.feature])
            for feature in report.outputs
        ],
        max(len(report.features) - MAX_FEATURES, 0),
        list_rejections(window)[:_MAX_REASONS],
        describe_future(window),
        describe_keyless(window),
        {TRAIN_SPLIT: int(training.statistics.num_examples), _LIVE: report.rows},
        describe_samples(window.samples) if window.samples else "",
    )
