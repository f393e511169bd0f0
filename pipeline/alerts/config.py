"""Section `alerts` of the config."""

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from schemas.declaration import Declaration

Event = Literal["success", "failure", "aborted", "refusal", "recovered", "traffic"]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Alerts(Declaration):
    """The webhook that is notified of a run's end: docs/alerts.md. The address is a secret; the config only names its
    place."""

    webhook_env: str | None = None
    """The environment variable that holds the address, such as `ALERT_WEBHOOK`. If it is not set, the run continues and
    prints a warning."""
    webhook_file: str | None = None
    """The file that holds the address, instead."""
    events: tuple[Event, ...] = ("failure", "aborted", "refusal", "recovered", "traffic")
    """Events that are posted. `failure`: a run failed or was killed; `aborted`: Ctrl-C or SIGTERM ended it.
    `refusal`: it was not started; `recovered`: it succeeded after others did not. `traffic`: live traffic differs from
    the training data."""
    timeout_seconds: Annotated[PositiveFloat, Field(le=300)] = 20.0
    """A run waits no longer for the webhook, all tries together; it ends as it would without one."""
    repeat_hours: PositiveFloat = 24.0
    """`python -m oncall check --alert` reports a problem that persists again after this time."""

    @model_validator(mode="after")
    def _check_one_place(self) -> "Alerts":
        # Not with each key, whose error would print its value: an error of the section prints no values.
        if self.webhook_env is not None and not _VARIABLE.fullmatch(self.webhook_env):
            raise ValueError(
                "webhook_env is the name of an environment variable, of letters, digits and _; the address itself is a "
                "secret, and belongs into that variable"
            )
        if self.webhook_file is not None and re.search("https?:", self.webhook_file):
            raise ValueError("webhook_file is the path of a file; the address itself is a secret, and belongs into it")
        if self.webhook_env is not None and self.webhook_file is not None:
            raise ValueError("webhook_env and webhook_file: give one of them")
        return self
