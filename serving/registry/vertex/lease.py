"""One change of a model at a time, and a record of each: kept in Vertex ML Metadata.

The lease is a context with a name of the model's own. The process that creates it holds it, or that takes it over by an
update with the etag that was read: the service lets exactly one of two do so. It runs out by itself, so that a push
that was killed keeps nobody out for long.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from serving.registry.stamps import get_timestamp, get_user_and_host
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.metadata_store import SCHEMA_VERSION, RecordSchema, ensure_store
from serving.registry.vertex.names import build_metadata_id
from serving.registry.vertex.service_errors import TransientError

LEASE_SECONDS = 300.0
_LEASE_SCHEMA = RecordSchema("referencetfx.PushLease", v1.MetadataSchema.MetadataSchemaType.CONTEXT_TYPE, ("run_id",))
_RECORD_SCHEMA = RecordSchema(
    "referencetfx.Release", v1.MetadataSchema.MetadataSchemaType.EXECUTION_TYPE, ("model_name", "action")
)
# In the metadata of a record: the change that it is of.
_CHANGE = "change"


@dataclass
class Lease:
    """The right to change one model, while the `with` block lasts.

    Attributes:
      vertex: the connection.
      model_id: ID of the model that is to be changed.
      pipeline, run_id: Holder; the same run may take up its own lease again.
      seconds: Seconds that it lasts without `renew`.
      journal: Values for a retry, kept with the lease; written by `note`.
    """

    vertex: VertexClient
    model_id: str
    pipeline: str
    run_id: str
    seconds: float = LEASE_SECONDS
    journal: dict[str, Any] = field(default_factory=dict)
    _etag: str = ""

    @property
    def _store(self) -> str:
        return f"{self.vertex.place.parent}/metadataStores/default"

    @property
    def _name(self) -> str:
        return build_lease_name(self.vertex, self.model_id)

    def __enter__(self) -> "Lease":
        _LEASE_SCHEMA.ensure_registered(self.vertex, ensure_store(self.vertex))
        self.vertex.retry(self._take, seconds=120)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give the lease back; the journal stays, for a retry. If that fails the lease runs out by itself."""
        try:
            self._write(expires=0.0)
        except (PushError, TransientError, exceptions.GoogleAPICallError) as error:
            self.vertex.report(f"the lease of {self.model_id} was not given back ({error}); it runs out by itself")

    def _take(self) -> None:
        client = self.vertex.metadata
        context = v1.Context(
            display_name=f"push of {self.model_id}",
            schema_title=_LEASE_SCHEMA.title,
            schema_version=SCHEMA_VERSION,
            metadata=self._describe_holder(),
        )
        request = v1.CreateContextRequest(parent=self._store, context=context, context_id=self._name.rpartition("/")[2])
        try:
            self._etag = self.vertex.call(client.create_context, request).etag
        except exceptions.AlreadyExists:
            self._take_over(self.vertex.call(client.get_context, v1.GetContextRequest(name=self._name)))

    def _take_over(self, context: Any) -> None:
        held = _to_dict(context.metadata)
        self._check_free(held)
        self.journal = json.loads(held.get("journal") or "{}")
        self._etag = context.etag
        self._write(expires=time.time() + self.seconds)

    def _check_free(self, held: Mapping[str, Any]) -> None:
        """Raise unless the lease has run out, is this run's own, or its holder on this machine is dead."""
        left = float(held.get("expires") or 0) - time.time()
        if left <= 0 or held.get("token") == self._token or _is_holder_dead(held):
            return
        raise PushError(
            f"another push of '{self.model_id}' is under way: run {held['run_id']} of pipeline '{held['pipeline']}', "
            f"process {int(held['pid'])} on {held['host']}, since {held['since']}. If it was killed, its lease ends "
            f"in {left:.0f} s; run again then"
        )

    @property
    def _token(self) -> str:
        # A retried task of a Vertex pipeline is another process of the same run, and the first one is gone.
        process = "task" if "CLOUD_ML_JOB_ID" in os.environ else str(os.getpid())
        return f"{self.pipeline}/{self.run_id}/{process}"

    def _describe_holder(self, expires: float | None = None) -> dict[str, Any]:
        return {
            "token": self._token,
            "pipeline": self.pipeline,
            "run_id": self.run_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "expires": time.time() + self.seconds if expires is None else expires,
            "journal": json.dumps(self.journal),
        }

    def _write(self, *, expires: float) -> None:
        context = v1.Context(name=self._name, metadata=self._describe_holder(expires), etag=self._etag)
        request = v1.UpdateContextRequest(context=context, update_mask={"paths": ["metadata"]})
        self._etag = self.vertex.call(self.vertex.metadata.update_context, request).etag

    def renew(self) -> None:
        """Extend the lease; to be called before every step.

        Raises:
          PushError: somebody else has taken it over since it ran out.
        """

        def check_and_write() -> None:
            context = self.vertex.call(self.vertex.metadata.get_context, v1.GetContextRequest(name=self._name))
            if _to_dict(context.metadata).get("token") != self._token:
                self._check_free(_to_dict(context.metadata))
            self._etag = context.etag
            self._write(expires=time.time() + self.seconds)

        self.vertex.retry(check_and_write, seconds=120)

    def note(self, **values: Any) -> None:
        """Write values into the journal; None removes one."""
        self.journal = {key: value for key, value in {**self.journal, **values}.items() if value is not None}
        self.renew()


