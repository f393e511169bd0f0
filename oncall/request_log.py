"""The request log that a command reads: section `monitoring` of the newest run's config."""

from pathlib import Path

from pydantic import ValidationError

from cli.errors import DataError
from oncall.run_store import RunStore
from pipeline.config.monitoring import Monitoring

_SECTION = "monitoring"


def read_monitoring(store: RunStore) -> Monitoring:
    """Return the section of the newest run's config; the defaults if there is no run.

    Raises:
      DataError: It is not of this release.
    """
    newest = next(iter(store.read_records()), None)
    try:
        return Monitoring.model_validate((newest.config.get(_SECTION) if newest is not None else None) or {})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise DataError(f"{_SECTION}: that of the newest run's config is not of this release: {problem}") from error


def find_request_log(store: RunStore, log: Path | None) -> Path | None:
    """Return the folder that a flag names, else that of the config; None if neither names one.

    Raises:
      DataError: The section of the config is not of this release.
    """
    if log is not None:
        return log
    folder = read_monitoring(store).request_log
    return None if folder is None else Path(folder)
