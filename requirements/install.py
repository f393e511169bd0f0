"""Builds .venv from requirements/lock.txt on any x86-64 Linux with Python 3.11; every make target does it first.

Standard library only: it runs before anything is installed. No root, nothing changed outside the
repository. Running it again when nothing changed costs nothing (the Makefile asks first).

ml-metadata and tensorflow-data-validation are built against glibc 2.38. On an older Debian or
Ubuntu this script fetches a newer C runtime from the distribution's own archive into
.venv/runtime. The environment's own copy of python uses it; the host is left alone.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "lock.txt"
TOOLS = VENV / "tools"
TOOLS_LOCK = ROOT / "requirements" / "tools.txt"
LOG = ROOT / ".venv-install.log"

NEEDED_GLIBC = (2, 38)
RUNTIME_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
# The suite of each distribution that first carried a new enough C runtime.
RUNTIME_SUITES = {"debian": "trixie", "ubuntu": "noble"}
# Importing these once writes the byte-code of nearly all a run loads (33 s at every start without,
# 12 s with). Compiling the whole environment would take two minutes for little more.
WARMED_MODULES = (
    "tfx.v1",
    "tfx.orchestration.portable.launcher",
    "tfx.components.evaluator.executor",
    "tfx.components.transform.executor",
    "tensorflow_model_analysis",
    "apache_beam.runners.direct.direct_runner",
    "tensorboard.summary",
    # The programs of this project: half of what they load beside TFX is not loaded by TFX.
    "oncall.__main__",
    "pipeline.__main__",
    "serving.server.command",
    "vertex_runner",
)


class SetUpError(Exception):
    """The environment cannot be built; the text has what is needed and what was found."""


def parse_glibc_version(text: str) -> tuple[int, int] | None:
    """Return (major, minor) of the C library from confstr's string; None if it is another library."""
    match = re.match(r"glibc (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def find_host_glibc() -> tuple[int, int]:
    """Return the version of the host's C library, as (major, minor).

    Raises:
      SetUpError: where the C library is another one.
    """
    try:
        version = parse_glibc_version(os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (ValueError, OSError):
        version = None
    if version is None:
        raise SetUpError(
            "needs a Linux whose C library is glibc (TensorFlow has no wheels for musl); "
            f"found {platform.libc_ver()[0] or 'another C library'}. Use Debian, Ubuntu or Fedora."
        )
    return version


def check_host() -> None:
    """Reject a host on which the locked wheels cannot work.

    Raises:
      SetUpError: on another Python, system or processor.
    """
    if sys.version_info[:2] != (3, 11):
        raise SetUpError(
            f"needs Python 3.11 (tfx[kfp] exists for no later one); found {platform.python_version()}. "
            "Install it (pyenv install 3.11, or your distribution's python3.11), or name it: make PYTHON=/path/to/it"
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetUpError(
            f"needs Linux on x86-64 (ml-metadata has no other wheels); found {platform.system()} on "
            f"{platform.machine()}. "
            "Use a virtual machine or a container with linux/amd64."
        )


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command; its output goes to the log and is shown only when it fails."""
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(map(str, command))}\n")
        log.flush()
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=cwd, check=False)
    if done.returncode != 0:
        last = LOG.read_text(errors="replace").strip().splitlines()[-8:]
        raise SetUpError(
            f"`{Path(command[0]).name} {command[1]}` failed (all of it is in {LOG}):\n  " + "\n  ".join(last)
        )


def create_venv() -> None:
    """Make an environment of real copies of python, so that patching it touches nothing of the host's."""
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", "--copies", VENV)
    run(
        VENV / "bin" / "python",
        *["-m", "pip", "install", "--quiet", "--require-hashes", "--target"],
        TOOLS,
        "-r",
        TOOLS_LOCK,
    )


def find_distribution() -> str:
    """Return the apt family of this host: 'debian' or 'ubuntu'."""
    release = platform.freedesktop_os_release()
    for name in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]:
        # Mint and others name both; ID_LIKE lists the closest first.
        if name in RUNTIME_SUITES and shutil.which("apt-get") and shutil.which("dpkg-deb"):
            return name
    version = ".".join(map(str, find_host_glibc()))
    raise SetUpError(
        f"needs glibc {'.'.join(map(str, NEEDED_GLIBC))} or newer, or a Debian or Ubuntu host to take one from; "
        f"found glibc {version} on {release.get('PRETTY_NAME', 'an unknown distribution')}."
    )


def find_archive_address(family: str) -> str:
    """Return the address of the host's main package archive, read from its own apt configuration.

    `apt-get indextargets` would need no parsing, but lists nothing on hosts whose lists were
    cleaned away, so the two source formats are read directly.
    """
    folder = Path("/etc/apt")
    texts = [p.read_text() for p in (folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))) if p.is_file()]
    addresses: list[str] = re.findall(
        r"(?:^URIs:\s*|^deb\s+(?:\[[^\]]*\]\s+)?)(\S+)", "\n".join(texts), flags=re.MULTILINE
    )
    for address in addresses:
        # /debian and /ubuntu are the main archives; /debian-security and third parties are not.
        if address.rstrip("/").endswith(f"/{family}"):
            return address
    raise SetUpError(
        f"found no {family} archive in /etc/apt; add one, or use a host with glibc {'.'.join(map(str, NEEDED_GLIBC))}."
    )


