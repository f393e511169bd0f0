"""Errors as BigQuery returns them."""

from typing import Any


class BigQueryError(Exception):
    """A call that fails.

    Attributes:
      code: HTTP status.
      reason: Reason, such as `invalidQuery`: https://cloud.google.com/bigquery/docs/error-messages.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        message = str(self)
        errors = [{"message": message, "domain": "global", "reason": self.reason}]
        return {"error": {"code": self.code, "message": message, "errors": errors}}
