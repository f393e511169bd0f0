"""The conditions that live traffic decides, asked of the on-call commands: `pipeline` may not import them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from cli.terminal import quiet_stderr
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import has_own_run_fn
from pipeline.run.run_root import RunRoot
from serving.outcomes.store import read_summary

_LIVE = ("drift", "live_quality")
_MAX_TEXTS = 3


def find_log(config: PipelineConfig) -> Path | None:
    """Return the folder of the request log; None if no condition reads it.

    Raises:
      ConfigError: A condition reads it, and the config names none, it does not exist, or the model is the user's own.
    """
    names = [name for name in _LIVE if getattr(config.retrain, name)]
    if not names:
        return None
    # TensorFlow, which the user's module imports, writes there.
    with quiet_stderr():
        is_own = has_own_run_fn(config)
    if is_own:
        keys = " and ".join(f"retrain.{name}" for name in names)
        raise ConfigError(
            f"{keys}: model.module has a run_fn of your own, whose requests are logged as tensors, expected a model "
            "with declared features; retrain by new_span or max_age_days"
        )
    readers = f"{' and '.join(names)} read{'s' if len(names) == 1 else ''} it"
    folder = config.monitoring.request_log
    problem = "is missing" if folder is None else "" if Path(folder).is_dir() else f"{folder} does not exist"
    if problem:
        raise ConfigError(
            f"monitoring.request_log: {problem}, and retrain.{readers}; give the folder of the server's --log-requests"
        )
    return Path(str(folder))


def judge_drift(config: PipelineConfig, root: RunRoot, log: Path | None, version: int) -> tuple[bool, str]:
    """Return whether live traffic differs from the training data of a version, and the values that decide.

    Raises:
      DataError: The log or the training data cannot be read.
    """
    document = _run_oncall(config, root, log, "traffic", "--version", str(version))
    return document["has_moved"], _join_texts([document["verdict"], *document["findings"]])


def judge_live_quality(config: PipelineConfig, root: RunRoot, log: Path | None, version: int) -> tuple[bool, str]:
    """Return whether a version is significantly worse on its outcomes, and the values that decide.

    Raises:
      DataError: The log or the outcomes cannot be read.
    """
    assert log is not None
    if read_summary(log) is None:
        return False, f"{log}: no labels were joined yet"
    document = _run_oncall(config, root, log, "outcomes")
    drops = [drop["text"] for drop in document["drops"].get(str(version), [])]
    if drops:
        return True, _join_texts([f"version {version}", *drops])
    joined = document["counts"]["joined"]
    return False, f"version {version} is not significantly worse; {format_count(joined, 'prediction', 'have')} a label"


def _run_oncall(config: PipelineConfig, root: RunRoot, log: Path | None, name: str, *arguments: str) -> dict[str, Any]:
    place = [
        "--run-root",
        str(root.path),
        "--registry",
        str(root.locate_registry(config)),
        "--model",
        config.push.model_name,
    ]
    command = [sys.executable, "-m", "oncall", name, *arguments, "--log", str(log), *place, "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        document: dict[str, Any] = json.loads(result.stdout)
    except ValueError as error:
        raise DataError(f"oncall {name} ended with exit code {result.returncode}, and printed no document") from error
    if "error" in document:
        raise DataError(f"retrain: {name} cannot be judged, so nothing is retrained: {document['error']}")
    return document


def _join_texts(texts: list[str]) -> str:
    more = len(texts) - _MAX_TEXTS
    return "; ".join(texts[:_MAX_TEXTS]) + (f" and {more} more" if more > 0 else "")