def fetch_runtime(target: Path) -> None:
    """Unpack a newer C runtime into `target` with a private apt: no root, no change to the host's."""
    family = find_distribution()
    keyring = f"/usr/share/keyrings/{family}-archive-keyring.gpg"
    with tempfile.TemporaryDirectory() as folder:
        private = Path(folder)
        # apt drops to another user for downloads when run as root; it must be able to enter.
        private.chmod(0o755)
        for needed in ("lists/partial", "cache/archives/partial", "preferences.d", "debs"):
            (private / needed).mkdir(parents=True)
        (private / "status").touch()
        (private / "sources.list").write_text(
            f"deb [arch=amd64 signed-by={keyring}] {find_archive_address(family)} {RUNTIME_SUITES[family]} main\n"
        )
        settings = {
            "Dir::Etc::sourcelist": private / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferencesparts": private / "preferences.d",
            "Dir::State::lists": private / "lists",
            "Dir::State::status": private / "status",
            "Dir::Cache": private / "cache",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        run("apt-get", *options, "update")
        run("apt-get", *options, "download", *RUNTIME_PACKAGES, cwd=private / "debs")
        for package in sorted((private / "debs").glob("*.deb")):
            run("dpkg-deb", "-x", package, target)


def patch_python(runtime: Path) -> None:
    """Make the environment's own python load the private C runtime."""
    loaders = sorted(runtime.rglob("ld-linux-x86-64.so.2"))
    libraries = sorted(
        {str(p.parent) for p in runtime.rglob("lib*.so*") if p.name in ("libc.so.6", "libstdc++.so.6", "libgcc_s.so.1")}
    )
    patchelf = TOOLS / "bin" / "patchelf"
    for name in ("python3.11", "python3", "python"):
        binary = VENV / "bin" / name
        if binary.is_symlink():
            original = binary.resolve()
            binary.unlink()
            shutil.copy2(original, binary)
        # The two --add-needed load the new libstdc++ first; otherwise a wheel's own search path
        # finds the host's old one.
        run(
            patchelf,
            *("--set-interpreter", str(next(p for p in loaders if p.is_file()))),
            *("--force-rpath", "--set-rpath", ":".join([*libraries, sysconfig.get_config_var("LIBDIR")])),
            *("--add-needed", "libstdc++.so.6", "--add-needed", "libgcc_s.so.1"),
            binary,
        )


def install_packages() -> None:
    """Make the environment hold exactly the packages of the lock, and this project, editable."""
    uv, python = TOOLS / "bin" / "uv", VENV / "bin" / "python"
    run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, LOCK)
    # compat: a plain .pth file, which type checkers and editors understand too.
    editable = "pip install --quiet --no-deps --no-build-isolation --config-setting editable_mode=compat --python"
    run(uv, *editable.split(), python, "--editable", ROOT)


def compile_byte_code() -> None:
    """Write the byte-code of the modules that a run imports, even if PYTHONDONTWRITEBYTECODE is set on this host."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run(VENV / "bin" / "python", "-c", "import " + ", ".join(WARMED_MODULES), env=env)


def is_interpreter_usable() -> bool:
    """Return whether .venv holds a python with a C runtime that is new enough, and the installers."""
    python = VENV / "bin" / "python"
    if not (python.exists() and (TOOLS / "bin" / "uv").exists()):
        return False
    asked = (str(python), "-c", "import os, ssl; print(os.confstr('CS_GNU_LIBC_VERSION'))")
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    except OSError:
        # Its C runtime was removed, or the checkout was moved.
        return False
    return (parse_glibc_version(answer) or (0, 0)) >= NEEDED_GLIBC


def prepare_interpreter() -> None:
    """Create the environment's python, with the newer C runtime where the host's is too old."""
    if is_interpreter_usable():
        return
    create_venv()
    if find_host_glibc() < NEEDED_GLIBC:
        fetch_runtime(VENV / "runtime")
        patch_python(VENV / "runtime")
    if not is_interpreter_usable():
        raise SetUpError(f"the new {VENV}/bin/python does not start; see {LOG}, and please report this host.")


def main() -> int:
    steps = (
        ("checking this machine", check_host),
        ("creating .venv", prepare_interpreter),
        ("installing the locked packages", install_packages),
        ("compiling what a run imports", compile_byte_code),
    )
    LOG.unlink(missing_ok=True)
    try:
        for number, (what, step) in enumerate(steps, start=1):
            started = time.monotonic()
            print(f"set-up {number}/{len(steps)}: {what} ...", end="", flush=True)
            step()
            print(f" {time.monotonic() - started:.0f} s", flush=True)
    except SetUpError as error:
        print(f"\nset-up stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted; run it again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