def build_lease_name(vertex: VertexClient, model_id: str) -> str:
    """Return the context that stands for the right to change a model."""
    return f"{vertex.place.parent}/metadataStores/default/contexts/{build_metadata_id('push', model_id)}"


def _is_holder_dead(held: Mapping[str, Any]) -> bool:
    """Return whether the holder ran on this machine and runs no more (a process id may have been given again since)."""
    if held.get("host") != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(int(held["pid"])).create_time() - float(held["started"])) > 1.0
    except psutil.NoSuchProcess:
        return True


def record(vertex: VertexClient, model_id: str, action: str, values: Mapping[str, Any], *, key: str = "") -> None:
    """Write an execution that records a change of a model, its user, and the state before and after.

    A `key` names the change: a second record of it, by a retry, is not written.
    """
    parent = ensure_store(vertex)
    _RECORD_SCHEMA.ensure_registered(vertex, parent)
    change = key or str(time.time_ns())
    metadata = {
        "model_name": model_id,
        "action": action,
        _CHANGE: change,
        "at": get_timestamp(),
        "by": get_user_and_host(),
        **{key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in values.items()},
    }
    execution = v1.Execution(
        display_name=f"{action} of {model_id}",
        schema_title=_RECORD_SCHEMA.title,
        schema_version=SCHEMA_VERSION,
        state=v1.Execution.State.COMPLETE,
        metadata=metadata,
    )
    execution_id = build_metadata_id("r", model_id, action, change)
    request = v1.CreateExecutionRequest(parent=parent, execution=execution, execution_id=execution_id)
    try:
        vertex.retry(lambda: vertex.call(vertex.metadata.create_execution, request), seconds=120)
    except exceptions.AlreadyExists:
        get = v1.GetExecutionRequest(name=f"{parent}/executions/{execution_id}")
        existing = _to_dict(vertex.read(vertex.metadata.get_execution, get).metadata)
        if all(existing.get(name) == metadata[name] for name in ("model_name", "action", _CHANGE)):
            # An earlier attempt was carried out and its answer lost.
            return
        # Somebody else's execution has the name.
        request.execution_id = build_metadata_id("r", model_id, action, change, str(time.time_ns()))
        vertex.retry(lambda: vertex.call(vertex.metadata.create_execution, request), seconds=120)


def read_history(vertex: VertexClient, model_id: str) -> list[dict[str, Any]]:
    """Return all records of a model, oldest first."""
    request = v1.ListExecutionsRequest(
        parent=f"{vertex.place.parent}/metadataStores/default",
        filter=f'schema_title="{_RECORD_SCHEMA.title}" AND metadata.model_name.string_value="{model_id}"',
    )
    try:
        executions = vertex.list_all(vertex.metadata.list_executions, request)
    except exceptions.NotFound:
        return []
    return [
        _to_dict(execution.metadata) for execution in sorted(executions, key=lambda execution: execution.create_time)
    ]


def _to_dict(metadata: Any) -> dict[str, Any]:
    return dict(metadata or {})
