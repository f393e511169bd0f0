"""`log`: what a run, or one of its nodes, wrote; of an active run also what it writes."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from cli.errors import ConfigError, RunRootError
from cli.terminal import INTERRUPTED_EXIT_CODE, say
from oncall.evidence import Evidence
from oncall.runs import need_record
from oncall.terminal import Answer, clean
from pipeline.run.causes import failed_node
from pipeline.run.records import RunRecord, State

_POLL_SECONDS = 0.3
# Whatever is between two line ends is cut here.
_LONGEST_LINE = 1 << 16
_BAD = (State.FAILED, State.ABORTED, State.CRASHED)


def log(
    evidence: Evidence, name: str, node: str | None, *, lines: int | None, follow: bool, as_json: bool
) -> Answer | int:
    """Print a part of a run's log; the answer is the exit code, or with `as_json` a document.

    Args:
      evidence: evidence of the run.
      name: name of the run.
      node: whose part; None for the node that failed, or else all of it.
      lines: so many of the last; None for all.
      follow: whether to continue until the run, or the node, has ended.
      as_json: whether a document is asked for.

    Raises:
      ConfigError: there is no such run or node, or the run kept no log.
      RunRootError: the log cannot be read.
    """
    run = evidence.find(name)
    record = need_record(evidence, run)
    if follow and as_json:
        raise ConfigError("--follow and --json: give one of them; a document has an end")
    if node is None and run.state in _BAD:
        node = failed_node(record)
    _check_node(record, node, follow=follow and run.state is State.RUNNING)
    try:
        with _file(record, node).open("rb") as file:
            if follow:
                return _followed(evidence, record, file, node, lines)
            begin, end = _part(record, node)
            file.seek(begin)
            found = _last(_lines(file, end), lines)
            if as_json:
                known = {"run": run.run_id, "state": run.state, "node": node, "log": record.log}
                return Answer({**known, "from": begin, "to": end, "lines": list(found)}, [])
            _print(found)
    except FileNotFoundError as error:
        raise RunRootError(f"{record.log}: is missing; somebody removed the log of run {run.run_id}") from error
    return 0


def _file(record: RunRecord, node: str | None) -> Path:
    log = record.log_of(node if node in record.nodes else None)
    if log is None:
        raise ConfigError(f"run {record.run_id}: has no log; it was started with --verbose, which prints it instead")
    return Path(log)


def _check_node(record: RunRecord, node: str | None, *, follow: bool) -> None:
    if node is None or node in record.nodes or (follow and node in record.expected):
        return
    begun = ", ".join(record.nodes) or "none"
    what = "did not come to it" if node in record.expected else "has no such node"
    raise ConfigError(f"{node}: run {record.run_id} {what}; those that began: {begun}")


def _part(record: RunRecord, node: str | None) -> tuple[int, int | None]:
    """Where a node's part begins and ends; no end is that of the file, or not yet known."""
    if node is None:
        return 0, None
    known = record.nodes[node]
    # What is written about a failure comes after it, up to the run's end.
    return known.log_from, None if known.state == "failed" and record.ended is None else known.log_to


def _lines(file: BinaryIO, end: int | None, *, grows: bool = False) -> Iterator[str]:
    """Lines from where the file stands, without control characters; of one that grows, only whole ones."""
    while end is None or file.tell() < end:
        begin = file.tell()
        line = file.readline(_LONGEST_LINE if end is None else min(_LONGEST_LINE, end - begin))
        if not line:
            return
        if grows and not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            file.seek(begin)
            return
        yield clean(line.decode("utf-8", errors="replace").rstrip("\r\n").expandtabs())


def _last(found: Iterable[str], lines: int | None) -> Iterable[str]:
    return found if lines is None else deque(found, maxlen=lines)


def _print(found: Iterable[str]) -> None:
    for line in found:
        click.echo(line)


def _followed(evidence: Evidence, record: RunRecord, file: BinaryIO, node: str | None, lines: int | None) -> int:
    """Print until the run, or the node, has ended, or Ctrl-C, which is how one leaves a log."""
    try:
        for number, found in enumerate(_growing(evidence, record, file, node)):
            _print(_last(found, lines) if number == 0 else found)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE
    state = (evidence.record(record.run_id) or record).state(locked=evidence.root.is_locked)
    say(f"run {record.run_id} {'is running' if state is State.RUNNING else state}", "notice")
    return 0


def _growing(evidence: Evidence, record: RunRecord, file: BinaryIO, node: str | None) -> Iterator[Iterable[str]]:
    """Again and again, the lines that have come since."""
    is_there = False
    while True:
        # In this order: what was there before a node was seen to run is its own; what a run wrote before it was seen
        # to have ended is there.
        size = os.fstat(file.fileno()).st_size
        record = evidence.record(record.run_id) or record
        goes_on = record.state(locked=evidence.root.is_locked) is State.RUNNING
        if node is None or node in record.nodes:
            begin, end = _part(record, node)
            file.seek(file.tell() if is_there else begin)
            is_there = True
            grows = goes_on and end is None
            yield _lines(file, size if grows else end, grows=grows)
            if end is not None:
                return
        if not goes_on:
            return
        time.sleep(_POLL_SECONDS)
