"""The protocol of model registries, and the values that they take and return. Imports no TensorFlow, no Google client.

A registry of your own is a class with these methods, and an entry of `serving.registry.settings`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from serving.registry.content import GOLDEN_FILE, WARMUP_FILE, compute_content_hash

SHORT_HASH_CHARS = 12


@dataclass(frozen=True)
class Candidate:
    """A model that is to be pushed; before it is trained, only the pipeline and the version are known.

    Attributes:
      pipeline: Name of the pipeline that owns the model's name.
      version: Number that the config asks for; None for the next.
      run_id: ID of the run.
      model_id: ID of the Model artifact in ML Metadata.
      folder: Folder of the SavedModel; None before it is trained.
      tensorflow: Major and minor release that wrote the SavedModel; None for the installed one.
      metrics: Metrics of the evaluation by slice, `overall` first, then by name; None is an undefined metric.
      golden: Golden requests and their answers, as JSON.
      warmup: Requests with which TF Serving warms the version up, as a TFRecord of PredictionLog.
      statistics: Statistics of the `train` split, serialized.
      examples: Pattern of the files of the `train` split.
      origin: Hash of the data, code and config that it was made of; empty if unknown. Two trainings have the same.
      data: Fields of the `DataTime` of the training data; empty if it is not known.
    """

    pipeline: str
    version: int | None = None
    run_id: str = ""
    model_id: int = 0
    folder: Path | None = None
    tensorflow: tuple[int, int] | None = None
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    golden: bytes = b""
    warmup: bytes = b""
    statistics: bytes = b""
    examples: str = ""
    origin: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained_folder(self) -> Path:
        """Folder of the SavedModel, which a push needs.

        Raises:
          ValueError: the candidate is not trained yet.
        """
        if self.folder is None:
            raise ValueError("the candidate has no folder: only a trained model can be pushed")
        return self.folder

    @cached_property
    def content_hash(self) -> str:
        """Hash of the SavedModel's files."""
        return compute_content_hash(self.trained_folder)

    @property
    def overall_metrics(self) -> Mapping[str, float | None]:
        """Metrics over all rows."""
        return next(iter(self.metrics.values()), {})

    @property
    def request_files(self) -> dict[str, bytes]:
        """Golden and warm-up requests by their file's name in a version, as far as there are any."""
        files = {GOLDEN_FILE: self.golden, WARMUP_FILE: self.warmup}
        return {name: content for name, content in files.items() if content}


@dataclass(frozen=True)
class PushPlan:
    """The effect that a push would have.

    Attributes:
      version: Number that the model has or would get.
      is_done: Whether nothing is left to do.
      summary: Plan in one line.
      lines: Plan in detail.
    """

    version: int
    is_done: bool
    summary: str
    lines: Sequence[str]


@dataclass(frozen=True)
class PushedVersion:
    """The outcome of a push.

    Attributes:
      version: Number of the version that holds the model.
      destination: Folder of the version, or its resource name.
      pushed: Whether this push changed anything.
      content_hash: Hash of the model.
      traffic: Percent of the requests by version number.
      properties: Further custom properties for ML Metadata.
      note: Reason why the version waits as the candidate though pushes promote: the rollback that it would undo.
    """

    version: int
    destination: str
    pushed: bool
    content_hash: str
    traffic: Mapping[int, int]
    properties: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version and its state.

    Attributes:
      number: Number of the version.
      state: `champion`, `previous`, `candidate` or `retired`; or the reason why it is none of them.
      details: Further values for a program, by name.
      cells: Texts of a table's row, by heading.
    """

    number: int
    state: str
    details: Mapping[str, Any]
    cells: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the version as a JSON document."""
        return {"version": self.number, "state": self.state, **self.details}


@dataclass(frozen=True)
class ServingState:
    """The serving version, or the versions that share the traffic.

    Attributes:
      champion: Number of the champion; None if there is none.
      traffic: Percent of the requests by version number.
      text: Serving versions in words.
    """

    champion: int | None
    traffic: Mapping[int, int]
    text: str


@dataclass(frozen=True)
class ServingSwitch:
    """A promotion or a rollback.

    Attributes:
      action: `promote` or `rollback`.
      version: Number of the version that serves afterwards.
      champion_before: Number of the champion before; None if there was none.
      changed: Whether this is a change.
      traffic_before: Percent of the requests by version number before.
    """

    action: str
    version: int
    champion_before: int | None
    changed: bool
    traffic_before: Mapping[int, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class GarbageCollection:
    """A deletion of old versions.

    Attributes:
      versions: Numbers of the versions.
      deleted: Whether they are deleted; if not, they would be.
    """

    versions: Sequence[int]
    deleted: bool


class ModelRegistry(Protocol):
    """The versions of one model, and the changes of them. All methods raise PushError with place and remedy."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def resource(self) -> str:
        """Folder or resource name of the model."""

    @property
    def is_remote(self) -> bool:
        """Whether each question goes over a network, and may take minutes to fail."""

    def plan(self, candidate: Candidate) -> PushPlan:
        """Return the effect of a push, or raise PushError if it would clash or fail."""

    def push(self, candidate: Candidate) -> PushedVersion:
        """Make a trained model a version, unless one holds it already; a rollback is not undone by that."""

    def list_versions(self) -> list[RegisteredVersion]:
        """Return all versions, ascending."""

    def read_serving(self) -> ServingState:
        """Return the serving version."""

    def read_history(self) -> list[dict[str, Any]]:
        """Return the changes, the oldest first, each with `at`, `action`, `version` and `by`."""

    def inspect(self, version: int | None = None) -> dict[str, Any]:
        """Return the details of a version, by default of the champion, and compare its files with the pushed ones."""

    def promote(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> ServingSwitch:
        """Let a version serve, by default the candidate."""

    def roll_back(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> ServingSwitch:
        """Let an earlier version serve, by default the previous one."""

    def gc(self, *, keep_last: int, dry_run: bool = False) -> GarbageCollection:
        """Delete old versions that are not in use, but never the last ones."""

    def list_next_commands(self, version: int) -> list[str]:
        """Return the commands that follow a push, as arguments of Python."""
