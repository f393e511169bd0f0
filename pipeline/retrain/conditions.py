"""The conditions of a retraining, each judged by itself. Imports no TensorFlow."""

from collections.abc import Iterator
from dataclasses import dataclass

from cli.errors import ConfigError
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.retrain.config import Retrain
from pipeline.retrain.live_traffic import find_log, judge_drift, judge_live_quality
from pipeline.run.run_root import RunRoot
from schemas.data import TRAIN_SPLIT, FileSplit
from schemas.tables.data_files import find_spans, format_span, has_span_numbers
from serving.registry.data_time import DAY_SECONDS, DataTime


@dataclass(frozen=True)
class Champion:
    """The serving version.

    Attributes:
      version: Its number.
      data_time: Newest time of its training data; None if its push did not record it.
    """

    version: int
    data_time: DataTime | None


@dataclass(frozen=True)
class Condition:
    """A condition and its judgement.

    Attributes:
      name: Key of the section `retrain`, or `no_champion`.
      holds: Whether it is a reason to retrain.
      text: The values that decide, in words.
    """

    name: str
    holds: bool
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def judge_conditions(config: PipelineConfig, root: RunRoot, champion: Champion | None, now: float) -> list[Condition]:
    """Return the conditions that the config names, judged.

    Args:
      config: Config with a section `retrain`.
      root: Run root of the runs.
      champion: Serving version; None before the first push.
      now: Time in seconds since 1970.

    Raises:
      ConfigError: A condition cannot be judged with this config.
      DataError: The files of the spans cannot be listed, or the request log cannot be read.
    """
    retrain = config.retrain
    assert retrain is not None
    # Before anything is read.
    log = find_log(config)
    if champion is None:
        return [Condition("no_champion", True, "no version serves yet")]
    conditions = [*_judge_data(config, retrain, champion, now)]
    if retrain.drift:
        conditions.append(Condition("drift", *judge_drift(config, root, log, champion.version)))
    if retrain.live_quality:
        conditions.append(Condition("live_quality", *judge_live_quality(config, root, log, champion.version)))
    return conditions


def _judge_data(config: PipelineConfig, retrain: Retrain, champion: Champion, now: float) -> Iterator[Condition]:
    if retrain.new_span:
        yield _judge_span(config, champion)
    if retrain.max_age_days is None:
        return
    limit = f"at most {retrain.max_age_days:g} days"
    if champion.data_time is None:
        text = f"version {champion.version} has no time of its data on record; run the pipeline once to push one"
        yield Condition("max_age_days", False, text)
        return
    age = champion.data_time.measure_age(now)
    text = f"version {champion.version} is {champion.data_time.describe(now)}; {limit}"
    yield Condition("max_age_days", age > retrain.max_age_days * DAY_SECONDS, text)


def _judge_span(config: PipelineConfig, champion: Champion) -> Condition:
    name, pattern = _find_pattern(config)
    latest = max(find_spans(config.data.base, pattern, name))
    latest_name = format_span(pattern, latest)
    trained = champion.data_time.span if champion.data_time is not None else None
    if trained is None:
        text = f"version {champion.version} has no span of its data on record; run the pipeline once to push one"
        return Condition("new_span", False, text)
    trained_name = format_span(pattern, trained)
    if latest > trained:
        return Condition(
            "new_span", True, f"span {latest_name} is new; version {champion.version} was trained on {trained_name}"
        )
    text = f"span {latest_name} is the latest, and version {champion.version} was trained on {trained_name}"
    return Condition("new_span", False, text)


def _find_pattern(config: PipelineConfig) -> tuple[str, str]:
    """Return the read split, and its pattern with spans, that `train` is made of."""
    key = "retrain.new_span"
    split = config.data.splits[TRAIN_SPLIT]
    name = TRAIN_SPLIT if isinstance(split, FileSplit) else getattr(split, "source", TRAIN_SPLIT)
    source = config.data.splits[name]
    if not isinstance(source, FileSplit) or not has_span_numbers(source.files):
        raise ConfigError(
            f"{key}: needs files of spans, and data.splits.{name} has no {{SPAN}} or {{YYYY}} in `files`; name them "
            "so, or use max_age_days"
        )
    if config.data.span is not None:
        raise ConfigError(
            f"{key}: data.span fixes the span {config.data.span}, so that no run reads a new one; remove data.span"
        )
    return name, source.files
