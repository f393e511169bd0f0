"""Records of runs besides ML Metadata: one JSON file a run, written again with each node. Imports no TensorFlow.

    RUN_ROOT/records/RUN_ID.json

ML Metadata does not distinguish a slow run from a dead one, and keeps no error's text. A record has the process of a
run, its config, its progress and its error. Only the run root's lock proves that a run is active.
"""

import functools
import getpass
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cli.errors import RunRootError
from cli.state_files import write_atomically
from cli.terminal import RUNNER_SCRIPTS, SCRIPT_PREFIX, format_command
from pipeline.run.run_order import list_runs
from pipeline.run.run_root import RunRoot
from schemas.sensitive import MASK

if TYPE_CHECKING:
    from pipeline.config.pipeline_config import PipelineConfig

_PACKAGES = ("pipeline", "components", "trainer", "serving", "schemas")
# Default of local_runner.py, vertex_runner.py and `python -m pipeline`, from the checkout's folder.
DEFAULT_CONFIG = "configs/census.yaml"
_ROOT = Path(__file__).resolve().parents[2]
# Clocks that are set by NTP differ by less.
_MAX_CLOCK_SECONDS = 60.0


class RunState(StrEnum):
    """State of a run."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    CACHED = "CACHED"
    INCOMPLETE = "INCOMPLETE"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    CRASHED = "CRASHED"
    UNKNOWN = "UNKNOWN"


class Kind(StrEnum):
    """Where a run's nodes run: in this process, compiled but on this machine, or on Vertex AI."""

    LOCAL = "local"
    REHEARSAL = "rehearsal"
    VERTEX = "vertex"


# Key of a rehearsal's summary: folder of the evaluation.
EVALUATION = "evaluation"


class NodeRecord(BaseModel):
    """One node of a run.

    Attributes:
      state: `running`, `complete`, `cached` or `failed`.
      started, ended: Times in seconds since 1970.
      error: Error, if it failed.
      log_from, log_to: Its bytes of the run's log.
      log: Its own log, if the nodes of a run do not share one.
    """

    model_config = ConfigDict(extra="ignore")

    state: str
    started: float
    ended: float | None = None
    error: str = ""
    log_from: int = 0
    log_to: int | None = None
    log: str | None = None


