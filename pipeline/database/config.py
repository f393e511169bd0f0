"""The section `metadata` of a config: which database holds ML Metadata. Never a password, only where it is."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from cli.errors import RunRootError
from schemas.declaration import Declaration

_ENVIRONMENT_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

Host = Annotated[str, Field(min_length=1, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
# ML Metadata does not quote these.
DatabaseName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,63}$")]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}$")]


class SQLite(Declaration):
    """ML Metadata in a file of the run root, `metadata.sqlite`: nothing to set up."""

    kind: Literal["sqlite"] = "sqlite"


class Tls(Declaration):
    """An encrypted connection. ML Metadata's own client encrypts but does not check the server's certificate; that is
    done by the check before each run and each command."""

    ca: Annotated[str, Field(min_length=1)]
    """File of the certificate authority that the server's certificate is checked against."""
    cert: str | None = None
    """File of the client's own certificate, if the server asks for one."""
    key: str | None = None
    """File of its key."""

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together; give both or neither")
        return self


class _Server(Declaration):
    host: Host
    database: DatabaseName
    """Must be there, and empty when it is first used; each run root needs one of its own."""
    user: UserName
    password_env: str | None = None
    """The name of the environment variable that holds the password."""
    password_file: str | None = None
    """A file that holds nothing but the password, instead."""
    timeout_seconds: PositiveFloat = 5.0
    """How long a server that does not answer is waited for, before anything starts."""

    @model_validator(mode="before")
    @classmethod
    def _reject_secrets(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for key in data:
            if str(key).lower() in ("password", "passwd", "pass", "secret", "url", "uri", "dsn"):
                raise ValueError(
                    f"'{key}': no password belongs into a config; name the environment variable that holds it with "
                    "password_env, or a file with password_file"
                )
        name, host = data.get("password_env"), data.get("host")
        if name is not None and not (isinstance(name, str) and _is_environment_name(name)):
            raise ValueError(
                "password_env: expected the name of an environment variable, such as MLMD_PASSWORD, not the password "
                "itself; capital letters, digits and _"
            )
        if isinstance(host, str) and ("@" in host or "/" in host):
            raise ValueError(
                "host: expected a name or an address, such as db.example.org; user and port have their own keys"
            )
        return data

    @model_validator(mode="after")
    def _check_one_place(self) -> "_Server":
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file: give one of them")
        return self

    def read_secret(self) -> str:
        """Return the password, read from the place in the config; empty if there is none.

        Raises:
          RunRootError: it is not there.
        """
        if self.password_env is not None:
            password = os.environ.get(self.password_env)
            if not password:
                raise RunRootError(f"metadata.password_env: the environment variable {self.password_env} is not set")
            return password
        if self.password_file is None:
            return ""
        where = f"metadata.password_file: {self.password_file}"
        try:
            text = Path(self.password_file).read_text(encoding="utf-8")
        except OSError as error:
            raise RunRootError(f"{where}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            # Its bytes are no one's to see, in a traceback neither.
            raise RunRootError(f"{where}: is not UTF-8 text") from None
        if not text.rstrip("\r\n"):
            raise RunRootError(f"{where}: is empty; expected the password")
        return text.rstrip("\r\n")


def _is_environment_name(text: str) -> bool:
    return bool(text) and not text[0].isdigit() and set(text) <= set(_ENVIRONMENT_NAME)


class MySQL(_Server):
    """ML Metadata in a MySQL or MariaDB database. ML Metadata's client logs in by `mysql_native_password` only."""

    kind: Literal["mysql"]
    port: Port = 3306
    tls: Tls | None = None
    """If omitted, the connection is not encrypted."""


class PostgreSQL(_Server):
    """ML Metadata in a PostgreSQL database. ML Metadata's client has no TLS: on a network that is not trusted, give the
    address of a local end of a tunnel."""

    kind: Literal["postgresql"]
    port: Port = 5432


MetadataBackend = Annotated[SQLite | MySQL | PostgreSQL, Field(discriminator="kind")]
