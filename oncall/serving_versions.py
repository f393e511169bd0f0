"""`serving`: each version of a model, with its run, data, schema and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cli.errors import PipelineError, RunRootError
from oncall.metadata import Metadata
from oncall.model_versions import ModelVersion, ModelVersions, RollbackInForce
from oncall.provenance import InputData, collect_ancestors, find_blessings, read_input_data
from oncall.results import CommandResult, ResultTable
from oncall.run_store import RunStore
from oncall.text_format import format_labels
from schemas.metrics import METRICS

_HASH_CHARS = 12


@dataclass(frozen=True)
class VersionFacts:
    """A version with its data, metrics and verdicts.

    Attributes:
      version: Version.
      is_intact: Whether its files are those that were pushed; None if it is unknown.
      data: Data that it was trained on; empty if its run is not known here.
      metrics: Metrics of its evaluation by name.
      blessings: Verdicts by the name of the node.
    """

    version: ModelVersion
    is_intact: bool | None = None
    data: InputData = field(default_factory=InputData)
    metrics: Mapping[str, float] = field(default_factory=dict)
    blessings: Mapping[str, bool] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the version as a JSON document."""
        version = self.version
        return {
            "version": version.number,
            "state": version.state,
            "fits": self.is_intact,
            "run": version.run,
            "model": version.model,
            **({"traffic": version.traffic} if version.traffic is not None else {}),
            **asdict(self.data),
            "input": self.data.describe_files(),
            "metrics": self.metrics,
            "blessings": self.blessings,
        }


@dataclass(frozen=True)
class RegistryFacts:
    """The versions of a model.

    Attributes:
      location: Folder or resource of the registry.
      champion: Number of the champion; None if no version serves.
      rollback: Rollback that is in force; None if there is none.
      unexplained: Origin by the number of a version that no push explains.
      versions: All versions, in order.
      error: Why ML Metadata cannot be read; empty if it can.
    """

    location: str
    champion: int | None
    rollback: RollbackInForce | None
    unexplained: Mapping[int, str]
    versions: Sequence[VersionFacts]
    error: str


def read_registry_facts(store: RunStore, folder: Path | None, model: str | None) -> RegistryFacts:
    """Return the versions of a model with all facts on record."""
    model_versions = store.find_model_versions(folder, model)
    error = ""
    metadata: Metadata | None = None
    try:
        metadata = store.metadata
    except RunRootError as caught:
        error = str(caught)
    return RegistryFacts(
        location=model_versions.location,
        champion=model_versions.champion,
        versions=[_read_facts(model_versions, version, metadata) for version in model_versions.list_versions()],
        rollback=model_versions.rollback,
        unexplained=model_versions.list_unexplained(),
        error=error,
    )


def show_versions(store: RunStore, folder: Path | None, model: str | None) -> CommandResult:
    """Return the versions of a model."""
    registry = read_registry_facts(store, folder, model)
    document = {
        "registry": registry.location,
        "serving": registry.champion,
        "versions": [facts.to_dict() for facts in registry.versions],
        "rollback": asdict(registry.rollback) if registry.rollback is not None else None,
        "unexplained": registry.unexplained,
    }
    parts: list[str | ResultTable] = [f"{registry.location}: {_format_heading(registry)}"]
    if registry.rollback is not None:
        parts.append(str(registry.rollback))
    parts += [f"version {number} was not pushed: {reason}" for number, reason in registry.unexplained.items()]
    if registry.versions:
        traffic = ("traffic",) if registry.versions[0].version.traffic is not None else ()
        headings = ("version", "state", *traffic, "run", "data", "schema", "metrics", "blessed", "files")
        cells = [_format_cells(facts) for facts in registry.versions]
        parts.append(ResultTable(headings, cells, sentences=("state", "data", "metrics")))
    for facts in registry.versions:
        content = ", ".join(f"{split} {name}" for split, name in facts.data.content.items())
        lines = (("input", facts.data.describe_files()), ("content", content))
        parts += format_labels((label, f"v{facts.version.number} {text}") for label, text in lines if text)
    code = RunRootError.exit_code if registry.error else 0
    return CommandResult(document, parts, code, registry.error)


def _format_heading(registry: RegistryFacts) -> str:
    champion = registry.champion
    if champion is None:
        return "NO version serves"
    is_intact = next((facts.is_intact for facts in registry.versions if facts.version.number == champion), None)
    return f"version {champion} serves" + ("; its files are NOT those that were pushed" if is_intact is False else "")


def _read_facts(model_versions: ModelVersions, version: ModelVersion, metadata: Metadata | None) -> VersionFacts:
    facts = VersionFacts(version)
    try:
        if version.run:
            facts = replace(facts, is_intact=model_versions.is_intact(version.number))
            facts = replace(facts, metrics=dict(model_versions.read_metrics(version)))
            of_run = {a.id for a in metadata.get_run_artifacts(version.run)} if metadata is not None else set()
            # Several run roots may share a registry: there the number is another artifact's.
            if metadata is not None and version.model in of_run:
                ancestors = collect_ancestors(metadata, version.model)
                facts = replace(facts, data=read_input_data(list(ancestors.values())))
                facts = replace(facts, blessings=find_blessings(metadata, version.model, of_run))
    except RunRootError:
        raise
    except PipelineError as error:
        return replace(facts, version=replace(version, state=f"damaged: {error}"))
    return facts


def _format_cells(facts: VersionFacts) -> list[object]:
    version, data, blessings = facts.version, facts.data, facts.blessings
    metrics = list(facts.metrics.items())
    headline = [(name, value) for name, value in metrics if name in METRICS and METRICS[name].rank == 1] or metrics
    return [
        version.number,
        version.state,
        *([f"{version.traffic} %"] if version.traffic is not None else []),
        version.run,
        ", ".join(f"{split} {count:,}" for split, count in data.rows.items()) or "not known here",
        data.schema_hash[:_HASH_CHARS] or ("gone" if data.fingerprint else "unknown"),
        ", ".join(f"{name} {value:.4f}" for name, value in headline[:2]),
        ("yes" if all(blessings.values()) else "NO") if blessings else "unknown",
        {True: "as pushed", False: "CHANGED", None: "unknown"}[facts.is_intact],
    ]
