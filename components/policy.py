"""The validation policy: which anomalies stop a run, which are shown, which pass. Imports no TensorFlow."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.config import Severity, Validation

_HEADING, _WARNING = "the data does not fit its schema or has changed:", "warning: "
ADVICE = (
    "correct the data; or, if it is right, take it over into the schema (schema diff), set other thresholds, or allow "
    "it for some time under validation.allowed"
)


@dataclass(frozen=True)
class Anomaly:
    """Something the gate judges.

    Attributes:
      where: the split, or the two that are compared.
      feature: the column, or `all`.
      kind: TFDV's name of the anomaly, or one of components/config.py.
      text: description of the problem.
    """

    where: str
    feature: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.feature}: {self.text} [{self.kind}]"


@dataclass(frozen=True)
class Verdict:
    """Judgement of a policy on anomalies: lines that stop the run, and lines that are only printed."""

    stops: list[str]
    warnings: list[str]

    def format_error(self) -> str:
        """Return the error of a run that is stopped; `parse` reads it."""
        warnings = [f"{_WARNING}{line}" for line in self.warnings]
        return "\n".join([_HEADING, *(f"  {line}" for line in [*self.stops, *warnings, ADVICE])])

    @classmethod
    def parse(cls, error: str) -> "Verdict":
        """Return the verdict of a run that was stopped; of an error of another kind, all lines as stops."""
        verdict = cls([], [])
        for line in map(str.strip, error.splitlines()):
            if line.startswith(_WARNING):
                verdict.warnings.append(line.removeprefix(_WARNING))
            elif line != ADVICE and not line.endswith(_HEADING):
                verdict.stops.append(line)
        return verdict


def judge(anomalies: Sequence[Anomaly], validation: "Validation", *, today: datetime.date) -> Verdict:
    """Hold anomalies against a policy; an allowance passes until its last day, that day included."""
    verdict = Verdict([], [])
    for anomaly in anomalies:
        severity = _judge_severity(anomaly, validation)
        line = str(anomaly)
        for allowance in validation.allowed:
            if (allowance.feature, allowance.anomaly) == (anomaly.feature, anomaly.kind):
                if today <= allowance.until:
                    severity, line = "warn", f"{anomaly}; allowed until {allowance.until}: {allowance.reason}"
                else:
                    line = f"{anomaly}; was allowed until {allowance.until}: {allowance.reason}"
        if severity == "stop":
            verdict.stops.append(line)
        elif severity == "warn":
            verdict.warnings.append(line)
    return verdict


def _judge_severity(anomaly: Anomaly, validation: "Validation") -> "Severity":
    # Pydantic's models of all sections, which take a second; `oncall` reads verdicts alone.
    from components.config import DEFAULT_SEVERITIES

    severity: Severity = DEFAULT_SEVERITIES.get(anomaly.kind, "stop")
    for rule in validation.severities:
        if rule.anomaly == anomaly.kind and (not rule.features or anomaly.feature in rule.features):
            severity = rule.severity
    return severity
