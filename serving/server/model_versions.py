"""The versions of a model that are served: listed from a folder, checked, loaded, swapped without a gap.

A version is loaded only if its content hash is that of the push, and its answers to the golden requests are those of
the evaluated model. If anything is wrong with a new version, the serving versions are unchanged.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, assert_never

from cli.errors import ConfigError, PipelineError, PushError
from serving.model.golden_requests import GoldenRequests
from serving.model.inputs import RequestError
from serving.model.predictor import Predictor
from serving.model.session_model import ModelError
from serving.model.signatures import SERVING_DEFAULT
from serving.model.tensor_predictor import TensorPredictor, load_predictor
from serving.model.warmup_requests import run_warmup
from serving.registry import (
    GOLDEN_FILE,
    RELEASE_FILE,
    VERSION_FILE,
    LocalRegistry,
    Release,
    compute_content_hash,
    compute_extra_hashes,
    read_record,
)
from serving.registry.data_time import DataTime
from serving.server.settings import find_model_name, is_version

_LOG = logging.getLogger(__name__)
# TF Serving's words: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/get_model_status.proto
AVAILABLE, END = "AVAILABLE", "END"
_MAX_REASON_CHARS = 1000

FileList = list[tuple[str, int, int]]


@dataclass(frozen=True)
class VersionPolicy:
    """The choice of the versions that are served.

    Attributes:
      kind: `champion`, or the latest if a folder has no record of one; `labels`: also `previous` and `candidate`;
        `latest`: the last `count`; `all`; `numbers`.
      count: number of versions of `latest`.
      numbers: version numbers of `numbers`.
      labels: labels whose versions are served in any case.
    """

    kind: Literal["champion", "labels", "latest", "all", "numbers"] = "champion"
    count: int = 1
    numbers: frozenset[int] = frozenset()
    labels: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "VersionPolicy":
        """Parse `champion`, `labels`, `latest`, `latest:2`, `all` or `1,3`.

        Raises:
          ConfigError: the string is none of them.
        """
        match text.split(":"):
            case ["champion" | "labels" | "all" as kind]:
                return cls(kind)
            case ["latest", *count] if len(count) < 2 and all(re.fullmatch(r"[1-9]\d*", part) for part in count):
                return cls("latest", int(count[0]) if count else 1)
            case [numbers] if re.fullmatch(r"\d+(,\d+)*", numbers):
                return cls("numbers", numbers=frozenset(map(int, numbers.split(","))))
        raise ConfigError(f"--versions: expected champion, labels, latest, latest:2, all or 1,3; found '{text}'")

    def select(self, versions: list[int], labels: Mapping[str, int]) -> set[int]:
        """Return the numbers of the versions to serve.

        Args:
          versions: numbers of the existing versions, in ascending order.
          labels: numbers by label.
        """
        labelled = {number for label, number in labels.items() if label in self.labels}
        return self._select(versions, labels) | (labelled & {*versions})

    def _select(self, versions: list[int], labels: Mapping[str, int]) -> set[int]:
        latest = set(versions[-1:])
        match self.kind:
            case "champion":
                return ({labels["champion"]} & {*versions}) if "champion" in labels else latest
            case "labels":
                return ({*labels.values()} & {*versions}) or latest
            case "latest":
                return set(versions[-self.count :])
            case "all":
                return set(versions)
            case "numbers":
                return {*versions} & self.numbers
            case kind:
                assert_never(kind)

    def choose_default(self, served: Collection[int], labels: Mapping[str, int], before: int | None) -> int | None:
        """Return the version that answers a request that names none.

        It is the champion. If that could not be loaded, it is the default before, and no other. With a policy of
        numbers or of the latest, it is the highest of them.

        Args:
          served: numbers of the versions that are served.
          labels: numbers by label.
          before: the default before.
        """
        highest = max(served, default=None)
        champion = labels.get("champion") if self.kind != "latest" else None
        if champion is None or champion in served:
            return champion if champion is not None else highest
        if before in served:
            return before
        return highest if self.kind == "numbers" else None


@dataclass(frozen=True)
class ServedVersion:
    """A loaded version.

    Attributes:
      number: its number.
      folder: its folder.
      predictor: its model.
      content_hash: hash of its content.
      golden: its golden requests.
      data_time: newest time of its training data; None if it is not known.
      signature: signature of a model of tensors that `predictor` calls.
      others: the same version with its other signatures, once they were asked for.
    """

    number: int
    folder: Path
    predictor: Predictor | TensorPredictor
    content_hash: str
    golden: GoldenRequests | None = None
    data_time: DataTime | None = None
    signature: str = SERVING_DEFAULT
    others: "dict[str, ServedVersion]" = field(default_factory=dict, compare=False, repr=False)

    def select(self, signature: str) -> "ServedVersion":
        """Return this version with one of the signatures of a model of tensors; any other model has one way to call."""
        if signature == self.signature or not isinstance(self.predictor, TensorPredictor):
            return self
        if signature not in self.others:
            predictor = self.predictor.select(signature)
            self.others[signature] = replace(self, predictor=predictor, signature=signature, others={})
        return self.others[signature]


@dataclass(frozen=True)
class VersionStatus:
    """State of a version in TF Serving's words; `error` is the reason why it is not served."""

    state: str
    error: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The versions that are served at one moment; replaced as a whole.

    Attributes:
      served: versions by number.
      labels: numbers by label, such as `champion`, of versions that are served.
      default: number of the version that answers a request without a version or a label.
      states: states of these versions and of those that could not be loaded.
    """

    served: Mapping[int, ServedVersion] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None
    states: Mapping[int, VersionStatus] = field(default_factory=dict)

    def find(self, version: int | None, label: str | None) -> ServedVersion | None:
        """Return the version of a number, of a label, or the default."""
        number = version if version is not None else self.labels.get(label) if label is not None else self.default
        return self.served.get(number) if number is not None else None


class ServedVersions:
    """The versions of one model; `snapshot` is read without a lock."""

    def __init__(
        self,
        folder: Path,
        policy: VersionPolicy,
        *,
        allow_unvalidated: bool = False,
        on_change: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        """Args:
        folder: folder of versions, of a registry or of TF Serving; or of one version.
        policy: choice of the versions to serve.
        allow_unvalidated: whether to serve models that no push of this product wrote.
        on_change: called with the snapshot after every change.

        Raises:
          ConfigError: labelled versions cannot be served beside a champion.
        """
        self.folder, self._policy, self._allow_unvalidated = folder, policy, allow_unvalidated
        self._single = is_version(folder)
        if policy.labels and (self._single or policy.kind in ("latest", "numbers")):
            reason = f"{folder} is one version" if self._single else f"--versions {policy.kind} has another default"
            raise ConfigError(
                "--shadow and --split: expected the folder of all versions, and --versions champion, labels or all; "
                f"{reason}"
            )
        self._registry = LocalRegistry(folder.parent, folder.name)
        self._on_change = on_change
        self._refreshing = threading.Lock()
        # Files of versions that could not be loaded, by number: a version is tried again once its files change.
        self._rejected_files: dict[int, FileList] = {}
        # Reasons why no push put a version in its place, by number.
        self._unexplained: dict[int, str] = {}
        self.snapshot = Snapshot()

    @property
    def model_name(self) -> str:
        return find_model_name(self.folder)

    def refresh(self) -> Snapshot:
        """Read the folder, load new versions, drop removed ones; block while loading.

        Raises:
          PushError: the folder cannot be read, or the registry's state is damaged; the serving version is unchanged.
        """
        with self._refreshing:
            versions, labels = self._list_versions()
            before = self.snapshot
            # A version that its registry still names is in memory, whatever became of its folder.
            kept = before.served.keys() & {*labels.values()} - versions.keys()
            selected = self._policy.select(sorted({*versions, *kept}), labels)
            served = {number: version for number, version in before.served.items() if number in selected}
            states = {number: state for number, state in before.states.items() if number in selected}
            states |= {number: VersionStatus(END, reason) for number, reason in self._unexplained.items()}
            for number in served:
                gone = f"{self.folder / str(number)}: is gone; the model in memory is served" if number in kept else ""
                if gone and not states[number].error:
                    _LOG.error("version %d: %s", number, gone)
                states[number] = VersionStatus(AVAILABLE, gone)
            for number in sorted(selected - served.keys()):
                version = self._load(number, versions[number], states)
                if version is not None:
                    served[number] = version
            if not served and before.served:
                # No version can take over, so the serving version is unchanged.
                served, labels = dict(before.served), before.labels
                states = {**{number: before.states[number] for number in served}, **states}
            default = self._policy.choose_default(served, labels, before.default)
            labels = {label: number for label, number in labels.items() if number in served}
            now = Snapshot(served, labels, default, states)
            if now != before:
                self.snapshot = now
                self._on_change(now)
            return self.snapshot

    def explain(self) -> str:
        """Return the reasons why a version, or none at all, is not served."""
        reasons = [state.error for state in self.snapshot.states.values() if state.error]
        if reasons:
            return "; ".join(reasons)
        versions, _ = self._list_versions()
        if versions:
            numbers = ", ".join(map(str, sorted(versions)))
            return f"{self.folder}: has version {numbers}; none of them is what --versions asks for"
        if self._unexplained:
            number = min(self._unexplained)
            return f"{self.folder}: version {number} is not served: {self._unexplained[number]}"
        below = sorted(
            path.name for path in self.folder.iterdir() if LocalRegistry(self.folder, path.name).list_numbers()
        )
        hint = f"; expected the model's own folder, such as {self.folder / below[0]}" if below else ""
        return f"{self.folder}: holds no version of a model{hint}"

    def _list_versions(self) -> tuple[dict[int, Path], Mapping[str, int]]:
        """Return the folders of the existing versions, by number, and their labels."""
        if self._single:
            return {read_number(self.folder): self.folder}, {}
        unexplained = {
            number: reason for number in self._registry.list_numbers() if (reason := self._explain_origin(number))
        }
        for number in unexplained.keys() - self._unexplained.keys():
            _LOG.error("version %d is not served: %s", number, unexplained[number])
        self._unexplained = unexplained
        numbers = [number for number in self._registry.list_numbers() if number not in unexplained]
        return {number: self._registry.find_folder(number) for number in numbers}, self._registry.read_labels()

    def _explain_origin(self, number: int) -> str:
        """Return why no push put a version in its place; empty if one did."""
        try:
            return "" if self._registry.is_explained(number) else self._registry.describe_unexplained(number)
        except PushError:
            # Its release file is damaged, which loading it reports; a damaged ledger has no labels, either.
            return ""

    def _load(self, number: int, folder: Path, states: dict[int, VersionStatus]) -> ServedVersion | None:
        """Load and check a version; if it cannot be served, return None and add the reason to `states`."""
        files = _list_files(folder)
        if self._rejected_files.get(number) == files:
            return None
        _LOG.info("version %d: loading", number)
        try:
            version = load_version(number, folder, allow_unvalidated=self._allow_unvalidated)
        except Exception as error:
            # Whatever is wrong with one version keeps no other from being followed.
            reason = str(error) if isinstance(error, PipelineError) else f"{folder}: {type(error).__name__}: {error}"
            _LOG.error("version %d is not served: %s", number, reason, exc_info=not isinstance(error, PipelineError))
            states[number] = VersionStatus(END, reason[:_MAX_REASON_CHARS])
            self._rejected_files[number] = files
            return None
        _LOG.info("version %d: is served", number)
        self._rejected_files.pop(number, None)
        states[number] = VersionStatus(AVAILABLE)
        return version


def load_version(number: int, folder: Path, *, allow_unvalidated: bool) -> ServedVersion:
    """Load one version, if its content is that of the push and its answers are correct.

    Raises:
      PushError: the content or an answer differs, or the model cannot be loaded.
    """
    content = compute_content_hash(folder)
    release = None
    if not allow_unvalidated:
        release = _check_release(folder, content)
        _check_number(folder, number)
    golden = _read_golden(folder)
    if not allow_unvalidated and not (golden and golden.instances):
        raise PushError(f"{folder}: {GOLDEN_FILE} has no requests, so its answers cannot be checked; push it again")
    try:
        predictor = load_predictor(folder)
        answers = predictor.predict(golden.instances) if golden else []
    except (ModelError, RequestError) as error:
        raise PushError(str(error)) from error
    difference = golden.find_difference(answers) if golden else None
    if difference is not None:
        raise PushError(f"{folder}: wrong answer to a golden request: {difference}")
    run_warmup(folder, predictor)
    data_time = DataTime.parse(release.data) if release is not None else None
    return ServedVersion(number, folder, predictor, content, golden, data_time)


def _check_release(folder: Path, content: str) -> Release:
    """Return the release file of a version, whose files it is held against."""
    try:
        release = Release.from_json(read_record(folder / RELEASE_FILE))
    except FileNotFoundError as error:
        raise PushError(
            f"{folder}: holds no {RELEASE_FILE}: no push of this product left it there; --allow-unvalidated serves it"
        ) from error
    except (OSError, ValueError) as error:
        raise PushError(f"{folder / RELEASE_FILE}: is damaged: {error}") from error
    if release.content_hash != content:
        raise PushError(
            f"{folder}: is not what was pushed: its content hash is {content[:12]}, {RELEASE_FILE} has "
            f"{release.content_hash[:12]}; push it again, or restore the folder"
        )
    for name, digest in release.extra_hashes.items():
        if compute_extra_hashes({name: _read_beside(folder / name) or b""})[name] != digest:
            raise PushError(f"{folder / name}: is not what was pushed; push it again, or restore the file")
    if GOLDEN_FILE not in release.extra_hashes:
        raise PushError(
            f"{folder}: was pushed without {GOLDEN_FILE}, so its answers cannot be checked; --allow-unvalidated serves "
            "it"
        )
    return release


def _check_number(folder: Path, number: int) -> None:
    """Reject a folder that was copied to another number: its answers would name the old one."""
    recorded = _read_version_file(folder) or str(number)
    if recorded != str(number):
        raise PushError(
            f"{folder}: is version {number} by its name, and {recorded!r} by {VERSION_FILE}; push the model again"
        )


def _read_golden(folder: Path) -> GoldenRequests | None:
    content = _read_beside(folder / GOLDEN_FILE)
    try:
        return None if content is None else GoldenRequests.from_json(content)
    except (ValueError, KeyError, TypeError) as error:
        raise PushError(f"{folder / GOLDEN_FILE}: is damaged: {error}") from error


def _read_beside(file: Path) -> bytes | None:
    """Return the content of a file that a push writes beside the model; None if there is none."""
    try:
        return read_record(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PushError(f"{file}: cannot be read: {error.strerror}; push the model again") from error


def _read_version_file(folder: Path) -> str:
    return (_read_beside(folder / VERSION_FILE) or b"").decode(errors="backslashreplace").strip()[:40]


def read_number(folder: Path) -> int:
    """Return the number of a single version, from the file of its push or the name of its folder."""
    for text in (_read_version_file(folder), folder.name):
        if text.isdecimal():
            return int(text)
    return 1


def _list_files(folder: Path) -> FileList:
    """Return the names, sizes and times of a folder's files; another tool may still be copying into it."""
    files: FileList = []
    for path in folder.rglob("*"):
        # Not followed: a link may lead nowhere.
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(files)
