"""One run root, one database: each names the other, so that neither is ever used with something else.

RUN_ROOT/database.json    the id, and where the database is; no password
ML Metadata               a context `run_root` with the id, and where the run root is

TFX names folders by the ids of executions: with a fresh, older or foreign database, runs would write into the folders
of earlier ones, and remove them.
"""

import json
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cli.errors import RunRootError
from cli.state_files import write_atomically
from pipeline.database.config import MetadataBackend, MySQL, PostgreSQL, SQLite
from pipeline.database.database import BOUND, Contents, Database, format_place
from pipeline.database.sqlite import SQLiteFile

FILE, _RECORDS = "database.json", "records"
SQLITE_FILE = "metadata.sqlite"


_SETTINGS: TypeAdapter[MetadataBackend] = TypeAdapter(MetadataBackend)


class Binding(BaseModel):
    """The database of a run root.

    Attributes:
      id: ID of the run root.
      metadata: Section `metadata` of the config, which names the database.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    metadata: MetadataBackend


def is_run_root(folder: Path) -> bool:
    """Return whether runs have used the folder."""
    return any((folder / name).exists() for name in (FILE, SQLITE_FILE, _RECORDS))


def get_bound_database(folder: Path) -> Database:
    """Return the database of a run root, to be read.

    Raises:
      RunRootError: the file that names it is damaged.
    """
    binding = _read(folder)
    return build_database(
        binding.metadata if binding else _read_recorded_backend(folder), folder, binding.id if binding else None
    )


def bind(folder: Path, artifacts: Path, settings: MetadataBackend | None) -> Database:
    """Return the database of a run root, checked and, if both are new, bound to it; the run root's lock must be held.

    Args:
      folder: the run root.
      artifacts: its folder of artifacts.
      settings: settings of the config; None for the database that it is bound to.

    Raises:
      RunRootError: they do not belong together, or the database cannot be used; nothing was written then.
    """
    binding = _read(folder)
    metadata, database, contents = _examine(folder, artifacts, settings, binding)
    database.check_rights(contents)
    id_ = (binding.id if binding else (contents.bound or {}).get("id")) or uuid.uuid4().hex
    here = {"id": id_, "host": socket.gethostname(), "path": str(folder)}
    if contents.bound != here:
        _write_context(database, here)
    if binding is None or binding.metadata != metadata:
        _write_file(folder, Binding(id=id_, metadata=metadata))
    return build_database(metadata, folder, id_)


def examine(folder: Path, artifacts: Path, settings: MetadataBackend) -> Database:
    """Return the database that `bind` would bind; nothing is written.

    Raises:
      RunRootError: as `bind`.
    """
    return _examine(folder, artifacts, settings, _read(folder))[1]


def check_binding(folder: Path, artifacts: Path) -> None:
    """Check that a run root and its database belong together, and that the database is not older; nothing is written.

    Raises:
      RunRootError: as `bind`.
    """
    _examine(folder, artifacts, None, _read(folder), writable=False)


def find_original(folder: Path) -> Path | None:
    """Return the run root that a folder is a copy of; None if it is none, or if the original is gone.

    Raises:
      RunRootError: the database cannot be read.
    """
    binding = _read(folder)
    if binding is None:
        return None
    database = build_database(binding.metadata, folder, binding.id)
    bound = (database.read_contents(writable=False).bound or {}) if database.exists else {}
    origin = Path(bound.get("path", ""))
    if bound.get("host") != socket.gethostname() or not origin.is_absolute() or not is_run_root(origin):
        return None
    if os.path.samefile(origin, folder):
        return None
    original = _read(origin)
    return origin if original is not None and original.id == binding.id else None


def find_newer_backup(folder: Path, artifacts: Path) -> Path | None:
    """Return a database file beside `metadata.sqlite` that has all executions of the artifacts; None if there is none.

    Args:
      folder: the run root.
      artifacts: its folder of artifacts.
    """
    binding, newest = _read(folder), _find_newest_execution(artifacts)
    for file in sorted(folder.glob(f"*{SQLITE_FILE}*"), reverse=True):
        if file.name == SQLITE_FILE or binding is None:
            continue
        try:
            contents = SQLiteFile(file, binding.id).read_contents(writable=False)
        except RunRootError:
            # A journal, or another file.
            continue
        if (contents.bound or {}).get("id") == binding.id and contents.last_execution >= newest:
            return file
    return None


def _examine(
    folder: Path,
    artifacts: Path,
    settings: MetadataBackend | None,
    binding: Binding | None,
    *,
    writable: bool = True,
) -> tuple[MetadataBackend, Database, Contents]:
    metadata = settings or (binding.metadata if binding else _read_recorded_backend(folder))
    database = build_database(metadata, folder, binding.id if binding else None)
    contents = database.read_contents(writable=writable)
    _check(folder, artifacts, binding, database, contents)
    return metadata, database, contents


def build_database(settings: MetadataBackend, folder: Path, id_: str | None) -> Database:
    """Return the database that a config names, without a connection; `id_` is the run root's."""
    match settings:
        case SQLite():
            return SQLiteFile(folder / SQLITE_FILE, id_)
        case MySQL():
            from pipeline.database.mysql import MySQLServer

            return MySQLServer(settings, id_)
        case PostgreSQL():
            from pipeline.database.postgresql import PostgreSQLServer

            return PostgreSQLServer(settings, id_)
        case _:
            assert_never(settings)


