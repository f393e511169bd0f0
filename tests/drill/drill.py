"""A run root for the drill: what is asked there, and what is done of the commands that the answers print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.run.records import RunRecord
from tests import forked
from tests.commands import parse_command
from tests.conftest import ROOT
from tests.faults.processes import Place

MAX_COMMANDS = 3
_COMMAND = re.compile(r"^(?:try|undo)? *(?:do: )?(.*)$")
_PROGRAMS = ("oncall", "serving.registry", "pipeline")


@dataclass
class Drill:
    """One trouble on a run root.

    Attributes:
      place: config and run root.
      followed: commands that were followed, at most three for each trouble.
    """

    place: Place
    followed: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.place.folder

    def ask(self, *arguments: object, code: int | None = None) -> str:
        """Return what a command prints."""
        done = forked.run("oncall", *map(str, arguments), "--run-root", str(self.root))
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        assert code is None or done.returncode == code, (arguments, done.returncode, output)
        for line in proposed_commands(output):
            check_command(line)
        return output

    def follow(self, line: str, *, yes: bool = False, code: int = 0) -> str:
        """Do what a line proposes; return its output."""
        self.followed.append(line)
        assert len(self.followed) <= MAX_COMMANDS, self.followed
        words = shlex.split(line, comments=True)
        if words[:2] == ["python", "-m"] and words[2] in _PROGRAMS:
            program = words[2] if words[2] != "serving.registry" else "serving.registry"
            done = forked.run(program, *words[3:], *(["--yes"] if yes else []))
        elif words[0] == "python" and words[1].endswith("local_runner.py"):
            done = forked.run("local_runner.py", *words[2:])
        else:
            environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = subprocess.run(
                line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
        assert done.returncode == code, (line, done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def run(self, *settings: str, cache: bool = True) -> tuple[int, str]:
        """Run the pipeline; return the exit code and the output."""
        flags = [flag for setting in settings for flag in ("--set", setting)]
        flags += [] if cache else ["--no-cache"]
        done = forked.run("local_runner.py", "--config", str(self.place.config), "--run-root", str(self.root), *flags)
        return done.returncode, done.stdout + done.stderr

    def records(self) -> list[RunRecord]:
        """Return the records, in the order of their IDs."""
        files = sorted((self.root / "records").glob("*.json"))
        return [RunRecord.model_validate_json(file.read_bytes()) for file in files]

    @contextmanager
    def start(self, node: str, *settings: str, fault: Callable[[], None] | None = None) -> Iterator[Any]:
        """Start a run and yield it with its record's ID once a node of it runs."""
        before = {record.run_id for record in self.records()}
        running = self.place.start(*settings, fault=fault)

        def is_there() -> bool:
            new = [record for record in self.records() if record.run_id not in before]
            return bool(new) and new[-1].running_node == node

        running.wait_for(is_there)
        (run_id,) = {record.run_id for record in self.records()} - before
        try:
            yield running, run_id
        finally:
            if running.process.is_alive():
                running.process.kill()
                running.wait()


def proposed_commands(output: str) -> list[str]:
    """Return the commands that an answer proposes."""
    lines = []
    for line in output.splitlines():
        match = re.match(r"^(?:try|undo) +(.*)$", line) or re.match(r"^ +do: (.*)$", line)
        if match:
            lines.append(match.group(1))
    return lines


def check_command(line: str) -> None:
    """Check that a proposed command is complete: the shell splits it, the program parses it, no path is relative."""
    _, _, tail = line.rpartition("; or ")
    for part in tail.split(" && "):
        words = shlex.split(part, comments=True)
        if words[:1] != ["python"] or words[1:3] == ["-m", "serving"]:
            continue
        parameters = parse_command(part)
        assert parameters.get("run_root") is None or Path(parameters["run_root"]).is_absolute(), line
        if parameters["program"] in ("oncall", "pipeline"):
            assert parameters["run_root"] is not None, line


def find_command(output: str, *words: str) -> str:
    """Return the first proposed command that has all of the words."""
    commands = proposed_commands(output)
    matches = [line for line in commands if all(word in line for word in words)]
    assert matches, (words, output)
    return matches[0].rpartition("; or ")[2]


def assert_says(output: str, sentences: Sequence[str], never: Sequence[str] = ()) -> None:
    """Check that an answer has sentences, and has not others."""
    for sentence in sentences:
        assert sentence in output, f"{sentence!r} is missing in:\n{output}"
    for sentence in never:
        assert sentence not in output, f"{sentence!r} is in:\n{output}"
