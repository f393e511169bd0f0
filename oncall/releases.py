"""`serving`: each version of the registry, with the run, the data and the schema behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PipelineError, RunRootError
from cli.terminal import flags
from oncall.evidence import Evidence
from oncall.graph import Graph
from oncall.provenance import Data, ancestors, data_of, verdicts
from oncall.sources import Releases, Source, Version
from oncall.terminal import Answer, Rows, labelled
from pipeline.run.records import RunRecord
from schemas.metrics import METRICS
from serving.registry import LocalRegistry
from serving.registry.local.lookup import find_registry, model_names

_SHORT = 12


def registry_of(evidence: Evidence, folder: Path | None, model: str | None) -> LocalRegistry:
    """Return the registry that the newest run pushed to, or would have.

    Args:
      evidence: whose newest record says it.
      folder: instead of the record's.
      model: instead of the record's.

    Raises:
      ConfigError: it is not clear which is meant, there is no such model, or the models are on Vertex AI.
      PushError: the registry cannot be read, or has no model.
    """
    record = next(evidence.records(), None)
    if evidence.is_of_rehearsals and folder is None:
        raise ConfigError(f"{evidence.root.path}: holds rehearsals, which push to an emulator; nothing serves there")
    push = record.config.get("push") if record else None
    known: dict[str, Any] = push if isinstance(push, dict) else {}
    if folder is None and known.get("target") == "vertex":
        raise ConfigError(
            f"the newest run pushes to Vertex AI: python -m oncall serving{_place(record)} prints its version"
        )
    usual = evidence.root.path / "registry"
    place = folder or Path(str(known.get("registry") or usual))
    name = model or known.get("model_name")
    if model is not None and name != known.get("model_name") and place.is_dir() and model not in model_names(place):
        there = ", ".join(model_names(place)) or "none"
        raise ConfigError(f"--model {model}: {place} has no such model; there is {there}")
    # Before the first push there is none; where it is elsewhere, it may not be mounted.
    if name is None or not (place.is_dir() or place == usual):
        return find_registry(place, model)
    return LocalRegistry(place, str(name))


def named(folder: Path | None, model: str | None) -> str:
    """Return the flags that name a registry, for commands that are proposed, with a space before each."""
    return flags(registry=folder, model=model)


def need_version(registry: LocalRegistry, version: int | None) -> None:
    """Check that a version exists, if one is named.

    Raises:
      ConfigError: it does not exist.
    """
    there = registry.numbers()
    if version is not None and version not in there:
        known = ", ".join(map(str, there)) or "none"
        raise ConfigError(f"--version: {registry.folder} has no version {version}; it has {known}")


def _place(record: RunRecord | None) -> str:
    """Return the flags that name where on Vertex AI a run pushes to."""
    config = record.config if record else {}
    vertex, push = config.get("vertex") or {}, config.get("push") or {}
    return flags(project=vertex.get("project"), region=vertex.get("region"), model=push.get("model_name"))


class Local:
    """The versions in a registry's folder."""

    def __init__(self, registry: LocalRegistry, here: str, named: str) -> None:
        self.name, self.place = registry.name, str(registry.folder)
        self._registry, self._here, self._named = registry, here, named

    @property
    def back(self) -> str:
        """The version before serves again; where there is none that is whole, the champion's run pushes it again."""
        previous, champion = self._registry.labels().get("previous"), self.champion
        is_whole = previous is not None and self._registry.path(previous).is_dir() and self._registry.fits(previous)
        pusher = self._registry.pushed_by(champion) if champion is not None and not is_whole else ""
        if not pusher:
            return f"python -m oncall rollback{self._here}{self._named} --reason '...'"
        return f"python -m oncall resume {pusher}{self._here}    # pushes its model again, as a new version"

    @property
    def champion(self) -> int | None:
        return self._registry.champion()

    def versions(self) -> list[Version]:
        """All of them; of one whose release cannot be read, why."""
        states = self._registry.ledger().states
        return [self._version(number, str(states.get(number) or "cut off")) for number in self._registry.numbers()]

    def _version(self, number: int, state: str) -> Version:
        try:
            release = self._registry.release(number)
        except PipelineError as error:
            return Version(number, f"damaged: {error}")
        if release is None:
            return Version(number, "of another tool")
        return Version(number, state, release.run_id, release.model_id)

    def fits(self, version: int) -> bool | None:
        return self._registry.fits(version)

    def differing_files(self, version: int) -> list[str]:
        return self._registry.differing_files(version)

    def metrics(self, version: Version) -> Mapping[str, float]:
        release = self._registry.release(version.number)
        return release.metrics if release else {}


