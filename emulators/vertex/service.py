"""What all services are built from: state, operations, storage, and the table of methods."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulators.vertex.errors import invalid
from emulators.vertex.faults import Faults
from emulators.vertex.filters import matches
from emulators.vertex.operations import Finisher, Operations
from emulators.vertex.store import Store, page

# (emulator, request) -> response message
Handler = Callable[["Emulator", Any], Any]

METHODS: dict[str, Handler] = {}
FINISHERS: dict[str, Finisher] = {}


def method(service: str) -> Callable[[Handler], Handler]:
    """Register a handler: `upload_model` of ModelService answers `ModelService/UploadModel`."""

    def register(handler: Handler) -> Handler:
        name = "".join(part.capitalize() for part in handler.__name__.split("_"))
        METHODS[f"{service}/{name}"] = handler
        return handler

    return register


def finisher(kind: str) -> Callable[[Finisher], Finisher]:
    """Register what a kind of operation does when its time has come."""

    def register(function: Finisher) -> Finisher:
        FINISHERS[kind] = function
        return function

    return register


class Emulator:
    """One Vertex AI: its state, its storage and its faults."""

    def __init__(self, state: Path, *, operation_seconds: float = 0.2) -> None:
        self.state = state
        self.storage = state / "storage"
        self.storage.mkdir(parents=True, exist_ok=True)
        self.store = Store(state / "vertex.sqlite")
        self.faults = Faults()
        # What the processes of jobs need to find this emulator.
        self.environment: dict[str, str] = {}
        self.operations = Operations(self.store, self.faults, operation_seconds)
        self.operations.finishers(self, FINISHERS)

    def path(self, uri: str) -> Path:
        """Where an object of the emulated storage lies on disk."""
        if uri.startswith("gs://"):
            return self.storage / uri.removeprefix("gs://").rstrip("/")
        raise invalid(f"{uri}: expected a gs:// URI.")


def listed(
    response: Any,
    field: str,
    items: list[Any],
    request: Any,
    known: Callable[[Any], dict[str, Any]] = lambda item: {},
) -> Any:
    """One page of the items that fit the request's filter; `known` are an item's values that are no fields of it."""
    if request.filter:
        items = [item for item in items if matches({**as_dict(item), **known(item)}, request.filter)]
    if getattr(request, "order_by", ""):
        key, *direction = request.order_by.split()
        items = sorted(items, key=lambda item: _sortable(item, key), reverse=direction == ["desc"])
    chosen, token = page(items, request)
    return response(**{field: chosen, "next_page_token": token})


def _sortable(item: Any, key: str) -> Any:
    value = getattr(item, {"create_time": "create_time", "createTime": "create_time"}.get(key, key))
    return value.timestamp() if hasattr(value, "timestamp") else value


def as_dict(message: Any) -> dict[str, Any]:
    """Return a message as a dict of snake_case names, with enums by name."""
    return type(message).to_dict(
        message,
        preserving_proto_field_name=True,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=True,
    )
