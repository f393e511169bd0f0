"""Errors that a user can cause and fix: each is printed as one line, and ends a run with its own exit code."""


def get_first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class if it has no text."""
    return (str(error) or type(error).__name__).splitlines()[0]


class PipelineError(Exception):
    """Something the user can fix; the text has the place, the problem, the expected value and the remedy."""

    exit_code = 1


class ConfigError(PipelineError):
    """The config, or a flag, is wrong. Nothing was started."""

    exit_code = 2


class DataError(PipelineError):
    """The data cannot be read, or does not fit its schema."""

    exit_code = 3


class NotBlessedError(PipelineError):
    """The model missed a threshold, was never judged, or is not served as it should be; it is not pushed."""

    exit_code = 4


class PushError(PipelineError):
    """A blessed model could not be pushed: the name or version is taken, or the registry cannot be written."""

    exit_code = 5


class RunRootError(PipelineError):
    """The run root cannot be used: not writable, in use by another run, or damaged."""

    exit_code = 6
