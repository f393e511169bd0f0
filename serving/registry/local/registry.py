"""The changes of a registry: push, promote, roll back, collect garbage. One at a time for a model's name."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from cli.errors import PushError
from cli.terminal import format_command, format_flags
from serving.registry.content import (
    DECISION_FILE,
    NOT_CONTENT,
    Release,
    compute_extra_hashes,
    compute_file_hashes,
    drop_undefined,
)
from serving.registry.local import disk, tf_serving
from serving.registry.local.ledger import Event, Intent, Ledger, State
from serving.registry.local.reader import LEDGER_FILE, LOCK_FILE, TF_SERVING_FILE, Versions
from serving.registry.protocol import (
    SHORT_HASH_CHARS,
    Candidate,
    GarbageCollection,
    PushedVersion,
    PushPlan,
    RegisteredVersion,
    ServingState,
    ServingSwitch,
)
from serving.registry.stamps import get_timestamp

_LOCK_TIMEOUT_SECONDS = 60
# A table has room for two.
_MAX_METRICS = 2


class LocalRegistry(Versions):
    """A model's versions in a folder, and their changes."""

    is_remote = False

    def __init__(self, folder: str | Path, model_name: str, *, promotes: bool = True) -> None:
        """Open the registry; nothing is read or written yet.

        Args:
          folder: Folder of the registry, with a folder per model.
          model_name: Name of the model.
          promotes: Whether a pushed version serves at once; if not, it waits as the candidate.
        """
        super().__init__(folder, model_name)
        self._promotes = promotes

    @property
    def resource(self) -> str:
        """Folder of the model."""
        return str(self.folder)

    def plan(self, candidate: Candidate) -> PushPlan:
        """Return the effect of a push.

        Raises:
          PushError: a folder is taken by a file or not writable; the name belongs to another pipeline; the version
            exists already, or did; or registry.json is damaged.
        """
        self.check(pipeline=candidate.pipeline, version=None)
        number = self._find_holder(candidate, self.read_ledger()) if candidate.folder is not None else None
        if number is not None and number in self.read_ledger().states:
            line = f"nothing to do: version {number} of {self.name} holds this very model already"
            return PushPlan(number, True, line, [line])
        self.check(pipeline=candidate.pipeline, version=candidate.version)
        number = self.compute_next_version() if candidate.version is None else candidate.version
        line = f"version {number} to {self.folder}" + ("" if self._promotes else ", as the candidate")
        return PushPlan(number, False, line, [line])

    def push(self, candidate: Candidate) -> PushedVersion:
        """Copy a SavedModel in as a new version, unless one holds it already, whatever that one's state.

        A rollback is not undone by another push of the model that was rolled back.

        Raises:
          PushError: as `plan`; or the source is not a SavedModel; or another push holds the lock too long.
        """
        source = candidate.trained_folder
        _check_saved_model(candidate)
        # Checked before the folder is made, and again under the lock.
        self.check(pipeline=candidate.pipeline, version=None)
        release = Release(
            candidate.pipeline,
            candidate.run_id,
            candidate.model_id,
            candidate.content_hash,
            metrics=drop_undefined(candidate.overall_metrics),
            extra_hashes=compute_extra_hashes(candidate.request_files),
            file_hashes=compute_file_hashes(source),
            pushed_at=get_timestamp(),
            data=dict(candidate.data),
        )
        with self._hold_lock():
            return self._push(candidate, release)

    def _push(self, candidate: Candidate, release: Release) -> PushedVersion:
        self._check_owner(candidate.pipeline)
        ledger = self._clean_up()
        number, reason = self._find_holder(candidate, ledger), ""
        if number is not None and number in ledger.states:
            return self._build_result(number, candidate, ledger, pushed=False)
        if number is None:
            if candidate.version is not None:
                self._check_free(candidate.version)
            number = self.compute_next_version() if candidate.version is None else candidate.version
            ledger = self._copy(candidate, release, number, ledger)
        else:
            interrupted = self.read_release(number)
            reason = f"finished the push of run {interrupted.run_id if interrupted else 'unknown'}, which was cut off"
        undone = ledger.find_rollback_of(candidate.origin)
        ledger = ledger.record(
            "push",
            number,
            run_id=candidate.run_id,
            reason=reason,
            content_hash=candidate.content_hash,
            origin=candidate.origin,
        ).end()
        ledger = ledger.promote(number) if self._promotes and undone is None else ledger.nominate(number)
        self._save(ledger)
        note = self._describe_rollback(undone, number) if self._promotes and undone is not None else ""
        return self._build_result(number, candidate, ledger, pushed=True, note=note)

    def _copy(self, candidate: Candidate, release: Release, number: int, ledger: Ledger) -> Ledger:
        """Copy a version to its place; return the ledger, which has the intent from before the first byte on."""
        if ledger.intent is not None and self.find_folder(ledger.intent.version).is_dir():
            other = ledger.intent.version
            ledger = ledger.record("retire", other, reason="its push was cut off").retire(other)
        ledger = ledger.begin(Intent(number, candidate.run_id, candidate.content_hash))
        self._save(ledger)
        try:
            disk.write_version(candidate.trained_folder, self.find_folder(number), release, candidate.request_files)
        except BaseException:
            with suppress(OSError):
                self._save(ledger.end())
            raise
        return ledger

    def _describe_rollback(self, event: Event, version: int) -> str:
        why = f": {event.reason}" if event.reason else ", without a reason"
        place = format_flags(registry=self.folder.parent, model=self.name, version=version)
        undone = event.version if event.action == "reject" else event.champion_before
        verb = "rejected" if event.action == "reject" else "rolled back"
        return (
            f"it is made of the same data, code and config as version {undone}, which {event.by} {verb} "
            f"at {event.at}{why}. To undo that: python -m serving.registry promote{place} --yes"
        )

    def _find_holder(self, candidate: Candidate, ledger: Ledger) -> int | None:
        """Return the version with the content of a candidate, the champion before others; it may have been cut off.

        Raises:
          PushError: the candidate asks for another number.
        """
        for version in sorted(self.list_numbers(), key=lambda v: (v == ledger.champion, v), reverse=True):
            release = self.read_release(version) if self._has_release(version) else None
            if release is None or release.content_hash != candidate.content_hash or not self.is_intact(version):
                continue
            if not self.is_explained(version):
                continue
            if candidate.version not in (None, version):
                raise PushError(
                    f"{self.folder}: this very model is version {version} already; push.version asks for "
                    f"{candidate.version}. Leave it out"
                )
            return version
        return None

    def _build_result(
        self, number: int, candidate: Candidate, ledger: Ledger, *, pushed: bool, note: str = ""
    ) -> PushedVersion:
        traffic = _compute_traffic(ledger.champion)
        return PushedVersion(number, str(self.find_folder(number)), pushed, candidate.content_hash, traffic, note=note)

    def list_versions(self) -> list[RegisteredVersion]:
        """Return all versions, ascending, with the sizes of their folders."""
        ledger = self.read_ledger()
        return [self._describe_version(number, ledger) for number in self.list_numbers()]

    def _describe_version(self, number: int, ledger: Ledger) -> RegisteredVersion:
        release = self.read_release(number)
        state = self.describe_state(number, ledger)
        details = {**(asdict(release) if release is not None else {}), "bytes": _measure_size(self.find_folder(number))}
        return RegisteredVersion(number, state, details, _format_cells(number, state, release, details["bytes"]))

    def describe_state(self, number: int, ledger: Ledger) -> str:
        """Return a version's state; or why it has none: cut off, unexplained, of another tool."""
        release = self.read_release(number)
        if number in ledger.states:
            return str(ledger.states[number])
        if release is None:
            return "of another tool"
        return "cut off" if ledger.is_explained(number, release.content_hash) else "unexplained"

    def read_serving(self) -> ServingState:
        """Return the champion."""
        champion = self.read_champion()
        if champion is None:
            return ServingState(None, {}, f"nothing: {self.folder} holds no version that serves")
        release = self.read_release(champion)
        text = f"version {champion} of {self.name}" + (f", pushed by run {release.run_id}" if release else "")
        return ServingState(champion, _compute_traffic(champion), text)

    def read_history(self) -> list[dict[str, Any]]:
        """Return the changes, the oldest first."""
        return [event.to_dict() for event in self.read_ledger().history]

    def inspect(self, version: int | None = None) -> dict[str, Any]:
        """Return the details of a version, by default of the champion, and compare its files with the pushed ones.

        Raises:
          PushError: it does not exist, no version serves, or its files cannot be read.
        """
        ledger = self.read_ledger()
        number = ledger.champion if version is None else version
        if number is None:
            raise PushError(f"{self.folder}: no version serves; name one with --version")
        if number not in self.list_numbers():
            self.check_sound(number)
        folder = self.find_folder(number)
        return {
            **self._describe_version(number, ledger).to_dict(),
            "path": str(folder),
            "content_fits": self.is_intact(number) if self.read_release(number) is not None else None,
            "decision": _read_decision(folder),
            "beside": sorted(name for name in NOT_CONTENT if (folder / name).is_file()),
        }

    def list_next_commands(self, version: int) -> list[str]:
        """Return the commands that follow a push: start the server; promote the version if it is the candidate."""
        commands = [format_command("-m", "serving", "--model-dir", self.folder)]
        if self.read_state(version) is State.CANDIDATE:
            place = format_flags(registry=self.folder.parent, model=self.name)
            commands.append(f"-m serving.registry promote{place} --yes")
        return commands

    def promote(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> ServingSwitch:
        """Let a version serve: the candidate, or the one that is named. The champion becomes the previous version.

        Args:
          version: Number of the version; None for the candidate.
          reason: Text for the history.
          dry_run: Whether nothing is changed.

        Raises:
          PushError: there is no such version, its files are not those that were pushed, or the lock is held too long.
        """
        return self._switch("promote", version, reason, dry_run)

    def roll_back(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> ServingSwitch:
        """Go back to the previous version, or to the one that is named; the champion becomes the previous version.

        A second rollback takes the first one back.

        Args:
          version: Number of the version; None for the previous one.
          reason: Text for the history.
          dry_run: Whether nothing is changed.

        Raises:
          PushError: as `promote`; or it is the candidate, which never served.
        """
        return self._switch("rollback", version, reason, dry_run)

    def _switch(self, action: str, version: int | None, reason: str, dry_run: bool) -> ServingSwitch:
        if dry_run or not self.folder.is_dir():
            return self._plan_switch(action, version, self.read_ledger())
        with self._hold_lock():
            ledger = self._clean_up()
            switch = self._plan_switch(action, version, ledger)
            if switch.changed:
                ledger = ledger.record(action, switch.version, reason=reason).promote(switch.version)
                is_finished = ledger.intent is not None and ledger.intent.version == switch.version
                self._save(ledger.end() if is_finished else ledger)
            return switch

    def _plan_switch(self, action: str, version: int | None, ledger: Ledger) -> ServingSwitch:
        """Return the switch that is asked for, if it may be done."""
        if version is None:
            version = ledger.find_by_state(State.CANDIDATE if action == "promote" else State.PREVIOUS)
            if version is None:
                why = "no version waits for its promotion" if action == "promote" else "no earlier version served"
                raise PushError(f"{self.folder}: {why}; name one with --version")
        if version == ledger.champion:
            return ServingSwitch(action, version, version, False, _compute_traffic(version))
        if action == "rollback" and ledger.states.get(version) is State.CANDIDATE:
            raise PushError(f"{self.folder}: version {version} waits for its promotion and never served; promote it")
        self.check_sound(version)
        return ServingSwitch(action, version, ledger.champion, True, _compute_traffic(ledger.champion))

    def reject(self, version: int, *, reason: str) -> bool:
        """Let a candidate wait no longer; return whether it still waited.

        A later version of the same data, code and config waits as the candidate, as after a rollback.

        Args:
          version: Number of the version.
          reason: Text for the history.

        Raises:
          PushError: the folder cannot be written, or the lock is held too long.
        """
        with self._hold_lock():
            ledger = self._clean_up()
            if ledger.states.get(version) is not State.CANDIDATE:
                return False
            self._save(ledger.record("reject", version, reason=reason).retire(version))
            return True

    def gc(self, *, keep_last: int, dry_run: bool = False) -> GarbageCollection:
        """Delete retired versions, but never the last ones, and none that another tool wrote or that was cut off.

        Args:
          keep_last: Number of the latest versions that are kept anyway; at least 1.
          dry_run: Whether nothing is deleted.

        Raises:
          PushError: the folder cannot be written, or the lock is held too long.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last is {keep_last}; expected at least 1")
        if dry_run or not self.folder.is_dir():
            return GarbageCollection(self._find_garbage(self.read_ledger(), keep_last), deleted=False)
        with self._hold_lock():
            ledger = self._clean_up()
            versions = self._find_garbage(ledger, keep_last)
            hidden = [disk.hide(self.find_folder(version)) for version in versions]
            for version in versions:
                ledger = ledger.record("delete", version).remove(version)
            self._save(ledger)
            for folder in hidden:
                shutil.rmtree(folder, ignore_errors=True)
            return GarbageCollection(versions, deleted=True)

    def _find_garbage(self, ledger: Ledger, keep_last: int) -> list[int]:
        old = self.list_numbers()[:-keep_last]
        return [v for v in old if ledger.states.get(v) is State.RETIRED and self.read_release(v) is not None]

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        """Hold the model's lock; a process that is killed gives it back."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / LOCK_FILE, timeout=_LOCK_TIMEOUT_SECONDS):
                yield
        except filelock.Timeout as error:
            raise PushError(
                f"{self.folder}: another push has held the lock for {_LOCK_TIMEOUT_SECONDS} s; try again"
            ) from error
        except OSError as error:
            raise PushError(
                f"{self.folder}: cannot be written: {disk.describe_error(error)}; the serving version is unchanged. "
                "Fix it, and run the same again"
            ) from error

    def _clean_up(self) -> Ledger:
        """Finish or undo interrupted changes, and return the ledger; for the holder of the lock.

        It is written before the first version is, so that a version whose push was cut off differs from one that was
        there before there were states.
        """
        disk.remove_leftovers(self.folder)
        ledger = self.read_ledger()
        if ledger.champion is not None and not (self.folder / LEDGER_FILE).is_file():
            ledger = ledger.record("adopt", ledger.champion, reason="there was no registry.json")
        # A champion that is gone stays on record until another takes its place: nothing else names the champion.
        for version in sorted(ledger.states):
            if version != ledger.champion and not self.find_folder(version).is_dir():
                ledger = ledger.record("delete", version, reason="its folder is gone").remove(version)
        if ledger.intent is not None and not self.find_folder(ledger.intent.version).is_dir():
            ledger = ledger.end()
        self._save(ledger)
        return ledger

    def _save(self, ledger: Ledger) -> None:
        disk.write_if_changed(self.folder / LEDGER_FILE, ledger.to_json())
        candidate = ledger.find_by_state(State.CANDIDATE)
        text = tf_serving.format_config(self.folder, champion=ledger.champion, candidate=candidate)
        disk.write_if_changed(self.folder / TF_SERVING_FILE, text)


def _check_saved_model(candidate: Candidate) -> None:
    source = candidate.trained_folder
    if not (source / "saved_model.pb").is_file():
        raise PushError(f"{source}: is not a SavedModel (no saved_model.pb); nothing was pushed")
    try:
        _ = candidate.content_hash
    except OSError as error:
        raise PushError(f"{source}: cannot be read: {disk.describe_error(error)}; nothing was pushed") from error


def _compute_traffic(champion: int | None) -> dict[int, int]:
    return {} if champion is None else {champion: 100}


def _measure_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _format_cells(number: int, state: str, release: Release | None, size: int) -> dict[str, str]:
    # With it comes pydantic, which the commands start without.
    from schemas.metrics import METRICS

    metrics = release.metrics if release else {}
    names = sorted(metrics, key=lambda name: name not in METRICS or METRICS[name].rank > _MAX_METRICS)
    return {
        "version": str(number),
        "state": state,
        "run": release.run_id if release else "",
        "content": release.content_hash[:SHORT_HASH_CHARS] if release else "",
        "metrics": ", ".join(f"{name} {metrics[name]:.4f}" for name in names[:_MAX_METRICS]),
        "pushed (UTC)": release.pushed_at.replace("T", " ").removesuffix("Z") if release else "",
        "size": f"{size / 1e6:,.1f} MB",
    }


def _read_decision(folder: Path) -> dict[str, Any] | None:
    """Return the threshold of a binary label; None for a version without declared costs, or if it cannot be read."""
    # With it comes pydantic, which no other command needs.
    from schemas.decision import DecisionThreshold

    try:
        threshold = DecisionThreshold.model_validate_json((folder / DECISION_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return {**threshold.model_dump(), "text": str(threshold)}
