"""`why`: why a run is as it is, with the lines of the log that say so, and what to try."""

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from cli.errors import NotBlessedError
from cli.terminal import command
from oncall import rejections
from oncall.evaluations import Judgement, judgement
from oncall.runs import unknown_evidence
from oncall.sources import Run, Source
from oncall.terminal import Answer, labelled, short
from pipeline.run.advice import suggest_commands
from pipeline.run.causes import cause, failed_node
from pipeline.run.records import RunRecord, State

# The end of a node's part of the log; tracebacks of Beam are long, and say the same again and again.
_READ_BYTES = 1 << 20
_SHOWN_LINES = 15
_ERROR_LINES = 6
_FRAMES = 4
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_FRAME = re.compile(r'\s+File "([^"]+)", line \d+, in ')
_TELLING = re.compile(r"error|exception|killed|fatal|refused|no space|free system memory", re.IGNORECASE)
_LAST_LINES = 5
# What TFX and TensorFlow inform and warn of in every run: of the cache, of what they lack, of their own past.
_CHATTER = re.compile(
    r"(?:DEBUG|INFO|WARNING):|[IW]\d{4} \d\d:|To enable the following|Instructions for updating|Use eager execution|`tf"
)
_NO_GPU = re.compile(r"failed call to cuInit|cudart_stub")
# Not of this checkout; and what drives the nodes, which is in every traceback.
_FOREIGN = ("site-packages", "/lib/python", "<frozen", "<string>", "__autograph_generated")
_DRIVING = ("pipeline/run/dag_runner.py", "pipeline/run/local.py")
_PLACE = re.compile(rf"{re.escape(str(Path(__file__).parents[1]))}/|/[^\"]*/(?:site-packages|lib/python[\d.]+)/")


def why(evidence: Source, name: str) -> Answer:
    """Why a run is as it is, and what keeps the next one from starting."""
    run = evidence.find(name)
    answer = _why(evidence, run, run.record) if run.record is not None else _unknown(evidence, run)
    now, tries = rejections.standing(evidence), rejections.tries(evidence)
    document = {**answer.document, **now, "try": [*answer.document["try"], *tries]}
    shown = labelled([*((name, short(said, 400)) for name, said in now.items()), *(("try", one) for one in tries)])
    return Answer(document, [*answer.shown, *([""] if shown else []), *shown])


def _why(evidence: Source, run: Run, record: RunRecord) -> Answer:
    is_bad = run.state not in (State.SUCCEEDED, State.CACHED, State.RUNNING, State.INCOMPLETE)
    node = failed_node(record) if is_bad else None
    said = cause(record, run.state) or "nothing went wrong"
    log, lines, missing = evidence.log(record, node) if is_bad else (record.log, [], "")
    judged = judgement(evidence, run.run_id) if record.exit_code == NotBlessedError.exit_code else Judgement()
    good = evidence.last_good(run.run_id) if run.state is State.FAILED else None
    tries = suggest_commands(record, run.state, evidence.here, "\n".join([said, *lines]), good, Path(evidence.place))
    document = {
        "run": run.run_id,
        "state": run.state,
        "exit_code": record.exit_code,
        "node": node,
        "cause": said,
        "missed": list(judged.missed),
        "warned": list(judged.warned),
        "decision": judged.decision,
        "log": log,
        "lines": lines,
        "try": tries,
    }
    code = f", exit code {record.exit_code}" if record.exit_code else ""
    first, *rest = said.splitlines() or [""]
    shown = labelled([("run", run.run_id), ("state", f"{run.state}{code}"), ("node", node), ("cause", first)])
    shown += [f"{'':<10} {short(line, 200)}" for line in rest[:_SHOWN_LINES]]
    shown += labelled(("missed", one) for one in judged.missed[:_SHOWN_LINES])
    shown += labelled(("warned", one) for one in judged.warned[:_SHOWN_LINES])
    shown += labelled([("decision", judged.decision)])
    if is_bad:
        shown += ["", f"log        {log or 'none: the run was started with --verbose'}", *missing.splitlines()]
        shown += [f"  {line}" for line in lines or ([] if missing else ["(it says nothing more)"])]
    return Answer(document, [*shown, "", *(f"try        {one}" for one in tries)])


def _unknown(evidence: Source, run: Run) -> Answer:
    said = evidence.damaged.get(run.run_id) or unknown_evidence(evidence, run.run_id)
    tries = [command("python", "-m", "oncall", "show", run.run_id) + evidence.here]
    document = {"run": run.run_id, "state": run.state, "cause": said, "node": None, "lines": [], "try": tries}
    shown = labelled([("run", run.run_id), ("state", run.state), ("cause", said), *(("try", one) for one in tries)])
    return Answer(document, shown)


def log_lines(record: RunRecord, node: str | None) -> tuple[list[str], str]:
    """Return the lines of a log that say why a node, or the run before its first node, failed; and why there are
    none.
    """
    log = record.log_of(node)
    if log is None:
        return [], ""
    begins = record.nodes[node].log_from if node else 0
    try:
        with Path(log).open("rb") as file:
            # The traceback is written after the node has ended, so the end of its part is not the end of its story.
            size = file.seek(0, 2)
            file.seek(max(min(begins, size), size - _READ_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return [], f"           cannot be read: {error.strerror}"
    return relevant(text), ""


def relevant(text: str) -> list[str]:
    """Return the frames of our own code and the error of the last traceback, or else the last lines that tell
    something.
    """
    lines = [line.expandtabs().rstrip() for line in text.splitlines()]
    start = _first_of_last_chain(lines)
    if start is None:
        written = [line for line in lines if line and not _NO_GPU.search(line)]
        telling = [line for line in written if _TELLING.search(line)]
        found = telling or [line for line in written if not _CHATTER.match(line)]
        return [short(line, 240) for line in found[-_LAST_LINES:]]
    frames, rest = _frames(lines[start + 1 :])
    own = [frame for frame in frames if _is_own(frame[0])] or frames
    shown = [_PLACE.sub("", line, count=1) for frame in own[-_FRAMES:] for line in frame]
    said = [line for line in takewhile(bool, rest[:_ERROR_LINES]) if not _FRAME.match(line)]
    return [line[:240] for line in (*shown, *said)][-_SHOWN_LINES:]


def _first_of_last_chain(lines: Sequence[str]) -> int | None:
    """Where the traceback begins that caused the last one: what it was raised from tells more than what it became."""
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if not starts:
        return None
    while len(starts) > 1 and any(line.startswith(_CHAINED) for line in lines[starts[-2] : starts[-1]]):
        starts.pop()
    return starts[-1]


def _frames(lines: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Return the frames of a traceback, each as its lines, and what comes after them."""
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
    found = _FRAME.match(frame)
    path = found.group(1) if found else ""
    return not any(part in path for part in (*_FOREIGN, *_DRIVING))


def last_good(evidence: Source, before: str) -> str | None:
    """Return the last run before another that succeeded."""
    return evidence.last_good(before)
