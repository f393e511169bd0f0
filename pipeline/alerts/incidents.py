"""What was told and is not over yet, kept in RUN_ROOT/alerts.json: so that it is told once, and its end too."""

import time
from pathlib import Path

from pydantic import BaseModel, Field

from cli.state_files import read_state, write_atomically
from pipeline.run.run_root import RunRoot

# What the entries are about: the newest run, runs that were refused, and else the checks of oncall/checks.py.
NEWEST_RUN, REFUSED = "newest run", "refused"


class Trouble(BaseModel):
    """One thing that is not as it should be.

    Attributes:
      about: what it is about, such as a run's id; about another one it is news.
      since: when it began, in seconds since 1970.
      count: how often it was seen again.
      told: when it was told last; None if it was not.
      owed: whether it is still to be posted.
    """

    about: str = ""
    since: float
    count: int = 1
    told: float | None = None
    owed: bool = False


class Standing(BaseModel):
    """The troubles of a run root, by name."""

    troubles: dict[str, Trouble] = Field(default_factory=dict)

    @classmethod
    def of(cls, root: RunRoot) -> "Standing":
        """Return what is kept; nothing, where the file is missing or damaged."""
        return read_state(_file(root), cls) or cls()

    def add(self, name: str, about: str = "", since: float | None = None) -> Trouble:
        """Note a trouble, or that one continues: it keeps its age, and is counted again if it is another one."""
        known = self.troubles.get(name)
        if known is not None and known.about == about:
            return known
        count = known.count + 1 if known is not None else 1
        starts = [time.time() if since is None else since, *([known.since] if known is not None else [])]
        self.troubles[name] = Trouble(about=about, since=min(starts), count=count)
        return self.troubles[name]

    def keep(self, root: RunRoot) -> None:
        """Write the file, or remove it when all is well. A run root that is not there is not made.

        Raises:
          OSError: it cannot be written.
        """
        file = _file(root)
        if not self.troubles:
            file.unlink(missing_ok=True)
        elif root.path.is_dir():
            write_atomically(file, self.model_dump_json(indent=1))


def _file(root: RunRoot) -> Path:
    return root.path / "alerts.json"
