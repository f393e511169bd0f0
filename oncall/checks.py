"""`check`: whether what should serve does: expected against actual, a line each."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.errors import ConfigError, PipelineError
from cli.terminal import command
from oncall.evidence import Evidence
from oncall.rejections import refused
from oncall.releases import named
from oncall.sources import Releases, Source, Version
from oncall.terminal import Answer, Rows
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED
from pipeline.run.advice import ask_doctor, suggest_after_rejection
from pipeline.run.causes import cause
from pipeline.run.records import State

_TIMEOUT_SECONDS = 5.0
_READ_BYTES = 1 << 16
_CONTENT = {
    True: "its files are those that were pushed",
    False: "its files are NOT those that were pushed",
    None: "its files cannot be looked at",
}
CHAMPION, DATABASE = "champion", "database"
_GOOD = (State.SUCCEEDED, State.CACHED)


@dataclass(frozen=True)
class Check:
    """One thing that is expected.

    Attributes:
      name: name of the check.
      ok: whether it is so.
      said: what is there.
      todo: a command, where it is not ok.
      about: the run or the version that it is about.
      run: a run that is named in what is said.
    """

    name: str
    ok: bool
    said: str
    todo: str = ""
    about: str = ""
    run: str = ""


def check(evidence: Source, url: str | None, folder: Path | None, model: str | None, *, alert: bool) -> Answer:
    """All checks; the exit code is 1 if one of them is not ok.

    Args:
      evidence: evidence of the runs.
      url: URL of a model server.
      folder, model: of the registry.
      alert: whether what is not ok is told as an alert, instead of shown as a table.
    """
    checks = _all(evidence, url, folder, model)
    document = {"ok": all(one.ok for one in checks), "checks": [asdict(one) for one in checks]}
    code = 0 if document["ok"] else 1
    if alert:
        if not isinstance(evidence, Evidence):
            raise ConfigError(
                "--alert: is for runs of this machine; for Vertex AI, let Cloud Monitoring tell of jobs that fail"
            )
        from oncall.alerting import tell

        return Answer({**document, "alert": tell(evidence, checks)}, [], code)
    cells = [("ok" if c.ok else "NOT ok", c.name, c.said) for c in checks]
    rows = Rows(("", "what", "found"), cells, sentences=("found",))
    todo = dict.fromkeys(f"try        {one.todo}" for one in checks if not one.ok and one.todo)
    return Answer(document, [rows, *todo], code)


def _all(evidence: Source, url: str | None, folder: Path | None, model: str | None) -> list[Check]:
    checks = [_newest_run(evidence), *_refused(evidence), *_database(evidence)]
    try:
        releases = evidence.releases(folder, model)
        checks += _champion(evidence, releases, evidence.here + named(folder, model))
        champion = releases.champion
    except ConfigError:
        raise
    except PipelineError as error:
        checks.append(Check(CHAMPION, False, str(error), f"python -m oncall doctor{evidence.here}"))
        champion = None
    if url is not None:
        checks.append(_server(url, champion))
    return checks


def _newest_run(evidence: Source) -> Check:
    """Whether the newest run that has ended, well or not, ended well."""
    name, note = NEWEST_RUN, ""
    for run_id in evidence.record_ids:
        run = evidence.run(run_id)
        if run.record is None:
            todo = f"python -m oncall doctor{evidence.here}"
            return Check(name, False, evidence.damaged.get(run_id, "has no record"), todo, run_id)
        if run.state is State.RUNNING:
            note = f"; run {run_id} is running, {cause(run.record, run.state)}"
            continue
        if run.state is State.INCOMPLETE:
            # It was not to push anything.
            note = note or f"; run {run_id} {cause(run.record, run.state)}"
            continue
        why = cause(run.record, run.state)
        said = f"{run_id} {run.state}{note}{f': {why}' if why else ''}"
        return Check(name, run.state in _GOOD, said, f"python -m oncall why {run_id}{evidence.here}", run_id, run_id)
    return Check(name, False, f"no whole run has ended on record{note}", f"python -m oncall runs{evidence.here}")


def _refused(evidence: Source) -> list[Check]:
    """Whether the last run was started; said only if it was not."""
    found = evidence.refusal
    if found is None:
        return []
    todo = next(iter(suggest_after_rejection(found, evidence.here)), "")
    return [Check(REFUSED, False, refused(evidence), todo, f"{found.last}")]


def _database(evidence: Source) -> list[Check]:
    """Whether the next run can use the database; said only if it cannot, for the serving version needs none."""
    if not evidence.unreadable:
        return []
    return [Check(DATABASE, False, evidence.unreadable, ask_doctor(evidence.here))]


def _champion(evidence: Source, releases: Releases, here: str) -> list[Check]:
    champion = releases.champion
    if champion is None:
        todo = f"python -m oncall serving{here}"
        return [Check(CHAMPION, False, f"{releases.place}: no version serves", todo)]
    versions = {version.number: version for version in releases.versions()}
    if champion not in versions:
        said = f"version {champion} is the champion, and its folder is gone"
        return [Check(CHAMPION, False, said, releases.back)]
    found = [Check(CHAMPION, True, f"version {champion} of {releases.name}")]
    whole = releases.fits(champion)
    differing = releases.differing_files(champion) if whole is False else []
    said = f"version {champion}: {_CONTENT[whole]}{': ' if differing else ''}{', '.join(differing)}"
    found.append(Check("content", bool(whole), said, releases.back, f"version {champion}"))
    pusher = versions[champion].run or "another tool"
    record = evidence.record(pusher)
    known = f"pushed by run {pusher}" + ("" if record else ", which is not on record")
    lineage = f"python -m oncall lineage v{champion}{here}"
    found.append(Check("pushed by", record is not None, known, lineage, run=versions[champion].run))
    return [*found, *_traffic(releases, versions, champion)]


def _traffic(releases: Releases, versions: Mapping[int, Version], champion: int) -> list[Check]:
    """Whether the champion gets requests, where versions share them."""
    if versions[champion].traffic is None:
        return []
    shares = [f"version {v.number} with {v.traffic} %" for v in versions.values() if v.traffic]
    said = f"serves {', '.join(shares) or 'nothing'}"
    return [Check("endpoint", bool(versions[champion].traffic), said, releases.back)]


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
        said = f"{address}: no answer of a model server: {reason}"
        return Check("model server", False, said, command("curl", "-i", address))
    if not ready:
        return Check(
            "model server", False, f"{address}: is not ready; versions {said.get('versions')}", command("curl", address)
        )
    expected = f"version {champion} is the champion" if champion is not None else "no version should serve"
    return Check("model server", default == champion, f"serves version {default}; {expected}", command("curl", address))


def _get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            return bytes(response.read(_READ_BYTES))
    except urllib.error.HTTPError as error:
        # 503 says in its body what is not ready.
        return error.read(_READ_BYTES)
