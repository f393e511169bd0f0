"""`serving`: each version of a model, with its run, data, schema and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cli.errors import PipelineError, RunRootError
from oncall.metadata import Metadata
from oncall.model_versions import ModelVersion, ModelVersions
from oncall.provenance import InputData, collect_ancestors, find_blessings, read_input_data
from oncall.results import CommandResult, ResultTable
from oncall.run_store import RunStore
from oncall.text_format import format_labels
from schemas.metrics import METRICS

_HASH_CHARS = 12


def show_versions(store: RunStore, folder: Path | None, model: str | None) -> CommandResult:
    """Return the versions of a model."""
    model_versions = store.find_model_versions(folder, model)
    error = ""
    metadata: Metadata | None = None
    try:
        metadata = store.metadata
    except RunRootError as caught:
        error = str(caught)
    champion = model_versions.champion
    rows = [_describe_version(model_versions, version, metadata) for version in model_versions.list_versions()]
    rollback = model_versions.rollback
    unexplained = model_versions.list_unexplained()
    document: dict[str, Any] = {"registry": model_versions.location, "serving": champion, "versions": rows}
    document |= {"rollback": asdict(rollback) if rollback is not None else None, "unexplained": unexplained}
    parts: list[str | ResultTable] = [f"{model_versions.location}: {_format_heading(champion, rows)}"]
    if rollback is not None:
        parts.append(str(rollback))
    parts += [f"version {number} was not pushed: {reason}" for number, reason in unexplained.items()]
    if rows:
        traffic = ("traffic",) if "traffic" in rows[0] else ()
        headings = ("version", "state", *traffic, "run", "data", "schema", "metrics", "blessed", "files")
        parts.append(ResultTable(headings, [_format_row(row) for row in rows], sentences=("state", "data", "metrics")))
    for row in rows:
        content = ", ".join(f"{split} {name}" for split, name in row["content"].items())
        lines = (("input", row["input"]), ("content", content))
        parts += format_labels((label, f"v{row['version']} {text}") for label, text in lines if text)
    code = RunRootError.exit_code if error else 0
    return CommandResult(document, parts, code, error)


def _format_heading(champion: int | None, rows: Sequence[Mapping[str, Any]]) -> str:
    if champion is None:
        return "NO version serves"
    is_intact = next((row["fits"] for row in rows if row["version"] == champion), None)
    return f"version {champion} serves" + ("; its files are NOT those that were pushed" if is_intact is False else "")


def _describe_version(
    model_versions: ModelVersions, version: ModelVersion, metadata: Metadata | None
) -> dict[str, Any]:
    """Return a version by the names of the document."""
    row: dict[str, Any] = {"version": version.number, "state": version.state, "fits": None}
    row |= {"run": version.run, "model": version.model}
    if version.traffic is not None:
        row["traffic"] = version.traffic
    data = InputData()
    blessings: dict[str, bool] = {}
    metrics: dict[str, float] = {}
    try:
        if version.run:
            row["fits"] = model_versions.is_intact(version.number)
            metrics = dict(model_versions.read_metrics(version))
            of_run = {a.id for a in metadata.get_run_artifacts(version.run)} if metadata is not None else set()
            # Several run roots may share a registry: there the number is another artifact's.
            if metadata is not None and version.model in of_run:
                data = read_input_data(list(collect_ancestors(metadata, version.model).values()))
                blessings = find_blessings(metadata, version.model, of_run)
    except RunRootError:
        raise
    except PipelineError as error:
        row["state"] = f"damaged: {error}"
    return {**row, **asdict(data), "input": data.describe_files(), "metrics": metrics, "blessings": blessings}


def _format_row(row: dict[str, Any]) -> list[object]:
    metrics = list(row["metrics"].items())
    headline = [(name, value) for name, value in metrics if name in METRICS and METRICS[name].rank == 1] or metrics
    blessings = row["blessings"]
    return [
        row["version"],
        row["state"],
        *([f"{row['traffic']} %"] if "traffic" in row else []),
        row["run"],
        ", ".join(f"{split} {count:,}" for split, count in row["rows"].items()) or "not known here",
        row["schema_hash"][:_HASH_CHARS] or ("gone" if row["fingerprint"] else "unknown"),
        ", ".join(f"{name} {value:.4f}" for name, value in headline[:2]),
        ("yes" if all(blessings.values()) else "NO") if blessings else "unknown",
        {True: "as pushed", False: "CHANGED", None: "unknown"}[row["fits"]],
    ]