def _check(folder: Path, artifacts: Path, binding: Binding | None, database: Database, contents: Contents) -> None:
    """Reject a database that is not the run root's, and a run root that is not the database's."""
    label, owner = database.label, (contents.bound or {}).get("id")
    newest = _find_newest_execution(artifacts)
    if contents.is_empty and artifacts.is_dir() and any(artifacts.iterdir()):
        _reject_fresh(folder, binding, label)
    if owner is not None and owner != (binding.id if binding else _find_owner(contents, folder)):
        raise RunRootError(
            f"{label}: belongs to the run root {format_place(contents.bound)}, not to {folder}; each run root needs a "
            "database of its own: name another one, or that run root"
        )
    if owner is None and contents.last_execution:
        _check_unbound(folder, binding, database)
    if newest > contents.last_execution:
        raise RunRootError(
            f"{label}: is older than {folder}, which has artifacts of execution {newest}, and it ends at "
            f"{contents.last_execution}. New runs would overwrite them; restore a newer backup, or give --run-root "
            "another folder"
        )
    if owner is not None and not isinstance(database, SQLiteFile):
        _reject_copy(folder, contents.bound or {})


def _reject_fresh(folder: Path, binding: Binding | None, label: str) -> None:
    was = f"; it is bound to {build_database(binding.metadata, folder, None).label}" if binding else ""
    raise RunRootError(
        f"{folder}: has artifacts but no {SQLITE_FILE}; a fresh database would overwrite them{was}. "
        "Restore it, or give --run-root another folder"
        if label == str(folder / SQLITE_FILE)
        else f"{label}: is empty, and {folder} has artifacts{was}; a fresh database would overwrite them. "
        "Restore it, or give --run-root another folder"
    )


def _find_owner(contents: Contents, folder: Path) -> str | None:
    """Return the id of a database that is this run root's, though the file that binds it was lost, or never written."""
    bound = contents.bound or {}
    return bound.get("id") if (bound.get("host"), bound.get("path")) == (socket.gethostname(), str(folder)) else None


def _check_unbound(folder: Path, binding: Binding | None, database: Database) -> None:
    """Reject a database with runs that names no run root: it is older than this rule, or not of this product."""
    if binding is not None:
        raise RunRootError(
            f"{database.label}: is not the database that {folder} is bound to (it is nobody's); restore the right "
            f"one, or, if you are sure, remove {folder / FILE}"
        )
    if not isinstance(database, SQLiteFile):
        raise RunRootError(
            f"{database.label}: holds runs of another product; a run root needs a database of its own, empty at first"
        )


def _reject_copy(folder: Path, bound: Mapping[str, str]) -> None:
    """Reject a copied run root, which would share its database with the original."""
    origin = Path(bound.get("path", ""))
    if bound.get("host") != socket.gethostname() or not (origin / FILE).exists() or os.path.samefile(origin, folder):
        return
    raise RunRootError(
        f"{folder}: is a copy of {origin}, which has the same database; give --run-root a new folder and name a new "
        "database"
    )


def _find_newest_execution(artifacts: Path) -> int:
    """Return the highest id of an execution that has a folder; 0 where there is none."""
    names = (path.name for path in artifacts.glob("*/*/*") if not path.parent.name.startswith("."))
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)


def _read(folder: Path) -> Binding | None:
    file = folder / FILE
    try:
        return Binding.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunRootError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = "".join(f"{step}: " for step in problem["loc"])
        raise RunRootError(
            f"{file}: is damaged ({where}{problem['msg']}); remove it, the next run writes it again"
        ) from error


def _read_recorded_backend(folder: Path) -> MetadataBackend:
    """Return the database of the newest record, for a folder without database.json."""
    for file in sorted((folder / _RECORDS).glob("*.json"), reverse=True):
        try:
            record = json.loads(file.read_bytes())
            # A rehearsal has none.
            if record["kind"] == "local":
                return _SETTINGS.validate_python(record["config"]["metadata"])
        except (OSError, ValueError, LookupError, TypeError):
            # A damaged record; the one before has the same.
            continue
    return SQLite()


def _write_file(folder: Path, binding: Binding) -> None:
    write_atomically(folder / FILE, binding.model_dump_json(indent=1) + "\n")


def _write_context(database: Database, values: Mapping[str, str]) -> None:
    """Make ML Metadata's tables, if there are none, and name the run root in them."""
    # 0.35 s, which whoever only reads need not wait for.
    from ml_metadata import errors
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    try:
        store = database.open_store(writable=True)
        kind = store.put_context_type(mlmd.ContextType(name=BOUND))
        context: Any = store.get_context_by_type_and_name(BOUND, BOUND) or mlmd.Context(type_id=kind, name=BOUND)
        for name, value in values.items():
            context.custom_properties[name].string_value = value
        store.put_contexts([context])
    except errors.AlreadyExistsError as error:
        raise RunRootError(
            f"{database.label}: another run root has taken it in this moment; name another one"
        ) from error
    except (errors.StatusError, RuntimeError) as error:
        database.check_rights(database.read_contents())
        raise RunRootError(f"{database.label}: {database.no_cause}: {str(error).splitlines()[0]}") from error
