"""The runs of a staleness test: one training, and an evaluation of each span. Imports TensorFlow as it runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cli import progress
from cli.errors import PipelineError
from cli.terminal import INTERRUPTED_EXIT_CODE, format_command
from pipeline.run import local
from pipeline.run.summary import RunSummary
from pipeline.staleness.configs import StalenessPlan
from pipeline.staleness.decay import Measurement
from schemas.metrics import EXAMPLE_COUNT

_LAST_NODE = "Evaluator"
_OVERALL = "overall"


def measure_spans(
    plan: StalenessPlan, root: Path, report: Callable[[str], object]
) -> tuple[list[Measurement], list[str]]:
    """Return the metrics of each span, the training's first, and what the gate warns of.

    Args:
      plan: Spans and configs.
      root: Run root of the test.
      report: Function that is called with a line of progress.

    Raises:
      PipelineError: A run failed, or was not started; with its exit code.
      KeyboardInterrupt: A run was interrupted.
    """
    measurements: list[Measurement] = []
    warnings: list[str] = []
    listener = partial(_pass_on, report)
    progress.listeners.append(listener)
    try:
        for number, (span, config) in enumerate(zip([plan.span, *plan.later], plan.configs, strict=True)):
            name = plan.name_span(span)
            verb = "tests" if number else "trains"
            report(f"{number + 1} of {len(plan.configs)}: {verb} on span {name}")
            summary = local.run_silently(config, run_root=root, until=_LAST_NODE)
            if summary.exit_code:
                raise _build_error(summary, name)
            assert summary.evaluator is not None
            metrics = summary.evaluator.metrics[_OVERALL]
            measurements.append(
                Measurement(
                    span=span,
                    name=name,
                    rows=float(metrics.get(EXAMPLE_COUNT) or 0),
                    metrics=metrics,
                    intervals={
                        metric: (low, high)
                        for metric, (low, high) in summary.evaluator.intervals.get(_OVERALL, {}).items()
                    },
                )
            )
            warnings = warnings or [text for text in summary.warnings if text not in summary.evaluator.warnings]
    finally:
        progress.listeners.remove(listener)
    return measurements, [text for text in warnings if text not in summary.worse]


def _pass_on(report: Callable[[str], object], line: str) -> None:
    report(line)


def _build_error(summary: RunSummary, span: str) -> BaseException:
    if summary.exit_code == INTERRUPTED_EXIT_CODE:
        return KeyboardInterrupt()
    why = format_command("python", "-m", "oncall", "why", summary.run_id, "--run-root", summary.run_root)
    error = PipelineError(f"span {span}: {summary.error}; log: {summary.log}; more: {why}")
    error.exit_code = summary.exit_code
    return error
