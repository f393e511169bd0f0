"""Long-running operations: returned at once, done later, kept over a restart.

An operation is stored as the name of its kind and its request. It is carried out at the first call after its due time.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from google.longrunning import operations_pb2

from emulators.vertex.errors import ResourceNotFoundError, StatusError
from emulators.vertex.faults import OPERATION, InjectedFaults
from emulators.vertex.store import Store

# (store, request as a dict) -> the response message
Finisher = Callable[[Any, dict[str, Any]], Any]


class Operations:
    """The operations of all resources."""

    def __init__(self, store: Store, faults: InjectedFaults, seconds: float) -> None:
        self._store, self._faults, self._seconds = store, faults, seconds
        self._finishers: dict[str, Finisher] = {}
        self._service: Any = None

    def set_finishers(self, service: Any, finishers: dict[str, Finisher]) -> None:
        """Set the function that ends each kind of operation; it is called with `service`."""
        self._service = service
        self._finishers.update(finishers)

    def start(self, kind: str, parent: str, request: dict[str, Any], seconds: float | None = None) -> Any:
        """Return a new operation of a resource."""
        name = f"{parent}/operations/{self._store.create_id()}"
        operation = operations_pb2.Operation(name=name)
        fault = self._faults.pop_due(kind, OPERATION)
        if fault is not None:
            # Stored with the request, so that it strikes when the operation would have been done.
            error = {"code": fault.code, "message": fault.message, "reason": fault.reason, "quota": fault.quota}
            request = {**request, "_fault": error}
        due = time.time() + (self._seconds if seconds is None else seconds)
        values = (name, kind, json.dumps(request), due, 0, operation.SerializeToString())
        self._store.execute("INSERT INTO operation VALUES (?, ?, ?, ?, ?, ?)", values)
        return operation

    def advance(self) -> None:
        """Finish the operations that are due; Operation.error has the status of one that failed."""
        rows = self._store.execute(
            "SELECT name, kind, request FROM operation WHERE done = 0 AND due <= ? ORDER BY due", (time.time(),)
        )
        for name, kind, request in rows:
            operation = operations_pb2.Operation(name=name, done=True)
            try:
                with self._store.open_transaction():
                    values = json.loads(request)
                    if "_fault" in values:
                        raise StatusError(**values["_fault"])
                    response = self._finishers[kind](self._service, values)
                    operation.response.Pack(type(response).pb(response) if hasattr(type(response), "pb") else response)
            except StatusError as status_error:
                operation.error.CopyFrom(status_error.to_status())
            self._store.execute(
                "UPDATE operation SET done = 1, body = ? WHERE name = ?", (operation.SerializeToString(), name)
            )

    def get(self, name: str) -> Any:
        """Return an operation; https://google.aip.dev/131: NOT_FOUND if it does not exist."""
        rows = self._store.execute("SELECT body FROM operation WHERE name = ?", (name,))
        if not rows:
            raise ResourceNotFoundError(name)
        return operations_pb2.Operation.FromString(rows[0][0])

    def list(self, parent: str) -> Any:
        rows = self._store.execute(
            "SELECT body FROM operation WHERE substr(name, 1, ?) = ? ORDER BY due",
            (len(f"{parent}/operations/"), f"{parent}/operations/"),
        )
        operations = [operations_pb2.Operation.FromString(body) for (body,) in rows]
        return operations_pb2.ListOperationsResponse(operations=operations)

    def is_running(self, parent: str) -> bool:
        return any(not operation.done for operation in self.list(parent).operations)
