"""Walk docs/vertex.md: run its commands against the emulator, and compare what they print with the page.

    python -m checks.vertex_page            # five to ten minutes
    python -m checks.vertex_page --write    # put what was printed into the page

A line that starts with `$ ` is run, in order. The lines below it are its output, where `...` stands for any lines.
Times, sizes, hashes and names of machines are masked. A block without `$ ` is set-up, or has the words `not run` in it.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil

from emulators.vertex.__main__ import call_control

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "vertex.md"
NOT_RUN = "not run"
_INDENT = "    "
_ANY_LINES = "..."
_EXIT = re.compile(r"\[exit (\d+)\]")
_EMULATOR = "python -m emulators.vertex --state runs/vertex --operation-seconds 0.5"
# The job whose Pusher the page has killed by hand.
_KILLED_JOB = "--job-id wednesday "
# Folder of the clone in what the page shows.
_SHOWN_FOLDER = "/home/ada/pipeline"
_MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?"), "DATE"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d+\.\d\b"), "SECONDS"),
    (re.compile(r"\b[\d,]+ bytes"), "BYTES"),
    # The start of a hash may have no letter.
    (re.compile(r"\b([0-9a-f]{12}|\d{10,})\b"), "ID"),
    (re.compile(r"\b\w+@[\w.-]+"), "USER@HOST"),
    (re.compile(r"(?<=process )\d+"), "PID"),
    (re.compile(r"[━─]+"), "─"),
    (re.compile(r"[┏┡└┗├]─|─[┓┩┘┛┤]|─?[┳╇┴┻┼]─?"), "─"),
    (re.compile(r"\s+"), " "),
)


@dataclass
class Listing:
    """A command of the page.

    Attributes:
      line: Number of its line, from 0.
      command: Words of the command.
      output: Lines that the page shows below it.
    """

    line: int
    command: str
    output: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Exit code that the page shows; 0 without one."""
        return next((int(match[1]) for match in map(_EXIT.fullmatch, self.output) if match), 0)

    @property
    def lines(self) -> list[str]:
        """Lines of the output without that of the exit code."""
        return [line for line in self.output if not _EXIT.fullmatch(line)]


