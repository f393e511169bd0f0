"""Incidents that are not over yet, kept in RUN_ROOT/alerts.json; each is reported once, and so is its end."""

import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from cli.state_files import read_state, write_atomically
from pipeline.run.run_root import RunRoot

# Names of incidents: the newest run, runs that were not started, live traffic; all others are checks of
# oncall/checks.py.
NEWEST_RUN, REFUSED, TRAFFIC = "newest run", "refused", "live traffic"


class Incident(BaseModel):
    """One problem that is not solved yet.

    Attributes:
      subject: Subject, such as a run's ID; with another subject it is a new incident of the same name.
      since: Time of its start, in seconds since 1970.
      count: Number of times that it occurred.
      notified: Time of the last notification; None if there was none.
      pending: Whether its alert is still to be posted.
      parts: Parts of the subject that were part of it at any time, such as features of live traffic.
    """

    subject: str = ""
    since: float
    count: int = 1
    notified: float | None = None
    pending: bool = False
    parts: list[str] = Field(default_factory=list)


class AlertState(BaseModel):
    """The incidents of a run root, by name."""

    incidents: dict[str, Incident] = Field(default_factory=dict)

    @classmethod
    def read(cls, root: RunRoot) -> "AlertState":
        """Return the state of a run root; empty if its file is missing or damaged."""
        return read_state(_locate_file(root), cls) or cls()

    def add(self, name: str, subject: str = "", since: float | None = None, parts: Sequence[str] = ()) -> Incident:
        """Add an incident, or continue the one of that name: it keeps its age, and another subject is counted.

        A part that was none before makes another subject. One that is missing does not: it may come and go with the
        rows of each window.
        """
        previous = self.incidents.get(name)
        if previous is not None and previous.subject == subject and {*parts} <= {*previous.parts}:
            return previous
        count = previous.count + 1 if previous is not None else 1
        starts = [time.time() if since is None else since, *([previous.since] if previous is not None else [])]
        earlier = previous.parts if previous is not None and previous.subject == subject else []
        every = list(dict.fromkeys([*earlier, *parts]))
        self.incidents[name] = Incident(subject=subject, since=min(starts), count=count, parts=every)
        return self.incidents[name]

    def write(self, root: RunRoot) -> None:
        """Write the file, or remove it if there is no incident. A run root that does not exist is not made.

        Raises:
          OSError: The file cannot be written.
        """
        file = _locate_file(root)
        if not self.incidents:
            file.unlink(missing_ok=True)
        elif root.path.is_dir():
            write_atomically(file, self.model_dump_json(indent=1))


def _locate_file(root: RunRoot) -> Path:
    return root.path / "alerts.json"
