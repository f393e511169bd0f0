"""Faults on order: a call that fails, is slow, or is carried out and then not answered."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc

# Where in a call the fault strikes: before anything is done, after it was done, or in the long-running operation.
BEFORE, AFTER, OPERATION = "before", "after", "operation"


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
      method: such as `UploadModel`; `*` is every method, `mutation` every one that changes something.
      code: a gRPC status by name, or "" for a mere delay.
      message: message of the error.
      when: BEFORE, AFTER or OPERATION.
      skip: so many calls pass first.
      times: so many calls fail; then the fault is spent.
      delay_seconds: waited before it strikes.
      reason, metadata: of a google.rpc.ErrorInfo in the error's details; `quota` of a QuotaFailure.
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

    def fits(self, method: str) -> bool:
        return self.method in (method, "*") or (self.method == "mutation" and mutates(method))


def mutates(method: str) -> bool:
    """Whether a method changes a resource of the registry or an endpoint."""
    started = ("Upload", "Create", "Update", "Deploy", "Undeploy", "Merge", "Delete", "Import")
    return method.startswith(started) and not method.endswith(("Context", "Execution", "MetadataStore"))


class Faults:
    """The faults that are still to strike."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []
        self.calls: list[str] = []

    def add(self, fault: Fault) -> None:
        if fault.code and not hasattr(grpc.StatusCode, fault.code):
            raise ValueError(f"'{fault.code}' is not a gRPC status")
        self.waiting.append(fault)

    def due(self, method: str, when: str) -> Fault | None:
        """Return the fault that strikes this call now, if any; counted."""
        for fault in self.waiting:
            if fault.when == when and fault.fits(method):
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

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.waiting]
