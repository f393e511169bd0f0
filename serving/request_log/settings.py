"""Settings of a request log, and the check of its folder before a server starts. Imports no TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

from cli.errors import ConfigError
from serving.request_log.streams import check_folder

FOLDER_FLAG, KEY_FLAG, BUDGET_FLAG, SIZE_FLAG = "--log-requests", "--log-key", "--log-budget", "--log-shard-size"
HEADER_PREFIX = "header:"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class RequestLogSettings:
    """Settings of a request log.

    Attributes:
      folder: Folder of its shards, of all workers.
      sample: Share of the requests that are logged; with a key, of the keys.
      key: Column that `_request_key` comes from, or `header:NAME`; empty for no key.
      log_sensitive: Whether sensitive columns are logged, too.
      budget_bytes: Size of the folder, beyond which the oldest shards are deleted.
      shard_bytes: Size of a stream, beyond which it becomes a shard.
      shard_seconds: Age of a stream, beyond which it becomes a shard.
    """

    folder: Path
    sample: float = 1.0
    key: str = ""
    log_sensitive: bool = False
    budget_bytes: int = 1000 * MEGABYTE
    shard_bytes: int = 64 * MEGABYTE
    shard_seconds: float = 900.0

    @property
    def header(self) -> str | None:
        """Name of the header that has the key, in lower case; None if there is none."""
        return self.key.removeprefix(HEADER_PREFIX).lower() if self.key.startswith(HEADER_PREFIX) else None

    @property
    def key_column(self) -> str | None:
        """Name of the column that has the key; None if there is none."""
        return None if not self.key or self.header is not None else self.key

    def check(self, workers: int) -> None:
        """Check the settings and the folder.

        Raises:
          ConfigError: A setting is wrong, or the folder cannot be used.
        """
        if self.header == "":
            raise ConfigError(f"{KEY_FLAG} {self.key}: expected the name of a header, as in header:x-customer")
        # Each worker has a stream, and another becomes a shard beside it.
        least = 2 * workers * self.shard_bytes
        if self.budget_bytes < least:
            raise ConfigError(
                f"{BUDGET_FLAG} {self.budget_bytes // MEGABYTE}: expected at least {-(-least // MEGABYTE)} MB, twice "
                f"{SIZE_FLAG} for each worker; raise it, or lower {SIZE_FLAG}"
            )
        check_folder(self.folder, FOLDER_FLAG)
