"""`doctor`: problems with their remedies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oncall.results import CommandResult


@dataclass(frozen=True)
class Finding:
    """A problem.

    Attributes:
      kind: `database`, `binding`, `copy`, `run`, `clock`, `record`, `missing`, `moved`, `orphan`, `partial`, `disk` or
        `registry`.
      message: problem and its place.
      todo: remedy.
    """

    kind: str
    message: str
    todo: str


def report_findings(holder: str, free: str, findings: Sequence[Finding], not_here: str = "") -> CommandResult:
    """Return the findings; the exit code is 1 if there are any.

    Args:
      holder: holder of the lock; empty if nobody holds it.
      free: meaning of a lock that nobody holds.
      findings: problems.
      not_here: parts that were not checked, because they do not exist.
    """
    document: dict[str, Any] = {
        "ok": not findings,
        "lock": holder,
        "findings": [asdict(finding) for finding in findings],
    }
    lines = [f"lock       {holder or f'free; {free}'}"]
    if not_here:
        document["not_here"] = not_here
        lines.append(f"not here   {not_here}")
    for number, finding in enumerate(findings):
        lines.append(f"{finding.kind:<10} {finding.message}")
        # Ten orphans have one remedy.
        if number + 1 == len(findings) or findings[number + 1].todo != finding.todo:
            lines.append(f"{'':<10} do: {finding.todo}")
    return CommandResult(
        document, [*lines, *([] if findings else ["ok         nothing is wrong"])], 1 if findings else 0
    )
