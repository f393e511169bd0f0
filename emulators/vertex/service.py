"""Parts that all services share: state, operations, storage, and the table of methods."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emulators.vertex.errors import InvalidArgumentError
from emulators.vertex.faults import Faults
from emulators.vertex.filters import is_match
from emulators.vertex.iam import IamTable
from emulators.vertex.names import ProjectNumbers
from emulators.vertex.operations import Finisher, Operations
from emulators.vertex.store import Store, cut_page

# (emulator, request) -> response message
Handler = Callable[["Emulator", Any], Any]

METHODS: dict[str, Handler] = {}
FINISHERS: dict[str, Finisher] = {}


def method(service: str) -> Callable[[Handler], Handler]:
    """Register a handler: `upload_model` of ModelService handles `ModelService/UploadModel`."""

    def register(handler: Handler) -> Handler:
        name = "".join(part.capitalize() for part in handler.__name__.split("_"))
        METHODS[f"{service}/{name}"] = handler
        return handler

    return register


def finisher(kind: str) -> Callable[[Finisher], Finisher]:
    """Register the function that ends a kind of operation."""

    def register(function: Finisher) -> Finisher:
        FINISHERS[kind] = function
        return function

    return register


class Emulator:
    """One Vertex AI: its state, its storage and its faults."""

    def __init__(
        self,
        state: Path,
        *,
        operation_seconds: float = 0.2,
        warm_up_seconds: float = 0.0,
        read_lag_seconds: float = 0.0,
        project_numbers: Mapping[str, str] | None = None,
        iam: IamTable | None = None,
    ) -> None:
        self.state = state
        self.storage = state / "storage"
        self.storage.mkdir(parents=True, exist_ok=True)
        self.store = Store(state / "vertex.sqlite")
        self.faults = Faults()
        self.projects = ProjectNumbers(_remember(state / "projects.json", project_numbers or {}))
        self.iam = iam
        self.warm_up_seconds, self.read_lag_seconds = warm_up_seconds, read_lag_seconds
        # By endpoint, on the monotonic clock.
        self.warm_up_ends: dict[str, float] = {}
        # Variables by which the processes of jobs find this emulator.
        self.environment: dict[str, str] = {}
        self.operations = Operations(self.store, self.faults, operation_seconds)
        self.operations.set_finishers(self, FINISHERS)

    def path(self, uri: str) -> Path:
        """Return the file of an object of the emulated storage."""
        if uri.startswith("gs://"):
            return self.storage / uri.removeprefix("gs://").rstrip("/")
        raise InvalidArgumentError(f"{uri}: expected a gs:// URI.")


def _remember(file: Path, numbers: Mapping[str, str]) -> dict[str, str]:
    """Return the numbers of projects with those of earlier emulators: the names in the state have them."""
    all_numbers = {**(json.loads(file.read_text()) if file.exists() else {}), **numbers}
    file.write_text(json.dumps(all_numbers))
    return all_numbers


def list_page(
    response: Any,
    field: str,
    items: list[Any],
    request: Any,
    extra_values: Callable[[Any], dict[str, Any]] = lambda item: {},
) -> Any:
    """Return one page of the items that meet the request's filter.

    Args:
      response: Type of the response.
      field: Name of its field with the items.
      items: Items of all pages.
      request: Request with a filter, an order and the page.
      extra_values: Function that returns values for the filter that are not fields of an item.
    """
    if request.filter:
        items = [item for item in items if is_match({**to_dict(item), **extra_values(item)}, request.filter)]
    if getattr(request, "order_by", ""):
        key, *direction = request.order_by.split()
        items = sorted(items, key=lambda item: _get_sort_key(item, key), reverse=direction == ["desc"])
    page, token = cut_page(items, request)
    return response(**{field: page, "next_page_token": token})


def _get_sort_key(item: Any, key: str) -> Any:
    value = getattr(item, {"create_time": "create_time", "createTime": "create_time"}.get(key, key))
    return value.timestamp() if hasattr(value, "timestamp") else value


def to_dict(message: Any) -> dict[str, Any]:
    """Return a message as a dict of snake_case names, with enums by name."""
    fields: dict[str, Any] = type(message).to_dict(
        message,
        preserving_proto_field_name=True,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=True,
    )
    return fields
