"""Section `retrain` of the config."""

from pydantic import PositiveFloat, model_validator

from schemas.declaration import Declaration


class Retrain(Declaration):
    """Conditions under which `python -m pipeline retrain` starts a run; one that holds is enough. docs/monitoring.md"""

    new_span: bool = False
    """Whether a span is later than those that the champion was trained on."""
    max_age_days: PositiveFloat | None = None
    """Age of the champion in data time: the days since the newest row that it was trained on."""
    drift: bool = False
    """Whether the live traffic has drifted from the champion's training data. Needs `request_log`."""
    live_quality: bool = False
    """Whether the champion is significantly worse on the outcomes of its predictions than it was offline. Needs
    `request_log`."""
    request_log: str | None = None
    """The folder of the server's `--log-requests`; relative to the config's own folder."""
    min_interval_hours: PositiveFloat = 24.0
    """Least time between two runs that the command starts. It doubles with each failure since the last success."""
    max_backoff_days: PositiveFloat = 14.0
    """Longest wait after failures."""

    @model_validator(mode="after")
    def _check_conditions(self) -> "Retrain":
        if not (self.new_span or self.max_age_days is not None or self.drift or self.live_quality):
            raise ValueError("names no condition; set new_span, max_age_days, drift or live_quality")
        for name in ("drift", "live_quality"):
            if getattr(self, name) and self.request_log is None:
                raise ValueError(f"{name}: needs request_log, the folder of the server's --log-requests; it is not set")
        return self
