"""One expectation of `check` and its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One expectation and its result.

    Attributes:
      name: name of the check.
      ok: whether the expectation holds.
      message: actual state.
      todo: command to try if it does not hold.
      about: run or version that the check is about.
      run: run that the message names.
      trained_by: run that trained the version; ML Metadata keeps an alert of the check there.
      parts: parts of the subject, such as features; a further one is news, one that recovers is not.
    """

    name: str
    ok: bool
    message: str
    todo: str = ""
    about: str = ""
    run: str = ""
    trained_by: str = ""
    parts: tuple[str, ...] = ()
