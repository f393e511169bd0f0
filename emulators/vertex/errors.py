"""Errors as Google's services return them: a status, and google.rpc details."""

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "aiplatform.googleapis.com"


class StatusError(Exception):
    """A call that ends with a status."""

    def __init__(
        self, code: str, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None, quota: str = ""
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.reason, self.metadata, self.quota = reason, dict(metadata or {}), quota

    def to_status(self) -> status_pb2.Status:
        """Return the google.rpc.Status with its details."""
        details = []
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
            details.append(_pack(info))
        if self.quota:
            violation = error_details_pb2.QuotaFailure.Violation(subject=self.quota, description=self.message)
            details.append(_pack(error_details_pb2.QuotaFailure(violations=[violation])))
        code = getattr(code_pb2, self.code)
        return status_pb2.Status(code=code, message=self.message, details=details)

    def end_call(self, context: grpc.ServicerContext) -> None:
        """Send the status to the client."""
        context.abort_with_status(rpc_status.to_status(self.to_status()))


def _pack(message: object) -> any_pb2.Any:
    container = any_pb2.Any()
    container.Pack(message)
    return container


class ResourceNotFoundError(StatusError):
    """A resource that does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__("NOT_FOUND", f"{name} is not found.")


class InvalidArgumentError(StatusError):
    """A request that is wrong, whatever the state of the service."""

    def __init__(self, message: str) -> None:
        super().__init__("INVALID_ARGUMENT", message)


class FailedPreconditionError(StatusError):
    """A request that the state of the service does not allow."""

    def __init__(self, message: str) -> None:
        super().__init__("FAILED_PRECONDITION", message)
