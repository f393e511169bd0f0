"""The connection to Vertex AI: clients, errors in one line, retries, long-running operations."""

import os
import socket
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import grpc
import tenacity
from google.api_core import client_options, exceptions
from google.auth import credentials, default
from google.auth import exceptions as auth_exceptions
from google.cloud import aiplatform_v1 as v1
from google.longrunning import operations_pb2
from google.oauth2 import credentials as oauth2
from google.rpc import error_details_pb2

from cli.errors import PushError
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.service_errors import NO_CREDENTIALS, TransientError, translate_error

T = TypeVar("T")
Report = Callable[[str], None]

# One call; a long-running operation responds at once and is polled.
_CALL_SECONDS = 60.0
# At most, before the second attempt; at most twice as long before each further one.
_FIRST_RETRY_SECONDS = 0.5
# Many operations take no second; each wait is twice as long as the one before.
_FIRST_POLL_SECONDS = 0.25
_LOOPBACK = ("localhost:", "127.0.0.1:")
# Variable with the account that an emulator takes its callers to be; it sets it for the tasks of its jobs.
EMULATOR_ACCOUNT = "VERTEX_EMULATOR_ACCOUNT"


class VertexClient:
    """The clients of one project and region."""

    def __init__(self, place: VertexProject, *, report: Report = lambda line: None, poll_seconds: float = 5.0) -> None:
        """Args:
        place: Project and region.
        report: Function that prints a line on a retry or a wait.
        poll_seconds: Longest time between two reads of a long-running operation; the first ones follow sooner.
        """
        self.place = place
        self.report = report
        # Called while an operation is waited for; the holder of a lease renews it.
        self.heartbeat: Callable[[], None] | None = None
        self._poll_seconds = poll_seconds

    def with_place(self, place: VertexProject) -> "VertexClient":
        """Return a client of the same kind with other settings of the project."""
        return VertexClient(place, report=self.report, poll_seconds=self._poll_seconds)

    def _create_client(self, kind: type[T]) -> T:
        endpoint = self.place.api_endpoint or f"{self.place.region}-aiplatform.googleapis.com"
        if endpoint.startswith(_LOOPBACK):
            _check_emulator(endpoint)
            # An emulator: it is never sent anybody's token, but at most the name of an account.
            account: Any = credentials.AnonymousCredentials()
            if EMULATOR_ACCOUNT in os.environ:
                account = oauth2.Credentials(token=os.environ[EMULATOR_ACCOUNT])  # type: ignore[no-untyped-call]
        else:
            try:
                account, _ = default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
            except auth_exceptions.DefaultCredentialsError as error:
                raise PushError(NO_CREDENTIALS) from error
        options = client_options.ClientOptions(api_endpoint=endpoint)
        return kind(credentials=account, client_options=options)  # type: ignore[call-arg]

    @cached_property
    def models(self) -> v1.ModelServiceClient:
        return self._create_client(v1.ModelServiceClient)

    @cached_property
    def endpoints(self) -> v1.EndpointServiceClient:
        return self._create_client(v1.EndpointServiceClient)

    @cached_property
    def predictions(self) -> v1.PredictionServiceClient:
        return self._create_client(v1.PredictionServiceClient)

    @cached_property
    def metadata(self) -> v1.MetadataServiceClient:
        return self._create_client(v1.MetadataServiceClient)

    @cached_property
    def jobs(self) -> v1.JobServiceClient:
        return self._create_client(v1.JobServiceClient)

    @cached_property
    def pipelines(self) -> v1.PipelineServiceClient:
        return self._create_client(v1.PipelineServiceClient)

    @cached_property
    def schedules(self) -> v1.ScheduleServiceClient:
        return self._create_client(v1.ScheduleServiceClient)

    def call(self, method: Callable[..., Any], request: Any, *, seconds: float = _CALL_SECONDS) -> Any:
        """Make one call, once.

        Raises:
          TransientError: it may work later; a change may or may not have been made.
          google.api_core.exceptions.NotFound, AlreadyExists: as the service says; the caller knows what they mean.
          PushError: any other error, in one line.
        """
        try:
            return method(request=request, timeout=seconds, retry=None)
        except (exceptions.NotFound, exceptions.AlreadyExists):
            raise
        except exceptions.GoogleAPICallError as error:
            raise translate_error(error) from error
        except grpc.RpcError as error:
            raise TransientError(str(error)) from error

    def read(self, method: Callable[..., Any], request: Any) -> Any:
        """Return the response of a call that changes nothing, repeated until it succeeds."""
        return self.retry(lambda: self.call(method, request), seconds=300)

    def list_all(self, method: Callable[..., Any], request: Any) -> list[Any]:
        """Return all items of all pages."""

        def read_pages() -> list[Any]:
            try:
                return list(self.call(method, request))
            except (exceptions.NotFound, exceptions.AlreadyExists):
                raise
            except exceptions.GoogleAPICallError as error:
                raise translate_error(error) from error

        return self.retry(read_pages, seconds=300)

    def retry(self, step: Callable[[], T], *, seconds: float) -> T:
        """Repeat a step that reads the state before it acts, until it succeeds.

        Raises:
          PushError: it still failed after `seconds`; or an error that a retry does not fix, at once.
        """
        try:
            for attempt in tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(TransientError),
                wait=tenacity.wait_random_exponential(multiplier=_FIRST_RETRY_SECONDS, max=30),
                stop=tenacity.stop_after_delay(seconds),
                before_sleep=self._report_retry,
            ):
                with attempt:
                    return step()
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            raise PushError(
                f"Vertex AI did not answer within {seconds:g} s ({error.last_attempt.attempt_number} attempts): {last}"
            ) from last
        raise AssertionError("tenacity returns or raises")

    def _report_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0
        self.report(f"attempt {state.attempt_number} failed: {error}; again in {wait:.1f} s")

    def read_operation(self, client: Any, name: str) -> operations_pb2.Operation:
        """Return the state of a long-running operation."""
        try:
            return client.transport.operations_client.get_operation(name, timeout=_CALL_SECONDS, retry=None)
        except exceptions.NotFound as error:
            raise TransientError(f"the operation {name} is gone") from error
        except exceptions.GoogleAPICallError as error:
            raise translate_error(error) from error

    def list_operations(self, client: Any, resource: str) -> list[operations_pb2.Operation]:
        """Return the long-running operations of a resource; none if it does not exist."""
        try:
            return list(
                client.transport.operations_client.list_operations(resource, "", timeout=_CALL_SECONDS, retry=None)
            )
        except (exceptions.NotFound, exceptions.InvalidArgument):
            # Before the first upload; the code for it is not documented.
            return []
        except exceptions.GoogleAPICallError as error:
            raise translate_error(error) from error

    def wait(self, client: Any, name: str, *, seconds: float) -> operations_pb2.Operation:
        """Wait until an operation is done.

        Raises:
          TransientError: it failed in a way that may go away, or the service has deleted it.
          PushError: it failed, or took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        pause = min(_FIRST_POLL_SECONDS, self._poll_seconds)
        while True:
            operation = self.retry(lambda: self.read_operation(client, name), seconds=60)
            if operation.done:
                break
            if time.monotonic() > deadline:
                raise PushError(f"{name}: still running after {seconds:g} s; check it in the console, then run again")
            time.sleep(pause)
            pause = min(2 * pause, self._poll_seconds)
            if self.heartbeat is not None:
                self.heartbeat()
        if operation.HasField("error"):
            raise translate_error(_read_error(operation))
        return operation

    def settle(self, client: Any, resource: str, *, seconds: float) -> None:
        """Wait for operations that somebody, perhaps a push that was cut off, has started on a resource."""

        operations = self.retry(lambda: self.list_operations(client, resource), seconds=seconds)
        for name in (operation.name for operation in operations if not operation.done):
            self.report(f"waiting for {name}, which was started before")
            try:
                self.wait(client, name, seconds=seconds)
            except (PushError, TransientError) as error:
                # It failed or is gone: the caller reads the state that it left.
                self.report(f"{name}: {error}")


def _check_emulator(endpoint: str) -> None:
    """Check whether an emulator was started at all: nothing waits for one that was not.

    Raises:
      PushError: nothing listens.
    """
    host, _, port = endpoint.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as error:
        raise PushError(
            f"no emulator answers at {endpoint}; start it (python -m emulators.vertex) and source its env.sh, or "
            "unset VERTEX_API_ENDPOINT for Vertex AI itself"
        ) from error


def _read_error(operation: operations_pb2.Operation) -> exceptions.GoogleAPICallError:
    """Return the error of an operation, with the quota in its details if there is one."""
    details = []
    for packed in operation.error.details:
        failure = error_details_pb2.QuotaFailure()
        if packed.Unpack(failure):
            details.append(failure)
    error: exceptions.GoogleAPICallError = exceptions.from_grpc_status(
        operation.error.code, operation.error.message, details=details
    )
    return error
