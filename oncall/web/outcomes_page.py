"""Live metrics of logged predictions by week, version and slice, beside the values of the evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.counts import format_count
from oncall.local.run_store import LocalRunStore
from oncall.outcomes import LiveGroup, LiveMetric, OutcomesReport, read_outcomes
from oncall.web.charts import Chart, ChartValue, Line, draw_chart
from oncall.web.options import PageOptions
from schemas.metrics import find_metric


@dataclass(frozen=True)
class OutcomesPage:
    """Content of the page.

    Attributes:
      report: live quality of all versions.
      charts: a chart for each judged metric: its values by week, a line for each version, and the evaluation's.
      tables: groups of a version without a week, all rows first, by the number of the version.
      undefined: reasons why a metric of a week is undefined.
    """

    report: OutcomesReport
    charts: Sequence[Chart]
    tables: Mapping[int, Sequence[LiveGroup]]
    undefined: Sequence[str]


def read_outcomes_page(store: LocalRunStore, options: PageOptions) -> OutcomesPage:
    """Return the content of the page.

    Raises:
      PipelineError: no log is named, or it has no labels.
    """
    report = read_outcomes(store, options.log, options.registry, options.model)
    by_week = [group for group in report.groups if group.week]
    weeks = sorted({group.week for group in by_week})
    charts = [chart for name in report.metrics if (chart := _draw(name, by_week, weeks)) is not None]
    tables: dict[int, list[LiveGroup]] = {}
    for group in report.groups:
        if not group.week:
            tables.setdefault(group.version, []).append(group)
    undefined = [
        f"{find_metric(name).title} of version {group.version} in {group.week} is undefined: {entry.undefined}"
        for group in by_week
        for name in report.metrics
        if (entry := group.metrics.get(name)) is not None and entry.undefined
    ]
    return OutcomesPage(report, charts, tables, undefined)


def _draw(name: str, groups: Sequence[LiveGroup], weeks: Sequence[str]) -> Chart | None:
    """Return the chart of a metric; None without a value."""
    metric = find_metric(name)
    lines = []
    for version in sorted({group.version for group in groups}):
        values, bounds = [], []
        by_week = {group.week: group for group in groups if group.version == version}
        for place, week in enumerate(weeks):
            group = by_week.get(week, LiveGroup(version, week, "", 0, {}))
            entry = group.metrics.get(name, LiveMetric())
            low, high = entry.interval or (None, None)
            title = f"version {version}, {week}: {metric.format(entry.value)}, {format_count(group.rows, 'row')}"
            values.append(ChartValue(place, entry.value, title, low=low, high=high))
            offline = entry.offline
            bounds.append(ChartValue(place, offline, f"evaluation of version {version}: {metric.format(offline)}"))
        lines += [Line(f"version {version}", values), Line(f"its evaluation ({version})", bounds, is_bound=True)]
    return draw_chart(metric.title, lines, weeks)
