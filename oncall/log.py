"""`log`: prints the log of a run or of one node, and follows it while the run is active."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from cli.errors import ConfigError, RunRootError
from cli.terminal import INTERRUPTED_EXIT_CODE, clean, print_message
from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult
from oncall.runs import get_record
from pipeline.run.causes import find_failed_node
from pipeline.run.records import RunRecord, RunState

_POLL_SECONDS = 0.3
# A longer line is cut into several.
_MAX_LINE_BYTES = 1 << 16
_BAD_STATES = (RunState.FAILED, RunState.ABORTED, RunState.CRASHED)


def print_log(
    store: LocalRunStore, name: str, node: str | None, *, lines: int | None, follow: bool, as_json: bool
) -> CommandResult | int:
    """Print a part of a run's log; return the exit code, or with `as_json` a document.

    Args:
      store: runs.
      name: name of the run.
      node: node; None for the node that failed, or for the whole log if none did.
      lines: number of the last lines; None for all.
      follow: whether to continue until the run, or the node, has ended.
      as_json: whether to return a document.

    Raises:
      ConfigError: there is no such run or node, or the run kept no log.
      RunRootError: the log cannot be read.
    """
    run = store.find_run(name)
    record = get_record(store, run)
    if follow and as_json:
        raise ConfigError("--follow and --json: give one of them; a document has an end")
    if node is None and run.state in _BAD_STATES:
        node = find_failed_node(record)
    _check_node(record, node, follow=follow and run.state is RunState.RUNNING)
    try:
        with _get_file(record, node).open("rb") as file:
            if follow:
                return _follow(store, record, file, node, lines)
            begin, end = _find_part(record, node)
            file.seek(begin)
            text = _keep_last(_read_lines(file, end), lines)
            if as_json:
                head = {"run": run.run_id, "state": run.state, "node": node, "log": record.log}
                return CommandResult({**head, "from": begin, "to": end, "lines": list(text)}, [])
            _print_lines(text)
    except FileNotFoundError as error:
        raise RunRootError(f"{record.log}: is missing; somebody removed the log of run {run.run_id}") from error
    return 0


def _get_file(record: RunRecord, node: str | None) -> Path:
    log = record.find_log(node if node in record.nodes else None)
    if log is None:
        raise ConfigError(f"run {record.run_id}: has no log; it was started with --verbose, which prints it instead")
    return Path(log)


def _check_node(record: RunRecord, node: str | None, *, follow: bool) -> None:
    if node is None or node in record.nodes or (follow and node in record.expected):
        return
    begun = ", ".join(record.nodes) or "none"
    problem = "did not reach it" if node in record.expected else "has no such node"
    raise ConfigError(f"{node}: run {record.run_id} {problem}; the nodes that began: {begun}")


def _find_part(record: RunRecord, node: str | None) -> tuple[int, int | None]:
    """Return the start and the end of a node's part in bytes; None for the end of the file, or a later one."""
    if node is None:
        return 0, None
    node_record = record.nodes[node]
    # The report of a failure follows the node's part and ends with the run.
    is_open = node_record.state == "failed" and record.ended is None
    return node_record.log_from, None if is_open else node_record.log_to


def _read_lines(file: BinaryIO, end: int | None, *, grows: bool = False) -> Iterator[str]:
    """Yield the lines from the file's position without control characters; only complete ones if the file grows."""
    while end is None or file.tell() < end:
        begin = file.tell()
        line = file.readline(_MAX_LINE_BYTES if end is None else min(_MAX_LINE_BYTES, end - begin))
        if not line:
            return
        if grows and not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
            file.seek(begin)
            return
        yield clean(line.decode("utf-8", errors="replace").rstrip("\r\n").expandtabs())


def _keep_last(text: Iterable[str], lines: int | None) -> Iterable[str]:
    return text if lines is None else deque(text, maxlen=lines)


def _print_lines(text: Iterable[str]) -> None:
    for line in text:
        click.echo(line)


def _follow(store: LocalRunStore, record: RunRecord, file: BinaryIO, node: str | None, lines: int | None) -> int:
    """Print until the run, or the node, has ended, or until Ctrl-C."""
    try:
        for number, text in enumerate(_read_new_lines(store, record, file, node)):
            _print_lines(_keep_last(text, lines) if number == 0 else text)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE
    state = (store.read_record(record.run_id) or record).get_state(locked=store.root.is_locked)
    print_message(f"run {record.run_id} {'is running' if state is RunState.RUNNING else state}", "notice")
    return 0


def _read_new_lines(
    store: LocalRunStore, record: RunRecord, file: BinaryIO, node: str | None
) -> Iterator[Iterable[str]]:
    """Yield at each poll the lines that were added since the last one."""
    has_begun = False
    while True:
        # The size comes first: bytes before it belong to what ran before the record's state is read.
        size = os.fstat(file.fileno()).st_size
        record = store.read_record(record.run_id) or record
        is_running = record.get_state(locked=store.root.is_locked) is RunState.RUNNING
        if node is None or node in record.nodes:
            begin, end = _find_part(record, node)
            file.seek(file.tell() if has_begun else begin)
            has_begun = True
            grows = is_running and end is None
            yield _read_lines(file, size if grows else end, grows=grows)
            if end is not None:
                return
        if not is_running:
            return
        time.sleep(_POLL_SECONDS)
