"""`serving`: each version of the registry, with the run, the data and the schema behind it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from oncall.evidence import Evidence
from oncall.metadata import Metadata
from oncall.provenance import Data, ancestors, data_of, verdicts
from oncall.terminal import Answer, Rows
from schemas.errors import ConfigError, PipelineError, RunRootError
from serving.registry import Registry
from serving.registry.find import find

_SHORT = 12


def registry_of(evidence: Evidence, folder: Path | None, model: str | None) -> Registry:
    """The registry that the newest run pushed to, or would have.

    Args:
      evidence: whose newest record says it.
      folder: instead of the record's.
      model: instead of the record's.

    Raises:
      ConfigError: it is not clear which is meant, or the models are on Vertex AI.
      PushError: the registry has no such model.
    """
    record = next(evidence.records(), None)
    push = record.config.get("push") if record else None
    known: dict[str, Any] = push if isinstance(push, dict) else {}
    if folder is None and known.get("to") == "vertex":
        raise ConfigError("the newest run pushes to Vertex AI: python -m serving.vertex list says what serves there")
    usual = evidence.root.path / "registry"
    place = folder or Path(str(known.get("registry") or usual))
    name = model or known.get("model_name")
    # Before the first push there is none; where it is elsewhere, it may not be mounted.
    if name is None or not (place.is_dir() or place == usual):
        return find(place, model)
    return Registry(place, str(name))


def serving(evidence: Evidence, folder: Path | None, model: str | None) -> Answer:
    """The versions of a registry."""
    registry = registry_of(evidence, folder, model)
    error = ""
    metadata: Metadata | None = None
    try:
        metadata = evidence.metadata
    except RunRootError as caught:
        error = str(caught)
    ledger = registry.ledger()
    versions = [_version(registry, ledger.states.get(v), v, metadata) for v in registry.versions()]
    document = {"registry": str(registry.folder), "serving": ledger.champion, "versions": versions}
    headings = ("version", "state", "run", "data", "schema", "metrics", "blessed", "files")
    shown: list[str | Rows] = [
        f"{registry.folder}: " + (f"version {ledger.champion} serves" if ledger.champion else "NO version serves")
    ]
    if versions:
        shown.append(Rows(headings, [_cells(one) for one in versions]))
    shown += [f"input      v{v['version']} {line}" for v in versions for line in v["fingerprint"].splitlines()]
    code = RunRootError.exit_code if error else 0
    return Answer(document, shown, code, error)


def _version(registry: Registry, state: object, version: int, metadata: Metadata | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": version,
        "state": str(state or "cut off"),
        "fits": None,
        "run": "",
        "model": None,
    }
    data = Data()
    blessed: dict[str, bool] = {}
    metrics: dict[str, float] = {}
    try:
        release = registry.release(version)
        if release is None:
            found["state"] = "of another tool"
        else:
            found |= {"run": release.run_id, "model": release.model_id, "fits": registry.fits(version)}
            metrics = dict(release.metrics)
            of_run = {a.id for a in metadata.artifacts_of_run(release.run_id)} if metadata is not None else set()
            # A registry may be shared by several run roots: the number is another artifact's there.
            if metadata is not None and release.model_id in of_run:
                data = data_of(list(ancestors(metadata, release.model_id).values()))
                blessed = verdicts(metadata, release.model_id, of_run)
    except RunRootError:
        raise
    except PipelineError as error:
        found["state"] = f"damaged: {error}"
    return {**found, **asdict(data), "metrics": metrics, "blessings": blessed}


def _cells(one: dict[str, Any]) -> list[object]:
    shown = list(one["metrics"].items())
    headline = [(n, v) for n, v in shown if n in ("auc", "rmse", "accuracy")] or shown
    blessed = one["blessings"]
    return [
        one["version"],
        one["state"],
        one["run"],
        ", ".join(f"{split} {rows:,}" for split, rows in one["rows"].items()) or "not of this run root",
        one["schema_hash"][:_SHORT] or "gone",
        ", ".join(f"{name} {value:.4f}" for name, value in headline[:2]),
        ("yes" if all(blessed.values()) else "NO") if blessed else "unknown",
        {True: "as pushed", False: "CHANGED", None: "unknown"}[one["fits"]],
    ]