class PushResult(BaseModel):
    """Result of a run's push.

    Attributes:
      version: Version that holds the model; None if the run ended before its push.
      wrote: Whether the run wrote the version; if not, the version held the model before.
      destination: Folder or resource name of the version.
      note: Reason why the version waits as the candidate.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int | None = None
    wrote: bool = False
    destination: str = ""
    note: str = ""

    @property
    def label(self) -> str:
        """The version that was written, or `nothing`."""
        return "nothing" if self.written_version is None else f"version {self.written_version}"

    @property
    def written_version(self) -> int | None:
        """The version that was written; None if none was."""
        return self.version if self.wrote else None

    @property
    def reason(self) -> str:
        """Why a run that reached its push wrote nothing; empty otherwise."""
        if self.version is None or self.wrote:
            return ""
        return f"version {self.version} holds this very model already"

    def __str__(self) -> str:
        to = f" to {self.destination}" if self.wrote and self.destination else ""
        note = f", as the candidate: {self.note}" if self.wrote and self.note else ""
        return f"{self.label}{to}{note}" + (f": {self.reason}" if self.reason else "")


class RunRecord(BaseModel):
    """One run.

    Attributes:
      run_id, pipeline: ID of the run, and name of the pipeline.
      kind: Kind of the run; only `local` ones write to this machine's ML Metadata.
      config: Whole config, paths absolute, so that it can be run again; `config_hash` is its hash.
      revision, dirty: Revision of this checkout, and whether it was changed; None without git.
      code: Fingerprint of each package of this product.
      packages: Versions of the installed packages.
      host, pid, process_started, user, command: Process of the run.
      folder: Current folder of the command, which its relative paths start from.
      config_flags: Arguments that name the config: --config, its path absolute, and each --set.
      expected: All its nodes, in order.
      nodes: Nodes that have started.
      exit_code, error, reason: Its end; the reason of an interrupt is the name of the signal.
      resumes: Run that this one continues.
      last_execution: ID of the last execution in ML Metadata before it, which orders runs without executions.
      until: Node after which it was to stop.
      push: Result of the push; None if it is unknown, as of a run that has not ended.
      summary: Further results as text, by name: the serving version, the replay.
      alert: Outcome of the alert about its end.
      metrics: Evaluator's metrics by slice and name, which outlive its artifacts; None for one that is undefined.
      intervals: their 95 % intervals.
      warnings: Warnings of the gate, of Evaluator and of the measures, which stop no run.
      reason_to_run: Reason why `pipeline retrain` started it; empty for a run that a person started.
      data_hash: Hash of its input files, its schema and its config; empty if the files are not known by then.
      measures: Seconds and rates of its nodes, and the size of its push, by name (pipeline/run/measures.py).
    """

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    run_id: str
    pipeline: str
    kind: Kind = Kind.LOCAL
    config: dict[str, Any]
    config_hash: str
    revision: str | None
    dirty: bool | None
    code: dict[str, str]
    packages: dict[str, str]
    host: str
    pid: int
    process_started: float
    user: str
    command: list[str]
    folder: str = ""
    config_flags: list[str] = Field(default_factory=list)
    log: str | None
    expected: list[str]
    started: float
    nodes: dict[str, NodeRecord] = Field(default_factory=dict)
    ended: float | None = None
    exit_code: int | None = None
    error: str = ""
    reason: str = ""
    resumes: str | None = None
    last_execution: int | None = None
    until: str | None = None
    push: PushResult | None = None
    summary: dict[str, str] = Field(default_factory=dict)
    alert: str = ""
    metrics: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    intervals: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    reason_to_run: str = ""
    data_hash: str = ""
    measures: dict[str, float] = Field(default_factory=dict)

    @property
    def result_texts(self) -> dict[str, str]:
        """The results as text, by name, that of the push first."""
        return {**({"pushed": str(self.push)} if self.push is not None else {}), **self.summary}

    @property
    def flat_metrics(self) -> dict[str, float]:
        """The metrics as `slice: name`; NaN for one that is undefined."""
        return {
            f"{where}: {name}": math.nan if value is None else value
            for where, values in self.metrics.items()
            for name, value in values.items()
        }

    @property
    def flat_intervals(self) -> dict[str, tuple[float, float]]:
        """The intervals as `slice: name`."""
        return {f"{where}: {name}": ends for where, by_name in self.intervals.items() for name, ends in by_name.items()}

    @property
    def shown_config(self) -> dict[str, Any]:
        """The config for readers, with the categories of sensitive features masked."""
        features = self.config.get("features", {})
        masked = {name: {**f, "values": MASK} for name, f in features.items() if f.get("sensitive") and "values" in f}
        return {**self.config, "features": {**features, **masked}} if masked else self.config

    def find_log(self, node: str | None) -> str | None:
        """Return the file that has a node's log: its own, or the run's."""
        own = self.nodes[node].log if node is not None else None
        return own or self.log

    @property
    def command_line(self) -> str:
        """The typed command; empty if the record has none."""
        return format_command_line(self.command, self.folder)

    @property
    def running_node(self) -> str | None:
        """The node that had started and not ended when the record was last written."""
        return next((name for name, node in self.nodes.items() if node.ended is None), None)

    @property
    def is_whole(self) -> bool:
        """Whether all its nodes have ended."""
        return all(name in self.nodes and self.nodes[name].ended is not None for name in self.expected)

    @property
    def succeeded(self) -> bool:
        """Whether it ended without an error, with all its nodes."""
        return self.exit_code == 0 and self.is_whole

    def get_state(self, *, locked: bool) -> RunState:
        """Return the state of the run.

        Args:
          locked: Whether the run root's lock is held.
        """
        if self.ended is None:
            return RunState.RUNNING if locked and self._has_process() else RunState.CRASHED
        if self.exit_code == 0 and not self.is_whole:
            return RunState.INCOMPLETE
        if self.exit_code == 0:
            executed = [node for node in self.nodes.values() if node.state != "cached"]
            # In a compiled pipeline the name of a resolver starts with its node's.
            unchanged = {"History", "Gate", "Baseline", "WarmStart", "Pusher"}
            is_cached = all(
                name.partition("-")[0] in unchanged for name, node in self.nodes.items() if node in executed
            )
            return RunState.CACHED if is_cached else RunState.SUCCEEDED
        return RunState.ABORTED if self.reason else RunState.FAILED

    def _has_process(self) -> bool:
        """Return whether the process still runs; on another machine the lock decides."""
        if self.host != socket.gethostname():
            return True
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) < 1.0
        except psutil.NoSuchProcess:
            return False


def format_command_line(arguments: Sequence[str], folder: str = "") -> str:
    """Return a program of this product and its arguments as they are typed.

    Args:
      arguments: As `sys.argv` has them, which names the file of a module.
      folder: Folder that they were typed in; if it is not the current one, the command enters it first.
    """
    if not arguments:
        return ""
    program, *flags = arguments
    path = Path(program)
    if path.name.startswith(SCRIPT_PREFIX):
        line = format_command(path.name, *flags)
    else:
        module = ["-m", path.parent.name] if path.name == "__main__.py" else [program]
        line = format_command("python", *module, *flags)
    return f"{format_command('cd', folder)} && {line}" if folder and Path(folder) != Path.cwd() else line


def find_config_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that name the config of a runner's command, its path absolute.

    Args:
      arguments: As `sys.argv` has them; of another program there are none.
    """
    program, *rest = arguments or [""]
    if not program.endswith("_runner.py") and Path(program).name not in RUNNER_SCRIPTS.values():
        return []
    parts = [
        part
        for argument in rest
        for part in (argument.split("=", 1) if argument.startswith(("--config=", "--set=")) else [argument])
    ]
    pairs = list(itertools.pairwise([*parts, ""]))
    config = next((value for flag, value in reversed(pairs) if flag == "--config"), _ROOT / DEFAULT_CONFIG)
    settings = [part for flag, value in pairs if flag == "--set" for part in (flag, value)]
    return ["--config", os.path.abspath(config), *settings]


