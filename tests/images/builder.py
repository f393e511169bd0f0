"""Builds the Dockerfile's targets without a Docker engine, by buildah, on bases that are made here.

Two bases stand for images of a registry. `debootstrap` makes Debian's base, and this machine's Python 3.11 goes into
it, for python:3.11-slim-trixie. Beam's `boot` is built from its Go module, for Beam's SDK image.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

TARGETS = ("pipeline", "dataflow", "serving")
PROGRAMS = ("buildah", "debootstrap", "go")
_SUITE = "trixie"
# The libraries that CPython's own modules are linked with.
_LIBRARIES = (
    "ca-certificates",
    "libbz2-1.0",
    "libffi8",
    "liblzma5",
    "libncursesw6",
    "libreadline8t64",
    "libsqlite3-0",
    "libssl3t64",
    "libuuid1",
    "zlib1g",
)
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_BUILD_SECONDS = 1800


@dataclass(frozen=True)
class Container:
    """A container of an image, in which commands run as the image's own user."""

    store: "Store"
    name: str

    def command(self, *line: str, volumes: Sequence[str] = (), environment: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs `line` in the container.

        Args:
          line: Program and arguments.
          volumes: HOST:CONTAINER, or HOST:CONTAINER:ro.
          environment: NAME=VALUE.
        """
        options = [word for volume in volumes for word in ("--volume", volume)]
        options += [word for variable in environment for word in ("--env", variable)]
        return [*self.store.buildah, "run", "--isolation", "chroot", *options, self.name, "--", *line]

    def run(
        self, *line: str, volumes: Sequence[str] = (), environment: Sequence[str] = (), timeout: float = 600
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command and return its exit code and output."""
        return subprocess.run(
            self.command(*line, volumes=volumes, environment=environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )


class Store:
    """Images in a folder of their own.

    Attributes:
      buildah: The start of each of buildah's command lines.
      seconds: The time that each target took to build.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        root = ["--storage-driver", "overlay", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self.buildah = ["buildah", *root]
        self.seconds: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        # The package index and the certificates that this machine uses.
        index = os.environ.get("PIP_INDEX_URL")
        settings = {
            "/etc/pip.conf": f"[global]\ncert = {_CERTIFICATES}\n" + (f"index-url = {index}\n" if index else ""),
            "/etc/uv/uv.toml": "native-tls = true\n" + (f'index-url = "{index}"\n' if index else ""),
        }
        self._mounts = [f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        for place, text in settings.items():
            file = folder / Path(place).name
            file.write_text(text)
            self._mounts.append(f"{file}:{place}:ro")

    def call(self, *line: str) -> str:
        """Return what one of buildah's commands prints.

        Raises:
          RuntimeError: It failed; the text has the end of its output.
        """
        done = subprocess.run(
            [*self.buildah, *line], capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS, cwd=ROOT
        )
        if done.returncode:
            raise RuntimeError(f"buildah {' '.join(line)}: {(done.stdout + done.stderr)[-4000:]}")
        return done.stdout.strip()

    def close(self) -> None:
        """Release the folder, which can be removed then."""
        places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((place for place in places if place.startswith(f"{self._folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=True)

    def make_bases(self) -> None:
        """Make the images that the Dockerfile's arguments BASE and BEAM name, unless the store has them."""
        if "localhost/beam" in self.call("images", "--format", "{{.Name}}").splitlines():
            return
        folder = self._folder / "base"
        _run("debootstrap", "--variant=minbase", f"--include={','.join(_LIBRARIES)}", _SUITE, str(folder))
        for cache in ("cache/apt/archives", "lib/apt/lists"):
            shutil.rmtree(folder / "var" / cache)
        _copy_python(folder / "usr" / "local")
        self._commit(folder, "base")
        go = self._folder / "go"
        module = f"github.com/apache/beam/sdks/v2/python/container@v{beam_version()}"
        _run("go", "install", module, GOPATH=str(go), GOFLAGS="-modcacherw")
        boot = self._folder / "beam" / "opt" / "apache" / "beam" / "boot"
        boot.parent.mkdir(parents=True)
        shutil.move(go / "bin" / "container", boot)
        shutil.rmtree(go)
        self._commit(self._folder / "beam", "beam")

    def _commit(self, folder: Path, image: str) -> None:
        name = self.call("from", "scratch")
        self.call("copy", "--quiet", name, str(folder), "/")
        self.call("commit", "--quiet", name, image)
        self.call("rm", name)
        shutil.rmtree(folder)

    def build(self, target: str) -> None:
        """Build a target of the Dockerfile as an image of the same name."""
        start = time.monotonic()
        self.call(
            "bud", "--isolation", "chroot", "--layers", "--target", target, "--tag", target,
            "--build-arg", "BASE=localhost/base", "--build-arg", "BEAM=localhost/beam",
            *[word for mount in self._mounts for word in ("--volume", mount)],
            ".",
        )  # fmt: skip
        self.seconds[target] = time.monotonic() - start

    def measure(self, target: str) -> int:
        """Return the bytes of the files in an image, as they are on disk."""
        with self.container(target) as container:
            mounted = self.call("mount", container.name)
            used = subprocess.run(["du", "-sb", "-x", mounted], capture_output=True, text=True, check=True)
            self.call("umount", container.name)
        return int(used.stdout.split()[0])

    @contextmanager
    def container(self, target: str) -> Iterator[Container]:
        """Make a container of an image, and remove it at the end."""
        name = self.call("from", "--pull-never", f"localhost/{target}")
        try:
            yield Container(self, name)
        finally:
            self.call("rm", name)


def beam_version() -> str:
    """Return the release of apache-beam in the lock."""
    (version,) = re.findall(r"^apache-beam(?:\[gcp\])?==(\S+)", (ROOT / "requirements" / "lock.txt").read_text(), re.M)
    return str(version)


def _copy_python(prefix: Path) -> None:
    """Copy this machine's Python with its headers, but for its own tests and what was installed into it."""
    shutil.copytree(
        sys.base_prefix,
        prefix,
        symlinks=True,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a", "idlelib", "share"),
    )
    for line in (["ldconfig"], ["/usr/local/bin/python3.11", "-m", "ensurepip"]):
        _run("chroot", str(prefix.parent.parent), *line)
    for name in ("python", "python3"):
        link = prefix / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("python3.11")


def _run(*line: str, **environment: str) -> None:
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)}: {(done.stdout + done.stderr)[-4000:]}")
