"""The configs of a staleness test: one training, evaluated on a later span each. Imports no TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, DataError
from components.config import ANOMALIES
from pipeline.config.pipeline_config import PipelineConfig
from schemas.data import TRAIN_SPLIT, FileSplit
from schemas.tables.data_files import find_spans, format_span, names_spans

# Sections that a test leaves out: a push, bounds, other models, and what reports or runs elsewhere.
_LEFT_OUT = ("alerts", "extra_components", "vertex", "metadata", "retrain")
_MAX_NAMED_SPANS = 10


@dataclass(frozen=True)
class StalenessPlan:
    """Spans of a test, and the config of each evaluation.

    Attributes:
      span: Span that is trained on; with `data.window`, the last of several.
      later: Spans that are tested on, ascending.
      pattern: Pattern of their files.
      configs: Config of each evaluation: of `evaluation.split` at `span`, then of each later span.
      notes: Differences from a run of the config, in words.
    """

    span: int
    later: Sequence[int]
    pattern: str
    configs: Sequence[PipelineConfig]
    notes: Sequence[str]

    def name_span(self, span: int) -> str:
        """Return a span as its files are named."""
        return format_span(self.pattern, span)


def plan_staleness(config: PipelineConfig, span: int | None, ahead: int) -> StalenessPlan:
    """Return the spans and configs of a test.

    Args:
      config: Config of the pipeline.
      span: Span to train on; None for the one that leaves `ahead` later ones, or as many as there are.
      ahead: Largest number of later spans.

    Raises:
      ConfigError: The rows are not in files of several spans.
      DataError: There are too few spans, or the span does not exist.
    """
    split, pattern = _find_pattern(config)
    patterns = find_spans(config.data.base, pattern, split)
    spans, window = list(patterns), config.data.window
    if len(spans) < window + 1:
        raise DataError(
            f"{config.data.base}/{pattern}: staleness needs a span after the {window} that it trains on, and there "
            f"{'is one span alone' if len(spans) == 1 else f'are {len(spans)} spans'}: {_list_spans(pattern, spans)}; "
            "add files of later spans, or lower data.window"
        )
    if span is None:
        span = spans[max(len(spans) - 1 - ahead, window - 1)]
    if span not in patterns:
        raise DataError(
            f"{config.data.base}/{pattern}: has no span {span}; there are: {_list_spans(pattern, spans)} (--span)"
        )
    later = [other for other in spans if other > span][:ahead]
    if not later:
        raise DataError(
            f"{config.data.base}/{pattern}: span {format_span(pattern, span)} is the last one; staleness tests on "
            f"later spans: choose an earlier one of {_list_spans(pattern, spans)} with --span"
        )
    splits = {_name_split(other): {"files": patterns[other]} for other in later}
    configs = [_derive_config(config, span, splits, config.evaluation.split)]
    configs += [_derive_config(config, span, splits, name) for name in splits]
    notes = []
    if config.data.group_column is not None:
        notes.append(
            f"data.group_column is not used, since values of '{config.data.group_column}' come again in later spans; "
            "the first line may be better than a model is for groups that it has not seen"
        )
    return StalenessPlan(span, later, pattern, configs, notes)


def _find_pattern(config: PipelineConfig) -> tuple[str, str]:
    """Return the split, and its pattern, whose spans are tested on: those of the evaluated rows, or of train."""
    if not config.data.reads_files:
        place = "BigQuery" if config.data.bigquery is not None else "data.example_gen"
        raise ConfigError(f"data: staleness needs files of several spans, and the rows are in {place}")
    evaluated = config.data.splits[config.evaluation.split]
    source = config.evaluation.split if isinstance(evaluated, FileSplit) else getattr(evaluated, "source", TRAIN_SPLIT)
    for name in dict.fromkeys([source, TRAIN_SPLIT]):
        split = config.data.splits[name]
        if isinstance(split, FileSplit) and names_spans(split.files):
            return name, split.files
    raise ConfigError(
        f"data.splits.{TRAIN_SPLIT}.files: has no {{SPAN}} or {{YYYY}}, and staleness compares spans; name the files "
        "of each span so, as in day-{SPAN}.csv"
    )


def _list_spans(pattern: str, spans: Sequence[int]) -> str:
    names = [format_span(pattern, span) for span in spans[-_MAX_NAMED_SPANS:]]
    return f"{'... ' if len(spans) > len(names) else ''}{', '.join(names)}"


def _name_split(span: int) -> str:
    return f"span_{span}"


def _derive_config(config: PipelineConfig, span: int, splits: dict[str, Any], evaluated: str) -> PipelineConfig:
    """Return the config of one evaluation, which shares all nodes before Evaluator with the others."""
    values = config.model_dump(mode="json")
    for section in _LEFT_OUT:
        values.pop(section, None)
    data = values["data"]
    data |= {"span": span, "splits": {**data["splits"], **splits}}
    group = data.pop("group_column", None)
    if group is not None and group not in values["features"] and group not in data["ignored_columns"]:
        data["ignored_columns"] = [*data["ignored_columns"], group]
    # A shift of later spans is what is measured; it must not stop the run.
    rules = [{"anomaly": name, "severity": "warn"} for name in ANOMALIES]
    values["validation"] = {**values["validation"], "severities": [*values["validation"]["severities"], *rules]}
    values["training"]["warm_start"] = False
    values["evaluation"] |= {
        "split": evaluated,
        "thresholds": [],
        "change_thresholds": [],
        "plots": False,
        "challengers": {**values["evaluation"]["challengers"], "linear": False, "trees": False},
    }
    values["push"] = {"model_name": config.push.model_name}
    derived = PipelineConfig.model_validate(values)
    derived._file = config._file
    return derived


def describe_training(config: PipelineConfig, plan: StalenessPlan) -> str:
    """Return the spans that are trained on, in words."""
    last = plan.name_span(plan.span)
    first = plan.name_span(plan.span - config.data.window + 1)
    return f"span {last}" if config.data.window == 1 else f"spans {first} to {last}"


def get_staleness_root(name: str) -> Path:
    """Return the default run root of a test, beside that of the pipeline's own runs, which it must not mix with."""
    return Path.cwd() / "runs" / f"{name}-staleness"
