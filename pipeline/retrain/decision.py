"""The decision of `pipeline retrain`: whether a run starts now, and why or why not. Imports no TensorFlow."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cli.errors import DataError, NotBlessedError
from components.example_gen.input_fingerprint import MEMORY_FILE, compute_data_fingerprint
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.retrain.attempts import Attempt, compute_wait, count_failures
from pipeline.retrain.conditions import Champion, Condition, judge_conditions
from pipeline.run.causes import find_blamed_node
from pipeline.run.records import RunRecord, hash_data, read_newest_records
from pipeline.run.run_root import RunRoot
from schemas.tables.content_hash import Memory
from serving.registry.data_time import format_age, read_data_time
from serving.registry.protocol import ModelRegistry

_MAX_READ_RECORDS = 100
# The same data, code and config end so again.
_FINAL_CODES = (0, DataError.exit_code, NotBlessedError.exit_code)


@dataclass(frozen=True)
class RetrainDecision:
    """Whether a run starts.

    Attributes:
      conditions: All conditions of the config, judged.
      obstacle: Reason why no run starts though a condition holds; empty if there is none.
      data_hash: Hash of the data that a run would read; empty if it is not known, or no condition holds.
    """

    conditions: Sequence[Condition]
    obstacle: str = ""
    data_hash: str = ""

    @property
    def starts(self) -> bool:
        """Whether a run starts."""
        return any(condition.holds for condition in self.conditions) and not self.obstacle

    @property
    def reason(self) -> str:
        """The conditions that hold, in words."""
        return "; ".join(str(condition) for condition in self.conditions if condition.holds)

    @property
    def lines(self) -> list[str]:
        """The decision, one line for each condition and one for the outcome."""
        lines = [f"{'holds' if c.holds else 'does not hold':<13}  {c}" for c in self.conditions]
        if self.starts:
            return [*lines, f"starts a run: {self.reason}"]
        return [*lines, f"nothing was started: {self.obstacle or 'no condition holds'}"]


def decide(
    config: PipelineConfig, root: RunRoot, registry: ModelRegistry, attempts: Sequence[Attempt], now: float
) -> RetrainDecision:
    """Return whether a run starts now.

    Args:
      config: Config with a section `retrain`.
      root: Run root of the runs.
      registry: Registry that runs push to.
      attempts: Runs that the command has started, the oldest first.
      now: Time in seconds since 1970.

    Raises:
      PipelineError: The data or the registry cannot be read, or a condition cannot be judged.
    """
    conditions = judge_conditions(config, root, _read_champion(registry), now)
    if not any(condition.holds for condition in conditions):
        return RetrainDecision(conditions)
    if root.is_locked:
        return RetrainDecision(conditions, f"a run is active in {root.path}")
    records = [*islice(read_newest_records(root), _MAX_READ_RECORDS)]
    obstacle = _describe_wait(config, records, attempts, now)
    if obstacle:
        return RetrainDecision(conditions, obstacle)
    examples = root.artifacts / "ExampleGen" / "examples"
    # Before the first run there must be no artifacts: without a database, a run would not start.
    memory = Memory(examples / MEMORY_FILE if examples.is_dir() else None)
    data_hash = hash_data(config, compute_data_fingerprint(config.data, memory))
    return RetrainDecision(conditions, _describe_same_data(records, attempts, data_hash), data_hash)


def _read_champion(registry: ModelRegistry) -> Champion | None:
    version = registry.read_serving().champion
    return None if version is None else Champion(version, read_data_time(registry, version))


def _describe_wait(
    config: PipelineConfig, records: Iterable[RunRecord], attempts: Sequence[Attempt], now: float
) -> str:
    """Return why it is too early for the next run; empty if it is not."""
    assert config.retrain is not None
    if not attempts:
        return ""
    succeeded_at = next((record.started for record in records if record.succeeded), 0.0)
    failures = count_failures(attempts, succeeded_at)
    wait, elapsed = compute_wait(config.retrain, failures), now - attempts[-1].started
    # The clock was set back since a start that is after now. The wait must not last until it has caught up.
    if abs(elapsed) >= wait:
        return ""
    elapsed = max(elapsed, 0.0)
    until = datetime.datetime.fromtimestamp(now + wait - elapsed).strftime("%Y-%m-%d %H:%M")
    ago = f"the last run of this command started {format_age(elapsed)} ago"
    if failures:
        plural = "s" if failures > 1 else ""
        return f"{ago}, and it waits until {until} after {failures} failure{plural} in a row (retrain.max_backoff_days)"
    return f"{ago}, and it waits until {until} (retrain.min_interval_hours)"


def _describe_same_data(records: Iterable[RunRecord], attempts: Sequence[Attempt], data_hash: str) -> str:
    """Return the run that had this very data, code aside, and how it ended; empty if none has come to an end."""
    if not data_hash:
        return ""
    return next(_list_same_data(records, attempts, data_hash), "")


def _list_same_data(records: Iterable[RunRecord], attempts: Sequence[Attempt], data_hash: str) -> Iterator[str]:
    for record in records:
        if record.data_hash != data_hash or record.exit_code not in _FINAL_CODES:
            continue
        if record.exit_code == DataError.exit_code:
            node = find_blamed_node(record) or "the pipeline"
            yield f"run {record.run_id}: {node} rejected this very data: {_shorten(record.error)}; correct the data"
        elif record.exit_code == NotBlessedError.exit_code:
            yield f"run {record.run_id} trained on this very data, and its model was not blessed"
        elif record.is_whole:
            yield f"run {record.run_id} trained on this very data"
    for attempt in reversed(attempts):
        if attempt.data_hash == data_hash and attempt.exit_code in _FINAL_CODES:
            name = f"job {attempt.job_id}" if attempt.job_id else "the last run"
            yield f"{name} had this very data, and ended with exit code {attempt.exit_code}"


def _shorten(error: str) -> str:
    """Return the first line of an error that names an anomaly, not the heading."""
    lines = [line.strip() for line in error.splitlines() if line.strip() and not line.strip().endswith(":")]
    return lines[0] if lines else "no error was kept"
