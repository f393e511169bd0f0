"""The active run: its process, its time in the node, its log; a process may be stopped, hang or starve."""

import os
import socket
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from statistics import median

import psutil

from cli.terminal import format_command
from oncall.activity import ActiveRun
from oncall.text_format import format_seconds
from pipeline.run.records import RunRecord

# Runs whose times are usual.
_MAX_READ_RUNS = 20
# A node is slow beyond this many times its usual time, and beyond these seconds.
_SLOW_FACTOR, _SLOW_SECONDS = 5.0, 120.0
# A process whose share of a core is smaller does nothing, or waits for others.
_IDLE_SHARE, _SAMPLE_SECONDS = 0.05, 0.2
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


def describe_active_run(record: RunRecord, earlier: Iterable[RunRecord]) -> ActiveRun:
    """Return the state of a run whose process lives.

    Args:
      record: record of the run.
      earlier: records of the runs before it, the newest first.
    """
    node = record.running_node
    since = record.nodes[node].started if node else max([record.started, *_list_ends(record)])
    seconds = max(time.time() - since, 0.0)
    usual = _find_usual_seconds(node, earlier)
    parts = [f"in {node} for {format_seconds(seconds)}" if node else f"between two nodes for {format_seconds(seconds)}"]
    if usual is not None:
        parts.append(f"usually {format_seconds(usual)}")
    silence = _measure_silence(record)
    if silence is not None:
        parts.append(f"last line of the log {format_seconds(silence)} ago")
    if record.host != socket.gethostname():
        return ActiveRun(", ".join([*parts, f"process {record.pid} on {record.host}, which is not this machine"]))
    return _describe_process(record, parts, seconds, usual, silence)


def _describe_process(
    record: RunRecord, parts: list[str], seconds: float, usual: float | None, silence: float | None
) -> ActiveRun:
    try:
        process = psutil.Process(record.pid)
        status = process.status()
        family = [process, *process.children(recursive=True)]
        stopped = [member.pid for member in family if member.status() in _STOPPED]
        share = _measure_share(family) if not stopped else 0.0
    except psutil.Error:
        # It ends in this moment.
        return ActiveRun(", ".join(parts))
    parts.append(f"process {record.pid}: {status}, {share:.0%} of a core")
    message = ", ".join(parts)
    if stopped:
        pids = " ".join(map(str, stopped))
        todo = format_command(
            "kill", "-CONT", *stopped, note="it continues; to end it instead, afterwards: kill " + pids
        )
        return ActiveRun(message, f"process {pids} is stopped (SIGSTOP): it does nothing and holds the run root", todo)
    removed = _find_removed_log(record)
    if removed is not None:
        todo = format_command(
            "cp", removed, record.log, note="what it has written so far; it writes to the removed file"
        )
        return ActiveRun(message, f"its log {record.log} was removed; the run itself is not affected", todo)
    slow = max(_SLOW_FACTOR * usual, _SLOW_SECONDS) if usual is not None else None
    end = format_command("kill", record.pid, note="ends it; `resume` continues from the cache")
    if share < _IDLE_SHARE and (silence or 0.0) > _SLOW_SECONDS and seconds > _SLOW_SECONDS:
        return ActiveRun(message, "it uses no processor and logs nothing: it hangs, or waits for another system", end)
    if slow is not None and seconds > slow:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        others = f"; the load is {load:.1f} on {cores} cores, so others take its share" if load > 2 * cores else ""
        return ActiveRun(
            message, f"it takes {seconds / max(usual or seconds, 0.1):.0f} times as long as usual{others}", end
        )
    return ActiveRun(message)


def _find_removed_log(record: RunRecord) -> Path | None:
    """Return the file below /proc by which a process still writes its log; None if the log was not removed."""
    if record.log is None or Path(record.log).exists():
        return None
    try:
        files = list(Path(f"/proc/{record.pid}/fd").iterdir())
        return next((file for file in files if os.readlink(file) == f"{record.log} (deleted)"), None)
    except OSError:
        return None


def _list_ends(record: RunRecord) -> list[float]:
    return [node.ended for node in record.nodes.values() if node.ended is not None]


def _find_usual_seconds(node: str | None, earlier: Iterable[RunRecord]) -> float | None:
    """Return the median of a node's seconds in earlier runs that executed it; None if there are none."""
    nodes = (record.nodes.get(node) for record in islice(earlier, _MAX_READ_RUNS)) if node else ()
    times = [n.ended - n.started for n in nodes if n is not None and n.ended is not None and n.state == "complete"]
    return median(times) if times else None


def _measure_silence(record: RunRecord) -> float | None:
    """Return the seconds since the log was last written; None without a log."""
    try:
        return max(time.time() - Path(record.log).stat().st_mtime, 0.0) if record.log else None
    except OSError:
        return None


def _measure_share(family: list[psutil.Process]) -> float:
    """Return the share of a core that processes use now."""
    before, started = _sum_seconds(family), time.monotonic()
    time.sleep(_SAMPLE_SECONDS)
    return max(_sum_seconds(family) - before, 0.0) / (time.monotonic() - started)


def _sum_seconds(family: list[psutil.Process]) -> float:
    total = 0.0
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
