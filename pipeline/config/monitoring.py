"""Section `monitoring` of the config."""

from typing import Annotated

from pydantic import Field, PositiveInt

from components.config import Distance
from schemas.declaration import Declaration

# Window of `check`, of the page, and of `traffic` if nothing else is asked for.
DEFAULT_SINCE = "1d"


class Monitoring(Declaration):
    """The comparison of live traffic with the training data: docs/monitoring.md."""

    request_log: str | None = None
    """Folder of the request log that the model server writes with `--log-requests`. `python -m oncall check` and
    `traffic` read it. If omitted, `check` skips traffic."""
    min_rows: PositiveInt = 200
    """Least number of rows in the window; with fewer, nothing is judged."""
    max_rejected: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of rejected requests from which on they are a finding, if chance does not explain them."""
    false_alarms: Annotated[float, Field(gt=0, le=0.1)] = 0.0001
    """Probability that a window of the same distribution as the training data has a finding, all tests together."""
    distance: Distance = Distance(threshold=0.1)
    """Distance for features without one in `validation.drift` and without a drift comparator in the schema."""
