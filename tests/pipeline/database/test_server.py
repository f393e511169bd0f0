"""A database on a real server: what is said where it cannot be used, and what is kept in it."""

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import TypeAdapter

from cli.errors import RunRootError
from oncall.local.metadata import LocalMetadata
from pipeline.database.binding import build_database
from pipeline.database.config import MetadataBackend
from pipeline.database.database import LOCKED, Database
from pipeline.run.run_root import RunRoot
from tests.database_servers import PASSWORD, PASSWORD_ENV, USER, DatabaseServer, free_port

_SETTINGS: TypeAdapter[Any] = TypeAdapter(MetadataBackend)


def settings(values: dict[str, Any]) -> Any:
    return _SETTINGS.validate_python(values)


def bind(root: Path, values: dict[str, Any]) -> Database:
    """Return the database of a run root, as a run leaves it."""
    with RunRoot(root).lock(settings(values)):
        return RunRoot(root).database


def refusal(root: Path, values: dict[str, Any]) -> str:
    """Return the one line that a run is refused with, within seconds, before there is a table."""
    started = time.monotonic()
    with pytest.raises(RunRootError) as caught, RunRoot(root).lock(settings(values)):
        pass
    assert time.monotonic() - started < 5
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def url(values: dict[str, Any]) -> str:
    return f"{values['kind']}://{values['user']}@{values['host']}:{values['port']}/{values['database']}: "


@pytest.fixture
def reader(database_server: DatabaseServer) -> dict[str, str]:
    """Return a user of the test's own, who may do nothing yet."""
    return {"user": database_server.new_user()}


def let_read(server: DatabaseServer, user: str, database: str) -> None:
    if server.kind == "mysql":
        server.admin(f"GRANT SELECT ON {database}.* TO {user}@'%'")
    else:
        server.admin(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}", database=database)