def serving(evidence: Source, folder: Path | None, model: str | None) -> Answer:
    """Return the versions of a model."""
    releases = evidence.releases(folder, model)
    error = ""
    metadata: Graph | None = None
    try:
        metadata = evidence.metadata
    except RunRootError as caught:
        error = str(caught)
    champion = releases.champion
    versions = [_described(releases, version, metadata) for version in releases.versions()]
    document = {"registry": releases.place, "serving": champion, "versions": versions}
    shown: list[str | Rows] = [f"{releases.place}: {_heading(champion, versions)}"]
    if versions:
        shared = ("traffic",) if "traffic" in versions[0] else ()
        headings = ("version", "state", *shared, "run", "data", "schema", "metrics", "blessed", "files")
        shown.append(Rows(headings, [_cells(one) for one in versions], sentences=("state", "data", "metrics")))
    for one in versions:
        content = ", ".join(f"{split} {name}" for split, name in one["content"].items())
        parts = (("input", one["input"]), ("content", content))
        shown += labelled((label, f"v{one['version']} {said}") for label, said in parts if said)
    code = RunRootError.exit_code if error else 0
    return Answer(document, shown, code, error)


def _heading(champion: int | None, versions: Sequence[Mapping[str, Any]]) -> str:
    if champion is None:
        return "NO version serves"
    fits = next((one["fits"] for one in versions if one["version"] == champion), None)
    return f"version {champion} serves" + ("; its files are NOT those that were pushed" if fits is False else "")


def _described(releases: Releases, version: Version, metadata: Graph | None) -> dict[str, Any]:
    """All that is known of a version, by the names of the document."""
    found: dict[str, Any] = {"version": version.number, "state": version.state, "fits": None}
    found |= {"run": version.run, "model": version.model}
    if version.traffic is not None:
        found["traffic"] = version.traffic
    data = Data()
    blessed: dict[str, bool] = {}
    metrics: dict[str, float] = {}
    try:
        if version.run:
            found["fits"] = releases.fits(version.number)
            metrics = dict(releases.metrics(version))
            of_run = {a.id for a in metadata.artifacts_of_run(version.run)} if metadata is not None else set()
            # A registry may be shared by several run roots: the number is another artifact's there.
            if metadata is not None and version.model in of_run:
                data = data_of(list(ancestors(metadata, version.model).values()))
                blessed = verdicts(metadata, version.model, of_run)
    except RunRootError:
        raise
    except PipelineError as error:
        found["state"] = f"damaged: {error}"
    return {**found, **asdict(data), "input": data.files(), "metrics": metrics, "blessings": blessed}


def _cells(one: dict[str, Any]) -> list[object]:
    shown = list(one["metrics"].items())
    headline = [(n, v) for n, v in shown if n in METRICS and METRICS[n].rank == 1] or shown
    blessed = one["blessings"]
    return [
        one["version"],
        one["state"],
        *([f"{one['traffic']} %"] if "traffic" in one else []),
        one["run"],
        ", ".join(f"{split} {rows:,}" for split, rows in one["rows"].items()) or "not known here",
        one["schema_hash"][:_SHORT] or ("gone" if one["fingerprint"] else "unknown"),
        ", ".join(f"{name} {value:.4f}" for name, value in headline[:2]),
        ("yes" if all(blessed.values()) else "NO") if blessed else "unknown",
        {True: "as pushed", False: "CHANGED", None: "unknown"}[one["fits"]],
    ]
