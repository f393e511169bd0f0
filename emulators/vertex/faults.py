"""Injected faults: a call that fails, is slow, or is carried out without a response."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc

# Where in a call the fault strikes: before anything is done, after it was done, or in the long-running operation.
BEFORE, AFTER, OPERATION = "before", "after", "operation"


@dataclass
class InjectedFault:
    """A fault that is to strike.

    Attributes:
      method: name such as `UploadModel`; `*` is every method, `mutation` every method that changes a resource.
      code: name of a gRPC status, or "" for a delay only.
      message: message of the error.
      when: BEFORE, AFTER or OPERATION.
      skip: number of calls that pass first.
      times: number of calls that fail; then the fault is spent.
      delay_seconds: seconds before it strikes.
      reason, metadata: contents of a google.rpc.ErrorInfo in the error's details.
      quota: subject of a QuotaFailure in the error's details.
    """

    method: str
    code: str = ""
    message: str = "injected"
    when: str = BEFORE
    skip: int = 0
    times: int = 1
    delay_seconds: float = 0.0
    reason: str = ""
    metadata: dict[str, str] | None = None
    quota: str = ""

    def is_for(self, method: str) -> bool:
        """Return whether the fault strikes calls of a method."""
        return self.method in (method, "*") or (self.method == "mutation" and is_mutation(method))


def is_mutation(method: str) -> bool:
    """Return whether a method changes a resource of the registry or an endpoint."""
    verbs = ("Upload", "Create", "Update", "Deploy", "Undeploy", "Merge", "Delete", "Import")
    return method.startswith(verbs) and not method.endswith(("Context", "Execution", "MetadataStore"))


class InjectedFaults:
    """The faults that are still to strike."""

    def __init__(self) -> None:
        self.waiting: list[InjectedFault] = []
        self.calls: list[str] = []

    def add(self, fault: InjectedFault) -> None:
        if fault.code and not hasattr(grpc.StatusCode, fault.code):
            raise ValueError(f"'{fault.code}' is not a gRPC status")
        self.waiting.append(fault)

    def pop_due(self, method: str, when: str) -> InjectedFault | None:
        """Return the fault that strikes this call, if any, and count the strike."""
        for fault in self.waiting:
            if fault.when == when and fault.is_for(method):
                if fault.skip:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                if not fault.times:
                    self.waiting.remove(fault)
                if fault.delay_seconds:
                    time.sleep(fault.delay_seconds)
                return fault if fault.code else None
        return None

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.waiting]
