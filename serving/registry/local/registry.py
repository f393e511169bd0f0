"""The changes of a registry: push, promote, roll back, collect garbage. One at a time for a model's name."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from cli.errors import PushError
from serving.registry.content import EXTRA_FILES, Release, content_hash, extra_hashes, file_hashes, finite
from serving.registry.local import disk, tf_serving
from serving.registry.local.ledger import Ledger, State, timestamp
from serving.registry.local.reader import LEDGER_FILE, LOCK_FILE, TF_SERVING_FILE, Versions

_LOCK_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class PushResult:
    """What a push has done.

    Attributes:
      version: that holds the model.
      path: its folder.
      pushed: whether this push put it there.
      content_hash: hash of the model.
      serving: the version that serves now; None if none does.
    """

    version: int
    path: str
    pushed: bool
    content_hash: str
    serving: int | None


@dataclass(frozen=True)
class Switch:
    """A promotion or a rollback: the version that serves, the one that served before, and whether that is a change."""

    action: str
    version: int
    champion_before: int | None
    changed: bool


@dataclass(frozen=True)
class _Order:
    """What is to be pushed, and how."""

    source: Path
    release: Release
    version: int | None
    extra: Mapping[str, bytes]
    promote: bool


class LocalRegistry(Versions):
    """The versions of one model name, and what is done to them."""

    def push(
        self,
        source: str | Path,
        *,
        pipeline: str,
        run_id: str,
        model_id: int,
        version: int | None,
        metrics: Mapping[str, float | None] | None = None,
        extra: Mapping[str, bytes] | None = None,
        promote: bool = True,
    ) -> PushResult:
        """Copy a SavedModel in as a new version, unless one holds it already, whatever that one's state.

        So a rollback is not undone by pushing again what was rolled back.

        Args:
          source: the SavedModel's folder.
          pipeline: that pushes; the model's name is its own.
          run_id, model_id: where the model is from, for the release file.
          version: the number, or None for the next.
          metrics: for the release file.
          extra: files to be kept beside the content, by their names, `GOLDEN_FILE` and `STATISTICS_FILE`.
          promote: whether the version serves at once; if not, it waits as the candidate.

        Raises:
          PushError: as `check`; or the source is not a SavedModel; or another push holds the lock too long.
          ValueError: `extra` has a name that is none of those.
        """
        strange = sorted(set(extra or {}) - EXTRA_FILES)
        if strange:
            raise ValueError(f"extra: {strange} would change the content hash; expected names of {sorted(EXTRA_FILES)}")
        content = _saved_model_hash(Path(source))
        # Checked before the folder is made, and again under the lock.
        self.check(pipeline=pipeline, version=None)
        release = Release(
            pipeline,
            run_id,
            model_id,
            content,
            metrics=finite(metrics or {}),
            extra_hashes=extra_hashes(extra or {}),
            file_hashes=file_hashes(Path(source)),
            pushed_at=timestamp(),
        )
        with self._locked():
            return self._push(_Order(Path(source), release, version, extra or {}, promote))

    def _push(self, order: _Order) -> PushResult:
        self._check_owner(order.release.pipeline)
        ledger = self._settled()
        number, reason = self._holding(order, ledger), ""
        if number is not None and number in ledger.states:
            return self._result(number, order, ledger, pushed=False)
        if number is None:
            if order.version is not None:
                self._check_free(order.version)
            number = self.next_version() if order.version is None else order.version
            disk.write_version(order.source, self.path(number), order.release, order.extra)
        else:
            found = self.release(number)
            reason = f"finished the push of run {found.run_id if found else 'unknown'}, which was cut off"
        for other in sorted({*self.numbers()} - {*ledger.states, number}):
            ledger = ledger.noted("retire", other, reason="its push was cut off").retired(other)
        ledger = ledger.noted("push", number, run_id=order.release.run_id, reason=reason)
        ledger = ledger.crowned(number) if order.promote else ledger.nominated(number)
        self._save(ledger)
        return self._result(number, order, ledger, pushed=True)

    def _holding(self, order: _Order, ledger: Ledger) -> int | None:
        """Return the version with the content of an order, the champion before others; it may have been cut off.

        Raises:
          PushError: the order asks for another number.
        """
        for version in sorted(self.numbers(), key=lambda v: (v == ledger.champion, v), reverse=True):
            release = self.release(version)
            if release is None or release.content_hash != order.release.content_hash or not self.fits(version):
                continue
            if order.version not in (None, version):
                raise PushError(
                    f"{self.folder}: this very model is version {version} already; push.version asks for "
                    f"{order.version}. Leave it out"
                )
            return version
        return None

    def _result(self, number: int, order: _Order, ledger: Ledger, *, pushed: bool) -> PushResult:
        return PushResult(number, str(self.path(number)), pushed, order.release.content_hash, ledger.champion)

    def promote(self, version: int | None = None, *, reason: str = "", dry_run: bool = False) -> Switch:
        """Lets a version serve: the candidate, or the one that is named. The champion becomes the previous version.

        Args:
          version: None for the candidate.
          reason: for the history.
          dry_run: only says what would be done, or refuses it.

        Raises:
          PushError: there is no such version, its files are not those that were pushed, or the lock is held too long.
        """
        return self._switch("promote", version, reason, dry_run)

    def rollback(self, to: int | None = None, *, reason: str = "", dry_run: bool = False) -> Switch:
        """Goes back to the previous version, or to the one that is named; the champion becomes the previous version.

        So a second rollback takes the first one back.

        Args:
          to: None for the previous version.
          reason: for the history.
          dry_run: only says what would be done, or refuses it.

        Raises:
          PushError: as `promote`; or `to` is the candidate, which never served.
        """
        return self._switch("rollback", to, reason, dry_run)

    def _switch(self, action: str, version: int | None, reason: str, dry_run: bool) -> Switch:
        if dry_run or not self.folder.is_dir():
            return self._planned(action, version, self.ledger())
        with self._locked():
            ledger = self._settled()
            switch = self._planned(action, version, ledger)
            if switch.changed:
                self._save(ledger.noted(action, switch.version, reason=reason).crowned(switch.version))
            return switch

    def _planned(self, action: str, version: int | None, ledger: Ledger) -> Switch:
        """Return the switch that is asked for, if it may be done."""
        if version is None:
            version = ledger.labelled(State.CANDIDATE if action == "promote" else State.PREVIOUS)
            if version is None:
                why = "no version waits for its promotion" if action == "promote" else "no earlier version served"
                raise PushError(f"{self.folder}: {why}; name one with --version")
        if version == ledger.champion:
            return Switch(action, version, version, changed=False)
        if action == "rollback" and ledger.states.get(version) is State.CANDIDATE:
            raise PushError(f"{self.folder}: version {version} waits for its promotion and never served; promote it")
        self.check_sound(version)
        return Switch(action, version, ledger.champion, changed=True)

    def gc(self, *, keep_last: int, dry_run: bool = False) -> list[int]:
        """Delete retired versions, but never the last ones, and none that another tool wrote or that was cut off.

        Args:
          keep_last: so many versions of the highest numbers are kept anyway; at least 1.
          dry_run: only says which would be deleted.

        Returns:
          Their numbers.

        Raises:
          PushError: the folder cannot be written, or the lock is held too long.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last is {keep_last}; expected at least 1")
        if dry_run or not self.folder.is_dir():
            return self._garbage(self.ledger(), keep_last)
        with self._locked():
            ledger = self._settled()
            doomed = self._garbage(ledger, keep_last)
            hidden = [disk.hide(self.path(version)) for version in doomed]
            for version in doomed:
                ledger = ledger.noted("delete", version).without(version)
            self._save(ledger)
            for folder in hidden:
                shutil.rmtree(folder, ignore_errors=True)
            return doomed

    def _garbage(self, ledger: Ledger, keep_last: int) -> list[int]:
        old = self.numbers()[:-keep_last]
        return [v for v in old if ledger.states.get(v) is State.RETIRED and self.release(v) is not None]

    @contextmanager
    def _locked(self) -> Iterator[None]:
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
                f"{self.folder}: cannot be written: {disk.reason(error)}; the serving version is unchanged. Fix it, "
                "and run the same again"
            ) from error

    def _settled(self) -> Ledger:
        """Return the ledger, after what was cut off is cleared up; for whoever holds the lock.

        It is written before the first version is, so that a version whose push was cut off is told from one that was
        there before there were states.
        """
        disk.remove_leftovers(self.folder)
        ledger = self.ledger()
        if ledger.champion is not None and not (self.folder / LEDGER_FILE).is_file():
            ledger = ledger.noted("adopt", ledger.champion, reason="there was no registry.json")
        # A champion that is gone stays on record until another takes its place: nothing else names the champion.
        for version in sorted(ledger.states):
            if version != ledger.champion and not self.path(version).is_dir():
                ledger = ledger.noted("delete", version, reason="its folder is gone").without(version)
        self._save(ledger)
        return ledger

    def _save(self, ledger: Ledger) -> None:
        disk.write_if_changed(self.folder / LEDGER_FILE, ledger.to_json())
        candidate = ledger.labelled(State.CANDIDATE)
        text = tf_serving.config_text(self.folder, champion=ledger.champion, candidate=candidate)
        disk.write_if_changed(self.folder / TF_SERVING_FILE, text)


def _saved_model_hash(source: Path) -> str:
    if not (source / "saved_model.pb").is_file():
        raise PushError(f"{source}: is not a SavedModel (no saved_model.pb); nothing was pushed")
    try:
        return content_hash(source)
    except OSError as error:
        raise PushError(f"{source}: cannot be read: {disk.reason(error)}; nothing was pushed") from error
