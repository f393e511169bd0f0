"""What keeps runs from starting: the database, or what the last one was refused for. Neither is on a list of runs."""

from oncall.sources import Source
from oncall.terminal import moment
from pipeline.run.advice import ask_doctor, suggest_after_rejection


def refused(evidence: Source) -> str:
    """Return when and why the last run was not started, in a few lines; empty if it was started."""
    found = evidence.refusal
    if found is None:
        return ""
    before = f", the last of {found.count} since {moment(found.since)}" if found.count > 1 else ""
    return f"{moment(found.last)}: no run was started, exit code {found.exit_code}{before}: {found.why}"


def standing(evidence: Source) -> dict[str, str]:
    """Why the last run was not started, and why the database cannot be read now; empty where that is well."""
    return {"refused": refused(evidence), "database": evidence.unreadable}


def tries(evidence: Source) -> list[str]:
    """Return what to do about both."""
    found = evidence.refusal
    asked = [ask_doctor(evidence.here)] if evidence.unreadable else []
    return list(dict.fromkeys([*asked, *(suggest_after_rejection(found, evidence.here) if found else [])]))
