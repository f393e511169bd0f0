"""Reasons why no new run starts: the last one was rejected, or the database cannot be read."""

from oncall.run_store import RunStore
from oncall.text_format import format_time
from pipeline.run.advice import suggest_after_rejection, suggest_doctor


def describe_rejection(store: RunStore) -> str:
    """Return when and why the last run was not started, in a few lines; empty if it was started."""
    rejection = store.last_rejection
    if rejection is None:
        return ""
    count, since = rejection.count, format_time(rejection.since)
    before = f", the last of {count} since {since}" if count > 1 else ""
    return (
        f"{format_time(rejection.last)}: no run was started, exit code {rejection.exit_code}{before}: {rejection.why}"
    )


def describe_blockers(store: RunStore) -> dict[str, str]:
    """Return why the last run was not started, and why the database cannot be read now; empty if neither holds."""
    return {"refused": describe_rejection(store), "database": str(store.database_error or store.binding_error)}


def suggest_commands(store: RunStore) -> list[str]:
    """Return the commands that help against both."""
    rejection = store.last_rejection
    doctor = [suggest_doctor(store.location_flags)] if store.database_error or store.binding_error else []
    return list(
        dict.fromkeys([*doctor, *(suggest_after_rejection(rejection, store.location_flags) if rejection else [])])
    )
