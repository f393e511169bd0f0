"""The gRPC server: TLS with a CA made on the spot, every method of the table, faults, error details."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import trustme
from google.cloud import aiplatform_v1 as v1
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, struct_pb2

from emulators.storage.server import StorageServer
from emulators.vertex import endpoints, jobs, metadata, models, pipelines, schedules  # noqa: F401 (METHODS)
from emulators.vertex.errors import StatusError
from emulators.vertex.faults import AFTER, BEFORE, InjectedFault
from emulators.vertex.iam import IamTable
from emulators.vertex.service import METHODS, Emulator, to_snake_case

# The SDK sends batch predictions with monitoring to v1beta1: the messages are the same, and keep fields that v1 lacks.
_SERVICE = re.compile(r"google\.cloud\.aiplatform\.(?:v1\.|v1beta1\.(?=JobService))(\w+)")
_OPERATIONS = "google.longrunning.Operations"
CONTROL = "vertex.emulator.Control"
_LOG = logging.getLogger(__name__)


def make_certificates(folder: Path) -> Path:
    """Make a CA and a certificate for this machine, unless they exist, and return the CA's file.

    gRPC reads its roots once in a process, so all emulators that one process talks to share a folder.
    """
    ca_file = folder / "ca.pem"
    if not ca_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA()
        certificate = ca.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        ca.cert_pem.write_to_path(ca_file)
    return ca_file


class EmulatorServer:
    """A running emulator; a context manager."""

    def __init__(
        self,
        state: Path,
        *,
        tls: Path | None = None,
        port: int = 0,
        storage_port: int = 0,
        operation_seconds: float = 0.2,
        warm_up_seconds: float = 0.0,
        read_lag_seconds: float = 0.0,
        project_numbers: Mapping[str, str] | None = None,
        iam: IamTable | None = None,
        run_as: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the ports.

        Args:
          state: Folder of the state.
          tls: Folder of the CA and the certificate; `state/tls` if omitted.
          port: Port of Vertex AI; 0 for a free one.
          storage_port: Port of Cloud Storage; 0 for a free one.
          operation_seconds: Duration of a long-running operation.
          warm_up_seconds: Time for which an endpoint answers 503 after a deployment or a change of its split.
          read_lag_seconds: Time for which a new deployment is not listed yet.
          project_numbers: Numbers of projects by id.
          iam: Table of permissions; nothing is checked if omitted.
          run_as: User of the images, as in Rehearsal.
          clock: Function that returns the time by which schedules run, in seconds since 1970.

        Raises:
          RuntimeError, OSError: a port is in use.
        """
        self.emulator = Emulator(
            state,
            operation_seconds=operation_seconds,
            warm_up_seconds=warm_up_seconds,
            read_lag_seconds=read_lag_seconds,
            project_numbers=project_numbers,
            iam=iam,
            run_as=run_as,
            clock=clock,
        )
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._start_due_runs, daemon=True)
        self.ca_file = make_certificates(tls or state / "tls")
        folder = self.ca_file.parent
        self._storage = StorageServer(self.emulator.storage, storage_port)
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(max_workers=32),
            handlers=[_Handlers(self.emulator)],
            # Else a second emulator on the same port would get every other connection.
            options=[("grpc.so_reuseport", 0)],
        )
        credentials = grpc.ssl_server_credentials(
            [((folder / "key.pem").read_bytes(), (folder / "chain.pem").read_bytes())]
        )
        self.port = self._grpc.add_secure_port(f"127.0.0.1:{port}", credentials)

    @property
    def endpoint(self) -> str:
        return f"localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client needs in its environment."""
        return {
            "VERTEX_API_ENDPOINT": self.endpoint,
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self.ca_file),
            "STORAGE_EMULATOR_HOST": self._storage.url,
        }

    def __enter__(self) -> "EmulatorServer":
        self.emulator.environment.update(self.environment)
        pipelines.end_interrupted(self.emulator)
        schedules.skip_missed(self.emulator)
        self._storage.__enter__()
        self._grpc.start()
        self._ticker.start()
        return self

    def _start_due_runs(self) -> None:
        """Start what schedules are due, also while no request comes."""
        while not self._stop.wait(1.0):
            with self.emulator.store.open_transaction():
                schedules.start_due(self.emulator)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._ticker.join()
        pipelines.cancel_all()
        if self.emulator.task_starter is not None:
            self.emulator.task_starter.close()
        self._grpc.stop(grace=1).wait()
        self._storage.__exit__()


