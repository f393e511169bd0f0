"""The folder of the request log that a command reads."""

from pathlib import Path

from pipeline.run.records import RunRecord


def find_request_log(newest: RunRecord | None) -> Path | None:
    """Return the folder that the config of the newest run names; None if it names none."""
    section = newest.config.get("monitoring") if newest is not None else None
    folder = section.get("request_log") if isinstance(section, dict) else None
    return Path(str(folder)) if folder else None
