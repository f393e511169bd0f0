"""The state of an active run, on this machine or on Vertex AI."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ActiveRun:
    """The state of a run that has not ended.

    Attributes:
      message: node, times and state of the process, in one sentence.
      problem: why it does not get on; empty if nothing shows that.
      todo: command that helps.
    """

    message: str
    problem: str = ""
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.problem}; {self.message}" if self.problem else self.message