class _Handlers(grpc.GenericRpcHandler):
    """Handlers of methods by name; the name leads to the request's type, too."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, name = details.method.strip("/").partition("/")
        if service == _OPERATIONS:
            request_type: Any = getattr(operations_pb2, f"{name}Request", None)
            call = getattr(self, f"_{to_snake_case(name)}", None)
        elif service == CONTROL:
            request_type, call = struct_pb2.Struct, getattr(self, f"_handle_{name.lower()}", None)
        else:
            request_type = getattr(v1.types, f"{name}Request", None)
            match = _SERVICE.fullmatch(service)
            handler = METHODS.get(f"{match[1]}/{name}") if match else None
            call = handler and partial(handler, self._emulator)
        if request_type is None or call is None:
            _LOG.warning("not emulated: %s", details.method)
            return None  # gRPC ends the call with UNIMPLEMENTED
        parse = request_type.deserialize if hasattr(request_type, "deserialize") else request_type.FromString

        def respond(request: Any, context: grpc.ServicerContext) -> Any:
            return call(request) if service == CONTROL else self._call(name, call, request, context)

        return grpc.unary_unary_rpc_method_handler(respond, parse, _serialize)

    def _call(self, name: str, call: Any, request: Any, context: grpc.ServicerContext) -> Any:
        emulator = self._emulator
        emulator.projects.resolve_fields(type(request).pb(request) if hasattr(type(request), "pb") else request)
        try:
            if emulator.iam is not None:
                emulator.iam.begin_call(context.invocation_metadata())
                emulator.iam.check_caller(name)
            self._raise_fault(name, BEFORE)
            with emulator.store.open_transaction():
                emulator.faults.calls.append(name)
                emulator.operations.advance()
                schedules.start_due(emulator)
            if name == "Predict":
                # Loading a model takes long; the service's state is not held meanwhile.
                response = call(request)
            else:
                with emulator.store.open_transaction():
                    response = call(request)
            self._raise_fault(name, AFTER)
        except StatusError as status_error:
            status_error.end_call(context)
        except Exception as error:
            _LOG.exception("%s failed", name)
            StatusError("INTERNAL", f"the emulator failed: {type(error).__name__}: {error}").end_call(context)
        else:
            return response

    def _raise_fault(self, name: str, when: str) -> None:
        fault = self._emulator.faults.pop_due(name, when)
        if fault is not None:
            raise StatusError(
                fault.code, fault.message, reason=fault.reason, metadata=fault.metadata, quota=fault.quota
            )

    def _get_operation(self, request: Any) -> Any:
        return self._emulator.operations.get(request.name)

    def _list_operations(self, request: Any) -> Any:
        return self._emulator.operations.list(request.name)

    def _cancel_operation(self, request: Any) -> Any:
        self._emulator.operations.get(request.name)
        return empty_pb2.Empty()

    def _handle_inject(self, request: struct_pb2.Struct) -> struct_pb2.Struct:
        values: dict[str, Any] = {k: int(v) if k in ("skip", "times") else v for k, v in dict(request).items()}
        self._emulator.faults.add(InjectedFault(**values))
        return request

    def _handle_faults(self, _: struct_pb2.Struct) -> struct_pb2.Struct:
        state = struct_pb2.Struct()
        state.update({"waiting": self._emulator.faults.to_json(), "calls": self._emulator.faults.calls})
        return state

    def _handle_reset(self, request: struct_pb2.Struct) -> struct_pb2.Struct:
        self._emulator.faults.waiting.clear()
        self._emulator.faults.calls.clear()
        return request


def _serialize(message: Any) -> bytes:
    kind = type(message)
    content: bytes = kind.serialize(message) if hasattr(kind, "serialize") else message.SerializeToString()
    return content
