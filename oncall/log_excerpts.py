"""The part of a log that explains a failure: frames of the project's code and the error, or else the last lines."""

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from oncall.run_store import LogExcerpt
from oncall.text_format import shorten
from pipeline.run.records import RunRecord

# Only the end of a node's part: tracebacks of Beam are long and repeat themselves.
_MAX_READ_BYTES = 1 << 20
_MAX_TAIL_BYTES = 1 << 16
MAX_LINES = 15
_MAX_ERROR_LINES = 6
_MAX_FRAMES = 4
_MAX_PLAIN_LINES = 5
_MAX_LINE_CHARS = 240
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_FRAME = re.compile(r'\s+File "([^"]+)", line \d+, in ')
_PROBLEM = re.compile(r"error|exception|killed|fatal|refused|no space|free system memory", re.IGNORECASE)
# Messages that TFX and TensorFlow write in every run, about the cache, missing features and deprecations.
_CHATTER = re.compile(
    r"(?:DEBUG|INFO|WARNING):|[IW]\d{4} \d\d:|To enable the following|Instructions for updating|Use eager execution|`tf"
)
_NO_GPU = re.compile(r"failed call to cuInit|cudart_stub")
# Code of other packages, and the code that runs the nodes, which is in every traceback.
_FOREIGN = ("site-packages", "/lib/python", "<frozen", "<string>", "__autograph_generated")
_RUNNERS = ("pipeline/run/dag_runner.py", "pipeline/run/local.py")
_PATH_PREFIX = re.compile(rf"{re.escape(str(Path(__file__).parents[1]))}/|/[^\"]*/(?:site-packages|lib/python[\d.]+)/")


def read_log_excerpt(record: RunRecord, node: str | None) -> LogExcerpt:
    """Return the excerpt for a node, or for the part of the run before its first node."""
    log = record.find_log(node)
    if log is None:
        return LogExcerpt("", [])
    start = record.nodes[node].log_from if node else 0
    try:
        with Path(log).open("rb") as file:
            # The traceback is written after the node has ended, and so after the end of its part.
            size = file.seek(0, 2)
            file.seek(max(min(start, size), size - _MAX_READ_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return LogExcerpt(log, [], f"           cannot be read: {error.strerror}")
    return LogExcerpt(log, select_lines(text))


def read_log_tail(record: RunRecord, node: str | None, lines: int) -> LogExcerpt:
    """Return the last lines of a node's log, without TensorFlow's and TFX's routine messages."""
    log = record.find_log(node)
    if log is None:
        return LogExcerpt("", [], "the log is printed, not kept: the run was started with --verbose")
    try:
        with Path(log).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _MAX_TAIL_BYTES, record.nodes[node].log_from if node else 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return LogExcerpt(log, [], f"{log}: cannot be read: {error.strerror}")
    written = [line.expandtabs().rstrip() for line in text.splitlines()]
    kept = [line for line in written if line and not _CHATTER.match(line) and not _NO_GPU.search(line)]
    return LogExcerpt(log, [shorten(line, _MAX_LINE_CHARS) for line in kept[-lines:]])


def select_lines(text: str) -> list[str]:
    """Return the project's frames and the error of the last traceback, or else the last lines about a problem."""
    lines = [line.expandtabs().rstrip() for line in text.splitlines()]
    start = _find_last_chain(lines)
    if start is None:
        written = [line for line in lines if line and not _NO_GPU.search(line)]
        problems = [line for line in written if _PROBLEM.search(line)]
        selected = problems or [line for line in written if not _CHATTER.match(line)]
        return [shorten(line, _MAX_LINE_CHARS) for line in selected[-_MAX_PLAIN_LINES:]]
    frames, rest = _split_traceback(lines[start + 1 :])
    own = [frame for frame in frames if _is_own(frame[0])] or frames
    frame_lines = [_PATH_PREFIX.sub("", line, count=1) for frame in own[-_MAX_FRAMES:] for line in frame]
    error_lines = [line for line in takewhile(bool, rest[:_MAX_ERROR_LINES]) if not _FRAME.match(line)]
    return [line[:_MAX_LINE_CHARS] for line in (*frame_lines, *error_lines)][-MAX_LINES:]


def _find_last_chain(lines: Sequence[str]) -> int | None:
    """Return the first line of the traceback that the last exception was raised from: the cause, not its effect."""
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if not starts:
        return None
    while len(starts) > 1 and any(line.startswith(_CHAINED) for line in lines[starts[-2] : starts[-1]]):
        starts.pop()
    return starts[-1]


def _split_traceback(lines: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Return the frames of a traceback, each as its lines, and the lines after them."""
    frames: list[list[str]] = []
    for number, line in enumerate(lines):
        if _FRAME.match(line):
            frames.append([line])
        elif line.startswith("    ") and frames:
            if len(frames[-1]) < 2:
                frames[-1].append(line)
        elif not line.startswith("  ["):
            return frames, list(lines[number:])
    return frames, []


def _is_own(frame: str) -> bool:
    match = _FRAME.match(frame)
    path = match.group(1) if match else ""
    return not any(part in path for part in (*_FOREIGN, *_RUNNERS))
