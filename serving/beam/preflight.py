"""Checks of what a job needs on other machines, before anything starts. Imports no Beam."""

import http.client
import importlib.metadata
import os
import shutil
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from cli.errors import ConfigError
from serving.beam.config import PORTABLE_RUNNERS, BeamOptions, is_loopback

ANSWER_SECONDS = 5
DESCRIBE_OPTIONS = "/org.apache.beam.model.job_management.v1.JobService/DescribePipelineOptions"
# Without the ID of a worker, it ends none.
_STOP_WORKER = "/org.apache.beam.model.fn_execution.v1.BeamFnExternalWorkerPool/StopWorker"
_PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"


def check_beam(options: BeamOptions, paths: Mapping[str, str], prefix: str = "beam.", *, asks: bool = True) -> None:
    """Check that a job can start, and that its workers see its files.

    Args:
      options: options of the job.
      paths: files and folders that workers read or write, by the key or flag that names them.
      prefix: text before the name of a key in a message.
      asks: whether programs and addresses are checked, not only paths.

    Raises:
      ConfigError: an address does not answer, a program is missing, or workers cannot see a path; one line.
    """
    runner = options.runner or "direct"
    if asks and runner in PORTABLE_RUNNERS:
        _check_server(options, prefix)
        _check_environment(options, prefix)
    if options.has_remote_workers:
        _check_paths(options, paths, prefix)


def is_answering(endpoint: str, method: str = DESCRIBE_OPTIONS) -> bool:
    """Return whether a server of Beam responds to a call within ANSWER_SECONDS.

    Args:
      endpoint: HOST:PORT.
      method: Path of a method that takes an empty message and changes nothing.
    """
    import grpc

    # Without a proxy of HTTP_PROXY, which would accept the connection itself.
    with grpc.insecure_channel(endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            # A wait for the connection would not do: another server accepts it, too.
            channel.unary_unary(method)(b"", timeout=ANSWER_SECONDS, wait_for_ready=True)
        except grpc.RpcError:
            return False
    return True


def _check_server(options: BeamOptions, prefix: str) -> None:
    if options.job_endpoint is not None:
        if not is_answering(options.job_endpoint):
            raise ConfigError(
                f"{prefix}job_endpoint: no Beam job server answers at {options.job_endpoint} within {ANSWER_SECONDS} "
                "s; start it, or correct the address"
            )
    elif options.runner == "portable":
        raise ConfigError(f"{prefix}job_endpoint: is missing; portable needs HOST:PORT of a running job server of Beam")
    elif options.runner == "prism":
        _check_prism(options, prefix)
    if options.needs_java:
        launcher = str(options.options.get("job_server_java_launcher", "java"))
        if shutil.which(launcher) is None:
            raise ConfigError(
                f"{prefix}runner: {options.runner} starts a job server of Java here, and there is no program "
                f"'{launcher}'; install Java, or give {prefix}job_endpoint of a running job server"
            )
    jar = options.options.get(f"{options.runner}_job_server_jar")
    if isinstance(jar, str) and "://" not in jar and not os.path.isfile(jar):
        raise ConfigError(f"{prefix}options.{options.runner}_job_server_jar: no such file {jar}")
    _check_master(options, prefix)


def _check_prism(options: BeamOptions, prefix: str) -> None:
    program = options.prism_binary or "prism"
    if shutil.which(program) is None:
        version = importlib.metadata.version("apache-beam")
        raise ConfigError(
            f"{prefix}prism_binary: there is no program '{program}'; build it with `go install {_PRISM}@v{version}`, "
            f"or give {prefix}job_endpoint of a Prism that is running"
        )


def _check_master(options: BeamOptions, prefix: str) -> None:
    """Check that the cluster responds; a master that the job server starts has no address."""
    master = options.master or ""
    address = urlsplit(master if "://" in master else f"//{master}")
    if ":" not in address.netloc or address.hostname is None or address.port is None:
        if not options.has_local_server and options.job_endpoint is None:
            raise ConfigError(
                f"{prefix}master: expected HOST:PORT, spark://HOST:PORT or a local master, found '{master}'"
            )
        return
    try:
        if options.runner == "flink":
            kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
            connection = kind(address.hostname, address.port, timeout=ANSWER_SECONDS)
            connection.request("GET", "/config")
            is_cluster = connection.getresponse().status == http.HTTPStatus.OK
            connection.close()
        else:
            socket.create_connection((address.hostname, address.port), timeout=ANSWER_SECONDS).close()
            is_cluster = True
    except (OSError, http.client.HTTPException):
        is_cluster = False
    if not is_cluster:
        raise ConfigError(
            f"{prefix}master: no {options.runner} answers at {master} within {ANSWER_SECONDS} s; start it, or correct "
            "the address"
        )


def _check_environment(options: BeamOptions, prefix: str) -> None:
    """Check the environment of the workers, as far as this machine can see it."""
    environment = options.worker_pool or options.sdk_image or options.worker_command
    if environment is None and not options.has_local_server:
        raise ConfigError(
            f"{prefix}worker_pool: is missing; workers on other machines need worker_pool, sdk_image or worker_command"
        )
    pool = options.worker_pool
    # A pool beside each worker of a cluster has an address that only these reach.
    host = "" if pool is None or is_loopback(pool) else " --host 0.0.0.0"
    if (
        pool is not None
        and (options.has_local_server or not is_loopback(pool))
        and not is_answering(pool, _STOP_WORKER)
    ):
        raise ConfigError(
            f"{prefix}worker_pool: no worker pool answers at {pool} within {ANSWER_SECONDS} s; start it there with "
            f"`python -m pipeline beam-worker{host} --port {pool.rpartition(':')[2]}`, or correct the address"
        )
    if options.sdk_image is not None and options.has_local_server and shutil.which("docker") is None:
        raise ConfigError(
            f"{prefix}sdk_image: the job server on this machine starts workers with docker, which is not installed; "
            "install it, or give worker_pool"
        )
    command = options.worker_command
    if command is not None and options.has_local_server and shutil.which(command) is None:
        raise ConfigError(f"{prefix}worker_command: there is no program '{command}'")


def _check_paths(options: BeamOptions, paths: Mapping[str, str], prefix: str) -> None:
    shared = options.shared_folder
    if shared is not None and not os.path.isdir(shared):
        raise ConfigError(f"{prefix}shared_folder: no such folder {shared} on this machine")
    for key, path in paths.items():
        if "://" in path:
            continue
        problem = f"{key}: the workers of {prefix}runner {options.runner} are on other machines and cannot see {path}; "
        if options.runner == "dataflow":
            raise ConfigError(f"{problem}give a gs:// folder")
        if shared is None:
            raise ConfigError(
                f"{problem}give a remote folder such as gs://BUCKET/FOLDER, or a path below {prefix}shared_folder"
            )
        if not os.path.isabs(path):
            raise ConfigError(f"{problem}it is relative; give an absolute path below {prefix}shared_folder {shared}")
        if os.path.commonpath([shared, os.path.normpath(path)]) != shared:
            raise ConfigError(f"{problem}it is not below {prefix}shared_folder {shared}")
