"""What a user may choose about alerts."""

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from schemas.declaration import Declaration

Event = Literal["success", "failure", "aborted", "refusal", "recovered"]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Alerts(Declaration):
    """Who is told how a run ended, besides whoever reads what it prints: docs/alerts.md. The address of a webhook is a
    secret, so no config holds it, but names where it is."""

    webhook_env: str | None = None
    """The environment variable that holds the address, such as `ALERT_WEBHOOK`. One that is not set stops no run; it is
    said on standard error."""
    webhook_file: str | None = None
    """The file that holds the address, instead."""
    events: tuple[Event, ...] = ("failure", "aborted", "refusal", "recovered")
    """What is posted: a run that succeeded, that failed or was killed, that Ctrl-C or SIGTERM ended, that was not
    started at all, or that succeeded after others did not."""
    timeout_seconds: Annotated[PositiveFloat, Field(le=300)] = 20.0
    """A run waits no longer for the webhook, all tries together; it ends as it would without one."""
    repeat_hours: PositiveFloat = 24.0
    """`python -m oncall check --alert` tells again after so long of what is still not as it should be."""

    @model_validator(mode="after")
    def _name_one_place(self) -> "Alerts":
        # Here, and not with each key: what is wrong with a section is told without its values.
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
