"""Parts that all services share: state, operations, storage, and the table of methods."""

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import empty_pb2

from emulators.vertex.errors import InvalidArgumentError
from emulators.vertex.faults import InjectedFaults
from emulators.vertex.filters import is_match
from emulators.vertex.iam import IamTable
from emulators.vertex.names import ProjectNumbers
from emulators.vertex.operations import Finisher, Operations
from emulators.vertex.store import Store, cut_page
from pipeline.vertex.task_starter import TaskStarter

# (emulator, request) -> response message
Handler = Callable[["Emulator", Any], Any]

METHODS: dict[str, Handler] = {}
FINISHERS: dict[str, Finisher] = {}


def register_method(service: str) -> Callable[[Handler], Handler]:
    """Register a handler: `upload_model` of ModelService handles `ModelService/UploadModel`."""

    def register(handler: Handler) -> Handler:
        name = "".join(part.capitalize() for part in handler.__name__.split("_"))
        METHODS[f"{service}/{name}"] = handler
        return handler

    return register


def register_finisher(kind: str) -> Callable[[Finisher], Finisher]:
    """Register the function that ends a kind of operation."""

    def register(function: Finisher) -> Finisher:
        FINISHERS[kind] = function
        return function

    return register


def _allow(emulator: "Emulator", resource: Any, request: Any) -> None:
    """Allow a deletion, whatever the state of the resource is."""


def register_deletion(service: str, kind: str, check: Callable[["Emulator", Any, Any], None] = _allow) -> None:
    """Register the deletion of a kind of resource: of CustomJob, for example, `JobService/DeleteCustomJob`.

    Args:
      service: Name of the service.
      kind: Type of the resource.
      check: Function that rejects a deletion; it gets the emulator, the resource and the request.
    """
    name = f"Delete{kind}"

    def start(emulator: Emulator, request: Any) -> Any:
        check(emulator, emulator.store.get(request.name), request)
        return emulator.operations.start(name, request.name, {"name": request.name})

    def finish(emulator: Emulator, request: dict[str, Any]) -> Any:
        emulator.store.delete(request["name"])
        return empty_pb2.Empty()

    METHODS[f"{service}/{name}"] = start
    FINISHERS[name] = finish


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
        run_as: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = state
        self.storage = state / "storage"
        self.storage.mkdir(parents=True, exist_ok=True)
        # Tables for `python -m emulators.bigquery --folder`.
        self.bigquery = state / "bigquery"
        self.bigquery.mkdir(exist_ok=True)
        self.store = Store(state / "vertex.sqlite")
        self.faults = InjectedFaults()
        self.projects = ProjectNumbers(_remember(state / "projects.json", project_numbers or {}))
        self.iam = iam
        self.run_as, self.clock = run_as, clock
        self.warm_up_seconds, self.read_lag_seconds = warm_up_seconds, read_lag_seconds
        # By endpoint, on the monotonic clock.
        self.warm_up_ends: dict[str, float] = {}
        # It starts with the first job, and has TFX loaded for all that follow.
        self.task_starter: TaskStarter | None = None
        # Variables by which the processes of jobs find this emulator.
        self.environment: dict[str, str] = {}
        self.operations = Operations(self.store, self.faults, operation_seconds)
        self.operations.set_finishers(self, FINISHERS)

    def find_path(self, uri: str) -> Path:
        """Return the file of an object of the emulated storage.

        GcsSource.uris and GcsDestination.output_uri_prefix are URIs of Cloud Storage; the code is a guess.
        """
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
    for part in reversed(getattr(request, "order_by", "").split(",")):
        key, *direction = part.split() or [""]
        if key:
            items = sorted(items, key=partial(_get_sort_key, key=key), reverse=direction == ["desc"])
    page, token = cut_page(items, request)
    return response(**{field: page, "next_page_token": token})


def _get_sort_key(item: Any, key: str) -> Any:
    """Return the value of a field for order_by: "A comma-separated list of fields", in snake_case or camelCase.

    ListPipelineJobsRequest.order_by and ListSchedulesRequest.order_by; the code for an unknown field is a guess.
    """
    field = to_snake_case(key)
    if field not in type(item).meta.fields:
        raise InvalidArgumentError(f"order_by: {key} is not a field of {type(item).__name__}.")
    value = getattr(item, field)
    return value.timestamp() if hasattr(value, "timestamp") else value


def to_snake_case(name: str) -> str:
    """Return a name such as pipelineInfo or GetModel as pipeline_info or get_model."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def to_dict(message: Any) -> dict[str, Any]:
    """Return a message as a dict of snake_case names, with enums by name."""
    fields: dict[str, Any] = type(message).to_dict(
        message,
        preserving_proto_field_name=True,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=True,
    )
    return fields
