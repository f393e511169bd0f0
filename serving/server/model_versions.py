"""Which versions of a model are served: found in a folder, checked, loaded, swapped without a gap.

A version is taken up only if it is what was pushed (its content hash), and answers its golden requests as the evaluated
model did. Whatever is wrong with a new version, the serving versions are unchanged.
"""

import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, assert_never

from cli.errors import ConfigError, PipelineError, PushError
from serving.model.golden_requests import GoldenRequests
from serving.model.inputs import RequestError
from serving.model.predictor import ModelError, Predictor
from serving.registry import GOLDEN_FILE, RELEASE_FILE, VERSION_FILE, LocalRegistry, Release, content_hash, extra_hashes

_LOG = logging.getLogger(__name__)
# TF Serving's words: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/get_model_status.proto
AVAILABLE, END = "AVAILABLE", "END"


@dataclass(frozen=True)
class Policy:
    """Which versions are served.

    Attributes:
      kind: `champion`, or the latest where a folder has no record of one; `labels`: also `previous` and `candidate`;
        `latest`: the last `count`; `all`; `numbers`.
      count: for `latest`.
      numbers: for `numbers`.
    """

    kind: Literal["champion", "labels", "latest", "all", "numbers"] = "champion"
    count: int = 1
    numbers: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """From `champion`, `labels`, `latest`, `latest:2`, `all` or `1,3`.

        Raises:
          ConfigError: it is none of them.
        """
        match text.split(":"):
            case ["champion" | "labels" | "all" as kind]:
                return cls(kind)
            case ["latest", *count] if len(count) < 2 and all(re.fullmatch(r"[1-9]\d*", part) for part in count):
                return cls("latest", int(count[0]) if count else 1)
            case [numbers] if re.fullmatch(r"\d+(,\d+)*", numbers):
                return cls("numbers", numbers=frozenset(map(int, numbers.split(","))))
        raise ConfigError(f"--versions: expected champion, labels, latest, latest:2, all or 1,3; found '{text}'")

    def wanted(self, versions: list[int], labels: Mapping[str, int]) -> set[int]:
        """Of the versions that are there, those to serve."""
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

    def default(self, served: Collection[int], labels: Mapping[str, int], before: int | None) -> int | None:
        """Of the versions that are served, the one that answers where a request names none.

        The champion; if it could not be taken up, what answered before, and no other. Where numbers were asked for,
        or the latest, the highest of them stands in.
        """
        highest = max(served, default=None)
        champion = labels.get("champion") if self.kind != "latest" else None
        if champion is None or champion in served:
            return champion if champion is not None else highest
        if before in served:
            return before
        return highest if self.kind == "numbers" else None


@dataclass(frozen=True)
class Served:
    """A version that answers."""

    number: int
    folder: Path
    predictor: Predictor
    content_hash: str
    golden: GoldenRequests | None = None


@dataclass(frozen=True)
class State:
    """How a version is, in TF Serving's words; `error` says why it is not served."""

    state: str
    error: str = ""


@dataclass(frozen=True)
class Snapshot:
    """What is served at one moment; replaced as a whole.

    Attributes:
      served: by version number.
      labels: such as `champion`, of versions that are served.
      default: what answers where a request names neither.
      states: states of these versions and of those that could not be taken up.
    """

    served: Mapping[int, Served] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None
    states: Mapping[int, State] = field(default_factory=dict)

    def find(self, version: int | None, label: str | None) -> Served | None:
        """Return the version of a number, of a label, or the default."""
        number = version if version is not None else self.labels.get(label) if label is not None else self.default
        return self.served.get(number) if number is not None else None


