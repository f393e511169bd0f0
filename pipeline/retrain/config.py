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
    """Whether `python -m oncall traffic` has a finding about a feature or an output. Needs `monitoring.request_log`."""
    live_quality: bool = False
    """Whether `python -m oncall outcomes` finds the champion significantly worse. Needs `monitoring.request_log`."""
    min_interval_hours: PositiveFloat = 24.0
    """Least time between two runs that the command starts. It doubles with each failure since the last success."""
    max_backoff_days: PositiveFloat = 14.0
    """Longest wait after failures."""

    @model_validator(mode="after")
    def _check_conditions(self) -> "Retrain":
        if not (self.new_span or self.max_age_days is not None or self.drift or self.live_quality):
            raise ValueError("names no condition; set new_span, max_age_days, drift or live_quality")
        return self
