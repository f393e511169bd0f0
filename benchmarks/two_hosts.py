"""Two hosts on one machine: a job server here, and Beam workers in a network and with mounts of their own.

The workers' host has its own copy of the product. It sees neither this checkout nor this machine's temporary files; one
folder is shared. This needs root, Go (for Prism) and Debian's package iproute2.
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.measuring import ROOT
from pipeline.vertex.rehearsal import install_package
from serving.beam.preflight import is_answering

_VERSION = metadata.version("apache-beam")
_PRISM_MODULE = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{_VERSION}"
_GO = "/usr/local/go/bin/go"
# Ignored by git, and kept between runs.
_BUILD = ROOT / "build" / f"prism-{_VERSION}"
_BUILD_SECONDS, _START_SECONDS = 900, 60
# Of this process, so that two of them may run at once.
_HERE, _THERE = (f"10.213.{os.getpid() % 256}.{number}" for number in (1, 2))


def find_obstacle() -> str:
    """Return why there can be no second host on this machine; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "there is no program `ip`; install Debian's package iproute2"
    if not (_BUILD / "prism").exists() and _find_go() is None:
        return f"there is no Go to build Prism with: {_PRISM_MODULE}"
    return ""


def _find_go() -> str | None:
    return shutil.which("go") or shutil.which(_GO)


@functools.cache
def build_prism() -> Path:
    """Return the program of Prism, which is built once for a release of Beam."""
    program = _BUILD / "prism"
    if not program.exists():
        go = _find_go()
        assert go is not None
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "GOBIN": str(_BUILD),
                "GOPATH": f"{folder}/go",
                "GOCACHE": f"{folder}/cache",
                "GOFLAGS": "-modcacherw",
            }
            subprocess.run([go, "install", _PRISM_MODULE], env=environment, check=True, timeout=_BUILD_SECONDS)
    return program


@dataclass
class Hosts:
    """A job server here and a host of workers.

    Attributes:
      shared: folder that both have under one path.
      job_endpoint: address of the job server.
      worker_pool: address of the pool.
      pool_pid: process of the pool.
      pool_log: output of the pool.
    """

    shared: Path
    job_endpoint: str
    worker_pool: str
    pool_pid: int
    pool_log: Path

    @property
    def beam(self) -> dict[str, str]:
        """The section `beam` of a config."""
        return {
            "runner": "prism",
            "job_endpoint": self.job_endpoint,
            "worker_pool": self.worker_pool,
            "shared_folder": str(self.shared),
        }

    def list_workers(self) -> list[psutil.Process]:
        """Return the worker processes that run now."""
        children = psutil.Process(self.pool_pid).children(recursive=True)
        return [child for child in children if "serving.beam.worker" in _command(child)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextlib.contextmanager
def open_hosts(pools: int = 1) -> Iterator[Hosts]:
    """Start both hosts, and end all that was started."""
    program = build_prism()
    with contextlib.ExitStack() as stack:
        # Not below the folder of temporary files, which the workers' host does not see.
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-", dir="/var/tmp")))
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="worker-", dir="/var/tmp")))
        shared.chmod(0o755)
        network = stack.enter_context(_open_network())
        port = _find_free_port()
        job_endpoint = f"{_HERE}:{port}"
        prism = [str(program), "--job_port", str(port), "--serve_http=false", "--log_level", "warn"]
        with open(own / "prism.log", "wb") as log:
            stack.enter_context(_run(subprocess.Popen(prism, stdout=log, stderr=log)))
        pool_log = own / "pool.log"
        script = _write_start(own, install_package(own))
        with open(pool_log, "wb") as log:
            pool = subprocess.Popen(
                ["ip", "netns", "exec", network, "unshare", "--mount", "sh", str(script)],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8"},
            )
        stack.enter_context(_run(pool))
        _wait_for_pool(pool, pool_log)
        _wait_for_prism(job_endpoint)
        yield Hosts(shared, job_endpoint, f"{_THERE}:50000", pool.pid, pool_log)


@contextlib.contextmanager
def _open_network() -> Iterator[str]:
    """Make a network namespace with a link to this one; yield its name."""
    name = f"beam-{os.getpid()}"
    near_end, far_end = f"bn{os.getpid()}", f"bf{os.getpid()}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", near_end, "type", "veth", "peer", "name", far_end, "netns", name)
        _ip("addr", "add", f"{_HERE}/30", "dev", near_end)
        _ip("link", "set", near_end, "up")
        _ip("-n", name, "addr", "add", f"{_THERE}/30", "dev", far_end)
        _ip("-n", name, "link", "set", far_end, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        # The link goes with it.
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _write_start(own: Path, package: Path) -> Path:
    """Write the start script of the workers' host: its mounts, then the pool."""
    environment = (ROOT / ".venv").resolve()
    script = own / "start.sh"
    venv = own / "venv"
    venv.mkdir()
    lines = [
        "set -e",
        "mount --make-rprivate /",
        f"mount --bind {environment} {venv}",
        *(f"mount -t tmpfs tmpfs {folder}" for folder in _outermost(Path("/tmp"), ROOT, environment.parent)),
        # Its programs have the path of the environment in them.
        f"mkdir -p {environment}",
        f"mount --bind {venv} {environment}",
        f"cd {package}",
        f"export PYTHONPATH={package}",
        f"exec {environment}/bin/python -m pipeline beam-worker --host 0.0.0.0",
    ]
    script.write_text("\n".join(lines) + "\n")
    return script


def _outermost(*folders: Path) -> list[Path]:
    """Return the folders that are not below another one of them."""
    distinct = dict.fromkeys(folders)
    return [folder for folder in distinct if not any(other in folder.parents for other in distinct)]


@contextlib.contextmanager
def _run(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_pool(pool: "subprocess.Popen[bytes]", log: Path) -> None:
    limit = time.monotonic() + _START_SECONDS
    while not re.search(r"listens on", log.read_text(errors="replace")):
        if pool.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"the pool of workers did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)


def _wait_for_prism(endpoint: str) -> None:
    if not is_answering(endpoint):
        raise RuntimeError(f"Prism does not answer at {endpoint}")


def _find_free_port() -> int:
    with socket.socket() as free:
        free.bind((_HERE, 0))
        return int(free.getsockname()[1])


def local_runner(*arguments: str) -> list[str]:
    """Return a command of the pipeline."""
    return [sys.executable, str(ROOT / "local_runner.py"), *arguments]