class Versions:
    """The versions of one model, as they are now: `snapshot` is read without a lock."""

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        *,
        allow_unvalidated: bool = False,
        changed: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        """Args:
        folder: folder of versions, as a registry or TF Serving has them; or of one version.
        policy: which of them to serve.
        allow_unvalidated: whether to serve models that no push of this product has left there.
        changed: is told of every change.
        """
        self.folder, self._policy, self._allow_unvalidated = folder, policy, allow_unvalidated
        self._single = (folder / "saved_model.pb").is_file()
        self._registry = LocalRegistry(folder.parent, folder.name)
        self._changed = changed
        self._refreshing = threading.Lock()
        # By version: what its files looked like when it could not be taken up; it is tried again once they change.
        self._refused: dict[int, object] = {}
        self.snapshot = Snapshot()

    @property
    def model_name(self) -> str:
        return self.folder.parent.name if self._single and self.folder.name.isdecimal() else self.folder.name

    def refresh(self) -> Snapshot:
        """Read the folder, load new versions, drop removed ones; block while loading.

        Raises:
          PushError: the folder cannot be read, or the registry's state is damaged; the serving version is unchanged.
        """
        with self._refreshing:
            versions, labels = self._found()
            before = self.snapshot
            wanted = self._policy.wanted(sorted(versions), labels)
            served = {number: one for number, one in before.served.items() if number in wanted}
            states = {number: state for number, state in before.states.items() if number in wanted}
            for number in sorted(wanted - served.keys()):
                one = self._take_up(number, versions[number], states)
                if one is not None:
                    served[number] = one
            if not served and before.served:
                # Nothing that could take over: the serving version is unchanged.
                served, labels = dict(before.served), before.labels
                states = {**{number: before.states[number] for number in served}, **states}
            default = self._policy.default(served, labels, before.default)
            labels = {label: number for label, number in labels.items() if number in served}
            now = Snapshot(served, labels, default, states)
            if now != before:
                self.snapshot = now
                self._changed(now)
            return self.snapshot

    def why_nothing(self) -> str:
        """Why there is a version that is not served, or none at all."""
        reasons = [state.error for state in self.snapshot.states.values() if state.error]
        if reasons:
            return "; ".join(reasons)
        there, _ = self._found()
        if there:
            known = ", ".join(map(str, sorted(there)))
            return f"{self.folder}: has version {known}; none of them is what --versions asks for"
        below = sorted(path.name for path in self.folder.iterdir() if LocalRegistry(self.folder, path.name).numbers())
        hint = f"; the model's own folder is wanted, such as {self.folder / below[0]}" if below else ""
        return f"{self.folder}: holds no version of a model{hint}"

    def _found(self) -> tuple[dict[int, Path], Mapping[str, int]]:
        """Return the folders of the versions that are there, by number, and their labels."""
        if self._single:
            return {number_of(self.folder): self.folder}, {}
        return {number: self.folder / str(number) for number in self._registry.numbers()}, self._registry.labels()

    def _take_up(self, number: int, folder: Path, states: dict[int, State]) -> Served | None:
        """Load and check a version; None where it cannot be served, for the reason in `states`."""
        looks = _looks(folder)
        if self._refused.get(number) == looks:
            return None
        _LOG.info("version %d: loading", number)
        try:
            one = load(number, folder, allow_unvalidated=self._allow_unvalidated)
        except PipelineError as error:
            _LOG.error("version %d is not served: %s", number, error)
            states[number] = State(END, str(error))
            self._refused[number] = looks
            return None
        _LOG.info("version %d: serves", number)
        self._refused.pop(number, None)
        states[number] = State(AVAILABLE)
        return one


def load(number: int, folder: Path, *, allow_unvalidated: bool) -> Served:
    """Load one version, if it is what was pushed and answers as it should.

    Raises:
      PushError: it is not, or no model can be loaded.
    """
    content = content_hash(folder)
    if not allow_unvalidated:
        _check_release(folder, content)
        _check_number(folder, number)
    golden = _golden(folder)
    if not allow_unvalidated and not (golden and golden.instances):
        raise PushError(f"{folder}: {GOLDEN_FILE} has no requests, so its answers cannot be checked; push it again")
    try:
        predictor = Predictor(folder)
        answers = predictor.predict(golden.instances) if golden else []
    except (ModelError, RequestError) as error:
        raise PushError(str(error)) from error
    wrong = golden.difference(answers) if golden else None
    if wrong is not None:
        raise PushError(f"{folder}: wrong answer to a golden request: {wrong}")
    return Served(number, folder, predictor, content, golden)


def _check_release(folder: Path, content: str) -> None:
    try:
        release = Release.from_json((folder / RELEASE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PushError(
            f"{folder}: holds no {RELEASE_FILE}: no push of this product left it there; --allow-unvalidated serves it"
        ) from error
    except (OSError, ValueError) as error:
        raise PushError(f"{folder / RELEASE_FILE}: is damaged: {error}") from error
    if release.content_hash != content:
        raise PushError(
            f"{folder}: is not what was pushed: its content hash is {content[:12]}, {RELEASE_FILE} says "
            f"{release.content_hash[:12]}; push it again, or restore the folder"
        )
    for name, digest in release.extra_hashes.items():
        if not (folder / name).is_file() or extra_hashes({name: (folder / name).read_bytes()})[name] != digest:
            raise PushError(f"{folder / name}: is not what was pushed; push it again, or restore the file")
    if GOLDEN_FILE not in release.extra_hashes:
        raise PushError(
            f"{folder}: was pushed without {GOLDEN_FILE}, so its answers cannot be checked; --allow-unvalidated serves "
            "it"
        )


def _check_number(folder: Path, number: int) -> None:
    """Refuses a folder that was copied to another number: its answers would say the old one."""
    file = folder / VERSION_FILE
    said = file.read_text().strip() if file.is_file() else str(number)
    if said != str(number):
        raise PushError(
            f"{folder}: is version {number} by its name, and {said!r} by {VERSION_FILE}; push the model again"
        )


def _golden(folder: Path) -> GoldenRequests | None:
    file = folder / GOLDEN_FILE
    try:
        return GoldenRequests.from_json(file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PushError(f"{file}: is damaged: {error}") from error


def number_of(folder: Path) -> int:
    """Return the number of a single version: from what its push wrote, or its folder's name."""
    file = folder / VERSION_FILE
    for text in (file.read_text().strip() if file.is_file() else "", folder.name):
        if text.isdecimal():
            return int(text)
    return 1


def _looks(folder: Path) -> object:
    """Return the names, sizes and times of a folder's files; another tool may still be copying into it."""
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))