def test_a_fresh_database_becomes_the_run_roots(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database()
    database = bind(tmp_path, values)
    assert f"{database.label}: " == url(values)
    database.check(whole=True)
    assert bind(tmp_path, values).bound_id == database.bound_id
    assert PASSWORD not in (tmp_path / "database.json").read_text()


def test_a_port_where_nothing_listens(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database(port=free_port())
    assert refusal(tmp_path, values).startswith(f"{url(values)}the connection was refused; is the server running there")


def test_a_host_that_is_not_known(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database(host="no-such-host.invalid")
    assert refusal(tmp_path, values) == f"{url(values)}the name of the host is not known; is metadata.host right?"


def test_a_host_that_does_not_answer(database_server: DatabaseServer, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        values = database_server.new_database(port=silent.getsockname()[1], timeout_seconds=0.5)
        assert refusal(tmp_path, values).startswith(f"{url(values)}gave no answer within 0.5 s; is the address right")


def test_a_server_of_another_kind(
    mariadb: DatabaseServer, postgresql: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    swapped = postgresql.new_database(port=mariadb.port)
    assert "or it is not a PostgreSQL server" in refusal(tmp_path, swapped)
    swapped = mariadb.new_database(port=postgresql.port, timeout_seconds=1)
    # PostgreSQL waits for the client to speak first, as MySQL's client does.
    assert "gave no answer within 1 s" in refusal(tmp_path, swapped)


def test_a_wrong_password(database_server: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = database_server.new_database()
    monkeypatch.setenv(PASSWORD_ENV, "other")
    assert refusal(tmp_path, values).startswith(
        f"{url(values)}user {USER} is not let in: the name or the password is wrong"
    )


def test_a_user_who_is_not_known(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database(user="stranger")
    assert refusal(tmp_path, values).startswith(
        f"{url(values)}user stranger is not let in: the name or the password is wrong"
    )


def test_a_user_of_the_servers_own_machine(mariadb: DatabaseServer, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    mariadb.admin("CREATE USER IF NOT EXISTS local@'%' IDENTIFIED VIA unix_socket")
    assert "user local is not let in: the name or the password is wrong" in refusal(
        tmp_path, mariadb.new_database(user="local")
    )


def test_a_database_that_is_not_there(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database(database="nowhere")
    assert refusal(tmp_path, values).startswith(f"{url(values)}there is no database nowhere")


def test_a_user_without_the_rights_to_a_fresh_database(
    database_server: DatabaseServer, reader: dict[str, str], tmp_path: Path
) -> None:
    values = database_server.new_database(**reader)
    let_read(database_server, reader["user"], values["database"])
    assert f"user {reader['user']} has not the rights" in refusal(tmp_path, values)
    assert not (tmp_path / "database.json").exists()


def test_a_user_who_may_only_read_answers_on_call_and_runs_nothing(
    database_server: DatabaseServer, reader: dict[str, str], tmp_path: Path
) -> None:
    values = database_server.new_database()
    bind(tmp_path, values)
    let_read(database_server, reader["user"], values["database"])
    file = tmp_path / "database.json"
    file.write_text(file.read_text().replace(f'"{USER}"', f'"{reader["user"]}"'))
    assert LocalMetadata(RunRoot(tmp_path).database).get_run_contexts() == []
    RunRoot(tmp_path).database.check(whole=True)
    assert f"user {reader['user']} has not the rights" in refusal(tmp_path, {**values, **reader})


def test_tables_that_somebody_holds(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database()
    database = bind(tmp_path, values)
    with _hold_lock(database):
        assert refusal(tmp_path, values).startswith(f"{url(values)}{LOCKED}")
        with pytest.raises(RunRootError, match=LOCKED):
            database.check()
    database.check()


@contextlib.contextmanager
def _hold_lock(database: Database) -> Iterator[None]:
    with database.open_session() as ask:
        if database.kind == "a MySQL database":
            ask("LOCK TABLES MLMDEnv WRITE")
        else:
            ask("BEGIN")
            ask("LOCK TABLE MLMDEnv")
        yield


def test_tables_of_something_else(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database()
    database_server.admin("CREATE TABLE orders (id INT)", database=values["database"])
    message = refusal(tmp_path, values)
    assert "but not ML Metadata's (it holds orders); is it the right one?" in message


def test_a_schema_of_another_release_and_one_with_a_table_missing(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    values = database_server.new_database()
    bind(tmp_path, values)
    database_server.admin("UPDATE MLMDEnv SET schema_version = 99", database=values["database"])
    assert "was written by a newer release of ML Metadata (its schema is 99, expected 10)" in refusal(tmp_path, values)
    database_server.admin("DROP TABLE EventPath", database=values["database"])
    assert "is damaged (no table EventPath); restore it from a backup" in refusal(tmp_path, values)


def test_reading_makes_no_tables(database_server: DatabaseServer, tmp_path: Path) -> None:
    database = build_database(settings(database_server.new_database()), tmp_path, None)
    with pytest.raises(RunRootError, match="holds nothing, not even ML Metadata's tables"):
        LocalMetadata(database)
    with database.open_session() as ask:
        assert database.read_table_names(ask) == set()


def test_any_text_comes_back_as_it_was(database_server: DatabaseServer, tmp_path: Path) -> None:
    store = bind(tmp_path, database_server.new_database()).open_store(writable=True)
    kind = store.put_context_type(mlmd.ContextType(name="of a test"))
    texts = [
        "it's",
        "a\\b",
        "\\'; DROP TABLE Event; --",
        '{"a": "\\"b\\\\"}',
        "\\",
        "日本 é 😀",
        "%s ? $1 {{$}}",
        "a\n\tb",
    ]
    for number, text in enumerate(texts):
        made = mlmd.Context(type_id=kind, name=f"{number} {text}")
        made.custom_properties[text].string_value = text
        (id_,) = store.put_contexts([made])
        (stored,) = store.get_contexts_by_id([id_])
        assert (stored.name, dict(stored.custom_properties)) == (made.name, dict(made.custom_properties))
        assert store.get_context_by_type_and_name("of a test", made.name).id == id_
    assert len(store.get_contexts_by_type("of a test")) == len(texts)


def test_the_password_is_in_no_log_whatever_its_level(
    database_server: DatabaseServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="absl"):
        database = bind(tmp_path, database_server.new_database())
        database.open_store(writable=False)
        logging.getLogger("absl").debug("heard")
    assert "heard" in caplog.text
    printed = capfd.readouterr()
    for text in (caplog.text, printed.out, printed.err, repr(database), str(vars(database))):
        assert "s3cret" not in text


def test_a_server_that_wants_tls(mariadb: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    authority, other = trustme.CA(), trustme.CA()
    for name, issuer in (("ca", authority), ("other", other)):
        issuer.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(mariadb.folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(mariadb.folder / "cert.pem"))
    values, root = mariadb.new_database(), tmp_path / "root"
    with mariadb.restart(f"--ssl-cert={mariadb.folder}/cert.pem", f"--ssl-key={mariadb.folder}/key.pem"):
        mariadb.admin("SET GLOBAL require_secure_transport = ON")
        # MariaDB does not tell this from a wrong password.
        assert "the name or the password is wrong, or TLS is wanted (metadata.tls)" in refusal(root, values)
        forged = {**values, "tls": {"ca": str(tmp_path / "other.pem")}}
        assert "certificate verify failed" in refusal(root, forged)
        with pytest.raises(RunRootError, match=r"metadata.tls: .*none.pem: cannot be used: No such file"):
            bind(root, {**values, "tls": {"ca": str(tmp_path / "none.pem")}})
        trusted = bind(root, {**values, "tls": {"ca": str(tmp_path / "ca.pem")}})
        assert LocalMetadata(trusted).get_run_contexts() == []
        with trusted.open_session() as ask:
            assert ask("SHOW STATUS LIKE 'Ssl_version'")[0][1].startswith("TLSv1.")