def read_blocks(text: str) -> list[list[tuple[int, str]]]:
    """Return the blocks of code: lines with their numbers, without the indent."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.splitlines()):
        if line.startswith(_INDENT):
            blocks[-1].append((number, line.removeprefix(_INDENT)))
        elif line.strip() and blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def read_listings(text: str) -> list[Listing]:
    """Return the commands that the page shows with their output."""
    listings = []
    for block in read_blocks(text):
        for number, line in block:
            if line.startswith("$ "):
                listings.append(Listing(number, line.removeprefix("$ ")))
            elif listings and block[0][1].startswith("$ "):
                listings[-1].output.append(line)
    return listings


def read_setup(text: str) -> list[str]:
    """Return the commands of the blocks without a listing that are run: the set-up of a shell."""
    blocks = [[line for _, line in block] for block in read_blocks(text)]
    return [line for block in blocks if is_setup(block) for line in block]


def is_setup(block: Sequence[str]) -> bool:
    """Return whether a block sets up a shell of the walk."""
    return block[0].startswith("source .venv/bin/activate")


def mask(line: str) -> str:
    """Return a line with what differs from walk to walk replaced by a word."""
    for pattern, word in _MASKS:
        line = pattern.sub(word, line)
    return line.strip()


def align(expected: Sequence[str], printed: Sequence[str]) -> list[str] | None:
    """Return the expected lines as they were printed; None if they were not.

    Args:
      expected: Lines of the page; `...` stands for any lines.
      printed: Lines that the command printed.
    """
    if not expected:
        return [] if not printed else None
    first, *rest = expected
    if first == _ANY_LINES:
        for start in range(len(printed) + 1):
            aligned = align(rest, printed[start:])
            if aligned is not None:
                return [first, *aligned]
        return None
    if not printed or mask(first) != mask(printed[0]):
        return None
    aligned = align(rest, printed[1:])
    return None if aligned is None else [printed[0], *aligned]


class Walk:
    """A folder in which the commands of the page run, as in a clone.

    Args:
      folder: An empty folder.
      setup: Commands of a shell before that of the page.
    """

    def __init__(self, folder: Path, setup: Sequence[str]) -> None:
        self._folder = folder
        for path in ROOT.iterdir():
            if path.name not in ("runs", ".git"):
                (folder / path.name).symlink_to(path)
        (folder / "runs").mkdir()
        # The emulator stays in a shell of its own.
        self._setup = [line for line in setup if not line.startswith("python -m emulators.vertex")]
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("VERTEX_")}
        self._environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}

    @contextmanager
    def run_emulator(self) -> Iterator[None]:
        """Run the emulator as long as the context lasts."""
        command = ["bash", "-c", f"exec {_EMULATOR}"]
        with subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, text=True
        ) as emulator:
            assert emulator.stdout is not None
            if not any(line.startswith("# ready") for line in emulator.stdout):
                raise click.ClickException("the emulator did not start")
            try:
                yield
            finally:
                emulator.send_signal(signal.SIGTERM)
                emulator.wait()

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run a command and return its exit code and what it printed."""
        script = "\n".join(["set -e", *self._setup, command])
        lines: list[str] = []
        with subprocess.Popen(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip("\n").replace(str(self._folder), _SHOWN_FOLDER))
                if _KILLED_JOB in command and re.search(r"RUNNING .* Pusher$", line):
                    self._kill_pusher()
        return process.returncode, lines

    def _kill_pusher(self) -> None:
        """Do what the page's reader does in a third shell: end the task when the emulator has deployed the version."""
        deployments = self._count_deployments()
        deadline = time.monotonic() + 120
        while self._count_deployments() == deployments and time.monotonic() < deadline:
            time.sleep(0.5)
        # The operation takes half a second, and the injected delay thirty.
        time.sleep(5)
        tasks = [
            process
            for process in psutil.process_iter(["cmdline", "create_time", "cwd"])
            if "pipeline.vertex.task_starter" in (process.info["cmdline"] or ())
            and str(process.info["cwd"]).startswith(str(self._folder))
        ]
        max(tasks, key=lambda process: process.info["create_time"]).kill()

    def _count_deployments(self) -> int:
        exports = (self._folder / "runs" / "vertex" / "env.sh").read_text().splitlines()
        for line in exports:
            (assignment,) = shlex.split(line.removeprefix("export "))
            key, _, value = assignment.partition("=")
            os.environ[key] = value
        state = call_control("Faults", {})
        assert isinstance(state, dict)
        return int(state.get("calls", []).count("DeployModel"))


def check_page(
    *, write: bool, setup: Sequence[str] = (), prepare: Callable[[Path], None] = lambda folder: None
) -> list[str]:
    """Walk the page and return its mistakes, each with the line, the page's text and what was printed.

    Args:
      write: Whether to put what was printed into the page.
      setup: Commands of each shell after those of the page's set-up.
      prepare: Function that changes the folder that stands for the clone.
    """
    text = PAGE.read_text()
    lines, problems = text.splitlines(), []
    with tempfile.TemporaryDirectory() as name:
        walk = Walk(Path(name).resolve(), [*read_setup(text), *setup])
        prepare(Path(name))
        with walk.run_emulator():
            for listing in read_listings(text):
                click.echo(f"$ {listing.command}", err=True)
                code, printed = walk.run(listing.command)
                aligned = align(listing.lines, [line for line in printed if line.strip()])
                if code != listing.exit_code or aligned is None:
                    problems.append(_describe(listing, code, printed))
                elif write:
                    start = listing.line + 1
                    lines[start : start + len(aligned)] = [f"{_INDENT}{line}".rstrip() for line in aligned]
        shutil.rmtree(Path(name) / "runs")
    if write:
        PAGE.write_text("\n".join(lines) + "\n")
    return problems


def _describe(listing: Listing, code: int, printed: Sequence[str]) -> str:
    actual = "\n".join(f"  {line}" for line in printed)
    expected = "\n".join(f"  {line}" for line in listing.output)
    return (
        f"{PAGE.name}:{listing.line + 1}: $ {listing.command}\nthe page, exit {listing.exit_code}:\n{expected}\n"
        f"printed, exit {code}:\n{actual}\n"
    )


@click.command()
@click.option("--write", is_flag=True, help="Put what was printed into the page, where only times and sizes differ.")
def main(write: bool) -> None:
    """Walk docs/vertex.md against the emulator."""
    problems = check_page(write=write)
    click.echo("\n".join(problems) or "the page shows what its commands print")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
