"""The versions of one model name, read without a lock."""

import fcntl
import os
import re
from pathlib import Path

from cli.errors import PushError
from serving.registry.content import (
    RELEASE_FILE,
    Release,
    compute_content_hash,
    compute_extra_hashes,
    compute_file_hashes,
    read_record,
)
from serving.registry.local import tf_serving
from serving.registry.local.errors import RegistryFault, RegistryFileError, explain_unreadable
from serving.registry.local.ledger import Ledger, State

LEDGER_FILE = "registry.json"
LOCK_FILE = ".lock"
TF_SERVING_FILE = "tf_serving.config"
# TF Serving's numbers have 64 bits.
_VERSION = re.compile(r"[0-9]{1,18}")
_PADDED = re.compile(r"0[0-9]{1,17}")


class Versions:
    """Versions in REGISTRY/NAME. A version that is named here is whole, whatever others do meanwhile."""

    def __init__(self, folder: str | Path, model_name: str) -> None:
        self.name = model_name
        self.folder = Path(folder) / model_name

    def find_folder(self, version: int) -> Path:
        """Return the folder of a version, which need not exist; TF Serving takes leading zeros, too."""
        folder = self.folder / str(version)
        if folder.is_dir() or not self.folder.is_dir():
            return folder
        padded = (path for path in self.folder.iterdir() if _PADDED.fullmatch(path.name) and int(path.name) == version)
        return min(padded, default=folder)

    def list_numbers(self) -> list[int]:
        """Return all whole versions, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted({int(p.name) for p in self.folder.iterdir() if _VERSION.fullmatch(p.name) and p.is_dir()})

    def read_ledger(self) -> Ledger:
        """Return the states of all versions and the history, as of one moment.

        Without registry.json, each version with a release file counts as pushed. The champion is the version that
        tf_serving.config names, or the highest. Versions of other tools have no state.

        Raises:
          PushError: registry.json is damaged, or cannot be read.
        """
        file = self.folder / LEDGER_FILE
        ledger = self._read_ledger_file(file)
        if ledger is None:
            pushed = [version for version in self.list_numbers() if self.read_release(version) is not None]
            adopted_ledger = Ledger.adopt(pushed, self.find_tf_serving_champion())
            # A first push may have begun since: the file that it has written replaces the guess from the folders.
            ledger = self._read_ledger_file(file) or adopted_ledger
        return ledger

    def _read_ledger_file(self, file: Path) -> Ledger | None:
        try:
            return Ledger.from_json(read_record(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explain_unreadable(file, error) from error
        except ValueError as error:
            raise RegistryFileError(
                f"{file}: is damaged ({error}); restore it from a backup. Or move it away: then version "
                f"{self._describe_heir()} serves, and the history starts again",
                file,
                RegistryFault.DAMAGED,
            ) from error

    def _describe_heir(self) -> str:
        champion = self.find_tf_serving_champion()
        if champion is not None:
            return f"{champion}, the champion in {TF_SERVING_FILE},"
        return f"{max(self.list_numbers(), default=None)}, the highest,"

    def find_tf_serving_champion(self) -> int | None:
        """Return the champion that tf_serving.config names, which each change writes after registry.json."""
        try:
            text = read_record(self.folder / TF_SERVING_FILE).decode(errors="replace")
        except OSError:
            return None
        return tf_serving.find_champion(text, self.folder)

    def find_conflict(self) -> tuple[str, int] | None:
        """Return how registry.json, its history and tf_serving.config differ, and the version that should serve.

        A promotion of that version writes the files again. None if they agree, or while another process changes them:
        it writes one after the other.
        """
        if self._compare_files() is None:
            return None
        try:
            with open(self.folder / LOCK_FILE, "rb") as lock:
                # A push that finds it taken tries again in 50 ms.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return self._compare_files()
        except BlockingIOError:
            return None
        except OSError:
            # There is no such file, or no lock on this file system.
            return self._compare_files()

    def _compare_files(self) -> tuple[str, int] | None:
        ledger, served = self.read_ledger(), self.find_tf_serving_champion()
        champion, recorded = ledger.champion, ledger.find_other_champion()
        state = "no version is the champion" if champion is None else f"version {champion} is the champion"
        if champion is not None and served is not None and not (self.folder / LEDGER_FILE).exists():
            reason = f"is gone, with the history and its rollbacks: restore it from a backup. By {TF_SERVING_FILE}"
            return f"{LEDGER_FILE} {reason}, {state}", champion
        if recorded is not None:
            return f"{LEDGER_FILE} was edited by hand: {state}, and version {recorded} by its history", recorded
        if served is not None and champion not in (None, served):
            assert champion is not None
            reason = f"was edited by hand, or its write was cut off: {state}, and TF Serving serves version {served}"
            return f"{TF_SERVING_FILE} {reason}", champion
        return None

    def read_champion(self) -> int | None:
        """Return the version that serves; None if none does."""
        return self.read_ledger().champion

    def read_labels(self) -> dict[str, int]:
        """Return the versions that are `champion`, `previous` and `candidate`, as far as there are any."""
        return self.read_ledger().labels

    def read_state(self, version: int) -> State | None:
        """Return the state of a version; None if it does not exist, is another tool's, or its push was cut off."""
        return self.read_ledger().states.get(version)

    def is_explained(self, version: int) -> bool:
        """Return True if a push on record put a version in its place; without a ledger nothing can explain it.

        Raises:
          PushError: the ledger or the release file is damaged, or cannot be read.
        """
        if not (self.folder / LEDGER_FILE).is_file():
            return True
        release, ledger = self.read_release(version), self.read_ledger()
        if release is None:
            # Versions of other tools are older than the ledger, or were copied in. A pushed one has lost the file.
            return version in ledger.states and ledger.find_push(version) is not None
        return ledger.is_explained(version, release.content_hash)

    def describe_unexplained(self, version: int) -> str:
        """Return where a version that no push explains seems to come from."""
        release = self.read_release(version)
        if release is None:
            return f"it holds no {RELEASE_FILE}: no push of this product left it there"
        twins = [v for v in self.list_numbers() if v != version and self._has_content(v, release.content_hash)]
        files = f"the files of version {twins[0]}" if twins else f"a release file of run {release.run_id}"
        origin = f"it holds {files}"
        return f"{origin}; no entry of {LEDGER_FILE} explains it"

    def _has_content(self, version: int, content: str) -> bool:
        release = self.read_release(version)
        return release is not None and release.content_hash == content

    def read_release(self, version: int) -> Release | None:
        """Return the release file of a version; None where another tool wrote it.

        Raises:
          PushError: the file is damaged, or cannot be read.
        """
        file = self.find_folder(version) / RELEASE_FILE
        try:
            return Release.from_json(read_record(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explain_unreadable(file, error) from error
        except ValueError as error:
            message = f"{file}: is damaged ({error}); restore it from a backup"
            raise RegistryFileError(message, file, RegistryFault.DAMAGED) from error

    def find_run_id(self, version: int) -> str:
        """Return the run that pushed a version, even where its folder is gone; empty if it is not recorded."""
        events = (e for e in self.read_ledger().history if e.version == version and e.action == "push")
        run_id = next((event.run_id for event in events), "")
        if run_id or not (release := self.read_release(version)):
            return run_id
        return release.run_id

    def compute_next_version(self) -> int:
        """Return the number of the next push; one that was given is never given again, even if its version was
        deleted.
        """
        return max({*self.list_numbers(), *self.read_ledger().used}, default=0) + 1

    def is_intact(self, version: int) -> bool:
        """Return whether a version's files are still those that were pushed; reads them all.

        Those beside the model, such as the golden requests, are among them: the server loads no version without.

        Raises:
          PushError: they cannot be read.
        """
        release = self.read_release(version)
        if release is None or self._list_changes_beside(version, release):
            return False
        push = self.read_ledger().find_push(version)
        if push is not None and push.content_hash not in ("", release.content_hash):
            # Another version's folder, its release file included, is in the place of this one.
            return False
        try:
            return compute_content_hash(self.find_folder(version)) == release.content_hash
        except OSError as error:
            raise explain_unreadable(self.find_folder(version), error) from error

    def list_differing_files(self, version: int) -> list[str]:
        """Return the files of a version that were changed, removed or added since its push; reads them all.

        Returns:
          Each with what it is, such as `saved_model.pb changed`; empty where the release file has no hashes.

        Raises:
          PushError: they cannot be read.
        """
        release = self.read_release(version)
        if release is None:
            return [f"{RELEASE_FILE} is gone"] if self.find_folder(version).is_dir() else []
        beside = self._list_changes_beside(version, release)
        if not release.file_hashes:
            return beside
        try:
            pushed, current = release.file_hashes, compute_file_hashes(self.find_folder(version))
        except OSError as error:
            raise explain_unreadable(self.find_folder(version), error) from error
        names = sorted(name for name in {**pushed, **current} if pushed.get(name) != current.get(name))
        return [
            f"{name} {'is new' if name not in pushed else 'is gone' if name not in current else 'changed'}"
            for name in names
        ] + beside

    def _list_changes_beside(self, version: int, release: Release) -> list[str]:
        """Return the files beside the model that are not as they were pushed, each with its difference."""
        changes = []
        for name, digest in release.extra_hashes.items():
            file = self.find_folder(version) / name
            try:
                if compute_extra_hashes({name: read_record(file)})[name] != digest:
                    changes.append(f"{name} changed")
            except (FileNotFoundError, NotADirectoryError):
                changes.append(f"{name} is gone")
            except OSError as error:
                raise explain_unreadable(file, error) from error
        return changes

    def check_sound(self, version: int) -> None:
        """Reject a version that must not serve.

        Raises:
          PushError: it is not there, another tool's, or not what was pushed.
        """
        if version not in self.list_numbers():
            numbers = ", ".join(map(str, self.list_numbers())) or "none"
            raise PushError(f"{self.folder}: has no version {version}; it has {numbers}")
        if self.read_release(version) is None:
            raise PushError(
                f"{self.folder}: version {version} was written by another tool (it has no {RELEASE_FILE}): nobody "
                "vouches for it. Push its model instead"
            )
        if not self.is_explained(version):
            raise PushError(
                f"{self.folder}: version {version} was not pushed: {self.describe_unexplained(version)}; it is not "
                "served. Push its model instead"
            )
        if not self.is_intact(version):
            how = ", ".join(self.list_differing_files(version)) or "its content hash is another"
            raise PushError(
                f"{self.folder}: the files of version {version} are not those that were pushed ({how}); it is not "
                "served. Restore the folder, or choose another version"
            )

    def check_writable(self) -> None:
        """Check that a push could write, without writing.

        Raises:
          PushError: the folder cannot be written, with the reason.
        """
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if os.statvfs(existing).f_flag & os.ST_RDONLY:
            raise RegistryFileError(
                f"{self.folder}: cannot be written: {existing} is on a file system that is mounted read-only. Mount it "
                "for writing, or set push.registry",
                self.folder,
                RegistryFault.MOUNTED_READ_ONLY,
            )
        if not os.access(existing, os.W_OK | os.X_OK):
            raise RegistryFileError(
                f"{self.folder}: cannot be written: no permission on {existing}. Grant it, or set push.registry",
                self.folder,
                RegistryFault.DENIED,
            )

    def check(self, *, pipeline: str, version: int | None) -> None:
        """Reject a push that could not succeed, before anything is done for it.

        Args:
          pipeline: the pipeline that would push.
          version: the version it asks for, or None for the next.

        Raises:
          PushError: a folder is taken by a file or not writable; the name belongs to another pipeline; the version
            exists already, or did; or registry.json is damaged.
        """
        for path in (*reversed(self.folder.parents), self.folder):
            if path.exists() and not path.is_dir():
                raise PushError(
                    f"{path}: is a file; expected the registry's folder. Move the file, or set push.registry"
                )
        self.check_writable()
        self._check_owner(pipeline)
        # A version without a state is one whose push was cut off: this push may be about to finish it.
        if version is not None and version in self.read_ledger().used:
            self._check_free(version)

    def _check_owner(self, pipeline: str) -> None:
        ledger = self.read_ledger()
        for version in reversed(self.list_numbers()):
            if ledger.find_push(version) is not None and not self._has_release(version):
                continue  # Its file was lost or damaged since: the other versions name the owner.
            release = self.read_release(version)
            if release is None and not self.find_folder(version).is_dir():
                continue  # Deleted since.
            if release is None or release.pipeline != pipeline:
                owner = f"the pipeline '{release.pipeline}'" if release else "another tool"
                raise PushError(
                    f"{self.folder}: the name is taken: version {version} was written by {owner}, not by '{pipeline}'. "
                    "Choose another push.model_name or push.registry"
                )

    def _has_release(self, version: int) -> bool:
        try:
            return self.read_release(version) is not None
        except PushError:
            return False

    def _check_free(self, version: int) -> None:
        advice = f"Leave out push.version to push as {self.compute_next_version()}"
        if version in self.list_numbers():
            owner = self.read_release(version)
            holder = f"run {owner.run_id}" if owner else "another tool"
            raise PushError(
                f"{self.folder}: version {version} exists already, pushed by {holder}; it is never overwritten. "
                f"{advice}"
            )
        if version in self.read_ledger().used:
            raise PushError(
                f"{self.folder}: version {version} was pushed before and deleted since; a number is never given again. "
                f"{advice}"
            )
