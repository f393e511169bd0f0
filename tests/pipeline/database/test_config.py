"""The section `metadata` of a config: what is refused, and that no password gets into it or out of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cli.errors import ConfigError, RunRootError
from pipeline.config.pipeline_config import PipelineConfig, load
from pipeline.database.config import MySQL, PostgreSQL, SQLite
from pipeline.run.records import create_record
from tests.conftest import CENSUS_CONFIG

SERVER = {"kind": "mysql", "host": "db.example.org", "database": "mlmd", "user": "pipeline"}
SECRET = "hunter2!"


def load_metadata_config(**changed: object) -> PipelineConfig:
    values = {name: value for name, value in {**SERVER, **changed}.items() if value is not None}
    return load(CENSUS_CONFIG, [f"metadata={json.dumps(values)}"])


def catch_error(**changed: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_metadata_config(**changed)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_left_out_it_is_a_file_in_the_run_root() -> None:
    assert load(CENSUS_CONFIG).metadata == SQLite()


def test_the_two_servers_have_their_own_ports() -> None:
    assert load_metadata_config().metadata == MySQL(**SERVER)
    assert load_metadata_config(kind="postgresql").metadata == PostgreSQL(**{**SERVER, "kind": "postgresql"})
    assert (load_metadata_config().metadata.port, load_metadata_config(kind="postgresql").metadata.port) == (3306, 5432)


@pytest.mark.parametrize("key", ["password", "Password", "passwd", "url", "dsn"])
def test_a_password_in_the_config_is_refused_by_name_and_not_shown(key: str) -> None:
    message = catch_error(**{key: SECRET})
    assert message.endswith(
        f"'{key}': no password belongs into a config; name the environment variable that holds it with password_env, "
        "or a file with password_file"
    )


def test_a_password_in_the_place_of_its_name_is_refused_and_not_shown() -> None:
    expected = (
        "password_env: expected the name of an environment variable, such as MLMD_PASSWORD, not the password itself"
    )
    for value in (SECRET, [SECRET], "lower_case", "1X", ""):
        assert expected in catch_error(password_env=value)
    assert "metadata.user: string should match pattern" in catch_error(user=f"pipeline:{SECRET}")
    with pytest.raises(ConfigError, match="metadata: input should be a valid dictionary") as caught:
        load(CENSUS_CONFIG, [f"metadata=mysql://pipeline:{SECRET}@db/mlmd"])
    assert SECRET not in str(caught.value)
    assert "user and port have their own keys" in catch_error(host=f"pipeline:{SECRET}@db")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"kind": "oracle"},
            "metadata: input tag 'oracle' found using 'kind' does not match any of the expected tags: 'sqlite', 'mysql'",
        ),
        ({"databse": "x"}, "unknown key 'databse', did you mean 'database'?"),
        ({"database": "a-b"}, "metadata.database: string should match pattern"),
        ({"user": "a'b"}, "metadata.user: string should match pattern"),
        ({"port": 0}, "metadata.port: input should be greater than or equal to 1"),
        ({"host": None}, "host: field required"),
        ({"password_env": "A", "password_file": "b"}, "password_env and password_file: give one of them"),
        ({"tls": {"ca": "a", "cert": "b"}}, "metadata.tls: cert and key go together; give both or neither"),
        ({"kind": "postgresql", "tls": {"ca": "a"}}, "unknown key 'tls', expected one of"),
    ],
)
def test_mistakes(changed: dict[str, object], expected: str) -> None:
    assert expected in catch_error(**changed)


def test_files_are_beside_the_config(small_census: Callable[..., Path]) -> None:
    config = small_census()
    values = yaml.safe_load(config.read_text())
    values["metadata"] = {**SERVER, "password_file": "secret/db", "tls": {"ca": "ca.pem"}}
    config.write_text(yaml.safe_dump(values))
    metadata = load(config).metadata
    assert isinstance(metadata, MySQL)
    assert metadata.password_file == str(config.parent / "secret" / "db")
    assert metadata.tls is not None
    assert metadata.tls.ca == str(config.parent / "ca.pem")


def test_the_password_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    settings = MySQL(**SERVER, password_file=str(file))
    with pytest.raises(RunRootError, match=f"metadata.password_file: {file}: cannot be read: No such file"):
        settings.read_secret()
    file.write_text(f"{SECRET} \n")
    assert settings.read_secret() == f"{SECRET} "
    file.write_bytes(b"\n")
    with pytest.raises(RunRootError, match="is empty; expected the password"):
        settings.read_secret()
    file.write_bytes(b"\xff")
    with pytest.raises(RunRootError, match="is not UTF-8 text") as caught:
        settings.read_secret()
    assert caught.value.__cause__ is None
    settings = MySQL(**SERVER, password_env="DATABASE_SECRET")
    with pytest.raises(
        RunRootError, match="metadata.password_env: the environment variable DATABASE_SECRET is not set"
    ):
        settings.read_secret()
    monkeypatch.setenv("DATABASE_SECRET", SECRET)
    assert settings.read_secret() == SECRET
    assert MySQL(**SERVER).read_secret() == ""


def test_a_record_says_where_the_password_is_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_SECRET", SECRET)
    config = load_metadata_config(password_env="DATABASE_SECRET")
    record = create_record(config, "run", log=None, expected=[], resumes=None)
    assert record.config["metadata"]["password_env"] == "DATABASE_SECRET"
    assert SECRET not in record.model_dump_json()
    assert PipelineConfig.model_validate(record.config).model_dump() == config.model_dump()
