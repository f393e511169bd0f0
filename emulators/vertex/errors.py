"""Errors as Google's services give them: a status, and google.rpc details."""

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "aiplatform.googleapis.com"


class RefusalError(Exception):
    """Ends a call with a status."""

    def __init__(
        self, code: str, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None, quota: str = ""
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.reason, self.metadata, self.quota = reason, dict(metadata or {}), quota

    def status(self) -> status_pb2.Status:
        """Return the google.rpc.Status with its details."""
        details = []
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
            details.append(_packed(info))
        if self.quota:
            violation = error_details_pb2.QuotaFailure.Violation(subject=self.quota, description=self.message)
            details.append(_packed(error_details_pb2.QuotaFailure(violations=[violation])))
        code = getattr(code_pb2, self.code)
        return status_pb2.Status(code=code, message=self.message, details=details)

    def end(self, context: grpc.ServicerContext) -> None:
        context.abort_with_status(rpc_status.to_status(self.status()))


def _packed(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def not_found(name: str) -> RefusalError:
    return RefusalError("NOT_FOUND", f"{name} is not found.")


def invalid(message: str) -> RefusalError:
    return RefusalError("INVALID_ARGUMENT", message)


def precondition(message: str) -> RefusalError:
    return RefusalError("FAILED_PRECONDITION", message)
