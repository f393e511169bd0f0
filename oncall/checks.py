"""`check`: whether what should serve does: expected against actual, a line each."""

import json
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from oncall.evidence import Evidence
from oncall.releases import registry_of
from oncall.terminal import Answer, Rows, short
from pipeline.alerts.standing import NEWEST_RUN
from pipeline.causes import cause
from pipeline.records import State
from schemas.errors import ConfigError, PipelineError
from serving.registry import Registry

_TIMEOUT_SECONDS = 5.0
_READ_BYTES = 1 << 16
CHAMPION = "champion"
_GOOD = (State.SUCCEEDED, State.CACHED)


@dataclass(frozen=True)
class Check:
    """One thing that is expected.

    Attributes:
      name: of what is checked.
      ok: whether it is so.
      said: what is there.
      todo: a command, where it is not ok.
      about: the run or the version that it is about.
    """

    name: str
    ok: bool
    said: str
    todo: str = ""
    about: str = ""


def check(evidence: Evidence, url: str | None, folder: Path | None, model: str | None, *, alert: bool) -> Answer:
    """All checks; the exit code is 1 if one of them is not ok.

    Args:
      evidence: of the run root.
      url: of a model server.
      folder, model: of the registry.
      alert: whether what is not ok is told as an alert, instead of shown as a table.
    """
    checks = _all(evidence, url, folder, model)
    document = {"ok": all(one.ok for one in checks), "checks": [asdict(one) for one in checks]}
    code = 0 if document["ok"] else 1
    if alert:
        from oncall.alerting import tell

        return Answer({**document, "alert": tell(evidence, checks)}, [], code)
    rows = Rows(("", "what", "found"), [("ok" if c.ok else "NOT ok", c.name, c.said) for c in checks])
    todo = [f"try        {one.todo}" for one in checks if not one.ok and one.todo]
    return Answer(document, [rows, *todo], code)


def _all(evidence: Evidence, url: str | None, folder: Path | None, model: str | None) -> list[Check]:
    checks = [_newest_run(evidence)]
    try:
        registry = registry_of(evidence, folder, model)
        checks += _champion(evidence, registry)
        champion = registry.champion()
    except ConfigError:
        raise
    except PipelineError as error:
        checks.append(Check(CHAMPION, False, str(error), f"python -m oncall doctor{evidence.here}"))
        champion = None
    if url is not None:
        checks.append(_server(url, champion))
    return checks


def _newest_run(evidence: Evidence) -> Check:
    """Whether the newest run that has ended, well or not, ended well."""
    name, note = NEWEST_RUN, ""
    for run_id in evidence.record_ids:
        run = evidence.run(run_id)
        if run.record is None:
            todo = f"python -m oncall doctor{evidence.here}"
            return Check(name, False, evidence.damaged.get(run_id, "has no record"), todo, run_id)
        if run.state is State.RUNNING:
            note = f"; run {run_id} goes on, {cause(run.record, run.state)}"
            continue
        if run.state is State.INCOMPLETE:
            # It was not to push anything.
            note = note or f"; run {run_id} {cause(run.record, run.state)}"
            continue
        why = cause(run.record, run.state)
        said = f"{run_id} {run.state}{f': {short(why, 120)}' if why else ''}{note}"
        return Check(name, run.state in _GOOD, said, f"python -m oncall why {run_id}{evidence.here}", run_id)
    return Check(name, False, f"no whole run has ended on record{note}", f"python -m oncall runs{evidence.here}")


def _champion(evidence: Evidence, registry: Registry) -> list[Check]:
    champion = registry.champion()
    back = f"python -m oncall rollback{evidence.here} --reason '...'"
    if champion is None:
        todo = f"python -m oncall serving{evidence.here}"
        return [Check(CHAMPION, False, f"{registry.folder}: no version serves", todo)]
    if champion not in registry.versions():
        said = f"version {champion} is the champion, and its folder is gone"
        return [Check(CHAMPION, False, said, back)]
    found = [Check(CHAMPION, True, f"version {champion} of {registry.name}")]
    whole = registry.fits(champion)
    said = "its files are those that were pushed" if whole else "its files are NOT those that were pushed"
    found.append(Check("content", whole, f"version {champion}: {said}", back, f"version {champion}"))
    release = registry.release(champion)
    pusher = release.run_id if release else "another tool"
    record = evidence.record(pusher)
    known = f"pushed by run {pusher}" + ("" if record else ", which is not on record")
    found.append(Check("pushed by", record is not None, known, f"python -m oncall lineage v{champion}{evidence.here}"))
    return found


def _server(url: str, champion: int | None) -> Check:
    """Whether the model server's default version is the champion."""
    address = url.rstrip("/") + "/health"
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"--url: {url} is not an address; expected one such as http://localhost:8501")
    try:
        said = json.loads(_get(address))
        default, ready = said["default"], said["ready"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", None) or error
        return Check("model server", False, f"{address}: no answer of a model server: {reason}", f"curl -i {address}")
    if not ready:
        return Check(
            "model server", False, f"{address}: is not ready; versions {said.get('versions')}", f"curl {address}"
        )
    expected = f"version {champion} is the champion" if champion is not None else "no version should serve"
    return Check("model server", default == champion, f"serves version {default}; {expected}", f"curl {address}")


def _get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            return bytes(response.read(_READ_BYTES))
    except urllib.error.HTTPError as error:
        # 503 says in its body what is not ready.
        return error.read(_READ_BYTES)