def create_record(
    config: "PipelineConfig",
    run_id: str,
    *,
    log: Path | None,
    expected: Sequence[str],
    resumes: str | None,
    kind: Kind = Kind.LOCAL,
    until: str | None = None,
    typed_flags: Sequence[str] = (),
    last_execution: int | None = None,
    reason_to_run: str = "",
) -> RunRecord:
    """Return the record of a run that starts now, in this process.

    Args:
      config: Config of the run.
      run_id: ID of the run.
      log: Log file; None if the log is printed.
      expected: All its nodes, in order.
      resumes: Run that this one continues.
      kind: Kind of the run.
      until: Node after which it is to stop.
      typed_flags: Its `config_flags`, if the command of this process has none.
      last_execution: ID of the last execution in ML Metadata; None where it has no database.
      reason_to_run: Reason why `pipeline retrain` starts it.
    """
    values = config.model_dump(mode="json")
    revision, dirty = read_git_revision()
    return RunRecord(
        run_id=run_id,
        pipeline=config.name,
        kind=kind,
        config=values,
        config_hash=hash_config(config),
        revision=revision,
        dirty=dirty,
        code={name: _hash_package(name) for name in _PACKAGES},
        packages={"python": platform.python_version(), **_list_packages()},
        host=socket.gethostname(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        user=_get_user(),
        command=sys.argv,
        folder=os.getcwd(),
        config_flags=find_config_flags(sys.argv) or list(typed_flags),
        log=str(log) if log else None,
        expected=list(expected),
        started=time.time(),
        resumes=resumes,
        last_execution=last_execution,
        until=until,
        reason_to_run=reason_to_run,
    )


def hash_data(config: "PipelineConfig", fingerprint: str) -> str:
    """Return a hash of all that decides whether a run of a config ends as an earlier one did; empty if it is unknown.

    Args:
      config: Config of the run.
      fingerprint: Fingerprint of the input files; empty if it is not known.
    """
    if not fingerprint:
        return ""
    schema = config.data.schema_file
    text = Path(schema).read_text(errors="replace") if schema is not None and Path(schema).is_file() else ""
    return hashlib.sha256("\0".join([hash_config(config), fingerprint, text]).encode()).hexdigest()[:16]


def hash_config(config: "PipelineConfig") -> str:
    """Return the hash of a config."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_git_revision() -> tuple[str | None, bool | None]:
    """Return the revision of this checkout, and whether it was changed since; None without git."""
    try:
        top, head = _run_git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        # Installed below another product's checkout, it is not part of that revision.
        if Path(top).resolve() != _ROOT:
            return None, None
        return head, bool(_run_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None, None


def _run_git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _get_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return str(os.getuid())


def _hash_package(package: str) -> str:
    # Without importing it: `trainer` alone would load TensorFlow.
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    digest = hashlib.sha256()
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _list_packages() -> dict[str, str]:
    # Each access to `metadata` parses the file again.
    files = [package.metadata for package in importlib.metadata.distributions()]
    return {file["Name"]: file["Version"] for file in files if file["Name"]}


class RecordFile:
    """The record of the active run in this process, kept on disk."""

    def __init__(self, root: RunRoot, record: RunRecord) -> None:
        """Write the record of a run that starts.

        Raises:
          RunRootError: it cannot be written.
        """
        self._file = root.locate_record(record.run_id)
        self._log = Path(record.log) if record.log else None
        self.record = record
        try:
            self._file.parent.mkdir(exist_ok=True)
            self._write()
        except OSError as error:
            raise RunRootError(f"{self._file}: cannot be written: {error.strerror}") from error

    def _write(self) -> None:
        try:
            write_atomically(self._file, self.record.model_dump_json(indent=1))
        except OSError as error:
            raise RunRootError(
                f"{self._file}: cannot be written: {error.strerror}; fix that, and the same command continues from the "
                "cache"
            ) from error

    def _measure_log(self) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        return self._log.stat().st_size if self._log and self._log.exists() else 0

    def on_node_start(self, node: str, log: Path | None = None) -> None:
        """Add a node that starts; `log` is its own log, if it has one."""
        node_record = NodeRecord(state="running", started=time.time(), log_from=self._measure_log())
        node_record.log = str(log) if log else None
        self.record.nodes[node] = node_record
        self._write()

    def on_node_end(self, node: str, state: str, error: str) -> None:
        """Set the end of a node."""
        node_record = self.record.nodes[node]
        node_record.state, node_record.error, node_record.ended = state, error, time.time()
        node_record.log_to = self._measure_log()
        self._write()

    def end(self, *, exit_code: int, error: str, reason: str, summary: Mapping[str, str], **fields: Any) -> None:
        """Set the end of the run, and further fields: `push`, `metrics`, `intervals`, `warnings`, `measures`."""
        self._set(exit_code=exit_code, error=error, reason=reason, summary=summary, ended=time.time(), **fields)
        for node in self.record.nodes.values():
            if node.state == "failed":
                # Its traceback is written after its end.
                node.log_to = self._measure_log()
        self._write()

    def update(self, **fields: object) -> None:
        """Set fields that follow the end: `summary`, `alert`."""
        self._set(**fields)
        self._write()

    def _set(self, **fields: object) -> None:
        # Assigned values take the types of their fields, unlike those of `model_copy`.
        for name, value in fields.items():
            setattr(self.record, name, value)


def read_newest_records(root: RunRoot) -> Iterator[RunRecord]:
    """Yield the records that can be read, the newest run first, whatever the clocks were."""
    for run_id in list_runs(root):
        with suppress(OSError, ValidationError):
            yield RunRecord.model_validate_json(root.locate_record(run_id).read_bytes())


@dataclass(frozen=True)
class ClockConflict:
    """A run whose clock cannot have been right: `text` has the reason, and `is_future` whether it started after now."""

    text: str
    is_future: bool

    def __str__(self) -> str:
        return self.text


def find_clock_conflicts(records: Iterable[RunRecord], now: float) -> list[ClockConflict]:
    """Return the runs whose clocks cannot have been right.

    Args:
      records: Records of runs, the newest first.
      now: Time of this machine, in seconds since 1970.
    """
    conflicts, later = [], None
    for record in records:
        is_future = later is None or record.started > now + _MAX_CLOCK_SECONDS
        ahead = record.started - (now if is_future or later is None else later.started)
        if ahead > _MAX_CLOCK_SECONDS:
            reference = "now" if is_future or later is None else f"the start of run {later.run_id}, which came later"
            text = (
                f"run {record.run_id} started {_format_span(ahead)} after {reference}; the clock of {record.host} was "
                "ahead, or a clock was set back; runs are listed by ML Metadata's IDs"
            )
            conflicts.append(ClockConflict(text, is_future))
        else:
            later = record
    return conflicts


def _format_span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
