"""`doctor`: what is wrong with a run root, and what to do about each of it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PipelineError, RunRootError
from cli.terminal import command
from oncall.evidence import Evidence
from oncall.folders import MOVED, execution_folder, execution_folders, is_gone, moved_from
from oncall.metadata import Metadata
from oncall.releases import Local, named, registry_of
from oncall.terminal import Answer, volume
from pipeline.database.sqlite import UNFINISHED
from pipeline.run.advice import again
from pipeline.run.causes import cause
from pipeline.run.records import State

_FREE_BYTES = 2e9
# The names that serving/registry/local/disk.py gives to what is not finished.
_CUT_OFF = (".unfinished-*", ".deleted-*")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
      kind: `database`, `run`, `record`, `missing`, `moved`, `orphan`, `partial`, `disk` or `registry`.
      said: what, and where.
      todo: what to do.
    """

    kind: str
    said: str
    todo: str


def doctor(evidence: Evidence, folder: Path | None, model: str | None) -> Answer:
    """All findings; the exit code is 1 if there are any."""
    if evidence.is_of_rehearsals:
        not_here = "database, artifacts, registry: a rehearsal has none"
        return diagnosis(_holder(evidence), "no rehearsal is active", [*_runs(evidence), *_disk(evidence)], not_here)
    findings = [*_database(evidence), *_runs(evidence), *_disk(evidence)]
    try:
        findings += _artifacts(evidence, evidence.metadata)
    except RunRootError as error:
        if not any(found.kind == "database" for found in findings):
            findings.append(Finding("database", str(error), _restore(evidence, str(error))))
    findings += _registry(evidence, folder, model)
    holder = _holder(evidence)
    return diagnosis(holder, "no run is active", findings)


def diagnosis(holder: str, free: str, findings: Sequence[Finding], not_here: str = "") -> Answer:
    """Return the findings as an answer.

    Args:
      holder: holder of the lock; empty if nobody holds it.
      free: what it means that nobody does.
      findings: what is wrong.
      not_here: what was not looked at, since there is none of it.
    """
    document: dict[str, Any] = {"ok": not findings, "lock": holder, "findings": [asdict(found) for found in findings]}
    shown = [f"lock       {holder or f'free; {free}'}"]
    if not_here:
        document["not_here"] = not_here
        shown.append(f"not here   {not_here}")
    for found in findings:
        shown += [f"{found.kind:<10} {found.said}", f"{'':<10} do: {found.todo}"]
    return Answer(document, [*shown, *([] if findings else ["ok         nothing is wrong"])], 1 if findings else 0)


def _holder(evidence: Evidence) -> str:
    """Which run holds the lock."""
    if not evidence.is_locked:
        return ""
    for record in evidence.records():
        if record.state(locked=True) is State.RUNNING:
            return f"held by run {record.run_id}, process {record.pid} on {record.host}"
    return "held, but by no run on record: one may be starting, or gc works"


def _database(evidence: Evidence) -> Iterator[Finding]:
    try:
        evidence.root.database.check(whole=True)
    except RunRootError as error:
        yield Finding("database", str(error), _restore(evidence, str(error)))


def _restore(evidence: Evidence, said: str) -> str:
    if UNFINISHED in said:
        return f"python -m oncall resume latest{evidence.here}"
    return evidence.root.database.remedy(said)


def _runs(evidence: Evidence) -> Iterator[Finding]:
    """Damaged records, and runs that crashed and that no later run has made good."""
    made_good = False
    for run_id in evidence.record_ids:
        run = evidence.run(run_id)
        if run.record is None:
            said, record = evidence.damaged.get(run_id, run_id), evidence.root.record(run_id)
            yield Finding(
                "record", said, command("mv", record, f"{record}.damaged", note="ML Metadata still has the run")
            )
        elif run.state is State.CRASHED and not made_good:
            todo = again(run.record, evidence.here)
            yield Finding("run", f"{run_id} CRASHED: {cause(run.record, run.state)}", todo)
        made_good = made_good or run.state in (State.SUCCEEDED, State.CACHED)


def _disk(evidence: Evidence) -> Iterator[Finding]:
    free = shutil.disk_usage(evidence.root.path).free
    if free < _FREE_BYTES:
        todo = f"python -m oncall gc --keep-last 5 --keep-pushed{evidence.here}"
        yield Finding("disk", f"{evidence.root.path}: {volume(free)} are free", todo)


def _artifacts(evidence: Evidence, metadata: Metadata) -> Iterator[Finding]:
    """Yield what is only in ML Metadata, and what is only on disk."""
    root = evidence.root.artifacts
    artifacts = metadata.all_artifacts()
    live = [artifact for artifact in artifacts if metadata.is_live(artifact)]
    before = moved_from(root, (artifact.uri for artifact in live))
    if before is not None:
        # Else all of it would be missing, and all of it orphaned.
        yield Finding(
            "moved", f"{evidence.root.path}: {MOVED.format(before)}", command("mv", evidence.root.path, before)
        )
        return
    for artifact in live:
        if is_gone(artifact.uri):
            todo = f"python -m oncall gc --keep-last 100 --keep-pushed --yes{evidence.here}    # no run finds it then"
            yield Finding("missing", f"{artifact.type} {artifact.id}: {artifact.uri} is gone", todo)
    known = {execution_folder(root, artifact.uri) for artifact in live}
    unknown = {int(path.name): path for path in execution_folders(root) if path not in known}
    executions = metadata.executions_by_id(unknown)
    for number, path in sorted(unknown.items()):
        # TFX removes the output of what fails, but not always the folder that it was in.
        if not any(path.iterdir()):
            continue
        execution = executions.get(number)
        state = metadata.state(execution) if execution is not None else ""
        if state == "RUNNING" and evidence.is_locked:
            continue
        if state in ("RUNNING", "FAILED"):
            todo = "the next run, or `resume`, removes it" if state == "RUNNING" else command("rm", "-r", path)
            yield Finding("partial", f"{path}: left by execution {number}, which is {state}", todo)
        else:
            yield Finding("orphan", f"{path}: no artifact that is live is there", command("rm", "-r", path))


def _registry(evidence: Evidence, folder: Path | None, model: str | None) -> Iterator[Finding]:
    try:
        registry = registry_of(evidence, folder, model)
        states = registry.ledger().states
        for version in registry.numbers():
            if registry.release(version) is not None and version not in states:
                said = f"{registry.path(version)}: its push was cut off after the copy"
                yield Finding("registry", said, "run the pipeline again: the next push finishes or retires it")
        for version in sorted(states):
            if version not in registry.numbers() or not registry.fits(version):
                how = ", ".join(registry.differing_files(version)) or "they are gone, or its release file is"
                said = f"{registry.path(version)}: {states[version]}, and not the files that were pushed: {how}"
                serves = version == registry.champion()
                back = (
                    Local(registry, evidence.here, named(folder, model)).back
                    if serves
                    else "leave it: nothing serves it"
                )
                yield Finding("registry", said, f"restore {registry.path(version)}; or {back}")
    except ConfigError:
        if folder is not None or model is not None:
            raise
        # There is no registry yet, or it is on Vertex AI.
        return
    except PipelineError as error:
        yield Finding("registry", str(error), "docs/registry.md, When something goes wrong")
        return
    for pattern in _CUT_OFF if registry.folder.is_dir() else ():
        for path in sorted(registry.folder.glob(pattern)):
            yield Finding("registry", f"{path}: a push or a gc was cut off", "the next push removes it")
